//! Postfix with a configuration, a queue and an address of its own.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::server::{Access, await_listener};

/// A running Postfix. Mail for the canary's domains goes to the canary, as their MX records would say.
#[derive(Debug)]
pub struct Postfix {
    directory: TempDir,
    endpoint: SocketAddr,
}

impl Postfix {
    /// Starts one that listens on `endpoint`.
    pub fn start(
        access: Access,
        endpoint: SocketAddr,
        domains: [&str; 2],
        canary: SocketAddr,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        for name in ["config", "queue", "data"] {
            fs::create_dir(path.join(name))?;
        }
        make_traversable(path)?;
        run(Command::new("chown").arg("postfix").arg(path.join("data")))?;
        fs::write(
            path.join("config/main.cf"),
            main_cf(path, access, endpoint, domains, canary),
        )?;
        fs::write(path.join("config/master.cf"), master_cf(endpoint))?;
        let postfix = Self {
            directory,
            endpoint,
        };
        run(postfix.command().arg("start"))?;
        await_listener(endpoint, &postfix.log())?;
        Ok(postfix)
    }

    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// Takes mail for a domain from everybody, as its backup MX does.
    pub fn take_charge_of(&self, domain: &str) -> anyhow::Result<()> {
        self.configure(&[&format!("relay_domains={domain}")])
    }

    /// Takes mail inside TLS alone.
    pub fn require_tls(&self) -> anyhow::Result<()> {
        let [key, certificate] =
            ["key", "certificate"].map(|name| self.directory.path().join(name));
        let mut openssl = Command::new("openssl");
        openssl
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            ])
            .args(["-subj", "/CN=mx.lab.test", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate);
        run(&mut openssl)?;
        self.configure(&[
            "smtpd_tls_security_level=encrypt".to_owned(),
            format!("smtpd_tls_key_file={}", key.display()),
            format!("smtpd_tls_cert_file={}", certificate.display()),
        ])
    }

    /// Takes mail, but delivers none until [`Self::deliver`] is called.
    pub fn hold(&self) -> anyhow::Result<()> {
        self.configure(&["defer_transports=smtp"])
    }

    /// Delivers what was held.
    pub fn deliver(&self) -> anyhow::Result<()> {
        self.configure(&["defer_transports="])?;
        run(self.command().arg("flush"))
    }

    /// Puts postscreen(8) in front, which lets nobody in whom it has not seen behave before (postfix.org/POSTSCREEN_README.html).
    pub fn screen(&self) -> anyhow::Result<()> {
        let master = self.directory.path().join("config/master.cf");
        let services = fs::read_to_string(&master)?;
        let listener = format!("{} inet n - n - ", self.endpoint);
        let screened = services.replace(
            &format!("{listener}- smtpd\n"),
            &format!(
                "{listener}1 postscreen\n\
                 smtpd pass - - n - - smtpd\n\
                 dnsblog unix - - n - 0 dnsblog\n\
                 tlsproxy unix - - n - 0 tlsproxy\n"
            ),
        );
        ensure!(screened != services, "there is no smtpd in {services}");
        fs::write(master, screened)?;
        self.configure(&[
            "postscreen_greet_wait=2s",
            "postscreen_greet_action=enforce",
            "postscreen_pipelining_enable=yes",
            "postscreen_non_smtp_command_enable=yes",
            "postscreen_bare_newline_enable=yes",
        ])
    }

    /// Changes settings, each as `name=value`, and makes them take effect.
    pub fn configure<S: AsRef<OsStr>>(&self, settings: &[S]) -> anyhow::Result<()> {
        let config = self.directory.path().join("config");
        run(Command::new("/usr/sbin/postconf")
            .arg("-c")
            .arg(config)
            .arg("-e")
            .args(settings))?;
        run(self.command().arg("reload"))
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("mail.log")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("/usr/sbin/postfix");
        command.arg("-c").arg(self.directory.path().join("config"));
        command
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = run(self.command().arg("stop"));
    }
}

fn main_cf(
    path: &Path,
    access: Access,
    endpoint: SocketAddr,
    domains: [&str; 2],
    canary: SocketAddr,
) -> String {
    let strangers = match access {
        Access::Open => "0.0.0.0/0 [::]/0",
        // The auditor is on loopback too: only an address that nobody has is trusted.
        Access::Closed => "192.0.2.1/32",
    };
    let protocols = match endpoint.is_ipv6() {
        true => "inet_interfaces = 127.0.0.1, [::1]\ninet_protocols = all\n",
        false => "inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n",
    };
    let path = path.display();
    let next_hop = format!("smtp:[{}]:{}", canary.ip(), canary.port());
    let [domain, other] = domains;
    format!(
        "compatibility_level = 3.6\n\
         queue_directory = {path}/queue\n\
         data_directory = {path}/data\n\
         maillog_file = {path}/mail.log\n\
         maillog_file_prefixes = {path}\n\
         mail_owner = postfix\n\
         setgid_group = postdrop\n\
         myhostname = mx.lab.test\n\
         mydestination = lab.test\n\
         local_recipient_maps =\n\
         {protocols}\
         mynetworks = {strangers}\n\
         smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n\
         alias_maps =\n\
         alias_database =\n\
         transport_maps = inline:{{ {domain}={next_hop}, {other}={next_hop} }}\n\
         smtp_bind_address =\n\
         default_transport = error:this is a test\n\
         relay_transport = error:this is a test\n\
         smtp_dns_support_level = disabled\n\
         smtp_host_lookup = native\n\
         queue_run_delay = 1s\n\
         minimal_backoff_time = 1s\n\
         maximal_backoff_time = 2s\n\
         biff = no\n"
    )
}

fn master_cf(endpoint: SocketAddr) -> String {
    let services = [
        format!("{endpoint} inet n - n - - smtpd"),
        "pickup unix n - n 60 1 pickup".to_owned(),
        "cleanup unix n - n - 0 cleanup".to_owned(),
        "qmgr unix n - n 300 1 qmgr".to_owned(),
        "rewrite unix - - n - - trivial-rewrite".to_owned(),
        "bounce unix - - n - 0 bounce".to_owned(),
        "defer unix - - n - 0 bounce".to_owned(),
        "trace unix - - n - 0 bounce".to_owned(),
        "verify unix - - n - 1 verify".to_owned(),
        "flush unix n - n 1000? 0 flush".to_owned(),
        "smtp unix - - n - - smtp".to_owned(),
        "relay unix - - n - - smtp".to_owned(),
        "error unix - - n - - error".to_owned(),
        "retry unix - - n - - error".to_owned(),
        "discard unix - - n - - discard".to_owned(),
        "local unix - n n - - local".to_owned(),
        "virtual unix - n n - - virtual".to_owned(),
        "anvil unix - - n - 1 anvil".to_owned(),
        "scache unix - - n - 1 scache".to_owned(),
        "tlsmgr unix - - n 1000? 1 tlsmgr".to_owned(),
        "postlog unix-dgram n - n - 1 postlogd".to_owned(),
    ];
    services.join("\n") + "\n"
}

/// Postfix' own user must reach its directories.
fn make_traversable(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o755),
    )?)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| {
        format!(
            "{:?} cannot be run: `make test` installs it",
            command.get_program()
        )
    })?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
