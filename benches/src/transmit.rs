//! Transmission alone, on a device that throws everything away.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use ajar_sweep::syn::{cookie::Cookies, transmit::Transmitter};
use anyhow::{Context, ensure};

use crate::{
    bare_frames::Frames,
    figures::{Table, spread},
    process,
    rig::{self, Rig},
};

const DEVICE: &str = "null";
/// How many SYNs one call of ours sends, as a sweep does.
const BURST: usize = 256;
/// Addresses behind the device's gateway.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 136, 0, 0);
const ADDRESSES: u32 = 1 << 16;
/// How often each of them is sent a SYN.
const TIMES: usize = 32;

/// What one run sent, and how long it took.
struct Sent {
    packets: f64,
    seconds: f64,
}

pub fn compare(_: &Rig, rounds: usize) -> anyhow::Result<Table> {
    rig::sh(&format!(
        "ip link add {DEVICE} type ifb
         ip address add 10.255.0.1/30 dev {DEVICE}
         ip link set {DEVICE} up
         ip neigh add 10.255.0.2 lladdr 02:00:00:00:00:03 dev {DEVICE}
         ip route add {FIRST}/16 via 10.255.0.2"
    ))?;
    let mut targets: Vec<SocketAddr> = (u32::from(FIRST)..)
        .take(ADDRESSES as usize)
        .map(|ip| (Ipv4Addr::from(ip), 25).into())
        .collect();
    fastrand::Rng::with_seed(1).shuffle(&mut targets);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(sent(|| {
            let mut transmitter = Transmitter::open(Cookies::new([7; 16], 40_000))?;
            let mut failures = 0;
            for _ in 0..TIMES {
                for burst in targets.chunks(BURST) {
                    transmitter.send(burst.iter().copied(), |_, _| failures += 1);
                }
            }
            ensure!(failures == 0, "{failures} SYNs could not be sent");
            Ok(())
        })?);
        bare.push(sent(|| {
            let mut frames = Frames::open(DEVICE)?;
            for _ in 0..TIMES * targets.len() / Frames::BATCH {
                frames.send()?;
            }
            Ok(())
        })?);
    }
    let mut table = Table::new(
        &format!(
            "Transmission: {} million SYNs to a device that throws them away, by one thread",
            TIMES * targets.len() / 1_000_000
        ),
        &["way", "kpps"],
    );
    let rate = |sent: &Sent| sent.packets / sent.seconds / 1000.0;
    for (way, runs) in [
        ("ajar's, each to another target", &ours),
        ("a bare AF_XDP loop, one frame over and over", &bare),
    ] {
        table.row([way.to_owned(), spread(runs, 0, rate)]);
    }
    table.ratio("rate against the bare loop", &ours, &bare, rate);
    rig::sh(&format!("ip link delete {DEVICE}"))?;
    Ok(table)
}

/// What the device has got when all is sent, and how long it took.
fn sent(send: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Sent> {
    // The kernel gives the device's queue back a moment after the last socket is closed.
    rig::rest();
    let (before, started) = (taken()?, Instant::now());
    send()?;
    let seconds = started.elapsed().as_secs_f64();
    let packets = taken()? - before;
    let expected = TIMES as u64 * u64::from(ADDRESSES);
    // The kernel greets a new network by a packet or two of its own.
    ensure!(
        (expected..expected + 16).contains(&packets),
        "{packets} of {expected} packets were sent"
    );
    Ok(Sent {
        packets: packets as f64,
        seconds,
    })
}

/// Packets that the device took so far: an intermediate functional block counts them as received.
fn taken() -> anyhow::Result<u64> {
    process::counter(DEVICE, 1).context("the device is missing")
}
