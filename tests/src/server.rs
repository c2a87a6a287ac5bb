//! A server process: started, awaited, stopped.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::Pid;
pub use rustix::process::Signal;

/// How long a server may take to answer after its start.
const START: Duration = Duration::from_secs(30);

/// Whether a relay or proxy serves strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Nobody.
    Closed,
}

/// A TCP port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
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
