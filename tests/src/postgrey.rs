//! Postgrey: puts off every stranger's first mail from a sender to a recipient.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    free_port,
    server::{Process, await_listener},
};

/// A running Postgrey, to be asked by a mail server.
#[derive(Debug)]
pub struct Postgrey {
    endpoint: SocketAddr,
    _process: Process,
    _directory: TempDir,
}

impl Postgrey {
    /// Starts one that lets a mail in after this delay, and says this, in which `%s` is what is left of it in seconds.
    pub fn start(delay: Duration, text: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let endpoint = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let log = directory.path().join("output.log");
        let mut command = Command::new("/usr/sbin/postgrey");
        command
            .arg(format!("--inet={endpoint}"))
            .arg(format!("--delay={}", delay.as_secs()))
            .arg(format!("--dbdir={}", directory.path().display()))
            .arg(format!("--greylist-text={text}"))
            .args(["--user=root", "--group=root", "--auto-whitelist-clients=0"]);
        let process = Process::start(&mut command, &log)?;
        await_listener(endpoint, &log)?;
        Ok(Self {
            endpoint,
            _process: process,
            _directory: directory,
        })
    }

    /// The setting that makes Postfix ask it.
    pub fn restriction(&self) -> String {
        format!(
            "smtpd_recipient_restrictions=check_policy_service inet:{}",
            self.endpoint
        )
    }
}
