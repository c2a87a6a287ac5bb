//! SOCKS 5 proxies that relay datagrams (RFC 1928 section 7), some of which open no tunnel.

use ajar_model::{
    Attempt, Nonce, ProbeId, Reply,
    evidence::{Broken, Control, Direction},
    nonce::Role,
    proof::{Answer, Check},
};
use tokio::time::timeout;

use super::{
    V5,
    codec5::{self as socks5, Bound},
    greet,
};
use crate::{
    Datagrams,
    destination::{CanaryPort, Destination, Form},
    examination::Examination,
    tunnel::{self, SENDING_WAIT, SENDINGS},
};

/// A longer datagram is cut.
const LONGEST: usize = 1024;

/// Asks for an association, and sends the canary's high port a datagram through it, if the
/// authorization lets us send anything to the port that the proxy names.
pub(super) async fn attempt(
    examination: &mut Examination<'_>,
    id: &ProbeId,
) -> (Attempt, Option<Control>) {
    let canary = examination.brief().canary;
    let destination = Destination::new(canary, CanaryPort::Raw, Form::Literal);
    let unused = Destination::unused(canary, CanaryPort::Raw, Form::Literal);
    let [variant, elsewhere] = [&destination, &unused].map(|to| {
        let port = to.address().port();
        examination.named(&format!("socks5-udp:{port}"))
    });
    let nonce_of = |examination: &Examination<'_>, variant: &str| {
        examination.nonce(id, variant, Role::Destination)
    };
    let nonce = nonce_of(examination, &variant);
    // The association lasts as long as the connection on which it was asked for.
    let associated = associate(examination).await;
    let (reply, answer, control) = match associated {
        Err(reply) => (reply, None, None),
        Ok((port, _wire)) => {
            let Ok(relay) = examination.brief().dial.datagrams(port).await else {
                examination.event("datagrams are not sent to that port: it is not authorized");
                let granted = Reply::Accepted { code: 0 };
                let attempt = tunnel::attempted(variant, nonce, &destination, granted, None);
                let is_ignored = true;
                return (
                    Attempt {
                        is_ignored,
                        ..attempt
                    },
                    None,
                );
            };
            let answer = sent(examination, &*relay, &destination, nonce).await;
            let mut control = None;
            if answer.is_some() {
                let nonce = nonce_of(examination, &elsewhere);
                let astray = sent(examination, &*relay, &unused, nonce).await;
                control = Some(Control {
                    of: variant.clone(),
                    check: Check::OtherPort,
                    nonce,
                    reply: weigh(astray.as_ref()),
                    answer: astray,
                });
            }
            (weigh(answer.as_ref()), answer, control)
        }
    };
    let attempt = tunnel::attempted(variant, nonce, &destination, reply, answer);
    (attempt, control)
}

/// A proxy says nothing of a datagram that it will not relay: silence refuses.
fn weigh(answer: Option<&Answer>) -> Reply {
    match answer {
        Some(_) => Reply::Accepted { code: 0 },
        None => Reply::Refused { code: 0 },
    }
}

/// The port to which the proxy wants datagrams to be sent, and the connection that keeps it open.
async fn associate(examination: &mut Examination<'_>) -> Result<(u16, crate::Wire), Reply> {
    let broken = |how| Reply::Broken { how };
    let mut wire = examination.open(&V5).await.map_err(broken)?;
    if let Some(refused) = greet(&mut wire).await.map_err(broken)? {
        return Err(refused);
    }
    wire.send(socks5::ASSOCIATE).await.map_err(broken)?;
    let wait = wire.limits().reply;
    match wire.frame(wait, socks5::Reply::parse).await {
        Ok(socks5::Reply { code, bound }) => match bound {
            Some(Bound::Address(bound)) => Ok((bound.port(), wire)),
            Some(Bound::Name(_, port)) => Ok((port, wire)),
            None => Err(Reply::Refused { code: code.into() }),
        },
        // It does not know the command, and says so by hanging up.
        Err(Broken::Closed) => Err(Reply::Refused { code: 0 }),
        Err(how) => Err(broken(how)),
    }
}

/// The answer that comes back, whoever made it.
async fn sent(
    examination: &mut Examination<'_>,
    relay: &dyn Datagrams,
    destination: &Destination,
    nonce: Nonce,
) -> Option<Answer> {
    let datagram = socks5::datagram(destination.address(), &tunnel::datagram(nonce));
    let mut buffer = [0; LONGEST];
    for _ in 0..SENDINGS {
        if examination.is_over() {
            return None;
        }
        examination.note(Direction::Sent, &datagram);
        relay.send(&datagram).await.ok()?;
        let received = timeout(SENDING_WAIT, relay.receive(&mut buffer)).await;
        let Ok(Ok(length)) = received else {
            continue;
        };
        examination.note(Direction::Received, &buffer[..length]);
        let payload = socks5::payload(&buffer[..length]);
        if let Some(answer) = payload.and_then(Answer::find) {
            return Some(answer);
        }
    }
    None
}
