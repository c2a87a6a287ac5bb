//! The program under test, in a directory and with a home of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use ajar_model::Finding;
use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

/// A directory to run the program in, shared by its clones. Command lines are split at spaces.
#[derive(Debug, Clone)]
pub struct Ajar {
    directory: Arc<TempDir>,
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
        let directory = Arc::new(tempfile::tempdir()?);
        Ok(Self { directory })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The program, not yet started; nothing of the user's own configuration reaches it.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(program());
        command
            .args(line.split_whitespace())
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            // What revisits do has tests of its own; nothing else waits for them.
            .env("AJAR_REVISITS", "0")
            .env("AJAR_CONFIRM_AFTER", "never")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, line: &str) -> anyhow::Result<Finished> {
        finished(&mut self.command(line))
    }

    /// Runs a shell script in its directory, and returns what that prints if it succeeds.
    pub fn shell(&self, script: &str) -> anyhow::Result<String> {
        let mut sh = Command::new("sh");
        let finished = finished(sh.args(["-ec", script]).current_dir(self.path()))?;
        ensure!(finished.status == 0, "{script}: {}", finished.stderr);
        Ok(finished.stdout)
    }

    /// Starts it; its standard error goes to a file of this name, its standard output to a pipe.
    pub fn spawn(&self, line: &str, log: &str) -> anyhow::Result<Child> {
        let log = fs::File::create(self.path().join(log))?;
        let mut command = self.command(line);
        command.stdout(Stdio::piped()).stderr(log);
        command.spawn().context("ajar cannot be started")
    }

    /// Waits until a log of this name has a line with these words, and returns what it says after them.
    pub fn await_line(&self, log: &str, words: &str) -> anyhow::Result<String> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let started = Instant::now();
        loop {
            let said = fs::read_to_string(self.path().join(log)).unwrap_or_default();
            let found = said.split_once(words);
            if let Some((rest, _)) = found.and_then(|(_, rest)| rest.split_once('\n')) {
                return Ok(rest.to_owned());
            }
            if started.elapsed() > PATIENCE {
                bail!("{log} never said {words:?}:\n{said}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a scan has announced its campaign in this log, and returns the id.
    pub fn await_campaign(&self, log: &str) -> anyhow::Result<String> {
        let rest = self.await_line(log, "campaign ")?;
        let (id, _) = rest.split_once(':').context("a campaign without an id")?;
        Ok(id.to_owned())
    }
}

/// Runs a command to its end.
pub fn finished(command: &mut Command) -> anyhow::Result<Finished> {
    let output = command
        .output()
        .with_context(|| format!("{command:?} cannot be started"))?;
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

/// Where cargo builds, and where `make test` puts what the tests need beside.
pub fn target() -> PathBuf {
    let built = built();
    built.parent().expect("target/* has a parent").to_owned()
}

fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let deps = test.parent().and_then(Path::parent);
    deps.expect("tests are in target/*/deps").to_owned()
}

/// Cargo builds the program beside the tests, since a test of its own crate needs it.
fn program() -> PathBuf {
    let program = built().join("ajar");
    assert!(
        program.exists(),
        "{} is missing: run `cargo build` or the whole workspace's tests",
        program.display()
    );
    program
}
