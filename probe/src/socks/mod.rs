//! SOCKS proxies. Versions 4 and 5 are two protocols that servers often speak on one port.

mod associate;
pub mod codec4;
pub mod codec5;
mod socks4;
mod socks5;

use ajar_model::{Exposure, Reply, Service, Tier, evidence::Broken};
use futures::{FutureExt, future::BoxFuture};

use crate::{
    protocol::{Answered, Asking, First, Offer, Probe, Protocol},
    tunnel,
    wire::Wire,
};
use socks4::Socks4;
use socks5::Socks5;

const PORTS: &[u16] = &[
    1080, 1081, 1085, 2080, 3629, 4145, 4153, 5678, 9050, 9051, 10808,
];

const RARER_PORTS: &[u16] = &[
    1082, 1088, 1099, 1888, 5430, 7302, 10800, 10801, 20183, 23500, 32100, 39593, 51080, 51327,
    64312,
];

/// SOCKS 4 and 4A.
pub(crate) struct V4;

/// SOCKS 5 (RFC 1928).
pub(crate) struct V5;

impl Protocol for V4 {
    fn service(&self) -> Service {
        Service::from_static("socks4")
    }

    fn exposure(&self) -> Exposure {
        Exposure::from_static("open_proxy")
    }

    fn probes(&self) -> &'static [&'static dyn Probe] {
        &[&Socks4]
    }

    fn ports(&self) -> &'static [u16] {
        PORTS
    }

    fn rarer_ports(&self) -> &'static [u16] {
        RARER_PORTS
    }

    fn runs_inside_tls(&self) -> bool {
        true
    }

    fn first(&self) -> First {
        First::Client(&V4)
    }

    fn accompanies(&self, service: Option<&Service>, _tls: bool) -> bool {
        service == Some(&V5.service())
    }
}

impl Offer for V4 {
    /// Its first words ask for a tunnel.
    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn offer<'a>(
        &'a self,
        wire: &'a mut Wire,
        asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, Result<Answered, Broken>> {
        tunnel::offer(&Socks4, wire, asking).boxed()
    }
}

impl Protocol for V5 {
    fn service(&self) -> Service {
        Service::from_static("socks5")
    }

    fn exposure(&self) -> Exposure {
        Exposure::from_static("open_proxy")
    }

    fn probes(&self) -> &'static [&'static dyn Probe] {
        &[&Socks5]
    }

    fn ports(&self) -> &'static [u16] {
        PORTS
    }

    fn rarer_ports(&self) -> &'static [u16] {
        RARER_PORTS
    }

    fn runs_inside_tls(&self) -> bool {
        true
    }

    fn first(&self) -> First {
        First::Client(&V5)
    }
}

impl Offer for V5 {
    fn tier(&self) -> Tier {
        Tier::Handshake
    }

    /// Greeting and request, or the greeting alone if no tunnel may be opened.
    fn offer<'a>(
        &'a self,
        wire: &'a mut Wire,
        asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, Result<Answered, Broken>> {
        async move {
            let refused = greet(wire).await?;
            if let Some(reply) = refused {
                return Ok(Answered::Probe(Socks5.id(), reply));
            }
            if !tunnel::may_offer(&Socks5, asking) {
                return Ok(Answered::Other);
            }
            // It is a SOCKS server, and may need its time to reach a far destination.
            wire.set_patience(asking.brief.limits.reply);
            let destination = tunnel::first_destination(&Socks5, asking.brief.canary);
            let destination = destination.ok_or(Broken::Garbled)?;
            let asked = Socks5.request(wire, &destination).await;
            let reply = asked.unwrap_or_else(|how| Reply::Broken { how });
            Ok(Answered::Probe(Socks5.id(), reply))
        }
        .boxed()
    }

    /// Some hang up on whoever has no password to offer.
    fn after_hang_up(&self) -> Option<&'static dyn Offer> {
        Some(&WithPassword)
    }
}

/// A greeting that lets the server choose a password: whether it would have one is all that is asked.
struct WithPassword;

impl Offer for WithPassword {
    fn tier(&self) -> Tier {
        Tier::Handshake
    }

    fn offer<'a>(
        &'a self,
        wire: &'a mut Wire,
        _asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, Result<Answered, Broken>> {
        async move {
            let refused = greet_by(wire, codec5::GREETING_WITH_PASSWORD).await?;
            // It wants none after all, and is asked as others are.
            Ok(refused.map_or(Answered::Other, |reply| Answered::Probe(Socks5.id(), reply)))
        }
        .boxed()
    }
}

/// Greets in version 5, and waits for the method that the server selects; a reply if that is not "none".
async fn greet(wire: &mut Wire) -> Result<Option<Reply>, Broken> {
    greet_by(wire, codec5::GREETING).await
}

async fn greet_by(wire: &mut Wire, greeting: &[u8]) -> Result<Option<Reply>, Broken> {
    wire.send(greeting).await?;
    let method = wire
        .frame(wire.limits().reply, codec5::parse_method)
        .await?;
    Ok(
        (method != codec5::NO_AUTHENTICATION).then_some(Reply::AuthRequired {
            code: method.into(),
        }),
    )
}
