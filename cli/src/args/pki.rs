//! Certificates for the services of a cluster and for those who use it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `ajar pki`.
#[derive(Debug, Subcommand)]
pub enum Pki {
    /// Make a certificate authority.
    Init(PkiInit),
    /// Make a certificate that says what its holder may do.
    Issue(PkiIssue),
}

/// `ajar pki init`.
#[derive(Debug, Args)]
pub struct PkiInit {
    /// Where its certificate and its key go.
    #[arg(long, value_name = "DIRECTORY", default_value = "pki")]
    pub directory: PathBuf,
    /// Days that it is valid for.
    #[arg(long, value_name = "N", default_value = "3650", value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub days: u32,
}

/// `ajar pki issue`.
#[derive(Debug, Args)]
pub struct PkiIssue {
    /// What its holder is.
    #[arg(value_name = "ROLE")]
    pub role: PkiRole,
    /// Its holder's name, in the audit log.
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: String,
    /// Confine an operator or a viewer to this tenant's campaigns, schedules and findings.
    #[arg(long, value_name = "TENANT", value_parser = name)]
    pub tenant: Option<String>,
    /// The vantage point of a worker, if several workers share it: by default each has its name's.
    #[arg(long, value_name = "VANTAGE", value_parser = name)]
    pub vantage: Option<String>,
    /// A name or an address that a coordinator is reached by.
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub host: Vec<String>,
    /// Where the authority is, and the certificate and its key go.
    #[arg(long, value_name = "DIRECTORY", default_value = "pki")]
    pub directory: PathBuf,
    /// Days that it is valid for.
    #[arg(long, value_name = "N", default_value = "365", value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub days: u32,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PkiRole {
    /// Serves everybody else.
    Coordinator,
    /// Submits and steers campaigns, and reads everything.
    Operator,
    /// Reads campaigns, findings and the audit log.
    Viewer,
    /// Runs probes.
    Worker,
    /// Reports what open relays and proxies forward.
    Canary,
}

impl PkiRole {
    /// As it stands in a certificate's URI.
    pub fn as_str(self) -> &'static str {
        match self {
            PkiRole::Coordinator => "coordinator",
            PkiRole::Operator => "operator",
            PkiRole::Viewer => "viewer",
            PkiRole::Worker => "worker",
            PkiRole::Canary => "canary",
        }
    }
}

/// It is part of a URI and of a file's name.
fn name(text: &str) -> Result<String, String> {
    let is_plain =
        |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    match (1..=64).contains(&text.len()) && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("expected 1 to 64 of letters, digits, '-', '_' and '.'".to_owned()),
    }
}
