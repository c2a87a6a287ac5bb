//! Results: one JSON object a line, comma-separated values, or a table.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use ajar_model::Finding;
use comfy_table::{CellAlignment, Table, presets};

use crate::{
    args::{self, Format},
    exit::OrRefuse,
};

/// Where results go. It is opened before anything is sent, and emptied only when results are written.
pub struct Sink {
    file: Option<File>,
    format: Format,
}

impl Sink {
    /// Opens it, or says why it cannot be written.
    pub fn open(options: &args::Output) -> anyhow::Result<Self> {
        let file = open(&options.output)?;
        let on_terminal = file.is_none() && io::stdout().is_terminal();
        let format = options.format.unwrap_or(match on_terminal {
            true => Format::Table,
            false => Format::Jsonl,
        });
        Ok(Self { file, format })
    }

    /// Starts writing.
    pub fn begin(self) -> io::Result<Writer> {
        let out: Box<dyn Write + Send> = match self.file {
            Some(file) => {
                empty(&file)?;
                Box::new(io::BufWriter::new(file))
            }
            None => Box::new(io::BufWriter::new(io::stdout())),
        };
        Ok(match self.format {
            Format::Jsonl => Writer::Jsonl(out),
            Format::Csv => Writer::Csv(Box::new(csv::Writer::from_writer(out)), false),
            Format::Table => Writer::Table(out, Box::new(empty_table())),
        })
    }
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

/// Results on their way out.
pub enum Writer {
    /// One JSON object a line.
    Jsonl(Box<dyn Write + Send>),
    /// Comma-separated values; true once the header is written.
    Csv(Box<csv::Writer<Box<dyn Write + Send>>>, bool),
    /// For people.
    Table(Box<dyn Write + Send>, Box<Table>),
}

impl Writer {
    /// Writes one finding.
    pub fn write(&mut self, finding: &Finding) -> anyhow::Result<()> {
        match self {
            Writer::Jsonl(out) => {
                serde_json::to_writer(&mut *out, finding)?;
                out.write_all(b"\n")?;
            }
            Writer::Csv(out, has_header) => {
                if !std::mem::replace(has_header, true) {
                    out.write_record(COLUMNS)?;
                }
                out.write_record(record(finding).map(|cell| harmless(&cell)))?;
            }
            Writer::Table(_, table) => {
                table.add_row(row(finding));
            }
        }
        Ok(())
    }

    /// Writes what is left.
    pub fn finish(self) -> anyhow::Result<()> {
        match self {
            Writer::Jsonl(mut out) => out.flush()?,
            Writer::Csv(mut out, has_header) => {
                if !has_header {
                    out.write_record(COLUMNS)?;
                }
                out.flush()?;
            }
            Writer::Table(mut out, table) => {
                match table.row_count() {
                    0 => writeln!(out, "no endpoint answered")?,
                    _ => writeln!(out, "{table}")?,
                }
                out.flush()?;
            }
        }
        Ok(())
    }
}

const COLUMNS: [&str; 18] = [
    "id",
    "campaign",
    "ip",
    "port",
    "transport",
    "service",
    "exposure",
    "verdict",
    "probe",
    "variants",
    "proof_kind",
    "proof_received_at",
    "egress_ip",
    "banner",
    "tls",
    "vantage",
    "first_seen",
    "last_seen",
];

fn record(finding: &Finding) -> [String; 18] {
    let proof = finding.proof.as_ref();
    [
        finding.id.clone(),
        finding.campaign.to_string(),
        finding.ip.to_string(),
        finding.port.to_string(),
        finding.transport.clone(),
        name(&finding.service),
        name(&finding.exposure),
        finding.verdict.as_str().to_owned(),
        finding.probe.to_string(),
        finding.variants.join(" "),
        name(&proof.map(|proof| proof.kind)),
        proof
            .map(|proof| proof.received_at.to_string())
            .unwrap_or_default(),
        proof
            .map(|proof| proof.egress_ip.to_string())
            .unwrap_or_default(),
        finding
            .banner
            .as_ref()
            .map(|banner| banner.clean())
            .unwrap_or_default(),
        finding.tls.to_string(),
        finding.vantage.clone(),
        finding.first_seen.to_string(),
        finding.last_seen.to_string(),
    ]
}

/// A cell that no spreadsheet takes for a formula.
fn harmless(cell: &str) -> String {
    match cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{cell}"),
        false => cell.to_owned(),
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
