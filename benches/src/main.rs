//! `make bench`: the release program against the tools that people use today, on the same rig in the same run, in turn. Only
//! ratios travel between machines.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

mod bare;
mod bare_frames;
mod cluster;
mod coordinator;
mod discovery;
mod figures;
mod growth;
mod load;
mod memory;
mod page;
mod pipeline;
mod process;
mod reports;
mod responder;
mod rig;
mod swarm;
mod transmit;
mod verification;

use figures::Table;
use rig::{Part, Rig};

/// Rounds of each comparison; medians are shown.
const ROUNDS: usize = 5;

/// So many rounds of everything that one table compares.
type Benchmark = fn(&Rig, usize) -> anyhow::Result<Table>;

/// The benchmarks, in the order of the report, and how many rounds of each are worth their time: nmap takes ten minutes for the
/// whole job.
const ALL: [(&str, Benchmark, usize); 13] = [
    ("discovery", discovery::syn, usize::MAX),
    ("transmit", transmit::compare, usize::MAX),
    ("connect", discovery::connect, usize::MAX),
    ("relays", verification::relays, usize::MAX),
    ("proxies", verification::proxies, usize::MAX),
    ("far-relays", verification::far_relays, usize::MAX),
    ("far-proxies", verification::far_proxies, usize::MAX),
    ("pipeline", pipeline::compare, 1),
    ("cluster", cluster::compare, usize::MAX),
    ("memory", memory::conversations, usize::MAX),
    ("growth", growth::scopes, usize::MAX),
    ("workers", growth::workers, usize::MAX),
    ("swarm", coordinator::swarm, usize::MAX),
];

/// `[--rounds N] [-o FILE] [BENCHMARK]...`: all of them if none is named. The report goes to standard output, and to a file if one is.
#[expect(clippy::print_stdout, reason = "its table is what a benchmark is for")]
fn main() -> anyhow::Result<()> {
    let (mut names, mut rounds, mut file) = (Vec::new(), ROUNDS, None);
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "responder" => {
                let one = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                return one.block_on(responder::serve());
            }
            "bare" => {
                let mut next = || arguments.next().context("bare LENGTH PORTS");
                return bare::connect_to_all(Part {
                    length: next()?.parse()?,
                    ports: next()?.parse()?,
                });
            }
            "swarm" if arguments.len() > 0 && names.is_empty() => {
                let url = arguments.next().context("swarm URL NUMBER...")?;
                let mut next = || -> anyhow::Result<u64> {
                    Ok(arguments.next().context("swarm URL NUMBER...")?.parse()?)
                };
                let order = load::Order {
                    url,
                    workers: next()? as usize,
                    leases: next()? as usize,
                    seconds: next()?,
                    observations: next()?,
                    batch: next()?,
                    deaths: next()? as usize,
                };
                let runtime = tokio::runtime::Runtime::new()?;
                println!("{}", runtime.block_on(swarm::run(&order))?);
                return Ok(());
            }
            "--rounds" => rounds = arguments.next().context("--rounds N")?.parse()?,
            "-o" => file = Some(PathBuf::from(arguments.next().context("-o FILE")?)),
            name if ALL.iter().any(|(known, ..)| *known == name) => names.push(argument),
            other => bail!("{other} is no benchmark"),
        }
    }
    let chosen = ALL
        .iter()
        .filter(|(name, ..)| names.is_empty() || names.iter().any(|n| n == name));
    let rig = Rig::build()?;
    let mut report = head()?;
    for (_, benchmark, most) in chosen {
        let table = benchmark(&rig, rounds.min(*most))?;
        println!("{}", table.markdown());
        report.push_str(&table.markdown());
        report.push('\n');
        // As soon as there is something to keep: what comes next takes minutes.
        if let Some(file) = &file {
            write(file, &report)?;
            for picture in table.pictures() {
                write(&file.with_file_name(&picture.name), &picture.svg)?;
            }
        }
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
}

/// What the figures are and where they were measured.
fn head() -> anyhow::Result<String> {
    let processor = fs::read_to_string("/proc/cpuinfo")?;
    let mut named = processor
        .lines()
        .filter(|line| line.starts_with("model name"));
    let processor = named.next().and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism()?;
    let kernel = rig::sh("uname -sr")?;
    let peers = rig::sh(
        "dpkg-query -W -f '${Package} ${Version}, ' masscan zmap nmap proxycheck 2>/dev/null || true",
    )?;
    Ok(format!(
        "# Benchmarks\n\n\
         `make bench` writes this file: the release program and its peers in turn, in the same run, in two network\n\
         namespaces with a wire between them. Behind the gateway of that wire 2 % of the (address, port) pairs are open, 8 %\n\
         refuse and 90 % say nothing. What is open is known from the draw. A figure is the median of the rounds, and the\n\
         least and the most; a ratio is the median of the ratios of each round. Whoever sends pays for the receiving end\n\
         too, since both are one machine: only ratios travel. [performance.md](performance.md) says what holds a figure.\n\n\
         {}, {cores} cores, {}; {}ajar {}.\n\n",
        processor.unwrap_or("an unnamed processor"),
        kernel.trim(),
        peers,
        env!("CARGO_PKG_VERSION")
    ))
}
