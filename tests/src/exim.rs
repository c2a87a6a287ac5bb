//! Exim, unpacked beside the build, with a configuration of its own.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, process::Command};

use tempfile::TempDir;

use crate::{
    ajar::target,
    server::{Process, await_listener},
};

/// A running Exim. Mail for the canary's domains goes to the canary, as their MX records would say.
#[derive(Debug)]
pub struct Exim {
    _process: Process,
    _directory: TempDir,
}

impl Exim {
    /// Starts one that asks these ACL statements of each recipient.
    pub fn start(
        endpoint: SocketAddr,
        acl: &str,
        domains: [&str; 2],
        canary: SocketAddr,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
        let program = target().join("exim/usr/sbin/exim4");
        let configuration = path.join("exim.conf");
        let text = conf(path, &program, endpoint, acl, domains, canary);
        fs::write(&configuration, text)?;
        let log = path.join("output.log");
        let mut command = Command::new(program);
        command.arg("-C").arg(configuration).args(["-bdf", "-q1m"]);
        let process = Process::start(&mut command, &log)?;
        await_listener(endpoint, &log)?;
        Ok(Self {
            _process: process,
            _directory: directory,
        })
    }
}

fn conf(
    path: &Path,
    program: &Path,
    endpoint: SocketAddr,
    acl: &str,
    domains: [&str; 2],
    canary: SocketAddr,
) -> String {
    let (path, program) = (path.display(), program.display());
    let (ip, port) = (endpoint.ip(), endpoint.port());
    let [domain, other] = domains;
    format!(
        "exim_path = {program}\n\
         primary_hostname = mx.lab.test\n\
         spool_directory = {path}\n\
         log_file_path = {path}/%slog\n\
         pid_file_path = {path}/pid\n\
         local_interfaces = {ip}\n\
         daemon_smtp_ports = {port}\n\
         domainlist local_domains = @ : lab.test\n\
         host_lookup =\n\
         rfc1413_query_timeout = 0s\n\
         keep_environment =\n\
         acl_smtp_rcpt = acl_rcpt\n\
         begin acl\n\
         acl_rcpt:\n\
         {acl}\n\
         begin routers\n\
         canary:\n\
         \x20 driver = manualroute\n\
         \x20 domains = {domain} : {other}\n\
         \x20 route_list = * {}\n\
         \x20 self = send\n\
         \x20 transport = remote\n\
         \x20 no_more\n\
         begin transports\n\
         remote:\n\
         \x20 driver = smtp\n\
         \x20 port = {}\n\
         begin retry\n\
         * * F,1h,1s\n",
        canary.ip(),
        canary.port(),
    )
}
