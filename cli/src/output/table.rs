//! A table for people.

use std::io::Write;

use ajar_model::Finding;
use comfy_table::{CellAlignment, Table, presets};

use super::{Format, Out, Writer, name, one_file};

/// `--format table`.
pub const FORMAT: Format = Format {
    name: "table",
    help: "For people",
    prepare: |options| one_file(options, |out| Box::new(ForPeople(out, empty_table()))),
};

struct ForPeople(Out, Table);

impl Writer for ForPeople {
    fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        self.1.add_row(row(finding));
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        match self.1.row_count() {
            0 => writeln!(self.0, "no endpoint answered")?,
            _ => writeln!(self.0, "{}", self.1)?,
        }
        Ok(self.0.flush()?)
    }
}

fn empty_table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "ADDRESS",
        "PORT",
        "SERVICE",
        "VERDICT",
        "PROVEN BY",
        "VARIANTS",
    ]);
    if let Some(port) = table.column_mut(1) {
        port.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn row(finding: &Finding) -> [String; 6] {
    let proof = finding.proof.as_ref().map_or_else(String::new, |proof| {
        let how = match proof.kind {
            ajar_model::proof::Kind::Mail => "mail from",
            ajar_model::proof::Kind::Tunnel => "tunnel from",
            ajar_model::proof::Kind::Fetch => "fetch from",
        };
        format!("{how} {} at {:.0}", proof.egress_ip, proof.received_at)
    });
    [
        finding.ip.to_string(),
        finding.port.to_string(),
        name(&finding.service),
        finding.verdict.as_str().to_owned(),
        proof,
        shortened(&finding.variants),
    ]
}

fn shortened(variants: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = variants
        .iter()
        .take(SHOWN)
        .cloned()
        .collect::<Vec<_>>()
        .join(" ");
    match variants.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} +{more}"),
    }
}
