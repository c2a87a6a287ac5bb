//! What each fuzz target asserts. The targets call these under libFuzzer; a test of `ajar-probe` calls them
//! with the corpus, on any toolchain.

mod tape;

use std::net::SocketAddr;

use ajar_model::{CampaignId, Canary, NonceKey, ProbeId, Tier};
use ajar_probe::{
    Limits, PROBES, Session,
    codec::{Parsed, http::Head, smtp, socks4, socks5},
    examine as examine_endpoint,
};
use tokio::time::Instant;

use tape::Tapes;

/// SMTP replies.
pub fn smtp(data: &[u8]) {
    if let Some((reply, _)) = framed(data, |bytes| smtp::Reply::parse(bytes, 512)) {
        assert!((200..600).contains(&reply.code) && !reply.lines.is_empty());
        reply.offers("STARTTLS");
        let word = reply.first_word();
        if let Ok(command) = smtp::ehlo(word) {
            assert_eq!(command.iter().filter(|&&byte| byte == b'\n').count(), 1);
        }
    }
    let text = String::from_utf8_lossy(data);
    let message = smtp::dot_stuffed(&text);
    let ends = message
        .windows(5)
        .filter(|window| window == b"\r\n.\r\n")
        .count();
    assert!(ends == 1 || message == b".\r\n", "a message ends once");
}

/// HTTP response heads.
pub fn http(data: &[u8]) {
    if let Some((head, _)) = framed(data, Head::parse) {
        assert!(head.status < 1000);
    }
}

/// SOCKS 4 answers.
pub fn socks4(data: &[u8]) {
    if let Some((reply, length)) = framed(data, socks4::Reply::parse) {
        assert!((0x5a..=0x5d).contains(&reply.code) && length == 8);
    }
}

/// SOCKS 5 methods and answers.
pub fn socks5(data: &[u8]) {
    framed(data, socks5::parse_method);
    if let Some((reply, _)) = framed(data, socks5::Reply::parse) {
        assert_eq!(reply.code == socks5::SUCCEEDED, reply.bound.is_some());
    }
}

/// A frame lies within the bytes, and needed all of them: the same bytes cut shorter are no other frame.
fn framed<T>(data: &[u8], parse: impl Fn(&[u8]) -> Parsed<T>) -> Option<(T, usize)> {
    let frame = parse(data).ok().flatten();
    if let Some((_, length)) = &frame {
        assert!((1..=data.len()).contains(length));
        let cut = parse(&data[..length - 1]);
        assert!(
            matches!(cut, Ok(None)),
            "a frame of {length} bytes was taken early"
        );
    }
    frame
}

/// Whole examinations: the first two bytes choose port and tier, the rest is what the peer says.
pub fn examine(data: &[u8]) {
    let [port, tier, script @ ..] = data else {
        return;
    };
    const PORTS: [u16; 7] = [25, 80, 443, 465, 1080, 3128, 9999];
    const TIERS: [Tier; 3] = [Tier::Handshake, Tier::Envelope, Tier::Deliver];
    let port = PORTS[usize::from(*port) % PORTS.len()];
    let tier = TIERS[usize::from(*tier) % TIERS.len()];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing");
    let tapes = Tapes::new(script);
    runtime.block_on(converse(port, tier, &tapes));
    let said = tapes.said();
    for line in said.split(|&byte| byte == b'\n') {
        let only_above =
            |word: &[u8], least: Tier| assert!(tier >= least || !line.starts_with(word));
        only_above(b"DATA", Tier::Deliver);
        only_above(b"CONNECT", Tier::Deliver);
        only_above(b"GET ", Tier::Deliver);
        only_above(b"RCPT", Tier::Envelope);
        if line.starts_with(b"RCPT") {
            let domain = canary().domain;
            assert!(
                line.windows(domain.len())
                    .any(|window| window == domain.as_bytes())
            );
        }
    }
}

async fn converse(port: u16, tier: Tier, tapes: &Tapes) {
    let canary = canary();
    let limits = Limits {
        bytes: 16 * 1024,
        ..Limits::default()
    };
    let session = Session {
        endpoint: SocketAddr::from(([192, 0, 2, 1], port)),
        campaign: CampaignId(ulid::Ulid::from_parts(1, 1)),
        key: &NonceKey([9; 32]),
        vantage: "fuzz",
        canary: &canary,
        tier,
        our_name: "audit.example",
        dial: tapes,
        limits,
    };
    let probes: Vec<ProbeId> = PROBES.iter().map(|probe| probe.id()).collect();
    let began = Instant::now();
    let rows = examine_endpoint(&session, tapes.open(), &probes).await;
    assert!(!rows.is_empty());
    assert!(began.elapsed() <= limits.session);
}

fn canary() -> Canary {
    Canary {
        domain: "canary.test".to_owned(),
        address: [192, 0, 2, 9].into(),
        smtp: 25,
        http: 80,
        https: 443,
        raw: 7401,
        // The generator of Ed25519, which is a valid point.
        key: "WGZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmZmY"
            .parse()
            .expect("a key"),
    }
}
