//! HTTP proxies that open tunnels: CONNECT (RFC 9110 section 9.3.6).

use ajar_model::{
    Canary, Evidence, ProbeId, Reply, Tier,
    evidence::{Broken, Service},
};
use futures::{FutureExt, future::BoxFuture};

use crate::{
    codec::http,
    hop::{Form, Hop},
    registry::Probe,
    tunnel::{self, Gateway},
    visit::Visit,
    wire::Wire,
};

/// Ports on which HTTP proxies are usual.
pub(crate) const PORTS: &[u16] = &[
    80, 81, 443, 3128, 6588, 8000, 8001, 8080, 8081, 8088, 8118, 8123, 8443, 8888, 9999,
];

/// Heads with an interim status that are skipped at most.
const MAX_INTERIM: usize = 5;

/// Does it tunnel strangers' traffic?
pub(crate) struct HttpConnect;

impl Probe for HttpConnect {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("http-connect")
    }

    fn service(&self) -> Service {
        Service::HttpProxy
    }

    fn ports(&self) -> &'static [u16] {
        PORTS
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "HTTP proxy that opens tunnels for anybody (CONNECT)"
    }

    fn run<'a>(&'a self, visit: &'a mut Visit<'_>) -> BoxFuture<'a, Evidence> {
        tunnel::run(self, visit).boxed()
    }
}

impl Gateway for HttpConnect {
    fn id(&self) -> ProbeId {
        Probe::id(self)
    }

    fn service(&self) -> Service {
        Service::HttpProxy
    }

    fn forms(&self, _: &Canary) -> &'static [Form] {
        &[Form::Literal, Form::Name]
    }

    fn label(&self, form: Form) -> &'static str {
        match form {
            Form::Literal => "connect",
            Form::Name => "connect-name",
        }
    }

    fn ask<'a>(
        &'a self,
        wire: &'a mut Wire,
        hop: &'a Hop,
        agent: &'a str,
    ) -> BoxFuture<'a, Result<Reply, Broken>> {
        async move {
            let request = http::connect(&hop.authority(), agent).map_err(|_| Broken::Garbled)?;
            wire.send(&request).await?;
            let reply = reply(head(wire).await?.status, hop.form());
            if matches!(reply, Reply::Accepted { .. }) {
                wire.note_proxy();
            }
            Ok(reply)
        }
        .boxed()
    }
}

/// The head of the final answer to a request.
pub(crate) async fn head(wire: &mut Wire) -> Result<http::Head, Broken> {
    for _ in 0..MAX_INTERIM {
        let head = wire.frame(wire.limits().reply, http::Head::parse).await?;
        if !head.is_interim() {
            if head.shows_proxy() {
                wire.note_proxy();
            }
            return Ok(head);
        }
    }
    Err(Broken::Limit)
}

fn reply(code: u16, form: Form) -> Reply {
    match code {
        200..=299 => Reply::Accepted { code },
        _ => refusal(code, form),
    }
}

/// What a status other than success means. Gateway errors are temporary, since the canary is up; but where it was
/// asked for by name they only say that the proxy could not resolve the name, which will not pass.
pub(crate) fn refusal(code: u16, form: Form) -> Reply {
    match code {
        407 => Reply::AuthRequired { code },
        429 => Reply::Temporary { code },
        502..=504 if form == Form::Literal => Reply::Temporary { code },
        _ => Reply::Refused { code },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_weighed_by_what_it_says_of_forwarding() {
        let check =
            |code: u16, expect: Reply| assert_eq!(reply(code, Form::Literal), expect, "{code}");
        check(200, Reply::Accepted { code: 200 });
        check(204, Reply::Accepted { code: 204 });
        check(101, Reply::Refused { code: 101 });
        check(302, Reply::Refused { code: 302 });
        check(401, Reply::Refused { code: 401 });
        check(403, Reply::Refused { code: 403 });
        check(405, Reply::Refused { code: 405 });
        check(407, Reply::AuthRequired { code: 407 });
        check(429, Reply::Temporary { code: 429 });
        check(500, Reply::Refused { code: 500 });
        check(502, Reply::Temporary { code: 502 });
        check(504, Reply::Temporary { code: 504 });
        assert_eq!(reply(503, Form::Name), Reply::Refused { code: 503 });
    }
}
