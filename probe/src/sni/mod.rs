//! TLS endpoints that forward to whatever name a ClientHello asks for (RFC 6066 section 3), without ending TLS themselves.

mod gateway;

use ajar_model::{Exposure, Service, Tier, evidence::Broken};
use futures::{FutureExt, future::BoxFuture};

use crate::{
    protocol::{Answered, Asking, First, Offer, Probe, Protocol},
    wire::Wire,
};
use gateway::SniProxy;

/// TLS, asked for by name.
pub(crate) struct Sni;

impl Protocol for Sni {
    fn service(&self) -> Service {
        Service::from_static("tls-sni")
    }

    fn exposure(&self) -> Exposure {
        Exposure::from_static("open_proxy")
    }

    fn probes(&self) -> &'static [&'static dyn Probe] {
        &[&SniProxy]
    }

    fn ports(&self) -> &'static [u16] {
        &[443, 8443]
    }

    fn opens_with_tls(&self) -> bool {
        true
    }

    fn first(&self) -> First {
        First::Client(&Sni)
    }

    /// Almost every server that takes any name answers for itself.
    fn has_plain_servers(&self) -> bool {
        true
    }

    /// Whatever is spoken inside, the name outside may lead elsewhere.
    fn accompanies(&self, _service: Option<&Service>, tls: bool) -> bool {
        tls
    }
}

impl Offer for Sni {
    /// The name asks for a tunnel.
    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn offer<'a>(
        &'a self,
        wire: &'a mut Wire,
        asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, Result<Answered, Broken>> {
        gateway::offer(wire, asking.brief.canary).boxed()
    }
}
