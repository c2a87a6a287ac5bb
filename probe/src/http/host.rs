//! Reverse proxies that go wherever the Host field says (RFC 9110 section 7.2).

use ajar_model::{Evidence, ProbeId, Tier, proof::Check};
use futures::{FutureExt, future::BoxFuture};

use super::{
    Http, codec,
    fetch::{self, Fetcher, Way},
};
use crate::{
    destination::Form,
    examination::Examination,
    protocol::{Probe, Protocol},
};

/// Does it take its upstream from the request?
pub(crate) struct Host;

impl Probe for Host {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("http-host")
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &Http
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "reverse proxy that goes wherever the Host field says"
    }

    fn adds_to_open(&self) -> bool {
        false
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        fetch::run(self, examination).boxed()
    }
}

impl Fetcher for Host {
    fn asks_in_origin_form(&self) -> bool {
        true
    }

    fn ways(&self) -> &'static [Way] {
        &[Way {
            label: "host",
            forms: &[Form::Name, Form::Literal],
            claims: false,
            request: |asked| {
                let authority = asked.authority();
                // Clients leave the usual port out (RFC 9110 section 4.2.3).
                let host = authority.strip_suffix(":80").unwrap_or(&authority);
                codec::get(&format!("/{}", asked.nonce), host, asked.agent)
            },
        }]
    }

    /// Many drop the port of the field and go to one of their own: they follow the name, or the address, alone.
    fn check(&self) -> Check {
        Check::OtherName
    }
}
