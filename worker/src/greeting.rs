//! The name by which this machine greets mail servers.
//!
//! Some servers turn away a name that does not lead back to the client's address (Exim: `verify =
//! helo`). So a machine greets by the name of its own address, if that name leads back to the
//! address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use ajar_model::target;
use tokio::{sync::OnceCell, time::timeout};

/// Time for the look-up, both ways. After that the machine greets by the canary's domain.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends of names that lead to an address inside one network only.
const INSIDE: [&str; 6] = [
    ".local",
    ".localdomain",
    ".internal",
    ".intranet",
    ".lan",
    ".home.arpa",
];

/// The names of this machine's addresses.
#[derive(Debug, Default)]
pub struct Greeting {
    /// The name that the operator gave.
    given: Option<String>,
    found: Mutex<HashMap<IpAddr, Arc<OnceCell<Option<String>>>>>,
}

impl Greeting {
    pub fn new(given: Option<String>) -> Self {
        Self {
            given,
            ..Self::default()
        }
    }

    /// Returns the name for connections from this address: the operator's choice, or else the
    /// name of the address, if it has one.
    pub async fn name(&self, ours: Option<IpAddr>) -> Option<String> {
        if self.given.is_some() {
            return self.given.clone();
        }
        let ours = ours.filter(|ours| !ours.is_loopback())?;
        let cell = {
            let mut found = self.found.lock().expect("no holder panics");
            Arc::clone(found.entry(ours).or_default())
        };
        cell.get_or_init(|| look_up(ours)).await.clone()
    }
}

/// Looks up the name of an address, if that name leads back to the address.
async fn look_up(ours: IpAddr) -> Option<String> {
    let confirmed = tokio::task::spawn_blocking(move || {
        let name = dns_lookup::lookup_addr(&ours).ok()?;
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let mut addresses = dns_lookup::lookup_host(&name).ok()?;
        let leads_back = addresses.any(|ip| ip.to_canonical() == ours);
        (is_public(&name) && leads_back).then_some(name)
    });
    timeout(PATIENCE, confirmed).await.ok()?.ok()?
}

fn is_public(name: &str) -> bool {
    let is_inside = INSIDE.iter().any(|end| name.ends_with(end));
    name.contains('.') && target::is_host_name(name) && !is_inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_means_nothing_outside_is_none() {
        for name in ["mail.example", "scanner.test", "a.b.example.com"] {
            assert!(is_public(name), "{name}");
        }
        for name in [
            "localhost",
            "192.0.2.7",
            "10-1-2-3.default.pod.cluster.local",
            "ip-10-0-0-7.ec2.internal",
            "box.lan",
            "",
        ] {
            assert!(!is_public(name), "{name}");
        }
    }

    #[tokio::test]
    async fn the_name_that_the_operator_gave_is_asked_of_nobody() {
        let greeting = Greeting::new(Some("audit.example".to_owned()));
        let ours = Some("192.0.2.7".parse().unwrap());
        assert_eq!(greeting.name(ours).await.as_deref(), Some("audit.example"));
        let loopback = Some("127.0.0.1".parse().unwrap());
        assert_eq!(Greeting::default().name(loopback).await, None);
    }
}
