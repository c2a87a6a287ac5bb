//! One JSON object a line.

use std::io::Write;

use ajar_model::Finding;

use super::{Format, Out, Writer, escaped, one_file};

pub const FORMAT: Format = Format {
    name: "jsonl",
    help: "One JSON object a line",
    for_owners: false,
    prepare: |options| one_file(options, |out| Box::new(Jsonl(out))),
};

struct Jsonl(Out);

impl Writer for Jsonl {
    fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        escaped::to_writer(&mut self.0, finding)?;
        Ok(self.0.write_all(b"\n")?)
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        Ok(self.0.flush()?)
    }
}
