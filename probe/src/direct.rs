//! The canary without a target in between: what stands between it and this vantage point.

use ajar_model::{Canary, Nonce, evidence::Direction, proof::Answer};

use crate::{
    BoxStream, Limits,
    deadline::Deadline,
    destination::{CanaryPort, Destination, Form},
    examination::agent,
    http::codec as http,
    tls::Peer,
    transcript::Transcript,
    tunnel::{CANARY_PORTS, prove},
    wire::Wire,
};

/// Who answers at a port of the canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answering {
    /// The canary, which proves it by its key. The answer tells which way the request came.
    Canary(Answer),
    /// Something else, which has no key.
    Another,
    /// Nothing was said.
    Nobody,
}

/// Says a nonce on a connection that was opened to the `port` of the canary, and hears who answers. Ends within
/// `limits.examination`.
///
/// On the web ports the request names a host that does not exist and a port where nobody listens. The
/// canary answers it. A proxy on the way tries to go there, and fails.
pub async fn ask_canary(
    canary: &Canary,
    port: u16,
    nonce: Nonce,
    stream: BoxStream,
    limits: Limits,
) -> Answering {
    let mut destinations = CANARY_PORTS
        .iter()
        .map(|canary_port| Destination::new(canary, *canary_port, Form::Literal));
    let Some(destination) = destinations.find(|d| d.address().port() == port) else {
        return Answering::Nobody;
    };
    let transcript = Transcript::new(limits.transcript);
    let deadline = Deadline::after(limits.examination);
    let wire = Wire::new(stream, deadline, limits, transcript.clone());
    let agent = agent(&canary.domain, canary);
    let answer = match destination.canary_port() {
        CanaryPort::Http | CanaryPort::Https => {
            fetch_from_nowhere(wire, canary, &destination, nonce, &agent).await
        }
        CanaryPort::Smtp | CanaryPort::Raw => {
            prove(wire, &destination, nonce, &agent, limits.reply).await
        }
    };
    let is_from_here = |answer: &Answer| {
        answer.proves(nonce, &canary.key) && answer.port.is_none_or(|reached| reached == port)
    };
    if let Some(answer) = answer.filter(is_from_here) {
        return Answering::Canary(answer);
    }
    let entries = transcript.take_row();
    let mut received = entries
        .iter()
        .filter(|entry| entry.direction == Direction::Received);
    match received.next() {
        Some(_) => Answering::Another,
        None => Answering::Nobody,
    }
}

async fn fetch_from_nowhere(
    mut wire: Wire,
    canary: &Canary,
    destination: &Destination,
    nonce: Nonce,
    agent: &str,
) -> Option<Answer> {
    let wait = wire.limits().reply;
    if destination.canary_port() == CanaryPort::Https {
        let peer = Peer::named(destination.domain(), destination.address().ip());
        wire = wire.tls(peer).await.ok()?;
    }
    let missing = Destination::missing(canary);
    let authority = format!("{}:{}", missing.domain(), canary.unused_port());
    let request = http::get(&format!("http://{authority}/{nonce}"), &authority, agent);
    wire.send(&request.ok()?).await.ok()?;
    wire.answer(wait).await
}
