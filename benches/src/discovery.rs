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
    /// Stateless SYNs.
    Ajar,
    Masscan,
    Zmap,
    /// The kernel's connections.
    AjarConnect,
    NmapConnect,
    Bare,
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
            Tool::AjarConnect => "ajar sweep --sweep connect",
            Tool::NmapConnect => "nmap -sT",
            Tool::Bare => "a bare epoll loop",
        }
    }

    /// Finds what is open in a part of the network.
    pub fn find(self, rig: &Rig, part: Part) -> anyhow::Result<Found> {
        match self {
            Tool::Ajar => ajar(rig, part, "syn"),
            Tool::Masscan => masscan(rig, part),
            Tool::Zmap => zmap(part),
            Tool::AjarConnect => ajar(rig, part, "connect"),
            Tool::NmapConnect => nmap(part),
            Tool::Bare => bare(part),
        }
    }
}

fn ajar(rig: &Rig, part: Part, sweep: &str) -> anyhow::Result<Found> {
    let mut command = Command::new(program()?);
    command
        .arg("sweep")
        .args(rig.authorization()?)
        .args([&part.block(), "-p", &part.port_list()])
        .args(["--rate", UNLIMITED, "--prefix-rate", UNLIMITED])
        .args(["--retries", "0", "--sweep", sweep]);
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
        spent.add(&one);
    }
    Ok(Found { spent, open })
}

fn nmap(part: Part) -> anyhow::Result<Found> {
    let mut command = Command::new("nmap");
    command
        .args(["-n", "-Pn", "-sT", "-T5", "--max-retries", "0"])
        .args(["--min-rate", "20000", "--min-hostgroup", "4096", "--open"])
        .args(["-p", &part.port_list(), "-oG", "-", &part.block()]);
    let spent = process::run(&mut command)?;
    let mut open = HashSet::new();
    // `Host: 10.128.0.7 ()<tab>Ports: 25/open/tcp//smtp///, 80/open/tcp//http///`
    for line in spent.stdout.lines() {
        let Some((host, ports)) = line.split_once("Ports: ") else {
            continue;
        };
        let ip = host.split(' ').nth(1);
        for port in ports.split(", ").filter(|port| port.contains("/open/")) {
            let port = port.split('/').next().and_then(|port| port.parse().ok());
            open.insert(pair_of(ip, port)?);
        }
    }
    Ok(Found { spent, open })
}

fn bare(part: Part) -> anyhow::Result<Found> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare", &part.length.to_string(), &part.ports.to_string()]);
    let spent = process::run(&mut command)?;
    let open = spent.stdout.lines().map(|line| {
        let (ip, port) = line.split_once(' ').context("no pair")?;
        pair_of(Some(ip), port.parse().ok())
    });
    let open = open.collect::<anyhow::Result<_>>()?;
    Ok(Found { spent, open })
}

/// A pair as a tool's results say it.
pub fn pair_of(ip: Option<&str>, port: Option<u64>) -> anyhow::Result<SocketAddrV4> {
    let parsed = || Some(SocketAddrV4::new(ip?.parse().ok()?, port?.try_into().ok()?));
    parsed().with_context(|| format!("{ip:?} {port:?} is no pair"))
}

pub fn syn(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    let part = Part {
        length: 16,
        ports: 4,
    };
    let title = "Discovery by SYNs: a /16 x 4 ports, unlimited, one probe a pair";
    compare(
        rig,
        rounds,
        title,
        part,
        &[Tool::Ajar, Tool::Masscan, Tool::Zmap],
    )
}

pub fn connect(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    let part = Part {
        length: 18,
        ports: 4,
    };
    let title = "Discovery by connections: a /18 x 4 ports, one attempt a pair";
    compare(
        rig,
        rounds,
        title,
        part,
        &[Tool::AjarConnect, Tool::NmapConnect, Tool::Bare],
    )
}

/// Each tool in turn, `rounds` times.
fn compare(
    rig: &Rig,
    rounds: usize,
    title: &str,
    part: Part,
    tools: &[Tool],
) -> anyhow::Result<Table> {
    let truth = part.open();
    let mut runs: Vec<Vec<Found>> = tools.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (tool, runs) in tools.iter().zip(&mut runs) {
            runs.push(tool.find(rig, part)?);
            rig::rest();
        }
    }
    let mut table = Table::new(
        title,
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
