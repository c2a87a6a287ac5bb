//! OpenSMTPD, unpacked beside the build. Its paths are built in: it gets a view of its own of the file system.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use crate::{
    ajar::target,
    namespace::as_root,
    server::{Process, await_listener},
};

/// A running OpenSMTPD. Whatever its rules relay goes to the canary, as the canary's MX records would say.
#[derive(Debug)]
pub struct OpenSmtpd {
    _process: Process,
    _directory: TempDir,
}

/// What it finds at its paths: empty directories, and its own programs.
const VIEW: &str = "
    mkdir -p /var/spool/smtpd /var/lib/opensmtpd /usr/libexec/opensmtpd
    mount -t tmpfs -o mode=711 none /var/spool/smtpd
    mount -t tmpfs none /var/lib/opensmtpd
    mkdir /var/lib/opensmtpd/empty
    mount -t tmpfs none /run
    mount --bind $0/usr/libexec/opensmtpd /usr/libexec/opensmtpd
    exec $0/usr/sbin/smtpd -d -f $1
";

impl OpenSmtpd {
    /// Starts one with these listener options and rules, of which `action "out"` relays.
    pub fn start(
        endpoint: SocketAddr,
        listener: &str,
        rules: &str,
        canary: SocketAddr,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        let configuration = path.join("smtpd.conf");
        let (ip, port) = (endpoint.ip(), endpoint.port());
        let text = format!(
            "listen on {ip} port {port} hostname mx.lab.test {listener}\n\
             action \"out\" relay host smtp://{canary}\n\
             {rules}\n"
        );
        fs::write(&configuration, text)?;
        let log = path.join("log");
        let mut command = as_root("unshare");
        command
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-ec",
                VIEW,
            ])
            .arg(target().join("opensmtpd"))
            .arg(configuration);
        let process = Process::start(&mut command, &log)?;
        await_listener(endpoint, &log)?;
        Ok(Self {
            _process: process,
            _directory: directory,
        })
    }
}
