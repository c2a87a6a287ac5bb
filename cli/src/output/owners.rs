//! What owners hear of: open doors that were found open twice.

use std::io::{self, Write};

use ajar_model::{Finding, Verdict};

use super::Writer;

/// Hands on what is open and confirmed, and says how much was open and is not.
pub struct Confirmed {
    pub writer: Box<dyn Writer>,
    pub left_out: u64,
}

impl Writer for Confirmed {
    fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        match (finding.verdict, &finding.confirmation) {
            (Verdict::Open, Some(_)) => self.writer.write(finding),
            (Verdict::Open, None) => {
                self.left_out += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.writer.finish()?;
        let who = match self.left_out {
            0 => return Ok(()),
            1 => "an open endpoint is".to_owned(),
            n => format!("{n} open endpoints are"),
        };
        let why = "left out: owners are told only of what was open at a second visit too (--confirm-after)";
        let _ = writeln!(io::stderr(), "{who} {why}");
        Ok(())
    }
}
