//! One run of `ajar scan`, and what it took.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

/// What a run took.
pub struct Spent {
    /// Seconds from start to end.
    pub wall: f64,
    /// Seconds of processor time, user and system.
    pub cpu: f64,
    /// The most memory that was resident.
    pub megabytes: f64,
    pub results: usize,
    pub said: String,
}

/// Runs a scan to its end, or interrupts it after a while.
pub fn scan(arguments: &[&str], interrupted_after: Option<Duration>) -> anyhow::Result<Spent> {
    let directory = tempfile::tempdir()?;
    let fast = ["--rate", "1000000", "--prefix-rate", "1000000"];
    let rates: &[&str] = if arguments.contains(&"--rate") {
        &[]
    } else {
        &fast
    };
    let log = fs::File::create(directory.path().join("log"))?;
    let started = Instant::now();
    let mut child = Command::new(program()?)
        .args([
            "scan", "--settle", "0s", "--format", "jsonl", "-o", "results",
        ])
        .args(["--canary-ports", "0,0,0,0"])
        .args(rates)
        .args(arguments)
        .current_dir(directory.path())
        .env_clear()
        .env("HOME", directory.path())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("ajar cannot be started")?;
    let (mut megabytes, mut cpu) = (0.0, 0.0);
    let mut interrupted = false;
    while child.try_wait()?.is_none() {
        if let Some((rss, seconds)) = usage(&child) {
            (megabytes, cpu) = (rss, seconds);
        }
        if !interrupted && interrupted_after.is_some_and(|after| started.elapsed() > after) {
            kill_process(Pid::from_child(&child), Signal::INT)?;
            interrupted = true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Spent {
        wall: started.elapsed().as_secs_f64(),
        cpu,
        megabytes,
        results: fs::read_to_string(directory.path().join("results"))?
            .lines()
            .count(),
        said: fs::read_to_string(directory.path().join("log"))?,
    })
}

/// Megabytes at most so far, and seconds of processor time; none once the process is over.
fn usage(child: &Child) -> Option<(f64, f64)> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", child.id())).ok();
    let status = read("status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
    // proc(5): fields 14 and 15, in ticks of 10 ms; the second field ends with the last parenthesis.
    let stat = read("stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((kilobytes / 1024.0, ticks / 100.0))
}

/// The release program, which `make bench` builds beside this one.
fn program() -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("ajar");
    anyhow::ensure!(
        beside.exists(),
        "{} is missing: run `make bench`",
        beside.display()
    );
    Ok(beside)
}
