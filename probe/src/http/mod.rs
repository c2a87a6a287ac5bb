//! HTTP/1 proxies (RFC 9110, RFC 9112).

pub mod body;
pub mod codec;
mod connect;
mod exchange;
mod fetch;
mod get;
mod host;
mod path;
mod udp;

use ajar_model::{Attempt, Exposure, Reply, Service, Tier, evidence::Broken};
use futures::{FutureExt, future::BoxFuture};

use crate::{
    destination::{CanaryPort, Destination, Form},
    examination::Examination,
    protocol::{Answered, Asking, First, Offer, Probe, Protocol},
    tunnel,
    wire::Wire,
};
use connect::Connect;
use get::Get;
use host::Host;
use path::Path;
use udp::Udp;

/// Heads with an interim status that are skipped at most.
const MAX_INTERIM: usize = 5;

/// HTTP, whether or not a server forwards anything.
pub(crate) struct Http;

impl Protocol for Http {
    fn service(&self) -> Service {
        Service::from_static("http-proxy")
    }

    fn exposure(&self) -> Exposure {
        Exposure::from_static("open_proxy")
    }

    fn probes(&self) -> &'static [&'static dyn Probe] {
        &[&Connect, &Get, &Host, &Path, &Udp]
    }

    fn ports(&self) -> &'static [u16] {
        &[
            80, 81, 82, 83, 84, 443, 808, 999, 1976, 1981, 3128, 6588, 7497, 7890, 8000, 8001,
            8080, 8081, 8082, 8085, 8088, 8090, 8118, 8123, 8181, 8443, 8888, 9090, 9091, 9999,
            53281,
        ]
    }

    fn rarer_ports(&self) -> &'static [u16] {
        &[
            85, 86, 87, 88, 89, 90, 1111, 1256, 1888, 3127, 3129, 3180, 5566, 6666, 6969, 7080,
            7302, 7777, 8060, 8083, 8089, 8282, 8291, 8818, 8880, 9000, 9080, 9300, 9797, 9812,
            10000, 12345, 30001, 33080, 33333, 41258, 41890, 44550, 54321, 55443,
        ]
    }

    fn tls_ports(&self) -> &'static [u16] {
        &[443, 8443]
    }

    fn runs_inside_tls(&self) -> bool {
        true
    }

    fn first(&self) -> First {
        First::Client(&Http)
    }

    /// Servers answer nonsense by a status line.
    fn claims(&self, opening: &[u8]) -> bool {
        opening.starts_with(b"HTTP/")
    }

    fn has_plain_servers(&self) -> bool {
        true
    }
}

impl Offer for Http {
    fn tier(&self) -> Tier {
        Tier::Handshake
    }

    /// CONNECT to the canary, or OPTIONS if no tunnel may be opened or asked for.
    fn offer<'a>(
        &'a self,
        wire: &'a mut Wire,
        asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, Result<Answered, Broken>> {
        async move {
            match tunnel::may_offer(&Connect, asking) {
                true => tunnel::offer(&Connect, wire, asking).await,
                false => options(wire, asking).await.map(|()| Answered::Other),
            }
        }
        .boxed()
    }

    /// Proxies that only fetch may not know CONNECT.
    fn after_hang_up(&self) -> Option<&'static dyn Offer> {
        Some(&Fetched)
    }
}

/// The canary's front page, asked for as a proxy is.
struct Fetched;

impl Offer for Fetched {
    fn tier(&self) -> Tier {
        Get.tier()
    }

    fn offer<'a>(
        &'a self,
        wire: &'a mut Wire,
        asking: &'a Asking<'_>,
    ) -> BoxFuture<'a, Result<Answered, Broken>> {
        async move {
            let destination =
                Destination::new(asking.brief.canary, CanaryPort::Http, Form::Literal);
            let authority = destination.authority();
            let request = codec::get(&format!("http://{authority}/"), &authority, &asking.agent);
            wire.send(&request.map_err(|_| Broken::Garbled)?).await?;
            head(wire).await.map(|_| Answered::Other)
        }
        .boxed()
    }
}

async fn options(wire: &mut Wire, asking: &Asking<'_>) -> Result<(), Broken> {
    let host = asking.brief.endpoint.to_string();
    let request = codec::options(&host, &asking.agent).map_err(|_| Broken::Garbled)?;
    wire.send(&request).await?;
    head(wire).await.map(drop)
}

/// The head of the final answer to a request.
async fn head(wire: &mut Wire) -> Result<codec::Head, Broken> {
    for _ in 0..MAX_INTERIM {
        let head = wire.frame(wire.limits().reply, codec::Head::parse).await?;
        if !head.is_interim() {
            if head.shows_proxy() || codec::is_a_proxys_page(head.status, wire.unread()) {
                wire.note_proxy();
            }
            if codec::is_a_gateways(head.status) {
                wire.note_gateway();
            }
            if let Some(wait) = head.retry_after() {
                wire.note_wait(wait);
            }
            return Ok(head);
        }
    }
    Err(Broken::Limit)
}

/// Asks for the server's own page if an attempt met a gateway's error. The error is the server's
/// own, no sign of a proxy and not worth waiting for, in two cases: its own page fails as well,
/// or it shows its own page where the canary's is asked for, and so does not forward at all.
async fn weigh_failures(examination: &mut Examination<'_>, attempts: &mut [Attempt]) {
    let is_failure = |reply: Reply| match reply {
        Reply::Refused { code } | Reply::Temporary { code } => (502..=504).contains(&code),
        _ => false,
    };
    let failed = attempts.iter().any(|attempt| is_failure(attempt.reply));
    if !failed || !fails_by_itself(examination).await {
        return;
    }
    examination.note_failing();
    for attempt in attempts {
        if let Reply::Temporary { code } = attempt.reply {
            attempt.reply = Reply::Refused { code };
        }
    }
}

async fn fails_by_itself(examination: &mut Examination<'_>) -> bool {
    let Some(own) = own_page(examination).await else {
        return false;
    };
    if own >= 500 {
        return true;
    }
    let canary = examination.brief().canary;
    let authority = Destination::new(canary, CanaryPort::Http, Form::Literal).authority();
    let forwarded = page(examination, &format!("http://{authority}/"), &authority).await;
    forwarded == Some(own)
}

/// Asks for the server's own front page, as a browser does, and returns the status.
async fn own_page(examination: &mut Examination<'_>) -> Option<u16> {
    let host = examination.host();
    page(examination, "/", &host).await
}

/// Asks for a page by this request target and host, and returns the status.
async fn page(examination: &mut Examination<'_>, target: &str, host: &str) -> Option<u16> {
    let request = codec::get(target, host, &examination.agent()).ok()?;
    let patience = examination.patience_for_more();
    let (wire, head) = exchange::ask(examination, &request, patience).await.ok()?;
    exchange::finish(examination, wire, &head, patience).await;
    Some(head.status)
}

/// Weighs the head of an answer other than success. A demand for credentials names a challenge (RFC
/// 9110 section 15.5.8). A 407 without one is a refusal.
fn refused(head: &codec::Head, form: Form) -> Reply {
    match head.status {
        code @ 407 if !head.challenges() => Reply::Refused { code },
        code => refusal(code, form),
    }
}

/// What a status other than success means. Gateway errors are temporary, since the canary is up; but if it was
/// asked for by name they only say that the proxy could not resolve the name, which will not pass.
pub(crate) fn refusal(code: u16, form: Form) -> Reply {
    match code {
        407 => Reply::AuthRequired { code },
        429 => Reply::Temporary { code },
        502..=504 if form == Form::Literal => Reply::Temporary { code },
        _ => Reply::Refused { code },
    }
}
