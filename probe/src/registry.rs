//! Every protocol there is.

use crate::protocol::{Probe, Protocol};

/// Every protocol. What is usual on the same ports is offered in this order.
pub const PROTOCOLS: &[&dyn Protocol] = &[
    &crate::smtp::Smtp,
    &crate::http::Http,
    &crate::socks::V5,
    &crate::socks::V4,
    &crate::http2::Http2,
    &crate::telnet::Telnet,
    &crate::turn::Turn,
    &crate::sni::Sni,
];

/// Every probe, in the order in which those of one endpoint run.
pub fn probes() -> impl Iterator<Item = &'static dyn Probe> {
    let protocols = PROTOCOLS.iter();
    protocols.flat_map(|protocol| protocol.probes().iter().copied())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ajar_model::Tier;

    use super::*;
    use crate::examine::RECOGNISE;

    #[test]
    fn every_probe_has_a_name_of_its_own_and_learns_something() {
        let mut names: BTreeSet<_> = probes().map(|probe| probe.id()).collect();
        assert_eq!(names.len(), probes().count());
        assert!(names.insert(RECOGNISE));
        assert!(probes().all(|probe| probe.tier() > Tier::Connect));
    }

    #[test]
    fn every_protocol_has_a_name_of_its_own_ports_and_probes_that_know_it() {
        let names: BTreeSet<_> = PROTOCOLS.iter().map(|p| p.service()).collect();
        assert_eq!(names.len(), PROTOCOLS.len());
        for protocol in PROTOCOLS {
            let ports = protocol.ports();
            assert!(!ports.is_empty() && !ports.contains(&0));
            let mut rarer = protocol.rarer_ports().iter();
            assert!(rarer.all(|port| *port > 0 && !ports.contains(port)));
            assert!(protocol.tls_ports().iter().all(|port| ports.contains(port)));
            let mut probes = protocol.probes().iter();
            assert!(probes.all(|probe| probe.protocol().service() == protocol.service()));
        }
    }
}
