//! Redis, PostgreSQL and the coordinator go away and come back; the audit ends with the rows of an undisturbed one.

use std::{net::SocketAddr, thread, time::Duration};

use ajar_model::{Finding, Verdict};
use ajar_tests::{
    Access, Ajar, Cluster, DOMAIN, Postfix, Postgres, Redis, Squid, await_line, free_port,
};

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
    let canary: [u16; 4] = std::array::from_fn(|_| free_port().unwrap());
    let sink: SocketAddr = format!("127.0.0.1:{}", canary[0]).parse().unwrap();
    let at = |block: u8, host: u8, port: u16| SocketAddr::from(([127, 0, block, host], port));
    let _servers = (
        Postfix::start(Access::Open, at(40, 1, 2525), DOMAIN, sink).unwrap(),
        Postfix::start(Access::Closed, at(41, 3, 2525), DOMAIN, sink).unwrap(),
        Squid::start(Access::Open, at(42, 5, 3128)).unwrap(),
        Squid::start(Access::Closed, at(43, 6, 3128)).unwrap(),
    );
    let ajar = Ajar::new().unwrap();
    let ports = canary.map(|port| port.to_string()).join(",");
    let targets = "127.0.40.0/28 127.0.41.0/28 127.0.42.0/28 127.0.43.0/28 -p 2525,3128 \
         --prefix-rate 20 --settle 30s --format jsonl --canary-domain canary.test";
    let scan = |rest: &str| {
        let arguments = format!("scan {targets} {rest}");
        ajar.run(&arguments.split_whitespace().collect::<Vec<_>>())
            .unwrap()
    };
    let undisturbed = scan(&format!(
        "--rate 100 --canary-ports {ports} --store whole.db"
    ));
    let undisturbed = rows(&undisturbed.findings().unwrap());
    let open = undisturbed.iter().filter(|row| row.1 == Verdict::Open);
    assert_eq!((undisturbed.len(), open.count()), (4, 2), "{undisturbed:?}");

    let (mut redis, mut postgres) = (Redis::start().unwrap(), Postgres::start().unwrap());
    let stores = [redis.url(), postgres.url()];
    let mut cluster = Cluster::start(&ajar, &stores[0], &stores[1], &ports, 2, &[]).unwrap();
    let url = cluster.url();
    let disturbed = thread::scope(|scope| {
        let scan = scope.spawn(|| scan(&format!("--rate 8 --coordinator {url}")));
        let pause = || thread::sleep(Duration::from_secs(2));
        pause();
        redis.stop();
        pause();
        redis.up().unwrap();
        pause();
        postgres.stop().unwrap();
        pause();
        postgres.up().unwrap();
        pause();
        cluster.kill("coordinator");
        pause();
        cluster.start_coordinator(&ajar).unwrap();
        scan.join().unwrap()
    });
    let found = disturbed.findings().unwrap();
    assert_eq!(rows(&found), undisturbed, "{}", disturbed.stderr);
    assert!(
        disturbed.stderr.contains("waiting for it"),
        "the outage was over before it was noticed: {}",
        disturbed.stderr
    );
}

#[test]
fn a_coordinator_waits_for_its_stores_and_says_which() {
    let ajar = Ajar::new().unwrap();
    let (mut redis, mut postgres) = (Redis::down().unwrap(), Postgres::down().unwrap());
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let (redis_url, postgres_url) = (redis.url(), postgres.url());
    let arguments = [
        "coordinator",
        "--listen",
        &listen,
        "--redis",
        &redis_url,
        "--store",
        &postgres_url,
    ];
    let mut waiting = ajar.spawn(&arguments, "waiting").unwrap();
    let address = |url: &str| url.rsplit('@').next().unwrap().to_owned();
    await_line(&ajar, "waiting", &address(&postgres_url)).unwrap();
    postgres.up().unwrap();
    await_line(&ajar, "waiting", &redis_url).unwrap();
    redis.up().unwrap();
    await_line(&ajar, "waiting", "the coordinator is ready").unwrap();
    waiting.kill().unwrap();
    waiting.wait().unwrap();

    redis.stop();
    let gave_up = ajar.run(&arguments).unwrap();
    assert_eq!(gave_up.status, 1, "{}", gave_up.stderr);
    let last = gave_up.stderr.lines().last().unwrap_or_default();
    assert!(last.contains(&redis_url), "{}", gave_up.stderr);
}
