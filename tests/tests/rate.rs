//! No more packets than were announced, and no fewer: read from a capture on the targets' side.

use std::{collections::HashMap, net::SocketAddrV4};

use ajar_tests::{Ajar, Captured, captured, cluster};

/// A campaign's limits hold exactly; a late timer may put one connection into the next second, and jitter another one.
const LATE: usize = 2;

/// Runs scripts against a coordinator with two workers.
fn two_workers(ajar: &Ajar, coordinator: &str, script: &str) -> Captured {
    let script = format!(
        r#"
        {}
        for worker in 1 2; do $AJAR worker --allowed-signers signers 2>worker$worker.log & done
        {script}
        "#,
        cluster(&format!("--allowed-signers signers {coordinator}"))
    );
    captured(ajar, &script).unwrap()
}

#[test]
fn silent_targets_get_no_packet_beyond_the_announced_rate() {
    let ajar = Ajar::authorized("10.98.0.0/24").unwrap();
    let seen = captured(
        &ajar,
        "$AJAR scan --authorization a.toml --allowed-signers signers 10.98.0.0/27 \
         --rate 10 --prefix-rate 10 --format jsonl",
    )
    .unwrap();
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    let mut packets: HashMap<_, usize> = HashMap::new();
    for (_, endpoint) in &seen.syns {
        *packets.entry(*endpoint).or_default() += 1;
    }
    // A lost packet is no verdict: everybody is asked twice.
    assert_eq!(packets.len(), 32);
    assert!(packets.values().all(|packets| *packets == 2), "{packets:?}");
    let most = seen.most_in_a_second();
    assert!(most <= 10 + LATE, "{most} in a second");
}

#[test]
fn campaigns_under_one_authorization_share_its_rate() {
    let ajar = Ajar::authorized("10.99.0.0/16 --rate 40 --prefix-rate 40").unwrap();
    let seen = two_workers(
        &ajar,
        "",
        "one=$(submit a.toml 10.99.1.0/24); two=$(submit a.toml 10.99.2.0/24)
         $AJAR campaign watch $one && $AJAR campaign watch $two",
    );
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    assert_eq!(seen.syns.len(), 512);
    // Two workers pace on their own: each may be late by itself.
    let most = seen.most_in_a_second();
    assert!(most <= 40 + 2 * LATE, "{most} in a second");
}

#[test]
fn a_site_has_one_rate_over_all_its_campaigns() {
    let ajar = Ajar::authorized("10.99.0.0/16 --rate 100 --prefix-rate 100").unwrap();
    ajar.authorize_connect("b.toml", "10.99.0.0/16 --rate 100 --prefix-rate 100")
        .unwrap();
    let seen = two_workers(
        &ajar,
        "--site-rate 50",
        "one=$(submit a.toml 10.99.1.0/24); two=$(submit b.toml 10.99.2.0/24)
         $AJAR campaign watch $one && $AJAR campaign watch $two",
    );
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    assert_eq!(seen.syns.len(), 512);
    let most = seen.most_in_a_second();
    assert!(most <= 50 + 2 * LATE, "{most} in a second");
}

#[test]
fn a_network_has_one_rate_over_campaigns_and_leases() {
    let ajar = Ajar::authorized("10.99.0.0/16 --rate 500 --prefix-rate 20").unwrap();
    let seen = two_workers(
        &ajar,
        "",
        "ids=$(for part in 0 32 64 96; do submit a.toml 10.99.1.$part/27; done)
         for id in $ids; do $AJAR campaign watch $id || exit 1; done",
    );
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    assert_eq!(seen.syns.len(), 128);
    let most = seen.most_in_a_second();
    assert!(most <= 20 + LATE, "{most} in a second");
}

#[test]
fn the_announced_rate_is_reached_although_every_network_is_slow() {
    let ajar = Ajar::authorized("10.99.0.0/16 --rate 200 --prefix-rate 10").unwrap();
    let seen = captured(
        &ajar,
        "$AJAR scan --authorization a.toml --allowed-signers signers 10.99.64.0/21 \
         10.99.72.0/21 10.99.80.0/21 --format jsonl",
    )
    .unwrap();
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    assert_eq!(seen.syns.len(), 6144);
    let most = seen.most_in_a_second();
    assert!(most <= 200 + 4 + LATE, "{most} in a second");
    let span = seen.syns[6143].0 - seen.syns[0].0;
    assert!(
        span < 1.5 * 6144.0 / 200.0,
        "{span} seconds for 30.7 seconds of work"
    );
}

#[test]
fn no_second_has_more_connections_than_its_rate() {
    let ajar = Ajar::new().unwrap();
    ajar.make_signer().unwrap();
    ajar.authorize("a.toml", "10.99.8.0/21 --canary 127.0.0.1 --ports 25")
        .unwrap();
    let targets: Vec<String> = (8..16).map(|net| format!("10.99.{net}.0/26")).collect();
    let seen = captured(
        &ajar,
        &format!(
            "$AJAR scan --authorization a.toml --allowed-signers signers {} --rate 60 --prefix-rate 10 \
             --format jsonl",
            targets.join(" ")
        ),
    )
    .unwrap();
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    let seen = seen.syns;
    assert_eq!(seen.len(), 8 * 64);
    // A connection may be a few milliseconds late, and then stands in a second with one more.
    let check = |seen: &[(f64, SocketAddrV4)], rate: usize| {
        for (at, (from, _)) in seen.iter().enumerate() {
            let within = seen[at..]
                .iter()
                .take_while(|(time, _)| *time < from + 1.0)
                .count();
            assert!(within <= rate + 2, "{within} in the second from {from}");
        }
    };
    check(&seen, 60);
    for net in 8..16 {
        let prefix = seen
            .iter()
            .filter(|(_, endpoint)| endpoint.ip().octets()[2] == net);
        check(&prefix.copied().collect::<Vec<_>>(), 10);
    }
}
