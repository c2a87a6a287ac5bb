//! `ajar probes`: the catalogue.

use std::io::Write;

use comfy_table::{Table, presets};

use crate::exit::Ended;

/// Prints it.
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
        let tier = format!("{:?}", probe.tier()).to_lowercase();
        let summary = match probe.needs() {
            Some(needs) => format!("{}; needs {needs}", probe.summary()),
            None => probe.summary().to_owned(),
        };
        table.add_row([probe.id().to_string(), tier, ports.join(","), summary]);
    }
    writeln!(std::io::stdout(), "{table}")?;
    Ok(Ended::Finished)
}
