//! The same scan by a cluster, over Redis and PostgreSQL and with one worker, and by one process over SQLite.

use std::{
    collections::HashSet,
    fs,
    net::SocketAddrV4,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ajar_tests::{Postgres, Redis, free_port};
use anyhow::{Context, ensure};

use crate::{
    figures::{Table, spread},
    process,
    responder::is_open_door,
    rig::{self, NEAR, Part, Rig, program},
    verification::{self, Said, Scan},
};

/// What both are asked to do.
const PART: Part = Part {
    length: 17,
    ports: 4,
};
const OPTIONS: [&str; 4] = ["--sweep", "syn", "--retries", "0"];

pub fn compare(rig: &Rig, rounds: usize) -> anyhow::Result<Table> {
    let open = PART.open().into_iter();
    let truth: HashSet<SocketAddrV4> = open.filter(|pair| is_open_door(*pair.ip())).collect();
    let (block, ports) = (PART.block(), PART.port_list());
    let scan = Scan {
        targets: &[&block],
        ports: &ports,
        options: &OPTIONS,
    };
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(Cluster::start(rig, 1, &[])?.scan(rig, &scan)?);
        rig::rest();
        alone.push(verification::ajar(rig, &scan)?);
        rig::rest();
    }
    let mut table = Table::new(
        &format!(
            "A cluster and one process: a /{} x {} ports, {} open doors",
            PART.length,
            PART.ports,
            truth.len()
        ),
        &["way", "seconds in all", "doors found", "wrong"],
    );
    let ways = [
        ("coordinator, Redis, PostgreSQL, 1 worker", &ours),
        ("ajar scan", &alone),
    ];
    for (way, runs) in ways {
        let right = |said: &Said| said.open.intersection(&truth).count() as f64;
        table.row([
            way.to_owned(),
            spread(runs, 1, |said| said.spent.wall),
            spread(runs, 4, |said| right(said) / truth.len() as f64),
            spread(runs, 0, |said| said.open.difference(&truth).count() as f64),
        ]);
    }
    table.ratio("time against ajar scan", &ours, &alone, |said| {
        said.spent.wall
    });
    Ok(table)
}

/// A cluster on this machine, until it is dropped.
pub struct Cluster {
    url: String,
    services: Vec<Service>,
    directory: tempfile::TempDir,
    redis: Redis,
    postgres: Postgres,
}

struct Service {
    name: String,
    process: Child,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Cluster {
    /// Starts everything, with so many workers that have these options, and waits until the coordinator knows the canary.
    pub fn start(rig: &Rig, workers: usize, options: &[&str]) -> anyhow::Result<Self> {
        let (redis, postgres) = (Redis::start()?, Postgres::start()?);
        let listen = format!("127.0.0.1:{}", free_port()?);
        let mut cluster = Self {
            url: format!("http://{listen}"),
            services: Vec::new(),
            directory: tempfile::tempdir()?,
            redis,
            postgres,
        };
        let [_, _, signers, list] = rig.authorization()?;
        let url = cluster.url.clone();
        let stores = [
            "--redis",
            &cluster.redis.url(),
            "--store",
            &cluster.postgres.url(),
        ]
        .map(str::to_owned);
        cluster.serve(
            &["coordinator", "--listen", &listen, &signers, &list],
            &stores,
        )?;
        let domains = ["--domain", "canary.test", "--domain", "canary.example"].map(str::to_owned);
        let near = NEAR.to_string();
        cluster.serve(
            &["canary", "--listen", &near, "--coordinator", &url],
            &domains,
        )?;
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let worker = ["worker", "--coordinator", &url, &signers, &list];
        for _ in 0..workers {
            cluster.serve(&worker, &options)?;
        }
        cluster.await_canary()?;
        Ok(cluster)
    }

    fn serve(&mut self, arguments: &[&str], more: &[String]) -> anyhow::Result<()> {
        let log = self.directory.path().join(arguments[0]);
        let mut command = Command::new(program()?);
        command
            .args(arguments)
            .args(more)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(log)?);
        self.services.push(Service {
            name: arguments[0].to_owned(),
            process: command.spawn()?,
        });
        Ok(())
    }

    /// The most memory that a service had so far: `worker`, `coordinator` or `canary`.
    pub fn megabytes(&self, name: &str) -> anyhow::Result<f64> {
        self.figure(name, process::peak)
    }

    /// Processor time of a service so far, in seconds.
    pub fn cpu(&self, name: &str) -> anyhow::Result<f64> {
        self.figure(name, process::cpu_of)
    }

    fn figure(&self, name: &str, of: fn(&Child) -> Option<f64>) -> anyhow::Result<f64> {
        let mut services = self.services.iter();
        let service = services.find(|service| service.name == name);
        let figure = service.and_then(|service| of(&service.process));
        figure.with_context(|| format!("no {name} runs"))
    }

    /// Memory of everything that Redis holds.
    pub fn redis_bytes(&self) -> anyhow::Result<f64> {
        self.redis_number("INFO memory | grep ^used_memory:")
    }

    /// Shards that are on offer.
    pub fn redis_shards(&self) -> anyhow::Result<f64> {
        let lines = "redis.call('SMEMBERS', '{ajar}:lines')";
        let count = "shards = shards + redis.call('ZCARD', line)";
        self.redis_number(&format!(
            "EVAL \"local shards = 0 for _, line in ipairs({lines}) do {count} end return shards\" 0"
        ))
    }

    fn redis_number(&self, question: &str) -> anyhow::Result<f64> {
        let said = rig::sh(&format!("redis-cli -u {} {question}", self.redis.url()))?;
        let digits: String = said.chars().filter(char::is_ascii_digit).collect();
        Ok(digits.parse()?)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    fn await_canary(&self) -> anyhow::Result<()> {
        let log = self.directory.path().join("coordinator");
        let started = Instant::now();
        while !fs::read_to_string(&log)?.contains("a canary is ready") {
            ensure!(
                started.elapsed() < Duration::from_secs(30),
                "the cluster does not start"
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends everything.
    pub fn stop(self) {}

    /// Submits a scan, waits for its end, and reads what was found.
    pub fn scan(&self, rig: &Rig, scan: &Scan<'_>) -> anyhow::Result<Said> {
        let submitted = self.submit(rig, scan)?;
        let id = submitted.stdout.trim().to_owned();
        let mut watch = self.command(&["campaign", "watch", &id])?;
        let mut spent = submitted;
        spent.add(&process::run(&mut watch)?);
        let list = ["findings", "list", "--campaign", &id, "--format", "jsonl"];
        let results = process::run(&mut self.command(&list)?)?;
        Ok(Said {
            spent,
            open: verification::open_doors(&results.stdout)?,
        })
    }

    /// Submits a scan, whose id goes to standard output.
    pub fn submit(&self, rig: &Rig, scan: &Scan<'_>) -> anyhow::Result<process::Spent> {
        let mut submit = self.command(&["campaign", "submit"])?;
        submit.args(rig.authorization()?);
        scan.ask(&mut submit);
        process::run(&mut submit)
    }

    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(program()?);
        command.args(arguments).args(["--coordinator", &self.url]);
        command.current_dir(self.directory.path());
        Ok(command)
    }
}
