//! Every probe there is.

use ajar_model::{Evidence, ProbeId, Tier, evidence::Service};
use futures::future::BoxFuture;

use crate::{
    http_connect::HttpConnect, http_get::HttpGet, smtp_relay::SmtpRelay, socks4::Socks4,
    socks5::Socks5, visit::Visit,
};

/// Every probe, in the order in which those of one service run.
pub const PROBES: &[&dyn Probe] = &[&SmtpRelay, &HttpConnect, &HttpGet, &Socks5, &Socks4];

/// One way in which a service may be open, and the conversation that shows it.
pub trait Probe: Send + Sync {
    /// Its name in options, authorizations and results.
    fn id(&self) -> ProbeId;

    /// The protocol that an endpoint must speak for it to run.
    fn service(&self) -> Service;

    /// Ports on which the service is usual. An endpoint on any other port is examined the same way.
    fn ports(&self) -> &'static [u16];

    /// The least tier at which it learns anything. Above it, it goes as far as the session's tier permits.
    fn tier(&self) -> Tier;

    /// What it shows, in a line.
    fn summary(&self) -> &'static str;

    /// Has the conversation. It ends within the session's deadline, whatever the target does.
    fn run<'a>(&'a self, visit: &'a mut Visit<'_>) -> BoxFuture<'a, Evidence>;
}

/// The probe of that name.
pub fn find(id: &ProbeId) -> Option<&'static dyn Probe> {
    PROBES.iter().copied().find(|probe| probe.id() == *id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_probe_is_found_by_its_own_name_and_has_ports() {
        let names: BTreeSet<_> = PROBES.iter().map(|probe| probe.id()).collect();
        assert_eq!(names.len(), PROBES.len());
        for probe in PROBES {
            assert_eq!(find(&probe.id()).unwrap().summary(), probe.summary());
            assert!(!probe.ports().is_empty() && !probe.ports().contains(&0));
            assert!(probe.tier() > Tier::Connect);
        }
        assert!(find(&ProbeId::from_static("recognise")).is_none());
    }
}
