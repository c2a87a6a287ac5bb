//! `ajar exclude …`.

use ajar_model::Target;
use clap::{Args, Subcommand};

use super::{Remote, seconds};

/// `ajar exclude`.
#[derive(Debug, Subcommand)]
pub enum Exclude {
    /// Send nothing more to these addresses, in running campaigns too, within two seconds; prints
    /// an id for each.
    Add(ExcludeAdd),
    /// Take an exclusion back. It stays in the list of all.
    Remove(ExcludeRemove),
    /// List the exclusions in force, newest first.
    List(ExcludeList),
}

/// `ajar exclude add`.
#[derive(Debug, Args)]
pub struct ExcludeAdd {
    /// Addresses, CIDR blocks or first-last ranges.
    #[arg(value_name = "TARGET", required = true)]
    pub target: Vec<Target>,
    /// Why, for the audit log: who asked for it, and where that is written.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Whose campaigns; everybody's by default, or those of the certificate's tenant.
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// For how long, as 12h or 90d; until it is taken back by default.
    #[arg(long = "for", value_name = "DURATION", value_parser = seconds_or_days)]
    pub lasts: Option<u32>,
    #[command(flatten)]
    pub remote: Remote,
}

/// `ajar exclude remove`.
#[derive(Debug, Args)]
pub struct ExcludeRemove {
    /// The exclusion's id.
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub remote: Remote,
}

/// `ajar exclude list`.
#[derive(Debug, Args)]
pub struct ExcludeList {
    /// Also those that are over.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub remote: Remote,
}

fn seconds_or_days(text: &str) -> Result<u32, String> {
    const DAY: u32 = 24 * 3600;
    let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    match days.map(|days: u32| days.checked_mul(DAY)) {
        Some(Some(seconds)) => Ok(seconds),
        Some(None) => Err("expected at most 49710d".to_owned()),
        None => seconds(text),
    }
}
