//! A receipt is not yet a relay: what fools it, with real servers.

use std::{collections::BTreeMap, net::IpAddr};

use ajar_model::{Finding, Verdict, judge::Doubt, proof::Check};
use ajar_tests::{Access, DOMAINS, Front, Postfix, Site, at};

fn by_address(findings: Vec<Finding>) -> BTreeMap<IpAddr, Finding> {
    findings.into_iter().map(|f| (f.ip, f)).collect()
}

#[test]
fn a_fixed_forward_whose_only_destination_is_the_canary() {
    let site = Site::new();
    let to_canary = format!("location / {{ proxy_pass http://{}; }}", site.canary_page());
    let passes = format!("ProxyPass / http://{}/", site.canary_page());
    let _forwards = (
        Front::haproxy(at("127.0.18.1:8080"), site.canary_page()).unwrap(),
        Front::haproxy(at("127.0.18.2:8080"), site.canary_page_tls()).unwrap(),
        Front::nginx(at("127.0.18.3:8080"), &to_canary).unwrap(),
        Front::haproxy(at("127.0.18.4:2525"), site.canary_mail()).unwrap(),
        // It says 200 to CONNECT, and takes what follows for a further request.
        Front::apache(at("127.0.18.5:8080"), &passes).unwrap(),
    );
    let scan = site.scan("127.0.18.0/29 -p 2525,8080 --settle 5s");
    let found = by_address(scan.findings().unwrap());
    let verdicts: Vec<_> = found.values().map(|f| (f.verdict, f.doubt)).collect();
    let web = (Verdict::NotAService, Some(Doubt::LeadsToCanary));
    let mail = (Verdict::Closed, Some(Doubt::LeadsToCanary));
    assert_eq!(verdicts, [web, web, web, mail, web], "{}", scan.stdout);
}

#[test]
fn a_mail_server_that_handles_one_of_the_canarys_domains() {
    let site = Site::new().postfix("127.0.19.1:2525", Access::Open);
    let sink = site.canary_mail();
    let backup = at("127.0.19.2:2525");
    let backup = Postfix::start(Access::Closed, backup, DOMAINS, sink).unwrap();
    backup.take_charge_of(DOMAINS[0]).unwrap();
    let scan = site.scan("127.0.19.0/30 -p 2525 --settle 20s");
    let found: Vec<Finding> = by_address(scan.findings().unwrap()).into_values().collect();
    let [relay, backup] = &found[..] else {
        panic!("{}", scan.stdout)
    };
    assert_eq!(relay.verdict, Verdict::Open, "{}", scan.stdout);
    let checks = &relay.proof.as_ref().unwrap().checks;
    assert_eq!(
        checks,
        &[Check::Greeting, Check::OtherDomain, Check::Literal]
    );
    let mailboxes = relay.mailboxes.iter();
    let mailboxes: Vec<&str> = mailboxes.map(|m| m.address.as_str()).collect();
    assert_eq!(mailboxes, ["abuse@lab.test", "postmaster@lab.test"]);
    assert_eq!(backup.verdict, Verdict::Unproven, "{}", scan.stdout);
    assert_eq!(backup.doubt, Some(Doubt::OneDomain));
    // Nothing that a backup MX does for its own domain says anything of the others.
    let shown = site
        .ajar
        .run(&format!("findings show {}", backup.id))
        .unwrap();
    for said in [
        "unproven: mail to one of the canary's domains arrived",
        "check other_domain: refused",
    ] {
        assert!(shown.stdout.contains(said), "{}", shown.stdout);
    }
}
