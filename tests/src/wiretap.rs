//! Traffic over loopback to the servers of a test, counted by tcpdump and not by ajar.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{
    ajar::finished,
    server::{Process, Signal, signal},
};

/// A SYN of a client.
const CONNECTION: &str = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn";

/// The command DATA, alone in its segment: a message follows if the server agrees.
const MESSAGE: &str = "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x44415441";

/// Time for tcpdump to open the interface, and to write its last packets.
const SETTLED: Duration = Duration::from_secs(1);

/// A capture under way. It needs root.
pub struct Wiretap {
    tcpdump: Process,
    directory: tempfile::TempDir,
}

/// The number of connections and messages to each server.
#[derive(Debug, Default)]
pub struct Counted {
    pub connections: BTreeMap<SocketAddr, usize>,
    pub messages: BTreeMap<SocketAddr, usize>,
}

impl Wiretap {
    /// Captures all traffic to these addresses.
    pub fn start(network: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new("tcpdump");
        command
            .args([
                "-i",
                "lo",
                "-Z",
                "root",
                "--immediate-mode",
                "-s",
                "128",
                "-B",
                "16384",
                "-w",
            ])
            .arg(directory.path().join("pcap"))
            .arg(format!("tcp and dst net {network}"))
            .stdout(Stdio::null());
        let tcpdump = Process::start(&mut command, &directory.path().join("log"))?;
        thread::sleep(SETTLED);
        Ok(Self { tcpdump, directory })
    }

    /// Ends the capture.
    pub fn counted(mut self) -> anyhow::Result<Counted> {
        thread::sleep(SETTLED);
        signal(&self.tcpdump.0, Signal::INT)?;
        self.tcpdump.0.wait()?;
        let file = self.directory.path().join("pcap");
        Ok(Counted {
            connections: count(&file, CONNECTION)?,
            messages: count(&file, MESSAGE)?,
        })
    }
}

/// Counts the packets of a kind by their destination.
fn count(file: &PathBuf, kind: &str) -> anyhow::Result<BTreeMap<SocketAddr, usize>> {
    let mut command = Command::new("tcpdump");
    command.args(["-n", "-t", "-r"]).arg(file).arg(kind);
    let mut counts = BTreeMap::new();
    for line in finished(&mut command)?.stdout.lines() {
        // IP 127.0.0.1.40000 > 127.0.34.7.2525: Flags [S], …
        let to = line
            .split(" > ")
            .nth(1)
            .and_then(|rest| rest.split(": ").next());
        let endpoint = to.and_then(|to| to.rsplit_once('.'));
        if let Some((ip, port)) = endpoint {
            let endpoint = SocketAddr::new(ip.parse()?, port.parse()?);
            *counts.entry(endpoint).or_default() += 1;
        }
    }
    Ok(counts)
}
