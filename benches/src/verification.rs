//! Verification alone: the same open endpoints by ajar, with a receipt for each door, and by nmap's script for them.

use std::{
    collections::HashSet,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddrV4, TcpListener},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::Context;
use serde_json::Value;

use crate::{
    figures::{Table, spread},
    process::{self, Spent},
    responder::is_open_door,
    rig::{self, NEAR, Rig, program},
};

/// What nmap's http-open-proxy fetches and looks for.
const PAGE: &str = "the page that was asked for";

/// One kind of door.
struct Door {
    title: &'static str,
    port: u16,
    script: &'static str,
    arguments: String,
    /// What nmap prints below an endpoint that it takes for open.
    says: &'static str,
}

/// What a tool said of the endpoints in one round.
struct Said {
    spent: Spent,
    open: HashSet<SocketAddrV4>,
}

pub fn relays(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    let door = Door {
        title: "Verification: open relays, 1 receipt each",
        port: 25,
        script: "smtp-open-relay",
        arguments: format!("smtp-open-relay.domain=canary.test,smtp-open-relay.ip={NEAR}"),
        says: "Server is an open relay",
    };
    compare(rig, rounds, &door)
}

pub fn proxies(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    let door = Door {
        title: "Verification: open HTTP proxies, 1 receipt each",
        port: 3128,
        script: "http-open-proxy",
        arguments: format!("proxy.url=http://{NEAR}:8099/,proxy.pattern={PAGE}"),
        says: "Potentially OPEN proxy",
    };
    serve_page()?;
    compare(rig, rounds, &door)
}

fn compare(rig: &Rig, rounds: usize, door: &Door) -> anyhow::Result<Table> {
    let mut endpoints: Vec<SocketAddrV4> = rig::WIDEST.open().into_iter().collect();
    endpoints.retain(|pair| pair.port() == door.port);
    endpoints.sort_unstable();
    let truth: HashSet<SocketAddrV4> = endpoints
        .iter()
        .filter(|pair| is_open_door(*pair.ip()))
        .copied()
        .collect();
    let list = rig.directory().join("endpoints");
    let lines: Vec<String> = endpoints.iter().map(|pair| pair.ip().to_string()).collect();
    fs::write(&list, lines.join("\n") + "\n")?;
    let list = list.display().to_string();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(ajar(rig, door, &list)?);
        rig::rest();
        theirs.push(nmap(door, &list)?);
        rig::rest();
    }
    let mut table = Table::new(
        &format!(
            "{} ({} endpoints, {} open)",
            door.title,
            endpoints.len(),
            truth.len()
        ),
        &[
            "tool",
            "endpoints/s",
            "CPU ms each",
            "found",
            "wrong",
            "seconds in all",
            "MB",
        ],
    );
    let count = endpoints.len() as f64;
    let rate = |said: &Said| count / said.spent.wall;
    let cost = |said: &Said| said.spent.cpu * 1000.0 / count;
    for (tool, runs) in [("ajar scan", &ours), (door.script, &theirs)] {
        let right = |said: &Said| said.open.intersection(&truth).count() as f64;
        table.row([
            tool.to_owned(),
            spread(runs, 0, rate),
            spread(runs, 2, cost),
            spread(runs, 4, |said| right(said) / truth.len() as f64),
            spread(runs, 0, |said| said.open.difference(&truth).count() as f64),
            spread(runs, 1, |said| said.spent.wall),
            spread(runs, 0, |said| said.spent.megabytes),
        ]);
    }
    table.ratio("rate against nmap", &ours, &theirs, rate);
    table.ratio("CPU per endpoint against nmap", &ours, &theirs, cost);
    Ok(table)
}

fn ajar(rig: &Rig, door: &Door, list: &str) -> anyhow::Result<Said> {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name).display().to_string();
    let mut command = Command::new(program()?);
    command
        .arg("scan")
        .args(rig.authorization()?)
        .args(["--targets", list, "-p", &door.port.to_string()])
        .args(["--canary", &NEAR.to_string()])
        .args([
            "--canary-domain",
            "canary.test",
            "--canary-domain",
            "canary.example",
        ])
        .args(["--rate", "1000000", "--prefix-rate", "100000"])
        .args([
            "--revisits",
            "0",
            "--confirm-after",
            "never",
            "--settle",
            "60s",
        ])
        .args(["--store", &path("store.db"), "-o", &path("results.jsonl")])
        .args(["--canary-key", &path("canary.key")])
        .current_dir(directory.path());
    let spent = process::run(&mut command)?;
    let results = fs::read_to_string(path("results.jsonl"))?;
    let mut open = HashSet::new();
    for line in results.lines() {
        let finding: Value = serde_json::from_str(line)?;
        if finding["verdict"] == "open" {
            let ip = finding["ip"].as_str().and_then(|ip| ip.parse().ok());
            open.insert(SocketAddrV4::new(ip.context("no address")?, door.port));
        }
    }
    Ok(Said { spent, open })
}

fn nmap(door: &Door, list: &str) -> anyhow::Result<Said> {
    let mut command = Command::new("nmap");
    command
        .args(["-n", "-Pn", "-sT", "-T5", "--min-hostgroup", "4096"])
        .args(["-p", &door.port.to_string(), "--script", door.script])
        .args(["--script-args", &door.arguments, "-iL", list]);
    let spent = process::run(&mut command)?;
    let (mut open, mut at) = (HashSet::new(), None);
    for line in spent.stdout.lines() {
        if let Some(ip) = line.strip_prefix("Nmap scan report for ") {
            at = ip.parse().ok();
        }
        if let (true, Some(ip)) = (line.contains(door.says), at) {
            open.insert(SocketAddrV4::new(ip, door.port));
        }
    }
    Ok(Said { spent, open })
}

/// A page at our end, for whoever comes through a proxy, until this process ends.
fn serve_page() -> anyhow::Result<()> {
    let listener = TcpListener::bind((NEAR, 8099))?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            let _ = stream.read(&mut [0; 1024]);
            let length = PAGE.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{PAGE}"
            );
        }
    });
    Ok(())
}
