//! Findings for owners: doors that were open to strangers at two visits.

use ajar_model::{Finding, Verdict, judge::Doubt};

use super::Writer;
use crate::say;

/// Hands on confirmed open doors. Counts the other open doors, and says why they are left out.
pub struct Confirmed {
    pub writer: Box<dyn Writer>,
    pub unconfirmed: u64,
    pub inside: u64,
}

impl Confirmed {
    pub fn new(writer: Box<dyn Writer>) -> Self {
        Self {
            writer,
            unconfirmed: 0,
            inside: 0,
        }
    }
}

impl Writer for Confirmed {
    fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        match (finding.verdict, finding.doubt, &finding.confirmation) {
            (Verdict::Open, None, Some(_)) => return self.writer.write(finding),
            (Verdict::Open, Some(Doubt::Inside), _) => self.inside += 1,
            (Verdict::Open, ..) => self.unconfirmed += 1,
            _ => {}
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.writer.finish()?;
        let left_out = [
            (
                self.unconfirmed,
                "owners are told only of what was open at a second visit too (--confirm-after)",
            ),
            (
                self.inside,
                "owners are told only of what is open to strangers, and it was asked from inside (--inside-counts)",
            ),
        ];
        for (count, why) in left_out {
            let who = match count {
                0 => continue,
                1 => "an open endpoint is".to_owned(),
                n => format!("{n} open endpoints are"),
            };
            say::line(format_args!("{who} left out: {why}"));
        }
        Ok(())
    }
}

/// Drops the doubt of doors that were asked from inside.
pub struct InsideCounts(pub Box<dyn Writer>);

impl Writer for InsideCounts {
    fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        match finding.doubt {
            Some(Doubt::Inside) => self.0.write(&Finding {
                doubt: None,
                ..finding.clone()
            }),
            _ => self.0.write(finding),
        }
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.0.finish()
    }
}
