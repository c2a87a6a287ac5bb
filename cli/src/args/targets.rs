//! The addresses and ports of a run.

use std::path::PathBuf;

use ajar_model::Ports;
use clap::Args;

/// The targets of a run.
#[derive(Debug, Args)]
pub struct Targets {
    /// Address, CIDR block, first-last range, or host name (resolved once).
    #[arg(value_name = "TARGET")]
    pub target: Vec<String>,
    /// Read targets from a file, one a line; - is standard input. Also -iL.
    #[arg(long, value_name = "FILE")]
    pub targets: Option<PathBuf>,
    /// Never send a packet to these.
    #[arg(long, value_name = "TARGET", value_delimiter = ',')]
    pub exclude: Vec<String>,
    /// Read exclusions from a file, one a line.
    #[arg(long, value_name = "FILE")]
    pub exclude_file: Option<PathBuf>,
    /// TCP ports, as 25,8000-8100; or common, wide or all. By default those that the
    /// authorization names, or else the common ones of the chosen probes.
    #[arg(short, long, value_name = "LIST")]
    pub ports: Option<PortSet>,
}

/// A set of ports, by its members or by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortSet {
    Listed(Ports),
    /// The ports on which the chosen probes find most.
    Common,
    /// Those on which they find something now and then, too.
    Wide,
    All,
}

impl std::str::FromStr for PortSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "common" => Ok(Self::Common),
            "wide" => Ok(Self::Wide),
            "all" => Ok(Self::All),
            list => match list.parse() {
                Ok(ports) => Ok(Self::Listed(ports)),
                Err(error) => Err(format!("{error}, or common, wide or all")),
            },
        }
    }
}
