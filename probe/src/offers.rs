//! What is offered to an endpoint that does not speak first, and in which order. Pure.

use std::{collections::VecDeque, time::Duration};

use ajar_model::{ProbeId, Tier, evidence::Service};

use crate::{
    Limits,
    registry::{PROBES, Probe},
    socks4,
};

/// One thing to say to a silent endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// CONNECT to the canary.
    Http,
    /// OPTIONS, where no tunnel may be opened or asked for.
    HttpOptions,
    /// Greeting, and a request to the canary.
    Socks5,
    /// The greeting alone, where no tunnel may be opened.
    Socks5Greeting,
    /// A request to the canary.
    Socks4,
    /// A TLS handshake.
    Tls,
}

/// The offers that the chosen probes and the tier allow: the port's usual protocol first, TLS last unless it is that.
pub(crate) fn plan(port: u16, chosen: &[&dyn Probe], tier: Tier) -> VecDeque<Offer> {
    let wants = |service: Service| chosen.iter().any(|probe| probe.service() == service);
    let deliver = tier >= Tier::Deliver;
    let http = http(chosen, tier);
    let socks5 = if deliver {
        Offer::Socks5
    } else {
        Offer::Socks5Greeting
    };
    let socks = [
        wants(Service::Socks5).then_some(socks5),
        (wants(Service::Socks4) && deliver).then_some(Offer::Socks4),
    ];
    let tls = (wants(Service::Smtp) || wants(Service::HttpProxy)).then_some(Offer::Tls);
    let [first, second] = socks;
    let order = if is_tls_from_the_start(port) {
        [tls, http, first, second]
    } else if socks4::PORTS.contains(&port) {
        [first, second, http, tls]
    } else {
        [http, first, second, tls]
    };
    order
        .into_iter()
        .flatten()
        .filter(|_| tier >= Tier::Handshake)
        .collect()
}

/// What is offered inside TLS.
pub(crate) fn inside_tls(chosen: &[&dyn Probe], tier: Tier) -> Option<Offer> {
    http(chosen, tier)
}

fn http(chosen: &[&dyn Probe], tier: Tier) -> Option<Offer> {
    let connect = ProbeId::from_static("http-connect");
    let of_http = || {
        chosen
            .iter()
            .filter(|probe| probe.service() == Service::HttpProxy)
    };
    of_http().next()?;
    let may_connect = tier >= Tier::Deliver && of_http().any(|probe| probe.id() == connect);
    Some(if may_connect {
        Offer::Http
    } else {
        Offer::HttpOptions
    })
}

/// True for ports whose servers expect a TLS handshake at once (RFC 8314, RFC 9110).
pub(crate) fn is_tls_from_the_start(port: u16) -> bool {
    matches!(port, 465 | 443 | 8443)
}

/// True for ports of mail servers, which speak first.
pub(crate) fn is_mail_port(port: u16) -> bool {
    matches!(port, 25 | 465 | 587 | 2525)
}

/// How long an endpoint is given to speak first. Mail servers make suspected spammers wait for their banner; on the usual
/// ports of proxies, which never speak first, somebody else's greeting would be quick.
pub(crate) fn greeting_wait(port: u16, limits: &Limits) -> Duration {
    let of_proxies = || {
        let mut others = PROBES
            .iter()
            .filter(|probe| probe.service() != Service::Smtp);
        others.any(|probe| probe.ports().contains(&port))
    };
    match is_mail_port(port) {
        true => limits.reply * 2,
        false if of_proxies() => limits.banner / 5,
        false => limits.banner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(port: u16, tier: Tier, only: &[&str], expect: &[Offer]) {
        let chosen: Vec<_> = PROBES
            .iter()
            .copied()
            .filter(|probe| only.is_empty() || only.contains(&probe.id().as_str()))
            .collect();
        assert_eq!(
            plan(port, &chosen, tier),
            expect,
            "port {port}, {tier:?}, {only:?}"
        );
    }

    #[test]
    fn the_usual_protocol_of_the_port_goes_first_and_tls_last() {
        use Offer::{Http, Socks4, Socks5, Tls};
        check(3128, Tier::Deliver, &[], &[Http, Socks5, Socks4, Tls]);
        check(25, Tier::Deliver, &[], &[Http, Socks5, Socks4, Tls]);
        check(1080, Tier::Deliver, &[], &[Socks5, Socks4, Http, Tls]);
        check(465, Tier::Deliver, &[], &[Tls, Http, Socks5, Socks4]);
        check(443, Tier::Deliver, &[], &[Tls, Http, Socks5, Socks4]);
    }

    #[test]
    fn below_deliver_nothing_is_offered_that_asks_for_a_tunnel() {
        use Offer::{HttpOptions, Socks5Greeting, Tls};
        for tier in [Tier::Handshake, Tier::Envelope] {
            check(1080, tier, &[], &[Socks5Greeting, HttpOptions, Tls]);
        }
        check(1080, Tier::Connect, &[], &[]);
    }

    #[test]
    fn only_protocols_of_chosen_probes_are_offered() {
        check(9999, Tier::Deliver, &["socks5"], &[Offer::Socks5]);
        check(9999, Tier::Deliver, &["smtp-relay"], &[Offer::Tls]);
        check(
            9999,
            Tier::Deliver,
            &["http-get"],
            &[Offer::HttpOptions, Offer::Tls],
        );
    }

    #[test]
    fn mail_ports_are_given_time_to_greet() {
        let limits = Limits::default();
        assert_eq!(greeting_wait(25, &limits), limits.reply * 2);
        assert_eq!(greeting_wait(1080, &limits), limits.banner / 5);
        assert_eq!(greeting_wait(9999, &limits), limits.banner / 5);
        assert_eq!(greeting_wait(2222, &limits), limits.banner);
    }
}
