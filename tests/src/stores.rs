//! Redis and PostgreSQL.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::finished;
use crate::server::{Process, Signal, await_listener, free_port, signal};

/// A Redis that keeps nothing.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    directory: TempDir,
    port: u16,
}

impl Redis {
    /// Starts one on a free port.
    pub fn start() -> anyhow::Result<Self> {
        let mut redis = Self::down()?;
        redis.up()?;
        Ok(redis)
    }

    /// One that is not started yet.
    pub fn down() -> anyhow::Result<Self> {
        Ok(Self {
            process: None,
            directory: tempfile::tempdir()?,
            port: free_port()?,
        })
    }

    pub fn up(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]);
        command.arg(self.directory.path());
        let log = self.directory.path().join("redis.log");
        self.process = Some(Process::start(&mut command, &log)?);
        await_listener(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port), &log)
    }

    /// Sends a command past everybody who uses it.
    pub fn cli(&self, command: &[&str]) -> anyhow::Result<String> {
        let mut cli = Command::new("redis-cli");
        let asked = cli.args(["-p", &self.port.to_string()]).args(command);
        let finished = finished(asked)?;
        ensure!(finished.status == 0, "{command:?} failed");
        Ok(finished.stdout)
    }

    /// Kills it; what it held is lost.
    pub fn stop(&mut self) {
        self.process = None;
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// A PostgreSQL with one empty database.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    directory: TempDir,
    port: u16,
}

impl Postgres {
    /// Makes a cluster and starts it on a free port.
    pub fn start() -> anyhow::Result<Self> {
        let mut postgres = Self::down()?;
        postgres.up()?;
        Ok(postgres)
    }

    /// Makes a cluster that is not started yet.
    pub fn down() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))?;
        let initdb = as_postgres(&binaries()?.join("initdb"))
            .args(["--auth=trust", "--username=ajar", "--encoding=UTF8"])
            .args(["--no-sync", "--pgdata"])
            .arg(directory.path().join("data"))
            .output()?;
        ensure!(
            initdb.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&initdb.stderr)
        );
        Ok(Self {
            process: None,
            directory,
            port: free_port()?,
        })
    }

    /// Starts it, with what it held.
    pub fn up(&mut self) -> anyhow::Result<()> {
        let path = self.directory.path();
        let mut command = as_postgres(&binaries()?.join("postgres"));
        command.arg("-D").arg(path.join("data")).arg("-k").arg(path);
        command.args(["-p", &self.port.to_string(), "-h", "127.0.0.1"]);
        let log = path.join("postgres.log");
        self.process = Some(Process::start(&mut command, &log)?);
        await_listener(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.port), &log)
    }

    /// Stops it as a machine does that goes down: its clients are cut off.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            signal(&process.0, Signal::INT)?;
            process.0.wait()?;
        }
        Ok(())
    }

    /// What psql prints for a statement, without headings.
    pub fn query(&self, statement: &str) -> anyhow::Result<String> {
        let read = finished(Command::new("psql").args([&self.url(), "-Atc", statement]))?;
        ensure!(read.status == 0, "{}", read.stderr);
        Ok(read.stdout.trim().to_owned())
    }

    /// The URL of its empty database.
    pub fn url(&self) -> String {
        format!("postgres://ajar@127.0.0.1:{}/postgres", self.port)
    }

    /// The same by its socket, which is reached from any network namespace.
    pub fn socket_url(&self) -> String {
        let (directory, port) = (self.directory.path().display(), self.port);
        format!("postgres:///postgres?host={directory}&port={port}&user=ajar")
    }
}

/// Debian keeps the binaries of each version apart.
fn binaries() -> anyhow::Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is missing: `make test` installs it")?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found
        .pop()
        .context("PostgreSQL's server is missing: `make test` installs it")
}

/// PostgreSQL refuses to run as root; `setpriv` becomes the server itself, so that its pid is the one to stop.
fn as_postgres(program: &Path) -> Command {
    let root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if !root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--",
        ])
        .arg(program);
    command
}
