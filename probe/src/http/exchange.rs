//! A request and its answer, over an open connection if there is one.

use std::time::Duration;

use ajar_model::{evidence::Broken, proof::Answer};

use super::{
    Http,
    body::{Body, Content},
    codec::Head,
    head,
};
use crate::{examination::Examination, protocol::Protocol, wire::Wire};

/// Sends a request and reads the head of the answer. If the server has closed an older connection
/// meanwhile, sends it again over a new one.
pub(super) async fn ask(
    examination: &mut Examination<'_>,
    request: &[u8],
    patience: Duration,
) -> Result<(Wire, Head), Broken> {
    let wire = examination.open(&Http).await?;
    let has_served = wire.has_served();
    match exchange(wire.patient(patience), request).await {
        Err(Broken::Closed | Broken::Garbled) if has_served => {
            let wire = examination.open(&Http).await?;
            exchange(wire.patient(patience), request).await
        }
        asked => asked,
    }
}

async fn exchange(mut wire: Wire, request: &[u8]) -> Result<(Wire, Head), Broken> {
    wire.send(request).await?;
    let head = head(&mut wire).await?;
    Ok((wire, head))
}

/// Reads the body of an answer and drops it, so that the connection may serve again.
pub(super) async fn read_out(wire: &mut Wire, head: &Head) {
    let wait = wire.limits().reply / 10;
    if head.keeps_alive()
        && content(wire, head, wait)
            .await
            .is_some_and(|content| content.is_whole)
    {
        wire.note_free();
    }
}

async fn content(wire: &mut Wire, head: &Head, wait: Duration) -> Option<Content> {
    let body = Body::after(head);
    let content = wire.frame_or_quiet(wait, |bytes, ended| body.parse(bytes, ended));
    content.await.ok()
}

/// Searches the body of an answer for the canary's answer, for at most this time, and keeps the
/// connection if it can carry another request.
pub(super) async fn finish(
    examination: &mut Examination<'_>,
    mut wire: Wire,
    head: &Head,
    wait: Duration,
) -> Option<Answer> {
    let content = content(&mut wire, head, wait).await?;
    if content.is_whole && head.keeps_alive() {
        wire.note_free();
        examination.keep_idle(&Http.service(), wire);
    }
    content.answer
}
