//! A cluster: coordinator, canary and workers, each a process of the program under test.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{
    Ajar, free_port,
    server::{Process, Signal, signal},
};

/// The mail domain of its canary.
pub const DOMAIN: &str = "canary.test";

/// A running cluster; its processes are killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    processes: Vec<(String, Process)>,
    environment: Vec<(String, String)>,
    listen: String,
    stores: [String; 2],
}

impl Cluster {
    /// Starts a coordinator, a canary on these ports, and workers, and waits until they know of each other.
    pub fn start(
        ajar: &Ajar,
        redis: &str,
        postgres: &str,
        canary_ports: &str,
        workers: usize,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut cluster = Self {
            processes: Vec::new(),
            environment: environment.iter().map(owned).collect(),
            listen: format!("127.0.0.1:{}", free_port()?),
            stores: [redis.to_owned(), postgres.to_owned()],
        };
        let url = cluster.url();
        cluster.start_coordinator(ajar)?;
        let canary = ["canary", "--domain", DOMAIN, "--canary-ports", canary_ports];
        cluster.spawn(
            ajar,
            "canary",
            &[&canary[..], &["--coordinator", &url]].concat(),
        )?;
        for number in 1..=workers {
            cluster.start_worker(ajar, &format!("worker-{number}"))?;
        }
        await_line(ajar, "coordinator", "a canary is ready")?;
        Ok(cluster)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Starts its coordinator, for the first time or again; what it says goes to the file `coordinator`.
    pub fn start_coordinator(&mut self, ajar: &Ajar) -> anyhow::Result<()> {
        let (listen, [redis, postgres]) = (self.listen.clone(), self.stores.clone());
        let stores = ["--redis", &redis, "--store", &postgres];
        let coordinator = [&["coordinator", "--listen", &listen][..], &stores].concat();
        self.spawn(ajar, "coordinator", &coordinator)
    }

    /// Starts a worker of this name; what it says goes to a file of that name.
    pub fn start_worker(&mut self, ajar: &Ajar, name: &str) -> anyhow::Result<()> {
        let url = self.url();
        let worker = ["worker", "--coordinator", &url, "--vantage", "local"];
        self.spawn(ajar, name, &worker)
    }

    /// Kills the process of this name.
    pub fn kill(&mut self, name: &str) {
        self.processes.retain(|(running, _)| running != name);
    }

    /// Sends a signal to the process of this name.
    pub fn signal(&self, name: &str, sent: Signal) -> anyhow::Result<()> {
        let mut named = self.processes.iter().filter(|(running, _)| running == name);
        let (_, process) = named.next().context("no such process")?;
        signal(&process.0, sent)
    }

    fn spawn(&mut self, ajar: &Ajar, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = ajar.command(arguments);
        command.envs(self.environment.clone());
        let process = Process::start(&mut command, &ajar.path().join(name))?;
        self.processes.push((name.to_owned(), process));
        Ok(())
    }
}

/// Waits until a log of this name has a line with these words.
pub fn await_line(ajar: &Ajar, log: &str, words: &str) -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let started = Instant::now();
    loop {
        let said = fs::read_to_string(ajar.path().join(log)).unwrap_or_default();
        if said.contains(words) {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            bail!("{log} never said {words:?}:\n{said}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}
