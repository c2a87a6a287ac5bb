//! Whole examinations: the first two bytes choose port and tier, the rest is what the peer says.
#![cfg_attr(fuzzing, no_main)]

use std::net::SocketAddr;

use ajar_fuzz::Tapes;
use ajar_model::{CampaignId, Canary, Effort, NonceKey, ProbeId, Tier};
use ajar_probe::{Limits, Brief, examine, probes};
use tokio::time::Instant;

pub fn check(data: &[u8]) {
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
    // HTTP/2 has no lines.
    let tunnels = said.windows(7).any(|word| word == b"CONNECT");
    assert!(tier >= Tier::Deliver || !tunnels);
    for line in said.split(|&byte| byte == b'\n') {
        let only_above =
            |word: &[u8], least: Tier| assert!(tier >= least || !line.starts_with(word));
        only_above(b"DATA", Tier::Deliver);
        only_above(b"CONNECT", Tier::Deliver);
        only_above(b"GET ", Tier::Deliver);
        only_above(b"RCPT", Tier::Envelope);
        if line.starts_with(b"RCPT") {
            let names = |domain: &str| {
                let mut windows = line.windows(domain.len());
                windows.any(|window| window == domain.as_bytes())
            };
            assert!(canary().domains().any(names));
        }
    }
}

async fn converse(port: u16, tier: Tier, tapes: &Tapes) {
    let canary = canary();
    let limits = Limits {
        bytes: 16 * 1024,
        ..Limits::default()
    };
    let brief = Brief {
        endpoint: SocketAddr::from(([192, 0, 2, 1], port)),
        campaign: CampaignId(ulid::Ulid::from_parts(1, 1)),
        key: &NonceKey([9; 32]),
        vantage: "fuzz",
        round: 0,
        canary: &canary,
        tier,
        claims: true,
        our_name: "audit.example",
        names: &["mail.fuzz.example".to_owned()],
        effort: Effort::Full,
        dial: tapes,
        limits,
    };
    let probes: Vec<ProbeId> = probes().map(|probe| probe.id()).collect();
    let began = Instant::now();
    let rows = examine(&brief, tapes.open(), &probes).await;
    assert!(!rows.is_empty());
    assert!(began.elapsed() <= limits.examination * 2);
}

fn canary() -> Canary {
    Canary {
        domain: "canary.test".to_owned(),
        other_domain: Some("canary.example".to_owned()),
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

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data));
