//! A scan that was killed or interrupted goes on where it was, and ends with the rows of an undisturbed one.

use std::{
    net::SocketAddr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use ajar_model::{Finding, Verdict};
use ajar_tests::{Access, Ajar, DOMAINS, Postfix, Signal, Site, at, signal};

/// Endpoint, verdict, probe, variants, visits.
type Row = (SocketAddr, Verdict, String, Vec<String>, u32);

/// What does not depend on when it was seen.
fn rows(findings: &[Finding]) -> Vec<Row> {
    findings
        .iter()
        .map(|f| {
            let endpoint = SocketAddr::new(f.ip, f.port);
            (
                endpoint,
                f.verdict,
                f.probe.to_string(),
                f.variants.clone(),
                f.attempts,
            )
        })
        .collect()
}

/// The state of the only campaign in a SQLite store, as SQLite's own program reads it.
fn state(ajar: &Ajar, store: &str) -> String {
    let read = Command::new("sqlite3")
        .args(["-readonly", store, "SELECT state FROM campaigns"])
        .current_dir(ajar.path())
        .output()
        .unwrap();
    String::from_utf8(read.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_scan_that_is_resumed_again_and_again_while_it_waits_for_mail_keeps_a_late_receipt() {
    let site = Site::new();
    let (ajar, sink) = (&site.ajar, site.canary_mail());
    let relay = Postfix::start(Access::Open, at("127.0.11.1:2525"), DOMAINS, sink).unwrap();
    relay.hold().unwrap();
    let scan = site.scan_line("127.0.11.1 -p 2525 --settle 60s --store late.db");
    let mut child = ajar.spawn(&scan, "late").unwrap();
    let id = ajar.await_campaign("late").unwrap();
    let resume = format!("scan --resume {id} --store late.db --format jsonl");
    for round in 0..10 {
        let started = Instant::now();
        while state(ajar, "late.db") != "settling" {
            let said = || std::fs::read_to_string(ajar.path().join("late"));
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "round {round}: {:?}",
                said()
            );
            thread::sleep(Duration::from_millis(100));
        }
        // At another moment of the housekeeping's rhythm each time.
        thread::sleep(Duration::from_millis(37 * round));
        signal(&child, Signal::INT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        if round == 9 {
            relay.deliver().unwrap();
        }
        child = ajar.spawn(&resume, "late").unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let said = std::fs::read_to_string(ajar.path().join("late")).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let finding: Finding = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(finding.verdict, Verdict::Open, "{said}");
}

#[test]
fn a_killed_and_an_interrupted_scan_end_with_the_rows_of_an_undisturbed_one() {
    let site = Site::new()
        .postfix("127.0.8.1:2525", Access::Open)
        .postfix("127.0.8.9:2525", Access::Closed)
        .squid("127.0.8.4:3128", Access::Open)
        .squid("127.0.8.13:3128", Access::Closed);
    let ajar = &site.ajar;
    let asked = "127.0.8.0/28 -p 2525,3128 --rate 20 --prefix-rate 20 --settle 20s --store";
    let undisturbed = site.scan(&format!("{asked} whole.db"));
    let expected = rows(&undisturbed.findings().unwrap());
    let open = expected.iter().filter(|row| row.1 == Verdict::Open).count();
    assert_eq!((expected.len(), open), (4, 2), "{expected:?}");

    for (log, sent) in [("killed", Signal::KILL), ("stopped", Signal::INT)] {
        let scan = site.scan_line(&format!("{asked} {log}.db"));
        let mut child = ajar.spawn(&scan, log).unwrap();
        let id = ajar.await_campaign(log).unwrap();
        thread::sleep(Duration::from_millis(1200));
        signal(&child, sent).unwrap();
        let status = child.wait().unwrap();
        if sent == Signal::INT {
            assert_eq!(status.code(), Some(130));
            let said = std::fs::read_to_string(ajar.path().join("stopped")).unwrap();
            assert!(
                said.contains(&format!("ajar scan --resume {id} --store stopped.db")),
                "{said}"
            );
        }
        let resume = format!("scan --resume {id} --store {log}.db --format jsonl");
        let resumed = ajar.run(&resume).unwrap();
        assert_eq!(
            rows(&resumed.findings().unwrap()),
            expected,
            "after {sent:?}: {}",
            resumed.stderr
        );
        let export = format!("findings export --store {log}.db --campaign {id}");
        let again = ajar.run(&export).unwrap();
        assert_eq!(again.stdout, resumed.stdout);
    }
}
