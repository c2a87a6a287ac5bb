//! `ajar probes`: the catalogue.

use std::io::Write;

use comfy_table::{Table, presets};

use crate::exit::Ended;

pub fn run() -> anyhow::Result<Ended> {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["PROBE", "TIER", "PORTS", "WHAT IT TRIES"]);
    for probe in ajar_probe::probes() {
        let ports: Vec<String> = probe
            .protocol()
            .ports()
            .iter()
            .map(u16::to_string)
            .collect();
        let tier = probe.tier().as_str().to_owned();
        let summary = match probe.needs() {
            Some(needs) => format!("{}; needs {needs}", probe.summary()),
            None => probe.summary().to_owned(),
        };
        table.add_row([probe.id().to_string(), tier, ports.join(","), summary]);
    }
    writeln!(std::io::stdout(), "{table}")?;
    Ok(Ended::Finished)
}
