//! One run of a command, and what it took.

use std::{
    fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::rig::INTERFACE;

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What a run took.
#[derive(Debug, Clone, Default)]
pub struct Spent {
    /// Seconds from start to end.
    pub wall: f64,
    /// Seconds of processor time, user and system.
    pub cpu: f64,
    /// The most memory that was resident.
    pub megabytes: f64,
    /// Packets that left by the rig's interface.
    pub packets: u64,
    /// Seconds that the middle nine tenths of them took: not the stragglers, which are resets of late answers.
    pub sending: f64,
    pub stdout: String,
    pub stderr: String,
}

impl Spent {
    /// A later run of the same way to do something.
    pub fn add(&mut self, later: &Spent) {
        self.wall += later.wall;
        self.cpu += later.cpu;
        self.packets += later.packets;
        self.sending += later.sending;
        self.megabytes = self.megabytes.max(later.megabytes);
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> anyhow::Result<Spent> {
    let directory = tempfile::tempdir()?;
    let file = |name: &str| directory.path().join(name);
    let child_cpu = children_cpu()?;
    let packets_before = packets();
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(fs::File::create(file("out"))?)
        .stderr(fs::File::create(file("err"))?)
        .spawn()
        .with_context(|| format!("{:?} cannot be started", command.get_program()))?;
    let mut spent = Spent::default();
    let mut seen = Vec::new();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        seen.push((started.elapsed().as_secs_f64(), packets() - packets_before));
        spent.megabytes = peak(&child).unwrap_or(spent.megabytes);
        thread::sleep(LOOK);
    };
    spent.wall = started.elapsed().as_secs_f64();
    spent.cpu = children_cpu()? - child_cpu;
    spent.packets = packets().saturating_sub(packets_before);
    let when = |part: f64| {
        let reached = |(_, sent): &&(f64, u64)| *sent as f64 >= part * spent.packets as f64;
        seen.iter()
            .find(reached)
            .map_or(spent.wall, |(when, _)| *when)
    };
    spent.sending = when(0.95) - when(0.05);
    spent.stdout = String::from_utf8_lossy(&fs::read(file("out"))?).into_owned();
    spent.stderr = String::from_utf8_lossy(&fs::read(file("err"))?).into_owned();
    ensure!(status.success(), "{command:?}: {status}: {}", spent.stderr);
    Ok(spent)
}

/// Packets that ever left by the rig's interface; none without a rig.
fn packets() -> u64 {
    counter(INTERFACE, 9).unwrap_or(0)
}

/// A counter of a device, by its column in proc(5): 1 for packets that were received, 9 for those that were sent. None if there is no
/// such device.
pub fn counter(device: &str, column: usize) -> Option<u64> {
    let devices = fs::read_to_string("/proc/self/net/dev").ok()?;
    let mut lines = devices.lines();
    let counters = lines.find_map(|line| line.trim().strip_prefix(device)?.strip_prefix(':'))?;
    counters.split_whitespace().nth(column)?.parse().ok()
}

/// Processor time of all children that have ended, and of theirs. Proc(5): fields 16 and 17, in ticks of 10 ms.
pub fn children_cpu() -> anyhow::Result<f64> {
    cpu("self", 13).context("no processor time in /proc")
}

/// Processor time of a child that runs, in seconds; none once it is over.
pub fn cpu_of(child: &Child) -> Option<f64> {
    cpu(&child.id().to_string(), 11)
}

/// Two fields of a process's `stat`. The second field of it ends with the last parenthesis; the one after it is number 0 here.
fn cpu(process: &str, field: usize) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(field)? + ticks(field + 1)?) / 100.0)
}

/// Megabytes at most so far; none once the process is over.
pub fn peak(child: &Child) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes / 1024.0)
}
