//! The program under test, in a directory and with a home of its own.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use ajar_model::Finding;
use anyhow::{Context, ensure};
use tempfile::TempDir;

/// A directory to run the program in.
#[derive(Debug)]
pub struct Ajar {
    directory: TempDir,
}

/// What a run left behind.
#[derive(Debug)]
pub struct Finished {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ajar {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            directory: tempfile::tempdir()?,
        })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The program, not yet started; nothing of the user's own configuration reaches it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Finished> {
        self.run_with_input(arguments, "")
    }

    /// Runs it to its end, with this standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> anyhow::Result<Finished> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("ajar cannot be started")?;
        // A run that refuses its options does not read its input.
        let _ = child
            .stdin
            .take()
            .context("no standard input")?
            .write_all(input.as_bytes());
        finished(child)
    }

    /// Starts it; its standard error goes to a file of this name, its standard output to a pipe.
    pub fn spawn(&self, arguments: &[&str], log: &str) -> anyhow::Result<Child> {
        let log = fs::File::create(self.path().join(log))?;
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        command.spawn().context("ajar cannot be started")
    }
}

/// Waits for a run to end.
fn finished(child: Child) -> anyhow::Result<Finished> {
    let output = child.wait_with_output()?;
    Ok(Finished {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Finished {
    /// The findings that it printed as JSONL; an error if it failed.
    pub fn findings(&self) -> anyhow::Result<Vec<Finding>> {
        ensure!(self.status == 0, "status {}: {}", self.status, self.stderr);
        let lines = self.stdout.lines();
        lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

/// Cargo builds the program beside the tests, since a test of its own crate needs it.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let directory = test
        .parent()
        .and_then(Path::parent)
        .expect("tests are in target/*/deps");
    let program = directory.join("ajar");
    assert!(
        program.exists(),
        "{} is missing: run `cargo build` or the whole workspace's tests",
        program.display()
    );
    program
}
