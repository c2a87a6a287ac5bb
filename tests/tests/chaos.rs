//! A cluster whose parts are killed, frozen, cut off and robbed by chance: the campaign ends, every target has its outcome, and
//! what left the machine was in scope and within the rate, as a capture on the targets' side and the tables say.
//!
//! `make chaos` runs it at length: `CHAOS_SECONDS`, with the seed `CHAOS_SEED`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
};

use ajar_tests::{Ajar, captured};

const RATE: usize = 200;
const PREFIX_RATE: usize = 40;

/// What the campaign asks for: networks that refuse, of which one is left out, and two where nobody says anything.
fn asked(refusing: u8) -> String {
    format!(
        "10.99.0.0-10.99.{}.255 10.98.0.0/23 --exclude 10.99.3.0/24",
        refusing - 1
    )
}

fn targets(refusing: u8) -> BTreeSet<SocketAddrV4> {
    let refuse = (0..refusing)
        .filter(|block| *block != 3)
        .map(|block| (99, block));
    let networks = refuse.chain([(98, 0), (98, 1)]);
    let addresses =
        networks.flat_map(|(net, block)| (0..=255).map(move |last| [10, net, block, last]));
    addresses
        .map(|address| SocketAddrV4::new(address.into(), 25))
        .collect()
}

#[expect(
    clippy::print_stderr,
    reason = "what befell it, for who reads why it failed"
)]
fn survives(seed: u64, seconds: u64) {
    // Enough for about half of the time, if nothing happened.
    let refusing = (seconds * RATE as u64 / 512).clamp(16, 250) as u8;
    let ajar = Ajar::authorized("10.98.0.0/15 --rate 1000 --prefix-rate 100").unwrap();
    std::fs::write(ajar.path().join("chaos.sh"), include_str!("chaos.sh")).unwrap();
    let limits = format!("--rate {RATE} --prefix-rate {PREFIX_RATE} --retries 0 --settle 1s");
    let script = format!(
        "bash chaos.sh {seed} {seconds} $AJAR {} {limits}",
        asked(refusing)
    );
    let seen = captured(&ajar, &script).unwrap();
    let told = format!("seed {seed}\n{}{}", seen.stdout, seen.stderr);
    eprintln!("{told}");
    let says = |line: &str| seen.stdout.lines().any(|said| said == line);
    let targets = targets(refusing);

    let accidents = seen.stdout.lines().take_while(|line| *line != "healed");
    assert!(accidents.count() as u64 > seconds / 8, "little befell it");
    assert!(says("watched 0"), "the campaign did not end");
    let outcomes = format!("outcomes {}|0|t", targets.len());
    assert!(says(&outcomes), "{outcomes}");
    let asked: BTreeSet<SocketAddrV4> = seen.syns.iter().map(|syn| syn.1).collect();
    let outside: Vec<_> = asked.difference(&targets).collect();
    assert!(outside.is_empty(), "out of scope: {outside:?}");
    let left_out = targets.difference(&asked).count();
    assert_eq!(left_out, 0, "never asked");
    let most = seen.most_in_a_second();
    // Each worker may be stopped between a look at the clock and a packet.
    let allowed = RATE + RATE / 10;
    assert!(most <= allowed, "{most} in a second");
    // A network in two leases at a time would have the rate of both.
    let mut networks: BTreeMap<[u8; 3], Vec<f64>> = BTreeMap::new();
    for (time, to) in &seen.syns {
        let [a, b, c, _] = to.ip().octets();
        networks.entry([a, b, c]).or_default().push(*time);
    }
    for (network, times) in networks {
        let within = |(index, from): (usize, &f64)| {
            let second = times[index..].iter().take_while(|time| **time < from + 1.0);
            second.count()
        };
        let most = times.iter().enumerate().map(within).max();
        let allowed = PREFIX_RATE + PREFIX_RATE / 10;
        assert!(most <= Some(allowed), "{most:?} in a second to {network:?}");
    }
    assert!(seen.stdout.contains(" form one chain"), "the audit log");
}

#[test]
fn a_short_round_of_accidents_loses_nothing_and_oversteps_nothing() {
    survives(1, 40);
}

#[test]
#[ignore = "as long as CHAOS_SECONDS says: `make chaos`"]
fn a_long_round_of_accidents_loses_nothing_and_oversteps_nothing() {
    let number = |name: &str, usual: u64| {
        let set = std::env::var(name).ok();
        set.map_or(usual, |text| text.parse().expect("a number"))
    };
    survives(
        number("CHAOS_SEED", fastrand::u64(..32768)),
        number("CHAOS_SECONDS", 600),
    );
}
