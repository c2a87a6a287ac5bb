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

use crate::server::{Process, await_listener, free_port};

/// A running Redis that keeps nothing.
#[derive(Debug)]
pub struct Redis {
    _process: Process,
    directory: TempDir,
    port: u16,
}

impl Redis {
    /// Starts one on a free port.
    pub fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let port = free_port()?;
        let mut command = Command::new("redis-server");
        command
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
            ])
            .arg(directory.path());
        let log = directory.path().join("redis.log");
        let process = Process::start(&mut command, &log)?;
        await_listener(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), &log)?;
        Ok(Self {
            _process: process,
            directory,
            port,
        })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where its log is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// A running PostgreSQL with one empty database.
#[derive(Debug)]
pub struct Postgres {
    _process: Process,
    _directory: TempDir,
    port: u16,
}

impl Postgres {
    /// Makes a cluster and starts it on a free port.
    pub fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
        let binaries = binaries()?;
        let data = path.join("data");
        let initdb = as_postgres(&binaries.join("initdb"))
            .args([
                "--auth=trust",
                "--username=ajar",
                "--no-sync",
                "--encoding=UTF8",
                "--pgdata",
            ])
            .arg(&data)
            .output()?;
        ensure!(
            initdb.status.success(),
            "initdb failed: {}",
            String::from_utf8_lossy(&initdb.stderr)
        );
        let port = free_port()?;
        let mut command = as_postgres(&binaries.join("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(path).args([
            "-p",
            &port.to_string(),
            "-h",
            "127.0.0.1",
            "-c",
            "fsync=off",
        ]);
        let log = path.join("postgres.log");
        let process = Process::start(&mut command, &log)?;
        await_listener(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port), &log)?;
        Ok(Self {
            _process: process,
            _directory: directory,
            port,
        })
    }

    /// The URL of its empty database.
    pub fn url(&self) -> String {
        format!("postgres://ajar@127.0.0.1:{}/postgres", self.port)
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
