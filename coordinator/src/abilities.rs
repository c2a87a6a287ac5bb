//! The probes that a worker knows. Workers and coordinators are not upgraded at the same moment:
//! campaigns with other probes wait for other workers.

use ajar_model::{ProbeId, Spec, Tier};

/// The probes of a worker that names none: versions before this one did not name them.
const BEFORE: [&str; 12] = [
    "smtp-relay",
    "http-connect",
    "http-get",
    "http-host",
    "http-path",
    "http-udp",
    "socks5",
    "socks4",
    "http2-connect",
    "telnet-proxy",
    "turn",
    "sni-proxy",
];

/// The probes that a worker knows.
#[derive(Debug, Clone)]
pub(crate) struct Abilities(Vec<ProbeId>);

impl Abilities {
    /// By the names in a worker's request.
    pub(crate) fn named(probes: Vec<String>) -> Self {
        match probes.is_empty() {
            true => Self(BEFORE.map(ProbeId::from_static).to_vec()),
            false => Self(probes.into_iter().map(ProbeId::from).collect()),
        }
    }

    /// Returns the first probe of a campaign that the worker does not know.
    pub(crate) fn lacks<'a>(&self, spec: &'a Spec) -> Option<&'a ProbeId> {
        // At that tier a worker only connects, and runs no probe.
        let speaks = spec.tier > Tier::Connect;
        let mut probes = spec.probes.iter().filter(|_| speaks);
        probes.find(|probe| !self.0.contains(probe))
    }
}
