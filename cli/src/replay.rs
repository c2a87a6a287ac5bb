//! The command by which an owner sees a finding for themselves, with tools that are not ours: swaks for mail, curl for proxies.
//!
//! The command repeats the transcript, and reaches the canary. Its nonce belongs to no finding, so
//! that a reader who sends it opens nothing.

use std::net::SocketAddr;

use ajar_model::{
    Finding, Observation, Verdict,
    evidence::{Attempt, Direction, Evidence},
};
use ulid::Ulid;

/// Returns the command for the first variant that opened a door and that a stock tool can repeat.
pub fn command(finding: &Finding, observations: &[Observation]) -> Option<String> {
    if finding.verdict != Verdict::Open {
        return None;
    }
    let (words, nonce) = finding.variants.iter().find_map(|variant| {
        observations.iter().find_map(|observation| {
            let attempts = &observation.evidence.attempts;
            let attempt = attempts.iter().find(|a| a.variant == *variant)?;
            let said = Said {
                endpoint: observation.endpoint,
                evidence: &observation.evidence,
                nonce: attempt.nonce.to_string(),
            };
            let words = match observation.probe.as_str() {
                "smtp-relay" => said.by_swaks(attempt),
                _ => said.by_curl(attempt),
            };
            Some((words?, said.nonce))
        })
    })?;
    let another = format!("{:032x}", Ulid::new().0);
    let words = words
        .iter()
        .map(|word| quoted(&word.replace(&nonce, &another)));
    let words: Vec<String> = words.collect();
    Some(words.join(" "))
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// What was said to an endpoint by which a nonce got through.
struct Said<'a> {
    endpoint: SocketAddr,
    evidence: &'a Evidence,
    nonce: String,
}

impl Said<'_> {
    /// The lines that we sent on one connection, up to the one with the nonce, and the events between them, latest first.
    fn before_the_nonce(&self) -> Option<Vec<&str>> {
        let entries = &self.evidence.transcript;
        let names_it = |text: &str| text.lines().any(|line| line.contains(&self.nonce));
        let at = entries
            .iter()
            .position(|entry| entry.direction == Direction::Sent && names_it(entry.text.raw()))?;
        let mut before: Vec<&str> = Vec::new();
        for entry in entries[..=at].iter().rev() {
            let text = entry.text.raw();
            if entry.direction == Direction::Event && text == "connected" {
                break;
            }
            if entry.direction != Direction::Received {
                before.extend(text.lines().rev());
            }
        }
        Some(before)
    }

    fn by_swaks(&self, attempt: &Attempt) -> Option<Vec<String>> {
        let before = self.before_the_nonce()?;
        let after = |word: &str| before.iter().find_map(|line| line.strip_prefix(word));
        // The first line with the nonce is the recipient's, unless sender and recipient are one.
        let entries = self.evidence.transcript.iter();
        let mut sent = entries.filter(|entry| entry.direction == Direction::Sent);
        let recipient = sent.find_map(|entry| {
            let path = entry.text.raw().trim_end().strip_prefix("RCPT TO:<")?;
            path.contains(&self.nonce)
                .then(|| path.trim_end_matches('>'))
        })?;
        let sender = after("MAIL FROM:<")?;
        let (sender, extension) = sender.split_once('>')?;
        if !extension.is_empty() {
            return None;
        }
        let mut words = vec![
            "swaks".to_owned(),
            format!("--server={}", self.endpoint.ip()),
            format!("--port={}", self.endpoint.port()),
            format!("--helo={}", after("EHLO ").or(after("HELO "))?),
            format!("--from={}", if sender.is_empty() { "<>" } else { sender }),
            format!("--to={recipient}"),
        ];
        let (opening, _) = attempt.variant.rsplit_once(':').unwrap_or_default();
        for opening in opening.split(':') {
            let more: &[&str] = match opening {
                "" | "plain" | "as-host" | "as-localhost" | "as-loopback" => &[],
                "xclient" => &["--xclient-addr=127.0.0.1", "--xclient-name=localhost"],
                "proxied" => &[
                    "--proxy-version=1",
                    "--proxy-family=TCP4",
                    "--proxy-source=127.0.0.1",
                    "--proxy-source-port=40000",
                    "--proxy-dest=127.0.0.1",
                    "--proxy-dest-port=25",
                ],
                _ => return None,
            };
            words.extend(more.iter().map(|&word| word.to_owned()));
        }
        let starttls = before.contains(&"STARTTLS");
        let inside = before.iter().any(|line| line.starts_with("tls "));
        match (starttls, inside) {
            (true, _) => words.push("--tls".to_owned()),
            (false, true) => words.push("--tls-on-connect".to_owned()),
            (false, false) => {}
        }
        Some(words)
    }

    /// Returns whether we sent a text.
    fn sent(&self, text: &str) -> bool {
        let mut entries = self.evidence.transcript.iter();
        entries.any(|entry| entry.direction == Direction::Sent && entry.text.raw().contains(text))
    }

    fn by_curl(&self, attempt: &Attempt) -> Option<Vec<String>> {
        let (endpoint, nonce) = (self.endpoint, &self.nonce);
        let before = self.before_the_nonce()?;
        let requested = |method: &str| {
            let mut lines = before.iter();
            lines.find_map(|line| line.strip_prefix(method)?.strip_suffix(" HTTP/1.1"))
        };
        let host = before.iter().find_map(|line| line.strip_prefix("Host: "));
        let (label, port) = attempt.variant.rsplit_once(':')?;
        let scheme = if self.evidence.tls { "https" } else { "http" };
        let proxy = format!("{scheme}://{endpoint}");
        let mut words = vec!["curl".to_owned(), "--insecure".to_owned()];
        let mut add = |more: &[&str]| words.extend(more.iter().map(|&word| word.to_owned()));
        if self.evidence.tls {
            add(&["--proxy-insecure"]);
        }
        // A tunnel that did not lead to the page leads to a greeting.
        let is_fetched = self.sent(&format!("GET /{nonce} "));
        let is_page = is_fetched && host.is_some_and(|host| host.ends_with(&format!(":{port}")));
        let is_tls = before.iter().any(|line| line.starts_with("tls ")) && !self.evidence.tls;
        let inner = if is_tls { "https" } else { "http" };
        let page = format!("{inner}://{}/{nonce}", host.unwrap_or_default());
        match label {
            "connect" | "connect-name" if is_page => {
                add(&["--proxytunnel", "--proxy", &proxy, &page]);
            }
            "socks5" | "socks5-name" | "socks4" | "socks4a" if is_page && !self.evidence.tls => {
                let proxy = match label {
                    "socks5-name" => format!("socks5h://{endpoint}"),
                    label => format!("{label}://{endpoint}"),
                };
                add(&["--proxy", &proxy, &page]);
            }
            "get" | "get-name" => {
                add(&["--proxy", &proxy, requested("GET ")?]);
            }
            "get-forwarded" => {
                let claim = "X-Forwarded-For: 127.0.0.1";
                add(&["--header", claim, "--proxy", &proxy, requested("GET ")?]);
            }
            "post" => {
                add(&["--data", "", "--proxy", &proxy, requested("POST ")?]);
            }
            "host" | "host-name" => {
                let (field, url) = (format!("Host: {}", host?), format!("{proxy}/{nonce}"));
                add(&["--header", &field, &url]);
            }
            label if label.starts_with("path") || label.starts_with("query") => {
                let url = format!("{proxy}{}", requested("GET ")?);
                let script = "X-Requested-With: XMLHttpRequest";
                let host = format!("Host: {}", host?);
                add(&[
                    "--path-as-is",
                    "--globoff",
                    "--header",
                    &host,
                    "--header",
                    script,
                    &url,
                ]);
            }
            _ => return None,
        }
        Some(words)
    }
}
