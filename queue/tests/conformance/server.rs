//! A real Redis for one test.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;

/// A running Redis that keeps nothing; killed when dropped.
pub struct Server {
    process: Child,
    directory: TempDir,
    port: u16,
    options: Vec<String>,
}

impl Server {
    /// Starts one on a free port.
    pub fn start(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options)
    }

    /// Starts a Redis Cluster of one node.
    pub fn cluster() -> Self {
        let bus = free_port().to_string();
        let server = Self::start(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
        server.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        server.await_text(&["CLUSTER", "INFO"], "cluster_state:ok");
        server
    }

    /// Starts a Sentinel that watches a server as `mymaster`, and a copy of that one; the copy, then the Sentinel.
    pub fn watching(master: &Server) -> (Self, Self) {
        let copied = master.port.to_string();
        let copy = Self::start(&["--replicaof", "127.0.0.1", &copied]);
        copy.await_text(&["INFO", "replication"], "master_link_status:up");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("sentinel.conf");
        let watch = "mymaster";
        let text = format!(
            "sentinel monitor {watch} 127.0.0.1 {copied} 1\n\
             sentinel down-after-milliseconds {watch} 500\n\
             sentinel failover-timeout {watch} 2000\n"
        );
        std::fs::write(&file, text).unwrap();
        let sentinel = Self::start_in(directory, &["--sentinel"]);
        sentinel.await_text(&["SENTINEL", "REPLICAS", watch], "127.0.0.1");
        (copy, sentinel)
    }

    fn start_in(directory: TempDir, options: &[&str]) -> Self {
        let port = free_port();
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let server = Self {
            process: spawn(port, &directory, &options),
            directory,
            port,
            options,
        };
        server.await_answer();
        server
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.host())
    }

    /// Its address and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it for good.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn await_text(&self, command: &[&str], expect: &str) {
        for _ in 0..200 {
            if self.said(command).is_some_and(|said| said.contains(expect)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{command:?} never says {expect}: {:?}", self.said(command));
    }

    /// Runs a command in it.
    pub fn cli(&self, command: &[&str]) {
        assert!(self.redis_cli(command), "{command:?} failed");
    }

    /// Kills it and starts it again, empty, on the same port.
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.port, &self.directory, &self.options);
        self.await_answer();
    }

    fn redis_cli(&self, command: &[&str]) -> bool {
        self.said(command).is_some()
    }

    /// What it answers to a command.
    fn said(&self, command: &[&str]) -> Option<String> {
        let port = self.port.to_string();
        let run = Command::new("redis-cli")
            .args(["-p", &port])
            .args(command)
            .output()
            .ok()?;
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        run.status.success().then_some(said)
    }

    fn await_answer(&self) {
        for _ in 0..200 {
            if self.redis_cli(&["PING"]) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("redis-server does not answer on port {}", self.port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn spawn(port: u16, directory: &TempDir, options: &[String]) -> Child {
    let mut redis = Command::new("redis-server");
    // A Sentinel rewrites its file, which must be there.
    let file = directory.path().join("sentinel.conf");
    if file.exists() {
        redis.arg(file);
    }
    redis
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--dir"])
        .arg(directory.path())
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server cannot be started: `make test` installs it")
}
