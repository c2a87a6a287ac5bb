//! A cluster: coordinator, canary and workers, each a process of the program under test, over a Redis and a PostgreSQL.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use crate::{
    Ajar, DOMAINS, Finished, Postgres, Redis, finished, free_port,
    server::{Process, Signal, signal},
};

/// A running cluster; its processes are killed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    pub ajar: Ajar,
    processes: Vec<(String, Process)>,
    pub redis: Redis,
    pub postgres: Postgres,
    environment: Vec<(String, String)>,
    listen: String,
    canary_ports: String,
}

/// A cluster to be started.
#[derive(Debug)]
pub struct ClusterBuilder {
    ajar: Ajar,
    canary_ports: String,
    workers: usize,
    environment: Vec<(String, String)>,
}

impl ClusterBuilder {
    pub(crate) fn new(ajar: &Ajar, canary_ports: &str) -> Self {
        Self {
            ajar: ajar.clone(),
            canary_ports: canary_ports.to_owned(),
            workers: 1,
            environment: Vec::new(),
        }
    }

    /// How many workers there are: 1 unless this is called.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Sets a variable for its processes, and for commands that are run against it.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the stores, a coordinator, a canary and the workers `worker-1` to `worker-N`, and waits until the coordinator
    /// knows the canary.
    pub fn start(self) -> anyhow::Result<Cluster> {
        let mut cluster = Cluster {
            ajar: self.ajar,
            processes: Vec::new(),
            redis: Redis::start()?,
            postgres: Postgres::start()?,
            environment: self.environment,
            listen: format!("127.0.0.1:{}", free_port()?),
            canary_ports: self.canary_ports,
        };
        cluster.start_coordinator()?;
        cluster.start_canary()?;
        for number in 1..=self.workers {
            cluster.start_worker(&format!("worker-{number}"))?;
        }
        let ready = "a canary is ready";
        cluster.ajar.await_line("coordinator", ready)?;
        Ok(cluster)
    }
}

impl Cluster {
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Starts its coordinator, for the first time or again; what it says goes to the file `coordinator`.
    pub fn start_coordinator(&mut self) -> anyhow::Result<()> {
        self.start_coordinator_at("coordinator", &self.listen.clone())
    }

    /// Starts another coordinator beside it; what it says goes to a file of this name.
    pub fn start_replica(&mut self, name: &str) -> anyhow::Result<()> {
        self.start_coordinator_at(name, &format!("127.0.0.1:{}", free_port()?))
    }

    fn start_coordinator_at(&mut self, name: &str, listen: &str) -> anyhow::Result<()> {
        let (redis, store) = (self.redis.url(), self.postgres.url());
        let coordinator = format!("coordinator --listen {listen} --redis {redis} --store {store}");
        self.spawn(name, &coordinator)
    }

    /// Starts its canary, for the first time or again; what it says goes to the file `canary`.
    pub fn start_canary(&mut self) -> anyhow::Result<()> {
        let (url, ports, [domain, other]) = (self.url(), &self.canary_ports, DOMAINS);
        let canary = format!(
            "canary --domain {domain} --domain {other} --canary-ports {ports} --coordinator {url}"
        );
        self.spawn("canary", &canary)
    }

    /// Starts a worker of this name; what it says goes to a file of that name.
    pub fn start_worker(&mut self, name: &str) -> anyhow::Result<()> {
        self.start_worker_at(name, "local")
    }

    /// The same at another vantage point.
    pub fn start_worker_at(&mut self, name: &str, vantage: &str) -> anyhow::Result<()> {
        let worker = format!("worker --coordinator {} --vantage {vantage}", self.url());
        self.spawn(name, &worker)
    }

    fn spawn(&mut self, name: &str, line: &str) -> anyhow::Result<()> {
        let mut command = self.ajar.command(line);
        command.envs(self.environment.clone());
        let process = Process::start(&mut command, &self.ajar.path().join(name))?;
        self.processes.push((name.to_owned(), process));
        Ok(())
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

    /// Runs a command of the program against it.
    pub fn run(&self, line: &str) -> anyhow::Result<Finished> {
        self.run_with(line, &[])
    }

    /// The same with arguments that have spaces.
    pub fn run_with(&self, line: &str, more: &[&str]) -> anyhow::Result<Finished> {
        let line = format!("{line} --coordinator {}", self.url());
        let mut command = self.ajar.command(&line);
        finished(command.args(more).envs(self.environment.clone()))
    }

    /// Submits a campaign with these options, and returns its id.
    pub fn submit(&self, options: &str) -> anyhow::Result<String> {
        let submitted = self.run(&format!("campaign submit {options}"))?;
        ensure!(submitted.status == 0, "{}", submitted.stderr);
        Ok(submitted.stdout.trim().to_owned())
    }

    /// What `campaign show` says of a campaign.
    pub fn show(&self, id: &str) -> anyhow::Result<String> {
        Ok(self.run(&format!("campaign show {id}"))?.stdout)
    }

    /// Waits until a campaign is in this state.
    pub fn await_state(&self, id: &str, state: &str, patience: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let shown = self.show(id)?;
            if shown.contains(state) {
                return Ok(());
            }
            ensure!(started.elapsed() < patience, "it is not {state}: {shown}");
            thread::sleep(Duration::from_millis(300));
        }
    }
}
