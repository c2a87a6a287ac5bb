//! Doors that were found open are looked at once more before anybody hears of them.

use std::{process::Output, time::Duration};

use ajar_model::{Finding, Verdict, judge::Doubt};
use ajar_tests::{Access, DOMAINS, Finished, Postfix, Site, Squid, at, finished};

const REPORTER: &str = "--reporter=Example Net <abuse@example.net>";

/// What owners would be told of.
fn reports(site: &Site) -> Finished {
    let mut command = site
        .ajar
        .command("findings export --format xarf --inside-counts");
    command.arg(REPORTER);
    finished(&mut command).unwrap()
}

#[test]
fn an_owner_is_told_only_of_what_was_open_twice() {
    let site = Site::new()
        .squid("127.0.75.1:3128", Access::Open)
        .postfix("127.0.75.2:2525", Access::Open);
    let asked = "127.0.75.0/30 -p 2525,3128 --settle 60s";
    let once = site.scan(&format!("{asked} --store once.db --confirm-after never"));
    let findings = once.findings().unwrap();
    assert!(
        findings.iter().all(|f| f.confirmation.is_none()),
        "{once:?}"
    );
    let mut command = site
        .ajar
        .command("findings export --format xarf --inside-counts --store once.db");
    let left_out = finished(command.arg(REPORTER)).unwrap();
    assert_eq!((left_out.status, left_out.stdout.as_str()), (0, ""));
    let said = "2 open endpoints are left out";
    assert!(left_out.stderr.contains(said), "{}", left_out.stderr);

    let twice = site.scan(&format!("{asked} --confirm-after 3s"));
    let findings = twice.findings().unwrap();
    assert_eq!(findings.len(), 2, "{twice:?}");
    for Finding {
        verdict,
        proof,
        confirmation,
        attempts,
        ..
    } in findings
    {
        let (first, second) = (proof.unwrap(), confirmation.unwrap().proof);
        assert_eq!((verdict, attempts), (Verdict::Open, 2));
        assert_ne!(first.nonce, second.nonce);
        let between = second.received_at.duration_since(first.received_at);
        assert!(between.as_secs() >= 3, "{between}");
    }
    let reports = reports(&site);
    assert_eq!(reports.stdout.lines().count(), 2, "{reports:?}");
    assert_eq!(reports.stderr, "");
}

#[test]
fn a_honeypot_that_relays_the_first_test_only_is_not_open() {
    let site = Site::new();
    let endpoint = at("127.0.75.5:3128");
    let relay = at("127.0.75.6:2525");
    let relay = Postfix::start(Access::Open, relay, DOMAINS, site.canary_mail()).unwrap();
    let squid = Squid::start(Access::Open, endpoint).unwrap();
    let asked = "127.0.75.4/30 -p 2525,3128 --settle 5s --confirm-after 20s";
    let scan = site.ajar.spawn(&site.scan_line(asked), "scan").unwrap();
    site.ajar
        .await_line("scan", "3 findings to look at again in ")
        .unwrap();
    // From now on it takes what it is given, and keeps it.
    relay.configure(&["transport_maps=static:discard"]).unwrap();
    drop(squid);
    let _closed = Squid::start(Access::Closed, endpoint).unwrap();
    let Output { status, stdout, .. } = scan.wait_with_output().unwrap();
    assert!(status.success());
    let findings = String::from_utf8(stdout).unwrap();
    let findings = findings
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let findings: Vec<Finding> = findings.collect();
    assert_eq!(findings.len(), 2, "{findings:?}");
    for finding in &findings {
        assert_eq!(finding.verdict, Verdict::Unproven, "{finding:?}");
        assert_eq!(finding.doubt, Some(Doubt::NotAgain), "{finding:?}");
    }
    assert_eq!(reports(&site).stdout, "");
}

#[test]
fn another_vantage_point_confirms_too() {
    let site = Site::new().squid("127.0.75.9:3128", Access::Open);
    let mut cluster = site.cluster().workers(0).start().unwrap();
    for (worker, vantage) in [("worker-1", "north"), ("worker-2", "south")] {
        cluster.start_worker_at(worker, vantage).unwrap();
        cluster
            .ajar
            .await_line(worker, "the worker is ready")
            .unwrap();
    }
    let asked = "127.0.75.9 -p 3128 --probes http-connect --settle 5s --confirm-after 5s";
    let id = cluster.submit(asked).unwrap();
    let patience = Duration::from_secs(60);
    cluster.await_state(&id, "finished", patience).unwrap();
    let export = format!("findings export --campaign {id}");
    let findings = cluster.run(&export).unwrap().findings().unwrap();
    let [finding] = &findings[..] else {
        panic!("{findings:?}");
    };
    let confirmation = finding.confirmation.as_ref().unwrap();
    let mut vantages = [finding.vantage.as_str(), confirmation.vantage.as_str()];
    vantages.sort_unstable();
    assert_eq!(vantages, ["north", "south"]);
}

#[test]
fn a_confirmation_ends_although_the_vantage_point_that_found_the_door_is_dead() {
    let site = Site::new().squid("127.0.75.13:3128", Access::Open);
    let mut cluster = site.cluster().workers(0).start().unwrap();
    cluster.start_replica("coordinator-2").unwrap();
    cluster.start_worker_at("worker-1", "north").unwrap();
    let asked = "127.0.75.13 -p 3128 --probes http-connect --settle 1s --confirm-after 5s";
    let id = cluster.submit(asked).unwrap();
    let patience = Duration::from_secs(120);
    cluster
        .await_state(&id, "revisits  1 waiting", patience)
        .unwrap();
    cluster.kill("worker-1");
    cluster.start_worker_at("worker-2", "south").unwrap();
    cluster.start_worker_at("worker-3", "west").unwrap();
    cluster.await_state(&id, "finished", patience).unwrap();
    // The sweep; and the round that confirms, from the north, which others make, and from
    // elsewhere.
    let shards = "SELECT count(*) FROM ajar.shards";
    assert_eq!(cluster.postgres.query(shards).unwrap(), "3");
    let export = format!("findings export --campaign {id}");
    let findings = cluster.run(&export).unwrap().findings().unwrap();
    let [finding] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert_eq!((finding.verdict, finding.attempts), (Verdict::Open, 2));
    assert_ne!(finding.confirmation.as_ref().unwrap().vantage, "north");
}

#[test]
fn a_mail_that_arrives_after_the_end_is_confirmed() {
    let site = Site::new();
    let relay = at("127.0.75.17:2525");
    let relay = Postfix::start(Access::Open, relay, DOMAINS, site.canary_mail()).unwrap();
    relay.hold().unwrap();
    let cluster = site.cluster().start().unwrap();
    let asked = "127.0.75.17 -p 2525 --probes smtp-relay --settle 1s --confirm-after 2s";
    let id = cluster.submit(asked).unwrap();
    let patience = Duration::from_secs(120);
    cluster.await_state(&id, "finished", patience).unwrap();
    relay.deliver().unwrap();
    let export = format!("findings export --campaign {id}");
    let started = std::time::Instant::now();
    loop {
        let findings = cluster.run(&export).unwrap().findings().unwrap();
        if findings.iter().any(|f| f.confirmation.is_some()) {
            break;
        }
        assert!(started.elapsed() < patience, "{findings:?}");
        std::thread::sleep(Duration::from_millis(300));
    }
    cluster.await_state(&id, "finished", patience).unwrap();
    let audit = cluster.run("audit show").unwrap().stdout;
    assert!(audit.contains("campaign.reopen"), "{audit}");
}
