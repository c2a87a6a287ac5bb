//! Reading findings.

use ajar_model::Verdict;
use clap::{Args, Subcommand};

use super::{CanaryPorts, Source};
use crate::output;

/// `ajar findings`.
#[derive(Debug, Subcommand)]
pub enum Findings {
    /// Findings as a table.
    List(FindingList),
    /// Findings for other programs.
    Export(FindingList),
    /// One finding, with the conversations that it rests on.
    Show(FindingShow),
    /// Start a finding's canary, print the command that repeats the finding, and show what arrives.
    Replay(FindingReplay),
}

/// Which findings.
#[derive(Debug, Args)]
pub struct FindingList {
    /// By this campaign; by default, the newest campaign that looked at an endpoint decides.
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
    /// By all campaigns, not the newest alone.
    #[arg(long, conflicts_with = "campaign")]
    pub history: bool,
    /// With one of these verdicts.
    #[arg(long, value_name = "VERDICT", value_delimiter = ',')]
    pub verdict: Vec<Verdict>,
    #[command(flatten)]
    pub output: output::Options,
    #[command(flatten)]
    pub source: Source,
}

/// One finding.
#[derive(Debug, Args)]
pub struct FindingShow {
    /// The finding's id, from a result line; or ADDRESS:PORT, for the newest finding there.
    #[arg(value_name = "ID")]
    pub id: String,
    /// By this campaign, if an address is given.
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
    #[command(flatten)]
    pub source: Source,
}

/// `ajar findings replay`.
#[derive(Debug, Args)]
pub struct FindingReplay {
    #[command(flatten)]
    pub finding: FindingShow,
    #[command(flatten)]
    pub canary: CanaryPorts,
}
