//! Proxies that relay datagrams over HTTP.

use ajar_model::{Verdict, judge::Doubt, proof::Check};
use ajar_probe::http::codec;

use crate::{canary, exam::Exam, peer::Conn};

/// Relays to whatever port this makes of the one that it is asked for.
async fn relays(mut conn: Conn, port_of: fn(u16) -> Option<u16>) {
    let head = conn.head().await.unwrap_or_default();
    let asked = head.strip_prefix("GET /.well-known/masque/udp/192.0.2.9/");
    let asked = asked.and_then(|rest| rest.split('/').next()?.parse().ok());
    let Some(asked) = asked else {
        conn.say("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            .await;
        return;
    };
    conn.say(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: connect-udp\r\nCapsule-Protocol: ?1\r\n\r\n",
    )
    .await;
    while let Some(header) = conn.take(4).await {
        assert_eq!(
            (header[0], header[1] >> 6, header[3]),
            (0, 1, 0),
            "no datagram"
        );
        let length = u16::from_be_bytes([header[1] & 0x3f, header[2]]);
        let payload = conn.take(usize::from(length) - 1).await.unwrap();
        let nonce = String::from_utf8_lossy(&payload[..32]).into_owned();
        if let Some(port) = port_of(asked) {
            let answer = canary::sign(&nonce, port, &canary::key()).unwrap();
            conn.say(codec::datagram(answer.as_bytes())).await;
        }
    }
}

fn straight(port: u16) -> Option<u16> {
    (port == 7401).then_some(port)
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_relays_datagrams_is_open() {
    let exam = Exam::of(8080).run(|conn| relays(conn, straight)).await;
    assert_eq!(exam.proven("http-udp"), ["connect-udp:7401"]);
    let checks = exam.judgement("http-udp").proof.unwrap().checks;
    assert_eq!(checks, [Check::AskedPort, Check::OtherPort]);
    // What else it was asked over HTTP it had no answer to.
    assert_eq!(exam.verdict("http-get"), Verdict::NotAService);
}

#[tokio::test(start_paused = true)]
async fn a_relay_of_datagrams_that_knows_the_canary_alone_is_no_proxy() {
    let exam = Exam::of(8080)
        .run(|conn| relays(conn, |_| Some(7401)))
        .await;
    let judgement = exam.judgement("http-udp");
    assert_eq!(judgement.doubt, Some(Doubt::LeadsToCanary));
    assert_ne!(judgement.verdict, Verdict::Open);
}

#[tokio::test(start_paused = true)]
async fn a_relay_whose_datagrams_get_lost_is_unproven() {
    let exam = Exam::of(8080).run(|conn| relays(conn, |_| None)).await;
    assert_eq!(exam.verdict("http-udp"), Verdict::Unproven);
}

/// A web socket server agrees to something else.
#[tokio::test(start_paused = true)]
async fn an_upgrade_to_another_protocol_is_a_refusal() {
    let exam = Exam::of(8080)
        .run(|mut conn| async move {
            let head = conn.head().await.unwrap_or_default();
            let reply = match head.starts_with("GET /.well-known") {
                true => "101 Switching Protocols\r\nUpgrade: websocket",
                false => "404 Not Found",
            };
            conn.say(format!("HTTP/1.1 {reply}\r\n\r\n")).await;
            conn.idle().await;
        })
        .await;
    assert_eq!(exam.verdict("http-udp"), Verdict::NotAService);
}
