//! What arrives at the canary says of the way that it came.

use std::collections::BTreeMap;

use ajar_model::{Verdict, disclosed::Anonymity, finding::Cause};
use ajar_tests::{Access, DOMAINS, Front, Postfix, Site, Squid, at};

#[test]
fn a_proxy_that_names_its_client_is_told_from_one_that_hides_it() {
    let site = Site::new();
    let squid = |endpoint: &str, rules: &str| {
        let rules = format!("http_access allow all\n{rules}");
        Squid::ruled(at(endpoint), &rules).unwrap()
    };
    let _squids = [
        squid("127.0.78.1:3128", ""),
        squid("127.0.78.2:3128", "forwarded_for off"),
        squid("127.0.78.3:3128", "forwarded_for delete\nvia off"),
    ];
    let scan = site.scan("127.0.78.0/30 -p 3128 --probes http-get --settle 5s");
    let findings = scan.findings().unwrap();
    let told = findings.iter().map(|finding| {
        let proof = finding.proof.as_ref().unwrap();
        let seen_as = proof.seen_as.map(|ip| ip.to_string());
        (finding.ip.to_string(), (proof.anonymity.unwrap(), seen_as))
    });
    let told: BTreeMap<String, (Anonymity, Option<String>)> = told.collect();
    let ours = Some("127.0.0.1".to_owned());
    let expected = [
        ("127.0.78.1", (Anonymity::Transparent, ours)),
        ("127.0.78.2", (Anonymity::Anonymous, None)),
        ("127.0.78.3", (Anonymity::Elite, None)),
    ];
    let expected = expected.map(|(ip, told)| (ip.to_owned(), told));
    assert_eq!(told, BTreeMap::from(expected));
}

#[test]
fn a_relay_behind_a_source_nat_is_told_why_it_is_open() {
    let site = Site::new();
    let (published, inside) = (at("127.0.78.5:2525"), at("127.0.78.9:2525"));
    let postfix = Postfix::start(Access::Closed, inside, DOMAINS, site.canary_mail()).unwrap();
    postfix.configure(&["mynetworks=127.0.78.8/32"]).unwrap();
    let gateway = "127.0.78.8".parse().unwrap();
    let _mapping = Front::haproxy_as(published, inside, gateway).unwrap();
    let scan = site.scan("127.0.78.5 127.0.78.9 -p 2525 --settle 60s");
    let findings = scan.findings().unwrap();
    let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
    assert_eq!(verdicts, [Verdict::Open, Verdict::Closed], "{findings:?}");
    let relay = &findings[0];
    assert_eq!(relay.cause, Some(Cause::SourceNat));
    assert_eq!(relay.proof.as_ref().unwrap().seen_as, Some(gateway));
    let show = site
        .ajar
        .run(&format!("findings show {}", relay.id))
        .unwrap();
    assert!(
        show.stdout.contains("externalTrafficPolicy"),
        "{}",
        show.stdout
    );
}
