//! Squid, Dante, and a prompt that ncat connects.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, process::Command};

use tempfile::TempDir;

use crate::server::{Access, Process, await_listener};

#[derive(Debug)]
pub struct Squid {
    _process: Process,
    _directory: TempDir,
}

impl Squid {
    /// Starts one that listens on `endpoint`.
    pub fn start(access: Access, endpoint: SocketAddr) -> anyhow::Result<Self> {
        match access {
            Access::Open => Self::ruled(endpoint, "http_access allow all"),
            Access::Closed => Self::ruled(endpoint, ""),
        }
    }

    /// The same with rules of its own; what they do not allow is denied.
    pub fn ruled(endpoint: SocketAddr, rules: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
        let shown = path.display();
        let configuration = format!(
            "http_port {endpoint}\n\
             {rules}\n\
             http_access deny all\n\
             cache deny all\n\
             cache_mem 8 MB\n\
             pid_filename none\n\
             access_log none\n\
             cache_log {shown}/cache.log\n\
             coredump_dir {shown}\n\
             netdb_filename none\n\
             pinger_enable off\n\
             visible_hostname proxy.lab.test\n\
             shutdown_lifetime 0 seconds\n"
        );
        fs::write(path.join("squid.conf"), configuration)?;
        let log = path.join("output.log");
        let mut command = Command::new("/usr/sbin/squid");
        command
            .arg("-N")
            .arg("-f")
            .arg(path.join("squid.conf"))
            .args(["-n", &name(endpoint)]);
        let process = Process::start(&mut command, &log)?;
        await_listener(endpoint, &path.join("cache.log"))?;
        Ok(Self {
            _process: process,
            _directory: directory,
        })
    }
}

/// Squid keeps shared memory by this name: two instances must not have the same.
fn name(endpoint: SocketAddr) -> String {
    format!(
        "lab{}",
        endpoint
            .to_string()
            .replace(|c: char| !c.is_ascii_alphanumeric(), "")
    )
}

/// A running Dante, a SOCKS server.
#[derive(Debug)]
pub struct Dante {
    _process: Process,
    _directory: TempDir,
}

impl Dante {
    /// Starts one that listens on `endpoint`.
    pub fn start(access: Access, endpoint: SocketAddr) -> anyhow::Result<Self> {
        Self::ruled(
            endpoint,
            match access {
                Access::Open => "socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }",
                Access::Closed => "socks block { from: 0.0.0.0/0 to: 0.0.0.0/0 }",
            },
        )
    }

    /// Starts one with these rules for requests.
    pub fn ruled(endpoint: SocketAddr, rules: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
        let configuration = format!(
            "logoutput: {}/danted.log\n\
             internal: {} port = {}\n\
             external: {}\n\
             clientmethod: none\n\
             socksmethod: none\n\
             user.privileged: root\n\
             user.unprivileged: nobody\n\
             client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
             {rules}\n",
            path.display(),
            endpoint.ip(),
            endpoint.port(),
            endpoint.ip(),
        );
        fs::write(path.join("danted.conf"), configuration)?;
        let log = path.join("output.log");
        let mut command = Command::new("/usr/sbin/danted");
        command
            .arg("-f")
            .arg(path.join("danted.conf"))
            .arg("-p")
            .arg(path.join("danted.pid"));
        let process = Process::start(&mut command, &log)?;
        await_listener(endpoint, &log)?;
        Ok(Self {
            _process: process,
            _directory: directory,
        })
    }
}

/// A telnet-style gateway: ncat on both sides of a shell that prompts.
#[derive(Debug)]
pub struct TelnetGateway {
    _process: Process,
    _directory: TempDir,
}

impl TelnetGateway {
    /// Starts one that listens on `endpoint`.
    pub fn start(access: Access, endpoint: SocketAddr) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let connect = match access {
            Access::Open => {
                "printf 'Connecting to host %s...Connected\\r\\n' \"${line%:*}\"\n\
                 exec ncat \"${line%:*}\" \"${line##*:}\"\n"
            }
            Access::Closed => "printf 'Host is not allowed\\r\\nWinGate>'\nexec cat >/dev/null\n",
        };
        let script = format!(
            "printf 'WinGate>'\nread -r line || exit\nline=$(printf %s \"$line\" | tr -d '\\r')\n{connect}"
        );
        let path = directory.path().join("prompt.sh");
        fs::write(&path, script)?;
        let log = directory.path().join("log");
        let mut command = Command::new("ncat");
        command
            .args([
                "-l",
                "-k",
                &endpoint.ip().to_string(),
                &endpoint.port().to_string(),
            ])
            .args(["--sh-exec", &format!("exec sh {}", path.display())]);
        let process = Process::start(&mut command, &log)?;
        await_listener(endpoint, &log)?;
        Ok(Self {
            _process: process,
            _directory: directory,
        })
    }
}
