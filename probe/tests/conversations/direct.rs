//! The canary, asked with nobody in between, and what may answer in its place.

use std::time::Duration;

use ajar_probe::{Answering, Limits, ask_canary};
use ed25519_dalek::SigningKey;

use crate::{canary, peer::Conn};

const LIMITS: Limits = Limits {
    examination: Duration::from_secs(5),
    banner: Duration::from_secs(1),
    greeting: Duration::from_secs(1),
    reply: Duration::from_secs(1),
    offer: Duration::from_secs(1),
    bytes: 16 * 1024,
    line: 4096,
    transcript: 1024,
};

/// Who is taken to answer at a port of the canary, if this does.
async fn heard<F>(port: u16, peer: impl FnOnce(Conn) -> F) -> Answering
where
    F: Future<Output = ()> + Send + 'static,
{
    let (ours, theirs) = tokio::io::duplex(16 * 1024);
    tokio::spawn(peer(Conn::over(Box::new(theirs))));
    let nonce = "00112233445566778899aabbccddeeff".parse().unwrap();
    ask_canary(&canary::model(), port, nonce, Box::new(ours), LIMITS).await
}

#[tokio::test(start_paused = true)]
async fn the_canary_is_told_from_whoever_answers_in_its_place() {
    for port in [25, 80, 443, 7401] {
        let canary = heard(port, |conn| canary::serve(conn, port, canary::key()));
        assert!(matches!(canary.await, Answering::Canary(_)), "{port}");
        let forger = SigningKey::from_bytes(&[1; 32]);
        let forged = heard(port, |conn| canary::serve(conn, port, forger));
        assert_eq!(forged.await, Answering::Another, "{port}");
        let silent = heard(port, Conn::idle);
        assert_eq!(silent.await, Answering::Nobody, "{port}");
        let closed = heard(port, |conn| async move { drop(conn) });
        assert_eq!(closed.await, Answering::Nobody, "{port}");
    }
    // A network's own mail server, which takes all mail that leaves it.
    let smart_host = heard(25, |mut conn| async move {
        conn.say("220 mail.isp.test ESMTP\r\n").await;
        conn.line().await;
        conn.say("250 mail.isp.test\r\n").await;
        conn.idle().await;
    });
    assert_eq!(smart_host.await, Answering::Another);
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_leads_nowhere_but_to_the_canary() {
    let heard = heard(80, |mut conn| async move {
        let request = conn.line().await.unwrap();
        assert!(
            request.starts_with("GET http://no-such-host.canary.test:1/"),
            "{request}"
        );
        conn.say("HTTP/1.1 503 Service Unavailable\r\n\r\n").await;
        conn.idle().await;
    });
    assert_eq!(heard.await, Answering::Another);
}
