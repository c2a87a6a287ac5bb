//! Who did what is on record, and a change of the record shows. The stock programs ssh-keygen, sqlite3 and openssl are the oracle.

use ajar_tests::{Site, free_port};

#[test]
fn a_changed_a_removed_and_a_remade_log_are_told_from_the_one_that_was_signed() {
    let site = Site::new();
    let ajar = &site.ajar;
    ajar.make_signer().unwrap();
    for port in ["9", "10"] {
        let scan = site.scan(&format!("127.0.0.1 -p {port} --tier connect"));
        assert_eq!(scan.status, 0, "{}", scan.stderr);
    }
    let shown = ajar.run("audit show").unwrap();
    assert_eq!(
        shown.stdout.matches("campaign.submit").count(),
        2,
        "{}",
        shown.stdout
    );
    assert!(shown.stdout.contains("local user "), "{}", shown.stdout);
    // Each campaign ended by itself, which is on record too.
    assert_eq!(shown.stdout.matches("campaign.end").count(), 2);

    let head = ajar.run("audit head").unwrap();
    std::fs::write(ajar.path().join("head"), &head.stdout).unwrap();
    ajar.shell("ssh-keygen -q -Y sign -n ajar-audit -f key head")
        .unwrap();
    let verify = "audit verify --head head --allowed-signers signers";
    let whole = ajar.run(verify).unwrap();
    assert_eq!(whole.status, 0, "{}", whole.stderr);
    assert!(whole.stdout.contains("ops@example.net"), "{}", whole.stdout);

    ajar.shell(
        "sqlite3 ajar.db 'DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete'; cp ajar.db good.db",
    )
    .unwrap();
    ajar.shell("sqlite3 ajar.db \"UPDATE audit SET actor = 'nobody' WHERE number = 1\"")
        .unwrap();
    let changed = ajar.run("audit verify").unwrap();
    assert_eq!(changed.status, 1);
    assert!(
        changed.stderr.contains("broken at entry 1"),
        "{}",
        changed.stderr
    );

    // A cut end leaves a whole chain: only the head that was kept elsewhere shows it.
    ajar.shell("cp good.db ajar.db; sqlite3 ajar.db 'DELETE FROM audit WHERE number = 4'")
        .unwrap();
    assert_eq!(ajar.run("audit verify").unwrap().status, 0);
    let cut = ajar.run(verify).unwrap();
    assert_eq!(cut.status, 1);
    assert!(cut.stderr.contains("changed or cut"), "{}", cut.stderr);

    ajar.shell("cp good.db ajar.db; sed -i 's/entry 4/entry 1/' head")
        .unwrap();
    let forged = ajar.run(verify).unwrap();
    assert_eq!(forged.status, 2);
    assert!(
        forged.stderr.contains("over another text"),
        "{}",
        forged.stderr
    );
}

#[test]
fn whoever_steers_a_cluster_is_named_by_their_certificate() {
    let site = Site::new();
    let ajar = &site.ajar;
    ajar.shell(
        "openssl req -x509 -newkey ed25519 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 2
         sign() { openssl req -newkey ed25519 -nodes -keyout $1.key -subj /CN=$1 -out $1.csr
                  printf 'subjectAltName=IP:127.0.0.1,URI:https://example.net/ajar/operator,URI:https://example.net/ajar/canary\n' >$1.ext
                  openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $1.ext -out $1.pem; }
         sign server; sign alice",
    )
    .unwrap();
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let server = format!(
        "coordinator --listen {listen} --tls-cert server.pem --tls-key server.key --tls-ca ca.pem"
    );
    let mut coordinator = ajar.spawn(&server, "coordinator").unwrap();
    ajar.await_line("coordinator", "the coordinator is ready")
        .unwrap();
    let alice = format!(
        "--coordinator https://{listen} --tls-cert alice.pem --tls-key alice.key --tls-ca ca.pem"
    );
    let ports = site.canary_ports();
    let canary = format!("canary --domain canary.test --canary-ports {ports} {alice}");
    let mut canary = ajar.spawn(&canary, "canary").unwrap();
    ajar.await_line("coordinator", "a canary is ready").unwrap();
    let run = |line: String| ajar.run(&line).unwrap();
    let submitted = run(format!("campaign submit 127.0.0.1 -p 9 {alice}"));
    let paused = run(format!("campaign stop-all {alice}"));
    let shown = run(format!("audit show {alice}"));
    let anonymous = run(format!(
        "audit show --coordinator https://{listen} --tls-ca ca.pem"
    ));
    for process in [&mut canary, &mut coordinator] {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    assert_eq!(
        (submitted.status, paused.status),
        (0, 0),
        "{}{}",
        submitted.stderr,
        paused.stderr
    );
    for action in ["campaign.submit", "campaign.stop-all"] {
        let line = shown.stdout.lines().find(|line| line.contains(action));
        let line = line.unwrap_or_else(|| panic!("{action}: {}{}", shown.stdout, shown.stderr));
        assert!(
            line.contains("https://example.net/ajar/operator (sha256 "),
            "{line}"
        );
    }
    assert_ne!(anonymous.status, 0, "{}", anonymous.stdout);
}
