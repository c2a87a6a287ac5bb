//! Servers that put strangers off, and let in who comes back.

use std::{thread, time::Duration};

use ajar_model::{Finding, Verdict};
use ajar_tests::{Access, DOMAINS, Postfix, Postgrey, Signal, Site, at};

/// An open relay, but for what the settings say.
fn relay(site: &Site, endpoint: &str) -> Postfix {
    Postfix::start(Access::Open, at(endpoint), DOMAINS, site.canary_mail()).unwrap()
}

/// Verdict and number of visits of the only endpoint.
fn outcome(findings: &[Finding]) -> (Verdict, u32) {
    let [finding] = findings else {
        panic!("{findings:?}");
    };
    (finding.verdict, finding.attempts)
}

#[test]
fn a_greylisting_relay_is_open_once_it_lets_us_in() {
    let site = Site::new();
    let postgrey = Postgrey::start(Duration::from_secs(5), "Greylisted for %s seconds").unwrap();
    let relay = relay(&site, "127.0.31.1:2525");
    relay.configure(&[postgrey.restriction()]).unwrap();
    let asked = "127.0.31.1 -p 2525 --probes smtp-relay --settle 60s";
    let once = site.scan(&format!("{asked} --revisits 0"));
    let findings = once.findings().unwrap();
    assert_eq!(outcome(&findings), (Verdict::Inconclusive, 1), "{once:?}");
    // Another campaign has other addresses: it is put off once more.
    let again = site.scan(&format!("{asked} --revisits 1 --revisit-after 10m"));
    let findings = again.findings().unwrap();
    assert_eq!(outcome(&findings), (Verdict::Open, 2), "{again:?}");
    assert!(
        again.stderr.contains("1 finding to look at again in "),
        "{}",
        again.stderr
    );
}

#[test]
fn a_relay_that_names_no_time_is_visited_later_and_later() {
    let site = Site::new();
    let postgrey = Postgrey::start(Duration::from_secs(8), "Try again later").unwrap();
    let relay = relay(&site, "127.0.31.2:2525");
    relay.configure(&[postgrey.restriction()]).unwrap();
    let asked = "127.0.31.2 -p 2525 --probes smtp-relay --settle 60s";
    let scan = site.scan(&format!("{asked} --revisits 2 --revisit-after 1s"));
    let findings = scan.findings().unwrap();
    assert_eq!(outcome(&findings), (Verdict::Open, 3), "{scan:?}");
}

#[test]
fn a_relay_behind_postscreen_is_open() {
    let site = Site::new();
    let relay = relay(&site, "127.0.31.3:2525");
    relay.screen().unwrap();
    let asked = "127.0.31.3 -p 2525 --probes smtp-relay --settle 60s";
    let scan = site.scan(&format!("{asked} --revisits 2 --revisit-after 2s"));
    let findings = scan.findings().unwrap();
    let [finding] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert_eq!(finding.verdict, Verdict::Open, "{scan:?}");
}

#[test]
fn a_server_is_visited_again_from_where_it_was_put_off() {
    let site = Site::new();
    let postgrey = Postgrey::start(Duration::from_secs(4), "Greylisted for %s seconds").unwrap();
    let relay = relay(&site, "127.0.31.4:2525");
    relay.configure(&[postgrey.restriction()]).unwrap();
    let mut cluster = site.cluster().workers(0).start().unwrap();
    cluster.start_worker_at("worker-1", "north").unwrap();
    let asked = "127.0.31.4 -p 2525 --probes smtp-relay --settle 10s --revisits 1";
    let id = cluster.submit(asked).unwrap();
    let patience = Duration::from_secs(60);
    cluster
        .await_state(&id, "revisits  1 waiting", patience)
        .unwrap();
    // Only the other vantage point is there when it is due.
    cluster.signal("worker-1", Signal::STOP).unwrap();
    cluster.start_worker_at("worker-2", "south").unwrap();
    cluster.await_state(&id, "1 of 2 closed", patience).unwrap();
    thread::sleep(Duration::from_secs(3));
    cluster.signal("worker-1", Signal::CONT).unwrap();
    cluster.await_state(&id, "finished", patience).unwrap();
    let export = format!("findings export --campaign {id}");
    let findings = cluster.run(&export).unwrap().findings().unwrap();
    assert_eq!(outcome(&findings), (Verdict::Open, 2), "{findings:?}");
    assert_eq!(findings[0].vantage, "north");
}
