//! A server process: started, awaited, stopped.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::Pid;
pub use rustix::process::Signal;

/// How long a server may take to answer after its start.
const START: Duration = Duration::from_secs(60);

/// Whether a relay or proxy serves strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Nobody.
    Closed,
}

/// Ports that are given out: below those that the kernel gives to clients (net.ipv4.ip_local_port_range), who would take one that
/// waits for its server.
const PORTS: Range<u16> = 20_000..32_000;

/// A TCP port of 127.0.0.1 that was free a moment ago, and that this process was not given before.
pub fn free_port() -> anyhow::Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    // Tests that run as processes of their own begin at different places.
    let start = std::process::id().wrapping_mul(101);
    for _ in 0..count {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        let place = start.wrapping_add(given) % count;
        let port = PORTS.start + u16::try_from(place).expect("it is below the count");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of {PORTS:?} is free")
}

/// A child process that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Starts a program whose output goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let out = fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn();
        let name = command.get_program().to_string_lossy().into_owned();
        child
            .map(Self)
            .with_context(|| format!("{name} cannot be started: `make test` installs it"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something listens there; the error shows the end of `log`.
pub(crate) fn await_listener(address: SocketAddr, log: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + START;
    while Instant::now() < deadline {
        if connect(address).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    let said = fs::read_to_string(log).unwrap_or_default();
    let tail: Vec<&str> = said.lines().rev().take(15).collect();
    bail!(
        "nothing listens on {address} after {START:?}; its log ends (last line first):\n{}",
        tail.join("\n")
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test asks whether its own server is up"
)]
fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    TcpStream::connect(address)
}

/// Sends a signal to a process that the test started.
pub fn signal(child: &Child, signal: Signal) -> anyhow::Result<()> {
    Ok(rustix::process::kill_process(
        Pid::from_child(child),
        signal,
    )?)
}
