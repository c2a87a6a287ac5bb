//! Proxies that relay datagrams (RFC 9298), over HTTP/1.1: an upgrade to `connect-udp`, and capsules from there on (RFC 9297).

use ajar_model::{
    Evidence, Nonce, ProbeId, Reply, Tier,
    evidence::{Broken, Control},
    nonce::Role,
    proof::{Answer, Check},
};
use futures::{FutureExt, future::BoxFuture};

use super::{Http, codec, exchange, refused, weigh_failures};
use crate::{
    destination::{CanaryPort, Destination, Form},
    examination::Examination,
    protocol::{Probe, Protocol},
    tunnel::{self, SENDING_WAIT, SENDINGS},
    wire::Wire,
};

/// Does it relay strangers' datagrams?
pub(crate) struct Udp;

impl Probe for Udp {
    fn id(&self) -> ProbeId {
        ProbeId::from_static("http-udp")
    }

    fn protocol(&self) -> &'static dyn Protocol {
        &Http
    }

    fn tier(&self) -> Tier {
        Tier::Deliver
    }

    fn summary(&self) -> &'static str {
        "HTTP proxy that relays datagrams for anybody (CONNECT-UDP)"
    }

    fn adds_to_open(&self) -> bool {
        false
    }

    fn run<'a>(&'a self, examination: &'a mut Examination<'_>) -> BoxFuture<'a, Evidence> {
        relayed(self.id(), examination).boxed()
    }
}

/// Sends the canary's high port a datagram, and one to where it is not if that was answered.
async fn relayed(id: ProbeId, examination: &mut Examination<'_>) -> Evidence {
    let canary = examination.brief().canary;
    let destination = Destination::new(canary, CanaryPort::Raw, Form::Literal);
    let (variant, nonce, reply, answer) = sent(&id, examination, &destination).await;
    let attempt = tunnel::attempted(variant.clone(), nonce, &destination, reply, answer.clone());
    let mut controls = Vec::new();
    if answer.is_some_and(|answer| answer.proves(nonce, &canary.key)) {
        let unused = Destination::unused(canary, CanaryPort::Raw, Form::Literal);
        let (_, nonce, reply, answer) = sent(&id, examination, &unused).await;
        controls.push(Control {
            of: variant,
            check: Check::OtherPort,
            nonce,
            reply,
            answer,
        });
    }
    let mut attempts = vec![attempt];
    weigh_failures(examination, &mut attempts).await;
    Evidence {
        attempts,
        controls,
        ..examination.evidence_of(&Http)
    }
}

async fn sent(
    id: &ProbeId,
    examination: &mut Examination<'_>,
    destination: &Destination,
) -> (String, Nonce, Reply, Option<Answer>) {
    let port = destination.address().port();
    let variant = examination.named(&format!("connect-udp:{port}"));
    let nonce = examination.nonce(id, &variant, Role::Destination);
    let (reply, answer) = match ask(examination, destination).await {
        Ok((reply, Some(mut wire))) => {
            let capsule = codec::datagram(&tunnel::datagram(nonce));
            let mut answer = None;
            for _ in 0..SENDINGS {
                if answer.is_some() || wire.send(&capsule).await.is_err() {
                    break;
                }
                answer = wire.answer(SENDING_WAIT).await;
            }
            (reply, answer)
        }
        Ok((reply, None)) => (reply, None),
        // Who knows no upgrade may hang up on it.
        Err(Broken::Closed) => (Reply::Refused { code: 0 }, None),
        Err(how) => (Reply::Broken { how }, None),
    };
    (variant, nonce, reply, answer)
}

/// Asks for an upgrade, and returns the connection if it is one.
async fn ask(
    examination: &mut Examination<'_>,
    destination: &Destination,
) -> Result<(Reply, Option<Wire>), Broken> {
    let host = examination.host();
    let request = codec::connect_udp(destination.address(), &host, &examination.agent());
    let request = request.map_err(|_| Broken::Garbled)?;
    let patience = examination.brief().limits.reply;
    let (mut wire, head) = exchange::ask(examination, &request, patience).await?;
    if head.upgrades_to("connect-udp") {
        wire.note_proxy();
        return Ok((Reply::Accepted { code: head.status }, Some(wire)));
    }
    exchange::read_out(&mut wire, &head).await;
    examination.keep_idle(&Http.service(), wire);
    let reply = match head.status {
        // Whatever else it says yes to, it is not this.
        101 | 200..=299 => Reply::Refused { code: head.status },
        _ => refused(&head, destination.form()),
    };
    Ok((reply, None))
}
