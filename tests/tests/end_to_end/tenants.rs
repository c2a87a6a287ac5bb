//! Who acts for one tenant sees and steers what is that tenant's, and nothing else exists for them.

use std::net::TcpListener;

use ajar_tests::{Finished, Site, finished};

use crate::roles::Certified;

/// A cluster with a worker, and an operator of each of two tenants.
fn two_tenants() -> Certified {
    let site = Site::new();
    site.ajar.make_signer().unwrap();
    let config =
        "[coordinator]\nallowed-signers = \"signers\"\n[worker]\nallowed-signers = \"signers\"\n";
    std::fs::write(site.ajar.path().join("ajar.toml"), config).unwrap();
    for (tenant, host) in [("acme", 1), ("umbrella", 2)] {
        let asked = format!(
            "127.0.85.{host} --tenant {tenant} --ports 2525 --canary 127.0.0.1 --canary-domain canary.test"
        );
        let file = format!("{tenant}.toml");
        site.ajar.authorize(&file, &asked).unwrap();
    }
    let mut cluster = Certified::start(site);
    cluster.done("pki issue operator amy --tenant acme");
    cluster.done("pki issue operator bob --tenant umbrella");
    cluster.done("pki issue viewer vic --tenant umbrella");
    cluster.start_canary();
    let worker = format!("worker --vantage here {}", cluster.by("pki/worker-ann"));
    cluster.spawn(&worker, "worker");
    cluster
}

const AMY: &str = "pki/operator-amy";
const BOB: &str = "pki/operator-bob";
const VIC: &str = "pki/viewer-vic";

fn submit(tenant: &str) -> String {
    format!(
        "campaign submit --authorization {tenant}.toml --allowed-signers signers --tier connect --settle 0s"
    )
}

fn put_nightly(cluster: &Certified, who: &str, tenant: &str) -> Finished {
    let line = format!(
        "schedule put nightly --time-zone UTC --authorization {tenant}.toml --allowed-signers signers --tier connect {}",
        cluster.by(who)
    );
    let mut put = cluster.ajar().command(&line);
    finished(put.args(["--cron", "0 3 * * *"])).unwrap()
}

#[test]
fn nobody_sees_or_steers_what_is_another_tenants() {
    let _listener = TcpListener::bind("127.0.85.1:2525").unwrap();
    let cluster = two_tenants();
    let cause = cluster.refused(AMY, &submit("umbrella"));
    assert!(
        cause.contains("does not act for tenant \"umbrella\""),
        "{cause}"
    );
    let submitted = cluster.run(AMY, &submit("acme"));
    assert_eq!(submitted.status, 0, "{}", submitted.stderr);
    let id = submitted.stdout.trim();
    let watched = cluster.run(AMY, &format!("campaign watch {id}"));
    assert!(watched.stdout.contains("finished"), "{watched:?}");
    let found = cluster.run(AMY, "findings list --format jsonl");
    let finding = &found.findings().unwrap()[0].id;

    let kept = put_nightly(&cluster, AMY, "acme");
    assert_eq!(kept.status, 0, "{}", kept.stderr);
    for line in [
        format!("campaign show {id}"),
        format!("campaign watch {id}"),
        format!("campaign pause {id}"),
        format!("campaign resume {id}"),
        format!("campaign cancel {id}"),
        format!("campaign remove {id}"),
        format!("findings show {finding}"),
        "schedule pause nightly".to_owned(),
        "schedule resume nightly".to_owned(),
        "schedule remove nightly".to_owned(),
    ] {
        let cause = cluster.refused(BOB, &line);
        assert!(cause.contains("there is no "), "{line}: {cause}");
    }
    let cause = cluster.refused(VIC, "audit show");
    assert!(cause.contains("is not certified for"), "{cause}");
    for who in [BOB, VIC] {
        let listed = cluster.run(who, "campaign list").stdout;
        assert!(!listed.contains(id), "{listed}");
        assert_eq!(cluster.run(who, "findings list --format jsonl").stdout, "");
        let listed = cluster.run(who, "schedule list").stdout;
        assert!(!listed.contains("nightly"), "{listed}");
    }
    // Each tenant has names of its own.
    let own = put_nightly(&cluster, BOB, "umbrella");
    assert_eq!(own.status, 0, "{}", own.stderr);
    assert_eq!(cluster.run(BOB, "schedule pause nightly").status, 0);
    let listed = cluster.run(AMY, "schedule list").stdout;
    assert!(
        listed.contains("nightly  acme") && !listed.contains("paused"),
        "{listed}"
    );
    // An operator stops their own tenant and no other.
    assert_eq!(cluster.run(BOB, "campaign stop-all").status, 0);
    let stopped = cluster.refused(BOB, &submit("umbrella"));
    assert!(stopped.contains("tenant umbrella was stopped"), "{stopped}");
    let submitted = cluster.run(AMY, &submit("acme"));
    assert_eq!(submitted.status, 0, "{}", submitted.stderr);
    assert_eq!(cluster.run(BOB, "campaign start-again").status, 0);
    // Who is confined to no tenant sees all.
    let listed = cluster.run("pki/viewer-ann", "campaign list").stdout;
    assert!(listed.contains(id), "{listed}");
    let shown = cluster.run("pki/viewer-ann", "audit show").stdout;
    let of = |line: &&str| line.contains("call.refused") && line.contains("another tenant");
    assert_eq!(shown.lines().filter(of).count(), 1, "{shown}");
    assert_eq!(cluster.run(AMY, &format!("campaign remove {id}")).status, 0);
}
