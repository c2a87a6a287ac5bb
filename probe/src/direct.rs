//! The canary without a target in between: what stands between it and this vantage point.

use ajar_model::{Canary, Nonce, evidence::Direction};
use tokio::time::Instant;

use crate::{
    BoxStream, Limits,
    destination::{Destination, Form},
    examination::agent,
    transcript::Transcript,
    tunnel::{CANARY_PORTS, prove},
    wire::Wire,
};

/// Who answers at a port of the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    Canary,
    /// Something else, which has no key.
    Another,
    /// Nothing was said.
    Nobody,
}

/// Says a nonce on a connection that was opened to the `port` of the canary, and hears who answers. Ends within
/// `limits.examination`.
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
    let deadline = Instant::now() + limits.examination;
    let wire = Wire::new(stream, deadline, limits, transcript.clone());
    let agent = agent(&canary.domain, canary);
    let answer = prove(wire, &destination, nonce, &agent, limits.reply).await;
    let is_canary = answer.is_some_and(|answer| {
        answer.proves(nonce, &canary.key) && answer.port.is_none_or(|reached| reached == port)
    });
    let entries = transcript.take_row();
    let mut received = entries
        .iter()
        .filter(|entry| entry.direction == Direction::Received);
    match (is_canary, received.next()) {
        (true, _) => Answering::Canary,
        (false, Some(_)) => Answering::Another,
        (false, None) => Answering::Nobody,
    }
}
