use ajar_model::{
    Evidence, Finding, Observation, ProbeId, Verdict, campaign::State, evidence::Broken,
    lease::Work,
};
use ajar_store::{FindingKey, FindingQuery, Mute, Resumption};

use crate::support::*;

/// Out of order; sorted as text, as bytes or by family alone they would come otherwise.
const ENDPOINTS: [&str; 9] = [
    "[2001:db8::1]:25",
    "10.0.0.10:25",
    "10.0.0.9:3128",
    "[::2]:25",
    "9.255.0.1:25",
    "10.0.0.9:25",
    "200.0.0.1:25",
    "[::ffff:0.0.0.1]:25",
    "10.0.0.9:80",
];
const SORTED: [&str; 9] = [
    "9.255.0.1:25",
    "10.0.0.9:25",
    "10.0.0.9:80",
    "10.0.0.9:3128",
    "10.0.0.10:25",
    "200.0.0.1:25",
    "[::2]:25",
    "[::ffff:0.0.0.1]:25",
    "[2001:db8::1]:25",
];

async fn fill(place: &Place, campaign: u128) {
    let store = &place.store;
    let shard = submit(&**store, campaign, 1).await;
    let token = token(&**store, shard, at(0)).await;
    let seen = ENDPOINTS.iter().enumerate().map(|(n, endpoint)| {
        let reply = if n % 3 == 0 { ACCEPTED } else { REFUSED };
        observation(campaign, endpoint, reply)
    });
    let batch = batch(shard, token, seen.collect());
    store.ingest(&batch).await.unwrap();
}

fn endpoints(findings: &[Finding]) -> Vec<String> {
    let endpoint = |f: &Finding| std::net::SocketAddr::new(f.ip, f.port).to_string();
    findings.iter().map(endpoint).collect()
}

fn key(finding: &Finding) -> FindingKey {
    let Finding {
        campaign,
        ip,
        port,
        probe,
        ..
    } = finding.clone();
    (campaign, ip, port, probe)
}

pub async fn findings_come_in_the_order_of_addresses(place: &Place) {
    fill(place, 2).await;
    fill(place, 1).await;
    let findings = all_findings(&*place.store).await;
    assert_eq!(endpoints(&findings), [SORTED, SORTED].concat());
    let keys: Vec<FindingKey> = findings.iter().map(key).collect();
    assert!(keys.is_sorted(), "the order is that of FindingKey");
}

pub async fn pages_join_without_gap_or_overlap(place: &Place) {
    fill(place, 1).await;
    fill(place, 2).await;
    let whole = all_findings(&*place.store).await;
    for limit in [1, 2, 5, 18, 40] {
        let mut pages = Vec::new();
        let mut after = None;
        loop {
            let query = FindingQuery {
                limit,
                after,
                ..FindingQuery::default()
            };
            let page = place.store.findings(&query).await.unwrap();
            assert!(page.len() <= limit as usize);
            let Some(last) = page.last() else { break };
            after = Some(key(last));
            pages.extend(page);
        }
        assert_eq!(pages, whole, "pages of {limit}");
    }
    let none = FindingQuery::default();
    assert_eq!(place.store.findings(&none).await.unwrap(), []);
}

pub async fn findings_are_filtered_by_campaign_and_verdict(place: &Place) {
    fill(place, 1).await;
    fill(place, 2).await;
    let query = FindingQuery {
        campaign: Some(campaign_id(2)),
        verdicts: vec![Verdict::Unproven, Verdict::Open],
        limit: 100,
        ..FindingQuery::default()
    };
    let found = place.store.findings(&query).await.unwrap();
    assert!(found.iter().all(|f| f.campaign == campaign_id(2)));
    assert_eq!(
        endpoints(&found),
        ["200.0.0.1:25", "[::2]:25", "[2001:db8::1]:25"]
    );
    for (tenant, expect) in [("acme", 3), ("other", 0)] {
        let of_tenant = FindingQuery {
            tenants: Some(vec![tenant.to_owned()]),
            ..query.clone()
        };
        let found = place.store.findings(&of_tenant).await.unwrap();
        assert_eq!(found.len(), expect, "{tenant}");
    }
    let after = FindingQuery {
        after: Some(key(&found[0])),
        ..query
    };
    assert_eq!(place.store.findings(&after).await.unwrap(), found[1..]);
}

pub async fn a_finding_is_found_by_its_id(place: &Place) {
    fill(place, 1).await;
    for (finding, observations) in table(&*place.store).await {
        let [observation] = &observations[..] else {
            panic!("{observations:?}");
        };
        let endpoint = observation.endpoint;
        assert_eq!((endpoint.ip(), endpoint.port()), (finding.ip, finding.port));
    }
    let unknown = place.store.finding("0000000000000000").await.unwrap();
    assert_eq!(unknown, None);
}

pub async fn unproven_endpoints_are_repeated_once_and_sorted(place: &Place) {
    fill(place, 1).await;
    let store = &place.store;
    let again = token(&**store, shard(1, 0), at(60)).await;
    let mut other_probe = observation(1, "200.0.0.1:25", ACCEPTED);
    other_probe.probe = "another".to_owned().into();
    store
        .ingest(&batch(shard(1, 0), again, vec![other_probe]))
        .await
        .unwrap();
    let (id, audit) = (campaign_id(1), entry("resume"));
    set_state(&**store, id, State::Paused).await;
    let resumption = Resumption {
        id,
        authorization: None,
        audit: &audit,
    };
    store.resume(&resumption).await.unwrap();
    let expect = ["200.0.0.1:25", "[::2]:25", "[2001:db8::1]:25"].map(|e| e.parse().unwrap());
    let repeated = store.work(shard(1, 1)).await.unwrap();
    let endpoints = expect.to_vec();
    assert_eq!(
        repeated,
        Some(Work::Revisit {
            endpoints,
            visit: 1,
            round: 0,
            vantage: None
        })
    );
}

pub async fn addresses_that_say_nothing_on_any_port_are_counted(place: &Place) {
    let store = &*place.store;
    let first = submit(store, 1, 1).await;
    let token = token(store, first, at(0)).await;
    let silent = |endpoint: String| Observation {
        probe: ProbeId::from_static("recognise"),
        evidence: Evidence {
            broken: Some(Broken::TimedOut),
            ..Evidence::default()
        },
        ..observation(1, &endpoint, LATER)
    };
    let mut seen: Vec<Observation> = (1..=4)
        .flat_map(|port| [1, 4].map(|ip| silent(format!("10.0.0.{ip}:{port}"))))
        .collect();
    // One that speaks on its last port, and one that was silent on three of four.
    for port in 1..=3 {
        seen.push(silent(format!("10.0.0.2:{port}")));
        seen.push(silent(format!("10.0.0.3:{port}")));
    }
    seen.push(observation(1, "10.0.0.2:4", REFUSED));
    store.ingest(&batch(first, token, seen)).await.unwrap();
    let mute = store.mute(campaign_id(1), 4, 1).await.unwrap();
    let first = vec!["10.0.0.1".parse().unwrap()];
    assert_eq!(mute, Mute { count: 2, first });
    // It is kept once the campaign is over, and forgotten when it goes on.
    let kept = async |state| {
        set_state(store, campaign_id(1), state).await;
        store.mute(campaign_id(1), 4, 1).await.unwrap();
        place
            .number("SELECT count(*) FROM campaigns WHERE mute IS NOT NULL")
            .await
    };
    assert_eq!(kept(State::Paused).await, 0);
    assert_eq!(kept(State::Finished).await, 1);
    assert_eq!(store.mute(campaign_id(1), 4, 1).await.unwrap(), mute);
    assert_eq!(kept(State::Settling).await, 0);
    let others = store.mute(campaign_id(2), 4, 1).await.unwrap();
    assert_eq!(others, Mute::default());
}
