//! What conversations cost in memory: a cluster's worker among servers that take connections and never say a word.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    cluster::Cluster,
    figures::{Table, spread},
    rig::{self, Rig},
    verification::Scan,
};

/// Conversations at the same time.
const CAPACITY: u32 = 10_000;
/// Nothing comes of a conversation after this.
const LONGEST: Duration = Duration::from_secs(100);

struct Seen {
    /// Connections of the worker to targets, at most.
    conversations: usize,
    /// Of the worker, before it had anything to do.
    idle: f64,
    /// Of the worker, at most.
    worker: f64,
    /// Of the coordinator, at most.
    coordinator: f64,
}

pub fn conversations(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    let ports = rig::list(&rig::MUTE);
    let scan = Scan {
        targets: &[rig::DENSE],
        ports: &ports,
        options: &["--sweep", "none", "--retries", "0"],
    };
    let seen: anyhow::Result<Vec<Seen>> = (0..rounds).map(|_| one(rig, &scan)).collect();
    let seen = seen?;
    let mut table = Table::new(
        "Memory: a worker among servers that never say a word",
        &[
            "conversations at once",
            "MB of the worker",
            "of it before",
            "MB of the coordinator",
        ],
    );
    table.row([
        spread(&seen, 0, |seen| seen.conversations as f64),
        spread(&seen, 0, |seen| seen.worker),
        spread(&seen, 0, |seen| seen.idle),
        spread(&seen, 0, |seen| seen.coordinator),
    ]);
    Ok(table)
}

fn one(rig: &Rig, scan: &Scan<'_>) -> anyhow::Result<Seen> {
    let cluster = Cluster::start(rig, 1, &["--capacity", &CAPACITY.to_string()])?;
    let idle = cluster.megabytes("worker")?;
    cluster.submit(rig, scan)?;
    let started = Instant::now();
    let mut most = 0;
    while started.elapsed() < LONGEST {
        let now = talking()?;
        most = most.max(now);
        if most >= CAPACITY as usize || now < most / 2 {
            break;
        }
        thread::sleep(Duration::from_millis(500));
    }
    // Long enough that whoever is there has been asked for more than one thing.
    thread::sleep(Duration::from_secs(30));
    Ok(Seen {
        conversations: most,
        idle,
        worker: cluster.megabytes("worker")?,
        coordinator: cluster.megabytes("coordinator")?,
    })
}

/// Connections to targets, as the kernel counts them.
fn talking() -> anyhow::Result<usize> {
    let ports: Vec<String> = rig::MUTE.map(|port| format!("dport = :{port}")).to_vec();
    let connections = rig::sh(&format!(
        "ss -Htn state established '( {} )'",
        ports.join(" or ")
    ))?;
    Ok(connections.lines().count())
}
