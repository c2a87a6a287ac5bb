//! What one coordinator bears: a thousand workers, each with a lease, that report together 20,000 observations a second, over Redis and
//! PostgreSQL on this machine.

use std::{process::Command, time::Instant};

use anyhow::Context;
use serde_json::Value;

use crate::{
    cluster::Cluster,
    figures::{Table, spread},
    process,
    rig::{self, Rig, program},
};

const WORKERS: usize = 1000;
/// Observations a second of each.
const EACH: u64 = 20;
const SECONDS: u64 = 30;
const DEATHS: usize = 8;
/// Four campaigns have leases for a thousand workers.
const QUARTERS: [&str; 4] = [
    "10.0.0.0/10",
    "10.64.0.0/10",
    "10.128.0.0/10",
    "10.192.0.0/10",
];
/// Observations of a batch.
const BATCHES: [u64; 2] = [64, 4];

struct Seen {
    swarm: Value,
    /// Seconds of the coordinator's processor time a second, while the swarm worked.
    cores: f64,
    megabytes: f64,
    /// Bytes of Redis a shard.
    bytes: f64,
    /// Seconds to submit a campaign of 10.0.0.0/8.
    submission: f64,
}

pub fn swarm(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    let mut table = Table::new(
        &format!("One coordinator: {WORKERS} workers with a lease each, renewed every second"),
        &[
            "observations a batch",
            "grants/s",
            "renewals/s",
            "ms a renewal",
            "ms of the slowest pause",
            "ms until it was in force",
            "observations/s",
            "cores",
            "MB",
            "bytes of Redis a shard",
            "s to submit a /8",
            "s until another has a dead worker's lease",
        ],
    );
    for batch in BATCHES {
        let seen: anyhow::Result<Vec<Seen>> = (0..rounds).map(|_| one(rig, batch)).collect();
        let seen = seen?;
        let told = |decimals, name: &str| {
            spread(&seen, decimals, |seen| {
                seen.swarm[name].as_f64().unwrap_or(f64::NAN)
            })
        };
        table.row([
            batch.to_string(),
            told(0, "grants"),
            told(0, "renewals"),
            told(1, "renewal_ms"),
            told(0, "pause_ms"),
            told(0, "pause_effective_ms"),
            told(0, "observations"),
            spread(&seen, 2, |seen| seen.cores),
            spread(&seen, 0, |seen| seen.megabytes),
            spread(&seen, 0, |seen| seen.bytes),
            spread(&seen, 2, |seen| seen.submission),
            told(1, "recovery"),
        ]);
    }
    table.note(&format!(
        "the workers are made up, in one process, and ask for {} observations/s; they, PostgreSQL and Redis share this machine \
         with the coordinator, whose processor time and memory are shown",
        WORKERS as u64 * EACH
    ));
    table.note(
        "a campaign is paused five times while every worker renews; a pause is in force when no lease of the campaign \
         is renewed any more",
    );
    table.note("a dead worker's lease lasts 15 s, and nobody gets it for another 5");
    Ok(table)
}

fn one(rig: &Rig, batch: u64) -> anyhow::Result<Seen> {
    let authorization = authorize(rig)?;
    let cluster = Cluster::start(rig, 0, &[])?;
    let submit = |network: &str, rate: u32| -> anyhow::Result<f64> {
        let started = Instant::now();
        let mut command = cluster.command(&["campaign", "submit", network])?;
        command.args(["--rate", &rate.to_string(), "--prefix-rate", "100"]);
        command.args(["--authorization", &authorization, "--allowed-signers"]);
        command.arg(rig.directory().join("signers"));
        let id = process::run(&mut command)?.stdout;
        let took = started.elapsed().as_secs_f64();
        if network == "10.0.0.0/8" {
            process::run(&mut cluster.command(&["campaign", "cancel", id.trim()])?)?;
        }
        Ok(took)
    };
    let submission = submit("10.0.0.0/8", 100_000)?;
    let empty = cluster.redis_bytes()?;
    for quarter in QUARTERS {
        submit(quarter, 25_600)?;
    }
    rig::rest();
    let (full, shards) = (cluster.redis_bytes()?, cluster.redis_shards()?);
    let before = cluster.cpu("coordinator")?;
    let started = Instant::now();
    let ours = std::env::current_exe()?;
    let order = [WORKERS as u64, SECONDS, EACH, batch, DEATHS as u64];
    let mut swarm = Command::new(ours);
    swarm.args(["swarm", cluster.url()]);
    swarm.args(order.map(|number| number.to_string()));
    let said = process::run(&mut swarm)?;
    let spent = cluster.cpu("coordinator")? - before;
    Ok(Seen {
        swarm: serde_json::from_str(said.stdout.trim()).context(said.stdout)?,
        cores: spent / started.elapsed().as_secs_f64(),
        megabytes: cluster.megabytes("coordinator")?,
        bytes: (full - empty) / shards,
        submission,
    })
}

/// An authorization of 10.0.0.0/8, by the signer of the rig. Nothing is sent there.
fn authorize(rig: &Rig) -> anyhow::Result<String> {
    rig.authorization()?;
    let path = rig.directory().join("swarm.toml").display().to_string();
    if !std::path::Path::new(&path).exists() {
        rig::sh(&format!(
            "cd {}
             {} authorize --key key --contact bench@example.net --ports 25 --canary {} \
                --canary-domain canary.test,canary.example --rate 1000000 --prefix-rate 1000 -o {path} 10.0.0.0/8",
            rig.directory().display(),
            program()?.display(),
            rig::NEAR,
        ))?;
    }
    Ok(path)
}
