//! Proxies that fetch: a request with an absolute URI (RFC 9112 section 3.2.2).

use ajar_model::{Evidence, ProbeId, Tier};
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

/// Does it fetch for strangers?
pub(crate) struct Get;

impl Probe for Get {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("http-get")
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &Http
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "HTTP proxy that fetches for anybody (GET or POST with an absolute URI)"
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        fetch::run(self, examination).boxed()
    }
}

impl Fetcher for Get {
    fn ways(&self) -> &'static [Way] {
        &[
            Way {
                label: "get",
                forms: &[Form::Literal, Form::Name],
                request: |destination, nonce, agent| {
                    let authority = destination.authority();
                    codec::get(&format!("http://{authority}/{nonce}"), &authority, agent)
                },
            },
            Way {
                label: "post",
                forms: &[Form::Literal],
                request: |destination, nonce, agent| {
                    let authority = destination.authority();
                    codec::post(&format!("http://{authority}/{nonce}"), &authority, agent)
                },
            },
        ]
    }
}
