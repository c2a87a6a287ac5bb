//! Redis, PostgreSQL and the coordinator go away and come back; the audit ends with the rows of an undisturbed one.

use std::{net::SocketAddr, thread, time::Duration};

use ajar_model::{Finding, Verdict};
use ajar_tests::{Access, Ajar, Front, Postgres, Redis, Site, free_port};

/// What does not depend on when it was seen.
fn rows(findings: &[Finding]) -> Vec<(SocketAddr, Verdict, String, Vec<String>)> {
    let row = |f: &Finding| {
        let endpoint = SocketAddr::new(f.ip, f.port);
        (endpoint, f.verdict, f.probe.to_string(), f.variants.clone())
    };
    findings.iter().map(row).collect()
}

#[test]
fn stores_that_are_away_are_waited_for_and_nothing_is_lost() {
    let site = Site::new()
        .postfix("127.0.40.1:2525", Access::Open)
        .postfix("127.0.41.3:2525", Access::Closed)
        .squid("127.0.42.5:3128", Access::Open)
        .squid("127.0.43.6:3128", Access::Closed);
    let asked = "127.0.40.0/28 127.0.41.0/28 127.0.42.0/28 127.0.43.0/28 -p 2525,3128 \
         --prefix-rate 20 --settle 30s";
    let undisturbed = site.scan(&format!("{asked} --rate 100"));
    let undisturbed = rows(&undisturbed.findings().unwrap());
    let open = undisturbed.iter().filter(|row| row.1 == Verdict::Open);
    assert_eq!((undisturbed.len(), open.count()), (4, 2), "{undisturbed:?}");

    let mut cluster = site.cluster().workers(2).start().unwrap();
    let slow = format!(
        "scan {asked} --rate 8 --format jsonl --coordinator {}",
        cluster.url()
    );
    let disturbed = thread::scope(|scope| {
        let scan = scope.spawn(|| site.ajar.run(&slow).unwrap());
        let pause = || thread::sleep(Duration::from_secs(2));
        pause();
        cluster.redis.stop();
        pause();
        cluster.redis.up().unwrap();
        pause();
        cluster.postgres.stop().unwrap();
        pause();
        cluster.postgres.up().unwrap();
        pause();
        cluster.kill("coordinator");
        pause();
        cluster.start_coordinator().unwrap();
        scan.join().unwrap()
    });
    let found = disturbed.findings().unwrap();
    let mails =
        "SELECT received_at, judged, nonce IN (SELECT nonce FROM ajar.nonces) FROM ajar.sightings";
    assert_eq!(
        rows(&found),
        undisturbed,
        "{}\nmails:\n{}\ncanary:\n{}\n{found:?}",
        disturbed.stderr,
        cluster.postgres.query(mails).unwrap(),
        std::fs::read_to_string(site.ajar.path().join("canary")).unwrap_or_default(),
    );
    assert!(
        disturbed.stderr.contains("waiting for it"),
        "the outage was over before it was noticed: {}",
        disturbed.stderr
    );
}

#[test]
fn somebody_in_the_canarys_place_is_noticed_before_a_job() {
    let site = Site::new().squid("127.0.77.1:3128", Access::Open);
    let mut cluster = site.cluster().workers(0).start().unwrap();
    cluster.kill("canary");
    let page = site.canary_page();
    let another = Front::nginx(page, "location / { return 200 hello; }").unwrap();
    cluster.start_worker("worker-1").unwrap();
    let asked = "127.0.77.1 -p 3128 --settle 5s";
    let id = cluster.submit(asked).unwrap();
    let patience = Duration::from_secs(60);
    let said = format!("something else answers in place of the canary at {page}");
    cluster.await_state(&id, &said, patience).unwrap();
    drop(another);
    let said = format!("the canary at {} does not answer", site.canary_mail());
    cluster.await_state(&id, &said, patience).unwrap();
    // Nothing was asked of the target, and so nothing is held against it.
    let shown = cluster.show(&id).unwrap();
    assert!(shown.contains("outcomes  0 answered, 0 refused"), "{shown}");
    cluster.start_canary().unwrap();
    cluster.await_state(&id, "finished", patience).unwrap();
    let export = format!("findings export --campaign {id}");
    let findings = cluster.run(&export).unwrap().findings().unwrap();
    let [finding] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert_eq!(finding.verdict, Verdict::Open);
}

#[test]
fn a_coordinator_waits_for_its_stores_and_says_which() {
    let ajar = Ajar::new().unwrap();
    let (mut redis, mut postgres) = (Redis::down().unwrap(), Postgres::down().unwrap());
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let (redis_url, postgres_url) = (redis.url(), postgres.url());
    let coordinator =
        format!("coordinator --listen {listen} --redis {redis_url} --store {postgres_url}");
    let mut waiting = ajar.spawn(&coordinator, "waiting").unwrap();
    let address = |url: &str| url.rsplit('@').next().unwrap().to_owned();
    ajar.await_line("waiting", &address(&postgres_url)).unwrap();
    postgres.up().unwrap();
    ajar.await_line("waiting", &redis_url).unwrap();
    redis.up().unwrap();
    ajar.await_line("waiting", "the coordinator is ready")
        .unwrap();
    waiting.kill().unwrap();
    waiting.wait().unwrap();

    redis.stop();
    let gave_up = ajar.run(&coordinator).unwrap();
    assert_eq!(gave_up.status, 1, "{}", gave_up.stderr);
    let last = gave_up.stderr.lines().last().unwrap_or_default();
    assert!(last.contains(&redis_url), "{}", gave_up.stderr);
}

#[test]
fn a_campaign_says_that_redis_or_postgresql_is_away() {
    let site = Site::new();
    let mut cluster = site.cluster().start().unwrap();
    let slow = "127.0.96.0/24 -p 9 --rate 4 --prefix-rate 4 --settle 1s";
    let id = cluster.submit(slow).unwrap();
    cluster.redis.stop();
    let patience = Duration::from_secs(20);
    let said = format!("redis at {} does not answer", cluster.redis.url());
    cluster.await_state(&id, &said, patience).unwrap();
    cluster.redis.up().unwrap();
    thread::sleep(Duration::from_secs(3));
    let shown = cluster.run(&format!("campaign show {id}")).unwrap();
    assert!(!shown.stdout.contains("redis"), "{}", shown.stdout);
    cluster.postgres.stop().unwrap();
    let shown = cluster.run(&format!("campaign show {id}")).unwrap();
    assert_eq!(shown.status, 1);
    let said = format!("the coordinator at {} cannot answer: ", cluster.url());
    assert!(shown.stderr.contains(&said), "{}", shown.stderr);
    assert!(shown.stderr.contains("store"), "{}", shown.stderr);
}
