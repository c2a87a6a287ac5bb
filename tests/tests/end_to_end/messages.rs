//! Messages for people: errors at the start, progress, and formats by file name.

use std::{fs, process::Command};

use ajar_model::{Verdict, judge::Doubt};
use ajar_tests::{Access, Ajar, Postfix, Site, at, finished};

#[test]
fn what_cannot_be_done_is_refused_with_the_remedy() {
    let ajar = Ajar::new().unwrap();
    ajar.make_signer().unwrap();
    ajar.shell(
        "ssh-keygen -q -t rsa -N '' -f rsa
         ssh-keygen -q -t ecdsa -N '' -f ecdsa
         touch taken.toml.sig",
    )
    .unwrap();
    let authorize = |more: &str| format!("authorize 192.0.2.0/24 --canary 192.0.2.1 {more}");
    let ops = "--contact ops@example.net";
    for (line, words) in [
        (
            authorize(&format!("--key rsa {ops} -o a.toml")),
            "rsa is of the type ssh-rsa: only Ed25519 keys can sign",
        ),
        (
            authorize(&format!("--key ecdsa {ops} -o a.toml")),
            "only Ed25519 keys can",
        ),
        (
            authorize("--key key --contact nobody -o a.toml"),
            "expected a mail address",
        ),
        (
            authorize(&format!("--key key {ops} -o -")),
            "an authorization is two files",
        ),
        (
            authorize(&format!("--key key {ops} -o taken.toml")),
            "taken.toml.sig exists already: remove it",
        ),
        (
            "findings list --store postgres://ajar:s3/cret@127.0.0.1/ajar".to_owned(),
            "has a '/', which ends it: write it as %2F",
        ),
        (
            "coordinator --redis redis://:s3#cret@127.0.0.1/0".to_owned(),
            "has a '#', which ends it: write it as %23",
        ),
    ] {
        let refused = ajar.run(&line).unwrap();
        assert_eq!(refused.status, 2, "{line}: {}", refused.stderr);
        assert!(refused.stderr.contains(words), "{line}: {}", refused.stderr);
        assert!(!refused.stderr.contains("cret"), "{}", refused.stderr);
    }
    let vast = format!("authorize 0.0.0.0/0 --canary 192.0.2.1 --key key {ops} -o vast.toml");
    let vast = ajar.run(&vast).unwrap();
    assert_eq!(vast.status, 0);
    assert!(
        vast.stderr.contains("more than any one owner has"),
        "{vast:?}"
    );
    let mut command = ajar.command("probes");
    let probes = finished(command.env("AJAR_RTE", "5")).unwrap();
    assert!(
        probes.stderr.contains("did you mean AJAR_RATE?"),
        "{probes:?}"
    );
}

#[test]
fn a_store_that_cannot_be_written_is_read() {
    let ajar = Ajar::new().unwrap();
    let scan = ajar.run("scan 127.0.94.1 -p 9 --settle 1s").unwrap();
    assert_eq!(scan.status, 0, "{}", scan.stderr);
    ajar.shell(
        "mkdir shared; cp ajar.db shared; chmod 644 shared/ajar.db; chmod 555 shared; chmod 755 .",
    )
    .unwrap();
    let program = ajar.command("");
    let mut unprivileged = Command::new("setpriv");
    unprivileged
        .args(["--reuid=65534", "--clear-groups"])
        .arg(program.get_program())
        .args(["audit", "show", "--store", "shared/ajar.db"])
        .current_dir(ajar.path());
    let shown = finished(&mut unprivileged).unwrap();
    assert!(shown.stdout.contains("campaign.submit"), "{shown:?}");
}

#[test]
fn the_last_line_counts_and_json_logs_are_json_alone() {
    let site = Site::new().squid("127.0.94.2:3128", Access::Open);
    let asked = "127.0.94.2-127.0.94.3 -p 3128 --settle 1s";
    let scan = site.scan(asked);
    let last = scan.stderr.lines().last();
    assert_eq!(
        last,
        Some("2/2 targets, 1 answered, 1 open"),
        "{}",
        scan.stderr
    );
    let line = site.scan_line(&format!("{asked} -o results.csv"));
    let line = line.replace("--format jsonl", "");
    let scan = site.ajar.run(&format!("--log-json {line}")).unwrap();
    assert_eq!(scan.status, 0, "{}", scan.stderr);
    for line in scan.stderr.lines() {
        let logged: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(
            logged.is_ok_and(|logged| logged["level"].is_string()),
            "{line}"
        );
    }
    let results = fs::read_to_string(site.ajar.path().join("results.csv")).unwrap();
    assert!(results.starts_with("id,campaign,"), "{results}");
    assert!(!results.contains('?'), "{results}");
    let failed = site.ajar.run("--log-json scan 192.0.2.1 -p 25").unwrap();
    let logged: serde_json::Value = serde_json::from_str(failed.stderr.trim()).unwrap();
    assert_eq!(logged["level"], "ERROR", "{failed:?}");

    let sweep = site.ajar.run("sweep 127.0.94.2 -p 3128").unwrap();
    assert_eq!(sweep.stderr.trim(), "1/1 targets, 1 answered");
    // The door was asked from inside only, so the zone is empty and has no date.
    let zone = site.ajar.run("findings export --format rbldnsd").unwrap();
    assert!(!zone.stdout.contains("1970"), "{}", zone.stdout);
}

#[test]
fn a_canary_without_port_25_is_named_as_the_reason() {
    let site = Site::new();
    let relay = Postfix::start(
        Access::Open,
        at("127.0.94.4:2525"),
        ["elsewhere.test", "elsewhere.example"],
        site.canary_mail(),
    )
    .unwrap();
    relay.configure(&["default_transport=discard"]).unwrap();
    let asked = "127.0.94.4 -p 2525 --probes smtp-relay --settle 2s";
    let findings = site.scan(asked).findings().unwrap();
    assert_eq!(findings[0].verdict, Verdict::Unproven);
    assert_eq!(findings[0].doubt, Some(Doubt::CanaryPort));
    let shown = site.ajar.run("findings show 127.0.94.4:2525").unwrap();
    assert!(
        shown.stdout.contains("did not have port 25"),
        "{}",
        shown.stdout
    );
    assert!(
        shown.stdout.contains("direct/external: accepted (250)"),
        "{}",
        shown.stdout
    );
}
