//! Sendmail, unpacked beside the build, with a configuration of its own.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt, path::Path, process::Command};

use anyhow::ensure;
use tempfile::TempDir;

use crate::{
    ajar::target,
    namespace::as_root,
    server::{Process, await_listener},
};

/// A running Sendmail. Mail for others goes to the canary, as the canary's MX records would say.
#[derive(Debug)]
pub struct Sendmail {
    _process: Process,
    _directory: TempDir,
}

/// Sendmail trusts whom it finds to be its own host: here loopback has a stranger's name.
const VIEW: &str = "
    printf '127.0.0.1 stranger.example\\n' >$1/hosts
    mount --bind $1/hosts /etc/hosts
    hostname mx.lab.test
    exec $0/usr/libexec/sendmail/sendmail -C $1/sendmail.cf -bD -q1s
";

impl Sendmail {
    /// Starts one with these lines in its macro configuration.
    pub fn start(endpoint: SocketAddr, features: &str, canary: SocketAddr) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        fs::create_dir(path.join("queue"))?;
        for private in [path.to_owned(), path.join("queue")] {
            fs::set_permissions(private, fs::Permissions::from_mode(0o700))?;
        }
        let unpacked = target().join("sendmail");
        let macros = unpacked.join("usr/share/sendmail/cf");
        fs::write(
            path.join("sendmail.mc"),
            mc(path, &macros, endpoint, features, canary),
        )?;
        let expanded = Command::new("m4").arg(path.join("sendmail.mc")).output()?;
        ensure!(
            expanded.status.success(),
            "{}",
            String::from_utf8_lossy(&expanded.stderr)
        );
        // The one address that every configuration trusts is the auditor's.
        let rules = String::from_utf8(expanded.stdout)?.replace("R127.0.0.1", "R192.0.2.1");
        fs::write(path.join("sendmail.cf"), rules)?;
        let log = path.join("log");
        let mut command = as_root("unshare");
        command
            .args(["--mount", "--uts", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-ec", VIEW])
            .arg(unpacked)
            .arg(path);
        let process = Process::start(&mut command, &log)?;
        await_listener(endpoint, &log)?;
        Ok(Self {
            _process: process,
            _directory: directory,
        })
    }
}

fn mc(
    path: &Path,
    macros: &Path,
    endpoint: SocketAddr,
    features: &str,
    canary: SocketAddr,
) -> String {
    let (path, macros) = (path.display(), macros.display());
    format!(
        "divert(-1)\n\
         define(`_CF_DIR_', `{macros}/')\n\
         divert(0)\n\
         include(`{macros}/m4/cf.m4')\n\
         OSTYPE(`linux')\n\
         define(`confDOMAIN_NAME', `mx.lab.test')\n\
         define(`confDONT_PROBE_INTERFACES', `True')\n\
         define(`confDONT_BLAME_SENDMAIL', `GroupWritableDirPathSafe,TrustStickyBit')\n\
         define(`confQUEUE_LA', `1000')\n\
         define(`confREFUSE_LA', `1000')\n\
         define(`confPID_FILE', `{path}/pid')\n\
         define(`QUEUE_DIR', `{path}/queue')\n\
         define(`STATUS_FILE', `{path}/status')\n\
         define(`ALIAS_FILE', `')\n\
         define(`SMART_HOST', `esmtp:[{}]')\n\
         define(`ESMTP_MAILER_ARGS', `TCP $h {}')\n\
         LOCAL_DOMAIN(`lab.test')\n\
         FEATURE(`nocanonify')\n\
         FEATURE(`no_default_msa')\n\
         FEATURE(`accept_unresolvable_domains')\n\
         {features}\n\
         DAEMON_OPTIONS(`Addr={}, Port={}, Name=MTA')\n\
         MAILER(`local')\n\
         MAILER(`smtp')\n",
        canary.ip(),
        canary.port(),
        endpoint.ip(),
        endpoint.port(),
    )
}
