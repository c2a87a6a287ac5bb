//! What is said to an endpoint that does not speak first, in which order, and how long it is given to. Pure.

use std::{collections::VecDeque, time::Duration};

use ajar_model::Tier;

use crate::{
    Limits,
    preface::Preface,
    protocol::{Asking, First, Greet, Offer, Protocol},
    registry::PROTOCOLS,
};

/// One thing to say to a silent endpoint.
#[derive(Clone, Copy)]
pub(crate) enum Step {
    /// A protocol's own first words.
    Offer(&'static dyn Protocol, &'static dyn Offer),
    Tls,
}

/// The steps that the chosen probes and the tier allow: the port's usual protocols first, TLS last unless it is that.
pub(crate) fn plan(asking: &Asking<'_>) -> VecDeque<Step> {
    let port = asking.brief.endpoint.port();
    if asking.brief.tier < Tier::Handshake {
        return VecDeque::new();
    }
    let mut wanted = PROTOCOLS.iter().filter(|protocol| asking.wants(**protocol));
    let inside = wanted.any(|protocol| protocol.runs_inside_tls());
    let mut offers: Vec<_> = offers(asking).collect();
    offers.sort_by_key(|(protocol, _)| !protocol.ports().contains(&port));
    let step = |(protocol, offer)| Step::Offer(protocol, offer);
    let (in_tls, plain): (Vec<_>, Vec<_>) = offers
        .into_iter()
        .partition(|(protocol, _)| protocol.opens_with_tls());
    let plain = plain.into_iter().map(step);
    let tls = inside.then_some(Step::Tls).into_iter();
    let tls = tls.chain(in_tls.into_iter().map(step));
    match is_tls_from_the_start(port) {
        true => tls.chain(plain).collect(),
        false => plain.chain(tls).collect(),
    }
}

/// The PROXY headers that an endpoint gets which said nothing without: it may wait for one.
pub(crate) fn prefaces(asking: &Asking<'_>) -> impl Iterator<Item = Preface> + use<> {
    let may = asking.brief.claims && asking.brief.tier >= Tier::Envelope;
    let port = asking.brief.endpoint.port();
    // OpenSMTPD alone knows the second and not the first.
    let greets = greeters().any(|(protocol, _)| protocol.ports().contains(&port));
    let all = [(Preface::Text, may), (Preface::Binary, may && greets)];
    all.into_iter()
        .filter_map(|(preface, may)| may.then_some(preface))
}

/// What is offered inside TLS.
pub(crate) fn inside_tls(
    asking: &Asking<'_>,
) -> impl Iterator<Item = (&'static dyn Protocol, &'static dyn Offer)> {
    offers(asking).filter(|(protocol, _)| protocol.runs_inside_tls())
}

fn offers(
    asking: &Asking<'_>,
) -> impl Iterator<Item = (&'static dyn Protocol, &'static dyn Offer)> {
    let client_first = |protocol: &'static dyn Protocol| match protocol.first() {
        First::Client(offer) => Some((protocol, offer)),
        First::Server(_) => None,
    };
    let port = asking.brief.endpoint.port();
    let mut protocols = PROTOCOLS.iter();
    let is_usual = protocols.any(|protocol| protocol.ports().contains(&port));
    // What shares no port is not looked for where others are at home.
    let may_be_here = move |protocol: &dyn Protocol| {
        let shares = protocol.shares_ports() || protocol.opens_with_tls();
        shares || !is_usual || protocol.ports().contains(&port)
    };
    PROTOCOLS
        .iter()
        .copied()
        .filter_map(client_first)
        .filter(move |(protocol, _)| may_be_here(*protocol))
        .filter(|(protocol, offer)| asking.wants(*protocol) && asking.brief.tier >= offer.tier())
}

/// The protocols whose servers speak first.
pub(crate) fn greeters() -> impl Iterator<Item = (&'static dyn Protocol, &'static dyn Greet)> {
    PROTOCOLS
        .iter()
        .copied()
        .filter_map(|protocol| match protocol.first() {
            First::Server(greet) => Some((protocol, greet)),
            First::Client(_) => None,
        })
}

/// True for ports whose servers expect a TLS handshake at once (RFC 8314, RFC 9110).
pub(crate) fn is_tls_from_the_start(port: u16) -> bool {
    let mut protocols = PROTOCOLS.iter();
    protocols.any(|protocol| protocol.tls_ports().contains(&port))
}

/// How long an endpoint is given to speak first. On the usual ports of protocols whose servers never do, somebody else's
/// greeting would be quick.
pub(crate) fn greeting_wait(port: u16, limits: &Limits) -> Duration {
    let of_greeters = greeters()
        .filter(|(protocol, _)| protocol.ports().contains(&port))
        .map(|(_, greet)| greet.patience(limits))
        .max();
    let mut protocols = PROTOCOLS.iter();
    let is_usual = protocols.any(|protocol| protocol.ports().contains(&port));
    of_greeters.unwrap_or(match is_usual {
        true => limits.banner / 5,
        false => limits.banner,
    })
}

#[cfg(test)]
mod tests {
    use ajar_model::{CampaignId, Effort, NonceKey};
    use futures::{FutureExt, future::BoxFuture};

    use super::*;
    use crate::{BoxStream, Brief, Dial, Probe, destination::tests::canary, registry::probes};

    const FIVE: &[&str] = &["smtp-relay", "http-connect", "http-get", "socks5", "socks4"];

    struct Nowhere;

    impl Dial for Nowhere {
        fn dial(&self) -> BoxFuture<'_, std::io::Result<BoxStream>> {
            async { Err(std::io::ErrorKind::NotConnected.into()) }.boxed()
        }
    }

    fn check(port: u16, tier: Tier, only: &[&str], expect: &[&str]) {
        let chosen: Vec<&dyn Probe> = probes()
            .filter(|probe| only.contains(&probe.id().as_str()))
            .collect();
        let canary = canary();
        let brief = Brief {
            endpoint: ([192, 0, 2, 1], port).into(),
            campaign: CampaignId(ulid::Ulid::nil()),
            key: &NonceKey([9; 32]),
            vantage: "test",
            round: 0,
            canary: &canary,
            tier,
            claims: true,
            our_name: "audit.example",
            names: &[],
            effort: Effort::Normal,
            dial: &Nowhere,
            limits: Limits::default(),
        };
        let asking = Asking {
            brief: &brief,
            agent: String::new(),
            chosen: &chosen,
        };
        let names = plan(&asking).into_iter().map(|step| match step {
            Step::Offer(protocol, _) => protocol.service().to_string(),
            Step::Tls => "tls".to_owned(),
        });
        let names: Vec<String> = names.collect();
        assert_eq!(names, expect, "port {port}, {tier:?}, {only:?}");
    }

    #[test]
    fn the_usual_protocol_of_the_port_goes_first_and_tls_last() {
        let check = |port, expect: &[&str]| check(port, Tier::Deliver, FIVE, expect);
        check(3128, &["http-proxy", "socks5", "socks4", "tls"]);
        check(25, &["http-proxy", "socks5", "socks4", "tls"]);
        check(1080, &["socks5", "socks4", "http-proxy", "tls"]);
        check(465, &["tls", "http-proxy", "socks5", "socks4"]);
        check(443, &["tls", "http-proxy", "socks5", "socks4"]);
    }

    #[test]
    fn below_deliver_nothing_is_offered_that_asks_for_a_tunnel() {
        for tier in [Tier::Handshake, Tier::Envelope] {
            check(1080, tier, FIVE, &["socks5", "http-proxy", "tls"]);
        }
        check(1080, Tier::Connect, FIVE, &[]);
    }

    #[test]
    fn only_protocols_of_chosen_probes_are_offered() {
        let check = |only, expect: &[&str]| check(9999, Tier::Deliver, only, expect);
        check(&["socks5"], &["socks5", "tls"]);
        check(&["smtp-relay"], &["tls"]);
        check(&["http-get"], &["http-proxy", "tls"]);
    }

    #[test]
    fn mail_ports_are_given_time_to_greet() {
        let limits = Limits::default();
        assert_eq!(greeting_wait(25, &limits), limits.greeting);
        assert_eq!(greeting_wait(1080, &limits), limits.banner / 5);
        assert_eq!(greeting_wait(9999, &limits), limits.banner / 5);
        assert_eq!(greeting_wait(2222, &limits), limits.banner);
    }
}
