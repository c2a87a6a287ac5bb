//! A scan that was killed or interrupted goes on where it was, and ends with the rows of an undisturbed one.

use std::{
    net::SocketAddr,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use ajar_model::{Finding, Verdict};
use ajar_tests::{Access, Ajar, DOMAIN, Postfix, Signal, Squid, free_port, signal};

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

/// The campaign's id, from the line that announces it.
fn announced(ajar: &Ajar, log: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        let text = std::fs::read_to_string(ajar.path().join(log)).unwrap_or_default();
        if let Some((_, rest)) = text.split_once("campaign ") {
            return rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric())
                .collect();
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the scan announced nothing");
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
    let canary: [u16; 4] = std::array::from_fn(|_| free_port().unwrap());
    let sink: SocketAddr = format!("127.0.0.1:{}", canary[0]).parse().unwrap();
    let relay: SocketAddr = "127.0.11.1:2525".parse().unwrap();
    let relay = Postfix::start(Access::Open, relay, DOMAIN, sink).unwrap();
    relay.hold().unwrap();
    let ajar = Ajar::new().unwrap();
    let ports = canary.map(|port| port.to_string()).join(",");
    let arguments = format!(
        "scan 127.0.11.1 -p 2525 --settle 60s --format jsonl --store late.db \
         --canary-domain {DOMAIN} --canary-ports {ports}"
    );
    let mut child = ajar
        .spawn(&arguments.split(' ').collect::<Vec<_>>(), "late")
        .unwrap();
    let id = announced(&ajar, "late");
    let resume = ["scan", "--resume", &id, "--store", "late.db"];
    let resume = [&resume[..], &["--format", "jsonl"]].concat();
    for round in 0..10 {
        let started = Instant::now();
        while state(&ajar, "late.db") != "settling" {
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
    let canary: [u16; 4] = std::array::from_fn(|_| free_port().unwrap());
    let sink: SocketAddr = format!("127.0.0.1:{}", canary[0]).parse().unwrap();
    let at =
        |host: u8, port: u16| -> SocketAddr { format!("127.0.8.{host}:{port}").parse().unwrap() };
    let _servers = (
        Postfix::start(Access::Open, at(1, 2525), DOMAIN, sink).unwrap(),
        Postfix::start(Access::Closed, at(9, 2525), DOMAIN, sink).unwrap(),
        Squid::start(Access::Open, at(4, 3128)).unwrap(),
        Squid::start(Access::Closed, at(13, 3128)).unwrap(),
    );
    let ports = canary.map(|port| port.to_string()).join(",");
    let ajar = Ajar::new().unwrap();
    let scan = |store: &'static str| {
        [
            "scan",
            "127.0.8.0/28",
            "-p",
            "2525,3128",
            "--rate",
            "20",
            "--prefix-rate",
            "20",
            "--settle",
            "20s",
            "--canary-domain",
            DOMAIN,
            "--canary-ports",
            &ports,
            "--format",
            "jsonl",
            "--store",
            store,
        ]
        .map(str::to_owned)
    };
    let strs = |arguments: &[String]| arguments.to_vec();
    let undisturbed = strs(&scan("whole.db"));
    let undisturbed: Vec<&str> = undisturbed.iter().map(String::as_str).collect();
    let expected = rows(&ajar.run(&undisturbed).unwrap().findings().unwrap());
    let open = expected.iter().filter(|row| row.1 == Verdict::Open).count();
    assert_eq!((expected.len(), open), (4, 2), "{expected:?}");

    for (store, sent) in [("killed.db", Signal::KILL), ("stopped.db", Signal::INT)] {
        let arguments = strs(&scan(store));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut child = ajar
            .spawn(&arguments, store.trim_end_matches(".db"))
            .unwrap();
        let id = announced(&ajar, store.trim_end_matches(".db"));
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
        let resumed = ajar
            .run(&[
                "scan", "--resume", &id, "--store", store, "--format", "jsonl",
            ])
            .unwrap();
        assert_eq!(
            rows(&resumed.findings().unwrap()),
            expected,
            "after {sent:?}: {}",
            resumed.stderr
        );
        let again = ajar
            .run(&["findings", "export", "--store", store, "--campaign", &id])
            .unwrap();
        assert_eq!(again.stdout, resumed.stdout);
    }
}
