//! Discovery alone, as fast as each tool can, with one probe a pair.

use std::{collections::HashSet, fs, net::SocketAddrV4, process::Command};

use anyhow::Context;
use serde_json::Value;

use crate::{
    figures::{Table, spread},
    process::{self, Spent},
    rig::{self, GATEWAY, INTERFACE, NEAR, Part, Rig, program},
};

/// How fast "unlimited" is, in packets a second: beyond every tool.
const UNLIMITED: &str = "100000000";

/// A tool that finds what is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Ajar,
    Masscan,
    Zmap,
}

/// What a tool did in one round.
#[derive(Debug)]
pub struct Found {
    pub spent: Spent,
    pub open: HashSet<SocketAddrV4>,
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Tool::Ajar => "ajar sweep",
            Tool::Masscan => "masscan",
            Tool::Zmap => "zmap",
        }
    }

    /// Finds what is open in a part of the network.
    pub fn find(self, rig: &Rig, part: Part) -> anyhow::Result<Found> {
        match self {
            Tool::Ajar => ajar(rig, part),
            Tool::Masscan => masscan(rig, part),
            Tool::Zmap => zmap(part),
        }
    }
}

fn ajar(rig: &Rig, part: Part) -> anyhow::Result<Found> {
    let mut command = Command::new(program()?);
    command
        .arg("sweep")
        .args(rig.authorization()?)
        .args([&part.block(), "-p", &part.port_list()])
        .args(["--rate", UNLIMITED, "--prefix-rate", UNLIMITED])
        .args(["--retries", "0", "--sweep", "syn"]);
    let spent = process::run(&mut command)?;
    let open = spent.stdout.lines().map(|line| {
        let pair: Value = serde_json::from_str(line)?;
        pair_of(pair["ip"].as_str(), pair["port"].as_u64())
    });
    let open = open.collect::<anyhow::Result<_>>()?;
    Ok(Found { spent, open })
}

fn masscan(rig: &Rig, part: Part) -> anyhow::Result<Found> {
    let list = rig.directory().join("masscan");
    let mut command = Command::new("masscan");
    command
        .args([&part.block(), "-p", &part.port_list(), "--rate", UNLIMITED])
        .args([
            "--wait",
            "1",
            "-e",
            INTERFACE,
            "--source-ip",
            &NEAR.to_string(),
        ])
        .args(["--router-mac", GATEWAY, "-oL"])
        .arg(&list);
    let spent = process::run(&mut command)?;
    // `open tcp 25 10.128.0.7 1700000000`
    let list = fs::read_to_string(&list)?;
    let open = list.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let ["open", "tcp", port, ip, ..] = words[..] else {
            return None;
        };
        Some(pair_of(Some(ip), port.parse().ok()))
    });
    let open = open.collect::<anyhow::Result<_>>()?;
    Ok(Found { spent, open })
}

/// One port a run: this version knows no more.
fn zmap(part: Part) -> anyhow::Result<Found> {
    let (mut spent, mut open) = (Spent::default(), HashSet::new());
    for port in part.ports() {
        let mut command = Command::new("zmap");
        command
            .args([
                "-p",
                &port.to_string(),
                "-r",
                "0",
                "-c",
                "1",
                "-q",
                "-T",
                "1",
            ])
            .args(["-i", INTERFACE, "-S", &NEAR.to_string(), "-G", GATEWAY])
            .args(["-b", "/dev/null", "-f", "saddr", "-o", "-", &part.block()]);
        let one = process::run(&mut command)?;
        for ip in one.stdout.lines() {
            open.insert(pair_of(Some(ip.trim()), Some((*port).into()))?);
        }
        spent.wall += one.wall;
        spent.cpu += one.cpu;
        spent.packets += one.packets;
        spent.sending += one.sending;
        spent.megabytes = spent.megabytes.max(one.megabytes);
    }
    Ok(Found { spent, open })
}

fn pair_of(ip: Option<&str>, port: Option<u64>) -> anyhow::Result<SocketAddrV4> {
    let parsed = || Some(SocketAddrV4::new(ip?.parse().ok()?, port?.try_into().ok()?));
    parsed().with_context(|| format!("{ip:?} {port:?} is no pair"))
}

/// Each tool in turn, `rounds` times.
pub fn compare(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    let part = Part {
        length: 16,
        ports: 4,
    };
    let truth = part.open();
    let tools = [Tool::Ajar, Tool::Masscan, Tool::Zmap];
    let mut runs: Vec<Vec<Found>> = tools.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (tool, runs) in tools.iter().zip(&mut runs) {
            runs.push(tool.find(rig, part)?);
            rig::rest();
        }
    }
    let mut table = Table::new(
        "Discovery: a /16 x 4 ports, unlimited, one probe a pair",
        &[
            "tool",
            "kpps",
            "CPU s per million probes",
            "found",
            "wrong",
            "seconds in all",
            "MB",
        ],
    );
    let rate = |found: &Found| 0.9 * found.spent.packets as f64 / found.spent.sending / 1000.0;
    let cost = |found: &Found| found.spent.cpu * 1e6 / part.pairs() as f64;
    for (tool, runs) in tools.iter().zip(&runs) {
        let right = |found: &Found| found.open.intersection(&truth).count() as f64;
        let wrong = |found: &Found| found.open.difference(&truth).count() as f64;
        table.row([
            tool.name().to_owned(),
            spread(runs, 0, rate),
            spread(runs, 2, cost),
            spread(runs, 5, |run| right(run) / truth.len() as f64),
            spread(runs, 0, wrong),
            spread(runs, 1, |run| run.spent.wall),
            spread(runs, 0, |run| run.spent.megabytes),
        ]);
    }
    for (other, runs_of) in tools.iter().zip(&runs).skip(1) {
        table.ratio(
            &format!("rate against {}", other.name()),
            &runs[0],
            runs_of,
            rate,
        );
        table.ratio(
            &format!("CPU per probe against {}", other.name()),
            &runs[0],
            runs_of,
            cost,
        );
    }
    Ok(table)
}
