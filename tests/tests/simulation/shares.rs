//! Who gets how much when many want more than there is: read from the connections that left.

use std::time::Duration;

use ajar_model::shares::Weights;
use ssh_key::{PrivateKey, private::Ed25519Keypair};
use tokio::runtime::Runtime;

use crate::{
    Asked, Wish, alone, asked, boundary::Connection, hosts::Site, simulate, site, submission,
};

/// Connections a second of all campaigns together.
const RATE: u32 = 120;
/// When the second tenant comes, when the shares have to be right, and for how long they are looked
/// at.
const SECOND: Duration = Duration::from_secs(15);
const RIGHT: Duration = Duration::from_secs(45);
const LOOK: Duration = Duration::from_secs(15);

#[test]
fn tenants_share_the_rate_of_a_site_by_their_weights() {
    for simulation in ["equal_shares", "weighted_shares"] {
        let simulation = format!("shares::{simulation}");
        let simulated = alone(&simulation, 1);
        let said = String::from_utf8_lossy(&simulated.stderr).into_owned();
        assert!(simulated.status.success(), "{simulation}: {said}");
    }
}

#[test]
#[ignore = "the one above runs it"]
fn equal_shares() {
    divide(Weights::new(), [40.0, 20.0, 50.0, 10.0]);
}

#[test]
#[ignore = "the one above runs it"]
fn weighted_shares() {
    divide(
        Weights::from([("zeta".to_owned(), 2)]),
        [20.0, 20.0, 70.0, 10.0],
    );
}

/// A tenant with two campaigns has the site to itself until another one comes with two, one of which
/// is slow. What each gets then, in connections a second.
fn divide(weights: Weights, expect: [f64; 4]) {
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
    let wish = |number, tenant, rate| Wish {
        number,
        tenant,
        networks: vec![format!("10.{number}.0.0/19").parse().unwrap()],
        ports: "25",
        rate,
        authorized_rate: 500,
    };
    let asked = [
        wish(1, "acme", 100),
        wish(2, "acme", 20),
        wish(3, "zeta", 100),
        wish(4, "zeta", 10),
    ]
    .map(|wish| asked(&wish, &key));
    let outside = Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let site = Site {
        orders_by_chance: false,
        rate: RATE,
        weights,
        ..site(&outside, &key, directory.path()).0
    };
    let times = [Duration::ZERO, Duration::ZERO, SECOND, SECOND];
    let campaigns = asked.iter().zip(times);
    let campaigns = campaigns.map(|(asked, at)| submission(asked, at)).collect();
    let connections = simulate(&site, campaigns, false, Some(RIGHT + LOOK)).unwrap();
    let alone = SECOND - Duration::from_secs(5)..SECOND;
    let before = per_second(&connections, &asked[0], alone.clone())
        + per_second(&connections, &asked[1], alone);
    assert!(before > 0.9 * f64::from(RATE), "{before} a second alone");
    let got = |asked| per_second(&connections, asked, RIGHT..RIGHT + LOOK);
    let got = asked.each_ref().map(got);
    let mut pairs = got.iter().zip(expect);
    let is_near = pairs.all(|(got, expect)| (got / expect - 1.0).abs() < 0.1);
    assert!(is_near, "{got:.1?} a second, not {expect:?}");
}

/// The connections of a campaign, as a rate.
fn per_second(connections: &[Connection], of: &Asked, within: std::ops::Range<Duration>) -> f64 {
    let own = |c: &&Connection| within.contains(&c.at) && of.plan.contains(c.to.into());
    let count = connections.iter().filter(own).count();
    count as f64 / (within.end - within.start).as_secs_f64()
}
