//! Everything in one go: a network swept, and each open door in it proven and stored, beside masscan and then nmap's scripts.

use std::{collections::HashSet, fs, net::SocketAddrV4};

use crate::{
    discovery::Tool,
    figures::{Table, spread},
    process::Spent,
    responder::{Protocol, is_open_door},
    rig::{self, Part, Rig},
    verification::{self, Scan},
};

const PART: Part = Part {
    length: 16,
    ports: 12,
};

/// What one way did in one round.
struct Doors {
    spent: Spent,
    open: HashSet<SocketAddrV4>,
}

pub fn compare(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    let truth: HashSet<SocketAddrV4> = PART.open();
    let endpoints = truth.len();
    let truth: HashSet<SocketAddrV4> = truth
        .into_iter()
        .filter(|pair| is_open_door(*pair.ip()))
        .collect();
    let (mut ours, mut theirs, mut sweeps) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(one_go(rig, PART)?);
        rig::rest();
        sweeps.push(Tool::Ajar.find(rig, PART)?.spent);
        rig::rest();
        theirs.push(two_steps(rig, PART)?);
        rig::rest();
    }
    let mut table = Table::new(
        &format!(
            "The whole job: a /16 x 12 ports, {endpoints} endpoints behind them, {} open doors",
            truth.len()
        ),
        &[
            "way",
            "seconds in all",
            "CPU s",
            "doors found",
            "wrong",
            "MB",
        ],
    );
    for (way, runs) in [("ajar scan", &ours), ("masscan, then nmap", &theirs)] {
        let right = |doors: &Doors| doors.open.intersection(&truth).count() as f64;
        table.row([
            way.to_owned(),
            spread(runs, 1, |doors| doors.spent.wall),
            spread(runs, 1, |doors| doors.spent.cpu),
            spread(runs, 4, |doors| right(doors) / truth.len() as f64),
            spread(runs, 0, |doors| {
                doors.open.difference(&truth).count() as f64
            }),
            spread(runs, 0, |doors| doors.spent.megabytes),
        ]);
    }
    table.row([
        "ajar sweep, without a test".to_owned(),
        spread(&sweeps, 1, |spent| spent.wall),
        spread(&sweeps, 1, |spent| spent.cpu),
        String::new(),
        String::new(),
        spread(&sweeps, 0, |spent| spent.megabytes),
    ]);
    table.ratio(
        "speed against masscan, then nmap",
        &theirs,
        &ours,
        |doors| doors.spent.wall,
    );
    table.ratio("CPU against masscan, then nmap", &ours, &theirs, |doors| {
        doors.spent.cpu
    });
    Ok(table)
}

fn one_go(rig: &Rig, part: Part) -> anyhow::Result<Doors> {
    let scan = Scan {
        targets: &[&part.block()],
        ports: &part.port_list(),
        options: &["--sweep", "syn", "--retries", "0"],
    };
    let said = verification::ajar(rig, &scan)?;
    Ok(Doors {
        spent: said.spent,
        open: said.open,
    })
}

/// What masscan finds, port by port, is given to the script that is for it.
fn two_steps(rig: &Rig, part: Part) -> anyhow::Result<Doors> {
    let found = Tool::Masscan.find(rig, part)?;
    let mut doors = Doors {
        spent: found.spent,
        open: HashSet::new(),
    };
    for &port in part.ports() {
        let at_port = found.open.iter().filter(|pair| pair.port() == port);
        let lines: Vec<String> = at_port.map(|pair| pair.ip().to_string()).collect();
        let list = rig.directory().join("found");
        fs::write(&list, lines.join("\n") + "\n")?;
        let said = verification::nmap(Protocol::of(port), port, &list.display().to_string())?;
        doors.spent.add(&said.spent);
        doors.open.extend(said.open);
    }
    Ok(doors)
}
