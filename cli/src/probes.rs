//! `ajar probes`: the catalogue.

use std::io::Write;

use ajar_model::ProbeId;
use comfy_table::{ContentArrangement, Table, presets};

use crate::{args::PortSet, exit::Ended, request};

/// Columns of the table, for terminals of any size.
const WIDTH: u16 = 100;

pub fn run() -> anyhow::Result<Ended> {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(["PROBE", "TIER", "PORTS", "WHAT IT TRIES"]);
    let mut before = None;
    for probe in ajar_probe::probes() {
        // The probes of a protocol have its ports.
        let service = Some(probe.protocol().service());
        let ports: Vec<String> = match service == before {
            true => Vec::new(),
            false => probe
                .protocol()
                .ports()
                .iter()
                .map(u16::to_string)
                .collect(),
        };
        before = service;
        let tier = probe.tier().as_str().to_owned();
        let summary = match probe.needs() {
            Some(needs) => format!("{}; needs {needs}", probe.summary()),
            None => probe.summary().to_owned(),
        };
        table.add_row([probe.id().to_string(), tier, ports.join(", "), summary]);
    }
    let mut out = std::io::stdout();
    writeln!(out, "{table}\n")?;
    let probes: Vec<ProbeId> = ajar_probe::probes().map(|probe| probe.id()).collect();
    let mut sets = Table::new();
    sets.load_preset(presets::NOTHING)
        .set_header(["--ports", "PORTS", "PAIRS IN A /24"]);
    for (name, set) in [
        ("common", PortSet::Common),
        ("wide", PortSet::Wide),
        ("all", PortSet::All),
    ] {
        let count = request::ports(&set, &probes)?.as_slice().len();
        sets.add_row([
            name.to_owned(),
            count.to_string(),
            (count * 256).to_string(),
        ]);
    }
    writeln!(out, "{sets}")?;
    Ok(Ended::Finished)
}
