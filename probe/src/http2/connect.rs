//! Proxies that open tunnels over HTTP/2: CONNECT (RFC 9113 section 8.5).

use ajar_model::{Evidence, ProbeId, Reply, Tier, evidence::Broken};
use futures::{FutureExt, future::BoxFuture};

use super::{
    Http2,
    codec::{self, Frame},
    greet,
    stream::Tunnel,
};
use crate::{
    destination::{Destination, Form},
    examination::Examination,
    http,
    protocol::{Probe, Protocol},
    tunnel::{self, Gateway},
    wire::Wire,
};

/// Frames before the answer that are passed over at most.
const MAX_FRAMES: usize = 32;

/// The server could not connect to where it was asked to (RFC 9113 section 7).
const CONNECT_ERROR: u32 = 0xa;

/// Does it tunnel strangers' traffic?
pub(crate) struct Connect;

impl Probe for Connect {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("http2-connect")
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &Http2
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "HTTP/2 proxy that opens tunnels for anybody (CONNECT)"
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        tunnel::run(self, examination).boxed()
    }
}

impl Gateway for Connect {
    fn label(&self, form: Form) -> &'static str {
        match form {
            Form::Literal => "connect",
            Form::Name => "connect-name",
        }
    }

    fn ask<'a>(
        &'a self,
        wire: &'a mut Wire,
        destination: &'a Destination,
        agent: &'a str,
    ) -> BoxFuture<'a, Result<Reply, Broken>> {
        async move {
            let authority = destination.authority();
            let request = codec::connect(&authority, agent).map_err(|_| Broken::Garbled)?;
            greet(wire, &request).await?;
            let reply = answer(wire, destination.form()).await?;
            if matches!(reply, Reply::Accepted { .. }) {
                wire.note_proxy();
                wire.wrap(|inner, received| Box::new(Tunnel::new(inner, received)));
            }
            Ok(reply)
        }
        .boxed()
    }
}

/// The final answer to our request.
async fn answer(wire: &mut Wire, form: Form) -> Result<Reply, Broken> {
    for _ in 0..MAX_FRAMES {
        match wire.frame(wire.limits().reply, Frame::parse).await? {
            Frame::Headers {
                status,
                shows_proxy,
            } => {
                let code = status.ok_or(Broken::Garbled)?;
                if shows_proxy || code == 407 || http::codec::is_a_gateways(code) {
                    wire.note_proxy();
                }
                match code {
                    100..=199 => {}
                    200..=299 => return Ok(Reply::Accepted { code }),
                    _ => return Ok(http::refusal(code, form)),
                }
            }
            Frame::Reset(code) => return Ok(reset(wire, code, form)),
            Frame::GoAway(_) => return Err(Broken::Closed),
            Frame::Settings => wire.send(&codec::SETTINGS_ACK).await?,
            Frame::Ping(payload) => wire.send(&codec::pong(payload)).await?,
            Frame::Data { .. } | Frame::Other => {}
        }
    }
    Err(Broken::Limit)
}

/// What it means that our request was dropped. A plain web server does so too.
fn reset(wire: &Wire, error: u32, form: Form) -> Reply {
    let code = error.try_into().unwrap_or(u16::MAX);
    if error == CONNECT_ERROR {
        wire.note_proxy();
    }
    match (error, form) {
        (CONNECT_ERROR, Form::Literal) => Reply::Temporary { code },
        _ => Reply::Refused { code },
    }
}
