//! What one coordinator bears, over Redis and PostgreSQL on this machine: a thousand workers with a lease each, that report together
//! 20,000 observations a second, and ten thousand with four leases each.

use std::{process::Command, time::Instant};

use anyhow::Context;
use serde_json::Value;

use crate::{
    cluster::Cluster,
    figures::{Table, spread},
    process,
    rig::{self, Rig, program},
};

/// How many workers there are, and what each does.
struct Load {
    workers: usize,
    leases: usize,
    /// Observations a second, and of a batch.
    each: u64,
    batch: u64,
    /// The campaigns that they work on, and the rate of each.
    networks: fn() -> Vec<String>,
    rate: u32,
}

const LOADS: [Load; 3] = [
    Load {
        workers: 1_000,
        leases: 1,
        each: 20,
        batch: 64,
        networks: quarters,
        rate: 25_600,
    },
    Load {
        workers: 1_000,
        leases: 1,
        each: 20,
        batch: 4,
        networks: quarters,
        rate: 25_600,
    },
    Load {
        workers: 10_000,
        leases: 4,
        each: 0,
        batch: 1,
        networks: many,
        rate: 512,
    },
];
const SECONDS: u64 = 30;
const DEATHS: usize = 8;

/// Four campaigns have leases for a thousand workers.
fn quarters() -> Vec<String> {
    ["0", "64", "128", "192"]
        .map(|second| format!("10.{second}.0.0/10"))
        .into()
}

/// A campaign has at most 256 shards, and so many at a low rate: these have more than ten thousand
/// workers hold.
fn many() -> Vec<String> {
    (0..160)
        .map(|second| format!("10.{second}.0.0/16"))
        .collect()
}

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
        "One coordinator and a swarm of workers",
        &[
            "workers",
            "leases of each",
            "observations a batch",
            "grants/s",
            "renewals/s",
            "ms of an answer",
            "ms of a pause",
            "ms until it was in force",
            "ms of a submission",
            "ms of a mail",
            "observations/s",
            "cores",
            "MB",
            "bytes of Redis a shard",
            "s to submit a /8",
            "s until another has a dead worker's lease",
        ],
    );
    for load in LOADS {
        let seen: anyhow::Result<Vec<Seen>> = (0..rounds).map(|_| one(rig, &load)).collect();
        let seen = seen?;
        let told = |decimals, name: &str| {
            spread(&seen, decimals, |seen| {
                seen.swarm[name].as_f64().unwrap_or(f64::NAN)
            })
        };
        table.row([
            load.workers.to_string(),
            load.leases.to_string(),
            match load.each {
                0 => "none".to_owned(),
                _ => load.batch.to_string(),
            },
            told(0, "grants"),
            told(0, "renewals"),
            told(0, "answer_ms"),
            told(0, "pause_ms"),
            told(0, "pause_effective_ms"),
            told(0, "submit_ms"),
            told(0, "mail_ms"),
            told(0, "observations"),
            spread(&seen, 2, |seen| seen.cores),
            spread(&seen, 0, |seen| seen.megabytes),
            spread(&seen, 0, |seen| seen.bytes),
            spread(&seen, 2, |seen| seen.submission),
            told(1, "recovery"),
        ]);
    }
    table.note(
        "the workers are made up, in one process, and those that report ask for 20 observations/s each; they, PostgreSQL \
         and Redis share this machine with the coordinator, whose processor time and memory are shown",
    );
    table.note(
        "milliseconds are those that all but one in a hundred took no longer than: of answers to what names leases, of twelve \
         pauses, of the leases that heard of these pauses, and of submissions and mails meanwhile",
    );
    table.note("a dead worker's lease lasts 15 s, and nobody gets it for another 5");
    Ok(table)
}

fn one(rig: &Rig, load: &Load) -> anyhow::Result<Seen> {
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
    for network in (load.networks)() {
        submit(&network, load.rate)?;
    }
    rig::rest();
    let (full, shards) = (cluster.redis_bytes()?, cluster.redis_shards()?);
    let before = cluster.cpu("coordinator")?;
    let started = Instant::now();
    let ours = std::env::current_exe()?;
    let order = [
        load.workers as u64,
        load.leases as u64,
        SECONDS,
        load.each,
        load.batch,
        DEATHS as u64,
    ];
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
