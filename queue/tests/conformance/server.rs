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
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
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
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Runs a command in it.
    pub fn cli(&self, command: &[&str]) {
        assert!(self.redis_cli(command), "{command:?} failed");
    }

    /// Kills it and starts it again, empty, on the same port.
    pub fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(self.port, &self.directory, &self.options);
        self.await_answer();
    }

    fn redis_cli(&self, command: &[&str]) -> bool {
        let port = self.port.to_string();
        let run = Command::new("redis-cli")
            .args(["-p", &port])
            .args(command)
            .output();
        run.is_ok_and(|output| output.status.success())
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

fn spawn(port: u16, directory: &TempDir, options: &[String]) -> Child {
    Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
        ])
        .arg(directory.path())
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server cannot be started: `make test` installs it")
}
