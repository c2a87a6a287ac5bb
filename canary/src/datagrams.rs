//! The raw port over UDP: for relays of datagrams.

use std::sync::Arc;

use ajar_model::{Nonce, proof::MAX_ANSWER};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::{Arrival, Shared};

/// A longer datagram is cut, and its nonce is in front.
const LONGEST: usize = 512;

/// Answers every datagram that begins with a line that is a nonce and is at least as long as any answer: a forged source
/// address gets no more than was sent. Ends with `shutdown`.
pub(crate) async fn serve(socket: UdpSocket, shared: Arc<Shared>, shutdown: CancellationToken) {
    let port = socket.local_addr().map_or(0, |address| address.port());
    let mut buffer = [0; LONGEST];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = shutdown.cancelled() => return,
        };
        // An error is about a datagram that was sent before.
        let Ok((length, peer)) = received else {
            continue;
        };
        if let Some(nonce) = nonce(&buffer[..length]) {
            let arrival = Arrival {
                peer: peer.ip().to_canonical(),
                port,
            };
            let answer = format!("{}\r\n", shared.answer(nonce, arrival));
            let _ = socket.try_send_to(answer.as_bytes(), peer);
        }
    }
}

fn nonce(datagram: &[u8]) -> Option<Nonce> {
    if datagram.len() < MAX_ANSWER {
        return None;
    }
    let line = datagram.split(|&byte| byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_datagram_is_not_answered_and_neither_is_a_strange_one() {
        let word = "00112233445566778899aabbccddeeff";
        let mut datagram = format!("{word}\r\n").into_bytes();
        assert_eq!(nonce(&datagram), None);
        datagram.resize(MAX_ANSWER, b' ');
        assert_eq!(nonce(&datagram), Some(word.parse().unwrap()));
        datagram[0] = b'z';
        assert_eq!(nonce(&datagram), None);
        assert_eq!(nonce(&[0xff; LONGEST]), None);
    }
}
