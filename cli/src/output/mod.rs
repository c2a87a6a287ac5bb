//! Results, in the format that was chosen.

mod csv;
mod eol;
pub mod escaped;
pub mod jsonl;
mod owners;
mod rbldnsd;
mod reporter;
mod shadowserver;
pub mod table;
mod xarf;

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use ajar_model::Finding;
use clap::{Args, ValueEnum, builder::PossibleValue};

use crate::exit::OrRefuse;

pub use reporter::Reporter;

/// Every format: each is a file, and a line here.
const FORMATS: &[Format] = &[
    jsonl::FORMAT,
    csv::FORMAT,
    table::FORMAT,
    rbldnsd::FORMAT,
    shadowserver::FORMAT,
    xarf::FORMAT,
];

/// Where results go.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Where results go; - is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// The results' format. By default that of the file's name (.jsonl, .csv, .txt), a table on a
    /// terminal, JSONL elsewhere.
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Who reports, in formats that are sent to owners, as Example Net <abuse@example.net>.
    #[arg(long, value_name = "NAME <ADDR>")]
    pub reporter: Option<Reporter>,
    /// Take what is open to us for open to strangers, although we ask from inside: from the
    /// target's own machine or network, from private space, or from the networks that are audited.
    /// For internal audits.
    #[arg(long)]
    pub inside_counts: bool,
    /// Show ids and times in tables.
    #[arg(long)]
    pub wide: bool,
    /// A list of products and their first maintained versions, as squid-cache,squid,6.0: what is older is marked as outdated.
    #[arg(long, value_name = "FILE")]
    pub eol: Option<eol::List>,
}

/// A way to write results.
#[derive(Clone, Copy)]
pub struct Format {
    /// Its name in options.
    name: &'static str,
    /// What it is, in a line.
    help: &'static str,
    /// True if it is sent to owners, who hear of nothing that was not confirmed.
    for_owners: bool,
    /// Checks the options and opens what is written to, before anything is sent.
    prepare: fn(&Options) -> anyhow::Result<Prepared>,
}

/// Starts writing, and removes what an earlier run wrote.
type Prepared = Box<dyn FnOnce() -> io::Result<Box<dyn Writer>> + Send>;

/// One file, or standard output.
type Out = Box<dyn Write + Send>;

/// Results on their way out.
pub trait Writer: Send {
    /// Writes one finding, or keeps it for the end.
    fn write(&mut self, finding: &Finding) -> anyhow::Result<()>;

    /// Writes what is left.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        FORMATS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name).help(self.help))
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Where results go. It is opened before anything is sent, and emptied only when results are written.
pub struct Sink {
    prepared: Prepared,
    for_owners: bool,
    inside_counts: bool,
    eol: Option<eol::List>,
}

impl Sink {
    /// Opens it, or says why it cannot be written. The format is the one that is named, or else
    /// that of the file's name, or else `usual`.
    pub fn open(options: &Options, usual: Option<Format>) -> anyhow::Result<Self> {
        let on_terminal = options.output == Path::new("-") && io::stdout().is_terminal();
        let named = options.format.or_else(|| by_extension(&options.output));
        let format = named.or(usual).unwrap_or(match on_terminal {
            true => table::FORMAT,
            false => jsonl::FORMAT,
        });
        Ok(Self {
            prepared: (format.prepare)(options)?,
            for_owners: format.for_owners,
            inside_counts: options.inside_counts,
            eol: options.eol.clone(),
        })
    }

    /// Starts writing.
    pub fn begin(self) -> io::Result<Box<dyn Writer>> {
        let mut writer = (self.prepared)()?;
        if self.for_owners {
            writer = Box::new(owners::Confirmed::new(writer));
        }
        if self.inside_counts {
            writer = Box::new(owners::InsideCounts(writer));
        }
        Ok(match self.eol {
            Some(list) => Box::new(eol::Marking { list, writer }),
            None => writer,
        })
    }
}

fn by_extension(file: &Path) -> Option<Format> {
    match file.extension()?.to_str()? {
        "jsonl" | "ndjson" | "json" => Some(jsonl::FORMAT),
        "csv" => Some(csv::FORMAT),
        "txt" => Some(table::FORMAT),
        _ => None,
    }
}

/// Prepares a format of one file.
fn one_file(
    options: &Options,
    writer: impl FnOnce(Out) -> Box<dyn Writer> + Send + 'static,
) -> anyhow::Result<Prepared> {
    let file = open(&options.output)?;
    Ok(Box::new(move || {
        let out: Out = match file {
            Some(file) => {
                empty(&file)?;
                Box::new(io::BufWriter::new(file))
            }
            None => Box::new(io::BufWriter::new(io::stdout())),
        };
        Ok(writer(out))
    }))
}

/// The file of an `--output`; none for `-`, standard output.
pub fn open(path: &PathBuf) -> anyhow::Result<Option<File>> {
    if path == Path::new("-") {
        return Ok(None);
    }
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let opened = opened.map_err(|error| format!("{} cannot be written: {error}", path.display()));
    opened.map(Some).or_refuse()
}

/// Removes what an earlier run wrote; a pipe or a device has nothing to remove.
pub fn empty(file: &File) -> io::Result<()> {
    match file.metadata()?.is_file() {
        true => file.set_len(0),
        false => Ok(()),
    }
}

/// A cell that no spreadsheet takes for a formula.
fn harmless(cell: &str) -> String {
    match cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{cell}"),
        false => cell.to_owned(),
    }
}

/// The name that a value has in JSON; empty for none.
fn name<T: serde::Serialize>(value: &Option<T>) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banner_cannot_become_a_formula() {
        for cell in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"] {
            assert_eq!(harmless(cell), format!("'{cell}"));
        }
        assert_eq!(harmless("220 mail"), "220 mail");
    }
}
