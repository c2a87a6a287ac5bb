//! `make bench`: whole runs of the release program on loopback, against a bare loop that says the same words to the same
//! peers in the same run. Only ratios travel between machines.

use std::{fmt::Write as _, time::Duration};

use anyhow::Context;

mod bare;
mod peers;
mod process;

use peers::Kind;
use process::Spent;

/// Endpoints of one round.
const ENDPOINTS: u16 = 500;
/// Rounds; medians are shown.
const ROUNDS: usize = 7;
/// How long memory is watched at each size.
const WATCHED: Duration = Duration::from_secs(20);

#[tokio::main]
#[expect(clippy::print_stdout, reason = "its table is what a benchmark is for")]
async fn main() -> anyhow::Result<()> {
    let peers = peers::start(ENDPOINTS).await?;
    println!(
        "{ENDPOINTS} endpoints on loopback, medians of {ROUNDS} rounds, ajar and the bare loop in turn"
    );
    println!(
        "peers           | ajar, endpoints/s | CPU ms each | MB | bare loop, endpoints/s | ratio (least to most)"
    );
    for kind in [Kind::OpenProxy, Kind::ClosedRelay] {
        println!("{}", compare(&peers, kind).await?);
    }
    println!("{}", memory()?);
    Ok(())
}

async fn compare(peers: &peers::Peers, kind: Kind) -> anyhow::Result<String> {
    let mut rounds: Vec<(Spent, f64)> = Vec::new();
    for _ in 0..ROUNDS {
        let probe = match kind {
            Kind::OpenProxy => "http-connect",
            Kind::ClosedRelay => "smtp-relay",
        };
        let port = peers.port(kind).to_string();
        let targets = peers.range();
        let spent = process::scan(&[&targets, "-p", &port, "--probes", probe], None)?;
        anyhow::ensure!(
            spent.results == usize::from(ENDPOINTS),
            "ajar has {} results of {ENDPOINTS} endpoints: {}",
            spent.results,
            spent.said
        );
        rounds.push((spent, bare::round(peers, kind).await?));
    }
    let n = f64::from(ENDPOINTS);
    let mut ratios: Vec<f64> = rounds
        .iter()
        .map(|(spent, bare)| bare / spent.wall)
        .collect();
    let middle = |of: &dyn Fn(&(Spent, f64)) -> f64| median(rounds.iter().map(of).collect());
    let (wall, cpu) = (middle(&|r| r.0.wall), middle(&|r| r.0.cpu));
    let (rss, bare) = (middle(&|r| r.0.megabytes), middle(&|r| r.1));
    ratios.sort_by(f64::total_cmp);
    let mut row = format!(
        "{:15} | {:17.0} | {:11.2}",
        kind.name(),
        n / wall,
        cpu * 1000.0 / n
    );
    write!(
        row,
        " | {rss:.0} | {:22.0} | {:.2}",
        n / bare,
        median(ratios.clone())
    )?;
    write!(
        row,
        " ({:.2} to {:.2})",
        ratios[0],
        ratios[ratios.len() - 1]
    )?;
    Ok(row)
}

/// The same rate for the same time, in a small and in a large space: refused connections on one port.
fn memory() -> anyhow::Result<String> {
    let rates = ["--rate", "20000", "--prefix-rate", "20000", "-p"];
    let watch = |space: &str, ports: &str| {
        let arguments = [&[space][..], &rates, &[ports]].concat();
        process::scan(&arguments, Some(WATCHED)).with_context(|| format!("scanning {space}"))
    };
    let small = watch("127.9.9.0/24", "20000-39999")?.megabytes;
    let large = watch("127.0.0.0/8", "9")?.megabytes;
    Ok(format!(
        "memory after {} s at 20,000/s: a /24 {small:.1} MB, a /8 {large:.1} MB, ratio {:.2}",
        WATCHED.as_secs(),
        large / small
    ))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
