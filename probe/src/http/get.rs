//! Proxies that fetch: a request with an absolute URI (RFC 9112 section 3.2.2).

use ajar_model::{Attempt, Evidence, ProbeId, Reply, Tier};
use futures::{FutureExt, future::BoxFuture};

use super::{
    Http, codec,
    fetch::{self, Fetcher, Way},
    head,
};
use crate::{
    destination::{CanaryPort, Destination, Form},
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
        async move {
            let evidence = fetch::run(self, examination).await;
            let is_forbidden = |attempt: &Attempt| attempt.reply == Reply::Refused { code: 403 };
            let may_be_plain = evidence.shows_proxy == Some(false);
            if may_be_plain
                && evidence.attempts.first().is_some_and(is_forbidden)
                && forbids_forwarding(examination).await == Some(true)
            {
                return Evidence {
                    shows_proxy: Some(true),
                    ..evidence
                };
            }
            evidence
        }
        .boxed()
    }
}

/// True if what is forbidden is not the page but to fetch it, which is noted. To a plain server the absolute form is no other request than the
/// origin form (RFC 9112 section 3.2.2); to a proxy with an access list it is. None if it cannot be told.
async fn forbids_forwarding(examination: &mut Examination<'_>) -> Option<bool> {
    let canary = examination.brief().canary;
    let authority = Destination::new(canary, CanaryPort::Http, Form::Literal).authority();
    let request = codec::get("/", &authority, &examination.agent()).ok()?;
    let mut wire = examination.open(&Http).await.ok()?;
    wire.send(&request).await.ok()?;
    let status = head(&mut wire).await.ok()?.status;
    let is_a_page = status < 500 && ![401, 403].contains(&status);
    is_a_page.then(|| wire.note_proxy());
    Some(is_a_page)
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
