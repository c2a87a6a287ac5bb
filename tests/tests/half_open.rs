//! Relays that are open in one way only, and servers that accept without relaying: Postfix in such configurations.

use std::collections::BTreeMap;

use ajar_model::{Finding, Verdict};
use ajar_tests::{Access, DOMAINS, Postfix, Site, at};

/// Postfix servers at 127.0.29.1 and up that refuse to relay, but for these settings. They take seconds to start: all at once.
fn relays(site: &Site, settings: &[Vec<String>]) -> Vec<Postfix> {
    let start = |host: usize, settings: &[String]| {
        let endpoint = at(&format!("127.0.29.{host}:2525"));
        let postfix = Postfix::start(Access::Closed, endpoint, DOMAINS, site.canary_mail());
        let postfix = postfix.unwrap();
        postfix.configure(settings).unwrap();
        postfix
    };
    std::thread::scope(|scope| {
        let starting = (1..).zip(settings);
        let starting = starting.map(|(host, settings)| scope.spawn(move || start(host, settings)));
        let starting: Vec<_> = starting.collect();
        let mut started = starting.into_iter();
        started
            .by_ref()
            .map(|relay| relay.join().unwrap())
            .collect()
    })
}

/// Relays for whoever passes the check; `reject_unauth_destination` refuses the rest.
fn only(check: &str) -> String {
    format!("smtpd_relay_restrictions={check}, reject_unauth_destination")
}

#[test]
fn a_relay_that_is_open_in_one_way_only_is_found_by_it() {
    let site = Site::new();
    let by_helo = |name: &str| only(&format!("check_helo_access inline:{{{name}=OK}}"));
    let by_sender = |name: &str| only(&format!("check_sender_access inline:{{{name}=OK}}"));
    let by_name = only("check_client_access inline:{localhost=OK}");
    let set = |settings: &[&str]| settings.iter().map(|s| (*s).to_owned()).collect();
    let takes_all = "mynetworks=0.0.0.0/0";
    let settings: [Vec<String>; 10] = [
        set(&[&by_helo("localhost")]),
        set(&[&by_helo("mx.lab.test")]),
        set(&[&only("check_sender_access regexp:{{/@lab.test$$/ OK}}")]),
        set(&[&by_sender("mx.lab.test")]),
        set(&[&by_sender("<>")]),
        set(&[&by_sender("localhost")]),
        set(&[
            &by_name,
            "smtpd_peername_lookup=no",
            "smtpd_authorized_xclient_hosts=127.0.0.0/8",
        ]),
        set(&[&only("permit_sasl_authenticated")]),
        // Refuses the mail once it has it.
        set(&[takes_all, "smtpd_end_of_data_restrictions=reject"]),
        // Throws it away.
        set(&[takes_all, "transport_maps=static:discard"]),
    ];
    let _relays = relays(&site, &settings);
    let scan = site.scan("127.0.29.0/28 -p 2525 --rate 200 --prefix-rate 200 --settle 20s");
    let found: BTreeMap<u8, Finding> = scan
        .findings()
        .unwrap()
        .into_iter()
        .map(|f| {
            (
                f.ip.to_string()
                    .rsplit('.')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap(),
                f,
            )
        })
        .collect();
    let open = |host: u8| match &found[&host] {
        f if f.verdict == Verdict::Open => f.variants.join(" "),
        f => f.verdict.as_str().to_owned(),
    };
    let seen: Vec<String> = found.keys().map(|host| open(*host)).collect();
    let expected = [
        "as-localhost:direct/external",
        "as-host:direct/external",
        "direct/domain",
        "direct/host",
        "direct/null",
        "direct/localhost",
        "xclient:direct/external",
        "closed",
        "closed",
        "unproven",
    ];
    assert_eq!(seen, expected, "{}", scan.stderr);
}
