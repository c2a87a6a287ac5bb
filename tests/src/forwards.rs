//! HAProxy as a redirected port, and nginx as a web server that fetches from others.

use std::{fs, net::SocketAddr, process::Command};

use tempfile::TempDir;

use crate::server::{Process, await_listener};

/// HAProxy that passes every connection on.
#[derive(Debug)]
pub struct Redirect {
    _process: Process,
    _directory: TempDir,
}

impl Redirect {
    /// Starts one that listens on `endpoint`.
    pub fn start(endpoint: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let configuration = format!(
            "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n\
             listen redirect\n    bind {endpoint}\n    server only {to}\n"
        );
        let path = directory.path().join("haproxy.cfg");
        fs::write(&path, configuration)?;
        let log = directory.path().join("log");
        let mut command = Command::new("haproxy");
        let process = Process::start(command.arg("-db").arg("-f").arg(path), &log)?;
        await_listener(endpoint, &log)?;
        Ok(Self {
            _process: process,
            _directory: directory,
        })
    }
}

/// nginx that fetches everything from somewhere else.
#[derive(Debug)]
pub struct ReverseProxy {
    _process: Process,
    _directory: TempDir,
}

impl ReverseProxy {
    /// Starts one that listens on `endpoint`, with this in its configuration of the server.
    pub fn start(endpoint: SocketAddr, locations: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let shown = directory.path().display();
        let configuration = format!(
            "daemon off;\nmaster_process off;\npid {shown}/nginx.pid;\nerror_log {shown}/error.log;\nevents {{}}\n\
             http {{\n    access_log off;\n    client_body_temp_path {shown}/body;\n    proxy_temp_path {shown}/proxy;\n    \
             fastcgi_temp_path {shown}/fastcgi;\n    uwsgi_temp_path {shown}/uwsgi;\n    scgi_temp_path {shown}/scgi;\n    \
             server {{ listen {endpoint}; {locations} }}\n}}\n"
        );
        let path = directory.path().join("nginx.conf");
        fs::write(&path, configuration)?;
        let log = directory.path().join("log");
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(directory.path()).arg("-c").arg(path);
        let process = Process::start(&mut command, &log)?;
        await_listener(endpoint, &log)?;
        Ok(Self {
            _process: process,
            _directory: directory,
        })
    }
}
