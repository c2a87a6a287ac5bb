//! The operator's own end, as probes see it.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::proof::CanaryKey;

/// Where probes send mail and tunnels, and whose answers they believe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// The mail domain that is delivered to the canary.
    pub domain: String,
    /// An unrelated mail domain that is delivered to it too, so that a server in charge of one is not taken for a relay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_domain: Option<String>,
    /// The address that its ports are bound to.
    pub address: IpAddr,
    /// The SMTP sink: 25 if it could be bound.
    pub smtp: u16,
    /// The echo page over plain HTTP: 80 if it could be bound.
    pub http: u16,
    /// The echo page over TLS: 443 if it could be bound.
    pub https: u16,
    /// The raw greeting on a high port.
    pub raw: u16,
    /// The key that verifies its answers.
    pub key: CanaryKey,
}

impl Canary {
    /// The canary's address with one of its ports.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }

    /// Its mail domains, one or two.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        let first = std::iter::once(&self.domain);
        first.chain(&self.other_domain).map(String::as_str)
    }

    /// A port of its address at which it does not listen: what a request for it reaches is not where it was asked to go.
    pub fn unused_port(&self) -> u16 {
        let used = [self.smtp, self.http, self.https, self.raw];
        (1..).find(|port| !used.contains(port)).unwrap_or(1)
    }

    /// Every address that a probe may name as its second hop, beside the one with [`Canary::unused_port`].
    pub fn destinations(&self) -> [SocketAddr; 4] {
        [self.smtp, self.http, self.https, self.raw].map(|port| self.at(port))
    }
}
