//! Proxies that fetch: a request with an absolute URI (RFC 9112 section 3.2.2).

use ajar_model::{Attempt, Evidence, ProbeId, Reply, Tier};
use futures::{FutureExt, future::BoxFuture};

use super::{
    Http, codec,
    fetch::{self, Fetcher, Way},
    own_page, page,
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

/// Returns whether the server forbids only to fetch a page, and not the page itself, and notes
/// that. A plain server treats the absolute form as it does the origin form (RFC 9112 section
/// 3.2.2). A proxy with an access list does not. A filter that forbids the absolute form forbids
/// it for the server's own page too. Returns `None` if a request was not answered.
async fn forbids_forwarding(examination: &mut Examination<'_>) -> Option<bool> {
    let canary = examination.brief().canary;
    let authority = Destination::new(canary, CanaryPort::Http, Form::Literal).authority();
    let is_a_page = |status: u16| status < 500 && ![401, 403].contains(&status);
    let is_shown = is_a_page(page(examination, "/", &authority).await?);
    let own = examination.host();
    let is_filtered = is_shown
        && own_page(examination)
            .await
            .is_some_and(|status| status < 400)
        && !is_a_page(page(examination, &format!("http://{own}/"), &own).await?);
    let forbids = is_shown && !is_filtered;
    forbids.then(|| examination.note_proxy());
    Some(forbids)
}

impl Fetcher for Get {
    fn ways(&self) -> &'static [Way] {
        &[
            Way {
                label: "get",
                forms: &[Form::Literal, Form::Name],
                claims: false,
                request: |asked| {
                    let uri = format!("http://{}", asked.page());
                    codec::get(&uri, &asked.authority(), asked.agent)
                },
            },
            Way {
                label: "post",
                forms: &[Form::Literal],
                claims: false,
                request: |asked| {
                    let uri = format!("http://{}", asked.page());
                    // Some pass the body on, and not the request.
                    let body = codec::get(
                        &format!("/{}", asked.nonce),
                        &asked.authority(),
                        asked.agent,
                    )?;
                    codec::post(&uri, &asked.authority(), asked.agent, &body)
                },
            },
            Way {
                label: "get-forwarded",
                forms: &[Form::Literal],
                claims: true,
                request: |asked| {
                    let uri = format!("http://{}", asked.page());
                    codec::get_forwarded(&uri, &asked.authority(), asked.agent)
                },
            },
        ]
    }
}
