//! Proxies that open tunnels: CONNECT (RFC 9110 section 9.3.6).

use ajar_model::{Evidence, ProbeId, Reply, Tier, evidence::Broken};
use futures::{FutureExt, future::BoxFuture};

use super::{Http, codec, exchange, head, refused, weigh_failures};
use crate::{
    destination::{Destination, Form},
    examination::Examination,
    protocol::{Probe, Protocol},
    tunnel::{self, Gateway},
    wire::Wire,
};

/// Does it tunnel strangers' traffic?
pub(crate) struct Connect;

impl Probe for Connect {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("http-connect")
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &Http
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "HTTP proxy that opens tunnels for anybody (CONNECT)"
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        async move {
            let (mut attempts, controls) = tunnel::tried(self, examination).await;
            weigh_failures(examination, &mut attempts).await;
            Evidence {
                attempts,
                controls,
                ..examination.evidence_of(&Http)
            }
        }
        .boxed()
    }
}

impl Gateway for Connect {
    fn label(&self, form: Form) -> &'static str {
        match form {
            Form::Literal => "connect",
            Form::Name => "connect-name",
        }
    }

    /// Web servers that know no CONNECT do so, Node's among them.
    fn hung_up(&self) -> Reply {
        Reply::Refused { code: 0 }
    }

    fn knows_no_tunnels(&self, reply: Reply) -> bool {
        matches!(reply, Reply::Refused { code: 405 | 501 })
    }

    fn ask<'a>(
        &'a self,
        wire: &'a mut Wire,
        destination: &'a Destination,
        agent: &'a str,
    ) -> BoxFuture<'a, Result<Reply, Broken>> {
        async move {
            let request =
                codec::connect(&destination.authority(), agent).map_err(|_| Broken::Garbled)?;
            wire.send(&request).await?;
            let head = head(wire).await?;
            let reply = reply(&head, destination.form());
            match reply {
                Reply::Accepted { .. } => wire.note_proxy(),
                _ => exchange::read_out(wire, &head).await,
            }
            Ok(reply)
        }
        .boxed()
    }
}

fn reply(head: &codec::Head, form: Form) -> Reply {
    match head.status {
        code @ 200..=299 => Reply::Accepted { code },
        _ => refused(head, form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_weighed_by_what_it_says_of_forwarding() {
        let answer = |code: u16, fields: &str| {
            let bytes = format!("HTTP/1.1 {code} x\r\n{fields}\r\n");
            codec::Head::parse(bytes.as_bytes()).unwrap().unwrap().0
        };
        let check = |code: u16, expect: Reply| {
            let head = answer(code, "Proxy-Authenticate: Basic\r\n");
            assert_eq!(reply(&head, Form::Literal), expect, "{code}");
        };
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
        let by_name = reply(&answer(503, ""), Form::Name);
        assert_eq!(by_name, Reply::Refused { code: 503 });
        let unchallenged = reply(&answer(407, ""), Form::Literal);
        assert_eq!(unchallenged, Reply::Refused { code: 407 });
    }
}
