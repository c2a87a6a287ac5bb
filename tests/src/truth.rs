//! What is true of a server, by tools that are not ours: swaks for mail, curl and ncat for proxies.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Site,
    server::{Process, await_listener},
    site::DOMAINS,
};

/// How long a mail may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(20);

/// The far end in place of the canary: it takes mail and serves a page, until it is dropped.
#[derive(Debug)]
pub struct FarEnd {
    mail: PathBuf,
    page: SocketAddr,
    page_tls: SocketAddr,
    _processes: [Process; 3],
    _directory: TempDir,
}

impl FarEnd {
    /// What its page says: a word that no pattern language reads otherwise.
    pub const WORD: &str = "7f3aThePageOfTheFarEnd";

    /// At the ports where the site's canary will be.
    pub fn start(site: &Site) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let mail = directory.path().join("mail");
        fs::write(&mail, "")?;
        let sink = format!(
            "printf '220 far.end\\r\\n'; while read -r line; do \
             printf '%s\\n' \"$line\" >>{}; case \"$line\" in \
             DATA*) printf '354 go\\r\\n'; inside=1;; .?) inside=; printf '250 ok\\r\\n';; \
             QUIT*) printf '221 bye\\r\\n'; exit;; \
             *) [ -n \"$inside\" ] || printf '250 ok\\r\\n';; esac; done",
            mail.display()
        );
        let (web, web_tls) = (site.canary_page(), site.canary_page_tls());
        Ok(Self {
            _processes: [
                listen(site.canary_mail(), &sink)?,
                listen(web, &page())?,
                listen(web_tls, &page())?,
            ],
            mail,
            page: web,
            page_tls: web_tls,
            _directory: directory,
        })
    }

    /// Its page alone, at some other place, and a name server there that knows the place by this name, until what is returned is
    /// dropped.
    pub fn serve_page(endpoint: SocketAddr, name: &str) -> anyhow::Result<impl Sized> {
        let ip = endpoint.ip();
        let mut dnsmasq = Command::new("dnsmasq");
        dnsmasq
            .args(["--keep-in-foreground", "--no-resolv", "--no-hosts"])
            .args(["--bind-interfaces", "--pid-file="])
            .arg(format!("--listen-address={ip}"))
            .arg(format!("--address=/{name}/{ip}"));
        let log = tempfile::NamedTempFile::new()?;
        let names = Process::start(&mut dnsmasq, log.path())?;
        await_listener(SocketAddr::new(ip, 53), log.path())?;
        Ok((names, listen(endpoint, &page())?))
    }

    /// Where its page is, by the rest of its URL after `http://`.
    pub fn page(&self) -> String {
        self.page.to_string()
    }

    /// The same page on the port that the canary has for TLS.
    pub fn other_page(&self) -> String {
        self.page_tls.to_string()
    }

    /// True if mail from a stranger to both of the canary's domains arrives, sent by swaks with these options. A server that
    /// puts strangers off is tried again and again, if it is `patient`.
    pub fn gets_mail(&self, server: SocketAddr, options: &str, patient: bool) -> bool {
        let name = server.to_string().replace(['.', ':'], "-");
        let sent = DOMAINS.map(|domain| {
            let recipient = format!("truth-{name}@{domain}");
            let send = || self.swaks(server, &recipient, options);
            let until = Instant::now() + ARRIVAL;
            let mut taken = send();
            while patient && !taken && Instant::now() < until {
                thread::sleep(Duration::from_secs(1));
                taken = send();
            }
            (recipient, taken)
        });
        sent.iter()
            .all(|(recipient, taken)| *taken && self.arrives(recipient))
    }

    fn swaks(&self, server: SocketAddr, recipient: &str, options: &str) -> bool {
        let mut swaks = Command::new("swaks");
        swaks
            .args(["--server", &server.ip().to_string()])
            .args(["--port", &server.port().to_string()])
            .args([
                "--helo",
                "stranger.example",
                "--from",
                "who@stranger.example",
            ])
            .args(["--to", recipient, "--timeout", "10"])
            .args(options.split_whitespace());
        swaks.output().is_ok_and(|output| output.status.success())
    }

    /// True if mail to this address has come, or does within moments.
    pub fn arrives(&self, recipient: &str) -> bool {
        let until = Instant::now() + ARRIVAL / 5;
        let named = format!("rcpt to:<{recipient}>");
        while Instant::now() < until {
            let mail = fs::read(&self.mail).unwrap_or_default();
            let mail = String::from_utf8_lossy(&mail).to_ascii_lowercase();
            if mail.contains(&named) {
                return true;
            }
            thread::sleep(Duration::from_millis(100));
        }
        false
    }

    /// True if the page comes back to curl with these options.
    pub fn is_fetched(&self, options: &str) -> bool {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "10", "--noproxy", ""])
            .args(options.split_whitespace());
        said(&mut curl)
    }

    /// True if the page comes back to ncat that says this.
    pub fn is_told(&self, server: SocketAddr, words: &str) -> bool {
        let script = format!(
            "(printf '{words}'; sleep 8) | ncat --idle-timeout 10 {} {}",
            server.ip(),
            server.port()
        );
        said(Command::new("sh").args(["-c", &script]))
    }
}

/// A script that answers a request, once it has read all of its head: a proxy that is still sending
/// would hear a reset.
fn page() -> String {
    let (word, length) = (FarEnd::WORD, FarEnd::WORD.len());
    format!(
        "while read -r line && [ ${{#line}} -gt 1 ]; do :; done; \
         printf 'HTTP/1.0 200 OK\\r\\nContent-Length: {length}\\r\\n\\r\\n{word}'"
    )
}

/// Runs a script for each connection.
fn listen(endpoint: SocketAddr, script: &str) -> anyhow::Result<Process> {
    let mut ncat = Command::new("ncat");
    ncat.args(["-l", "-k", "--sh-exec", script])
        .arg(endpoint.ip().to_string())
        .arg(endpoint.port().to_string());
    let log = tempfile::NamedTempFile::new()?;
    let process = Process::start(&mut ncat, log.path())?;
    await_listener(endpoint, log.path())?;
    Ok(process)
}

fn said(command: &mut Command) -> bool {
    let output = command.output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(FarEnd::WORD))
}
