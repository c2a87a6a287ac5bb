//! A cluster in processes of its own finds what a local run finds, row by row.

use std::net::SocketAddr;

use ajar_model::{Finding, Verdict};
use std::time::{Duration, Instant};

use ajar_proto::{dial::Coordinator, v1};
use ajar_tests::{Access, Site};

/// Endpoint, verdict, probe, variants, egress.
type Row = (SocketAddr, Verdict, String, Vec<String>, Option<String>);

/// What does not depend on who ran it, and when.
fn rows(findings: Vec<Finding>) -> Vec<Row> {
    findings
        .into_iter()
        .map(|f| {
            let egress = f.proof.map(|proof| proof.egress_ip.to_string());
            (
                SocketAddr::new(f.ip, f.port),
                f.verdict,
                f.probe.to_string(),
                f.variants,
                egress,
            )
        })
        .collect()
}

#[test]
fn two_workers_find_what_a_local_run_finds() {
    let site = Site::new()
        .postfix("127.0.20.1:2525", Access::Open)
        .postfix("127.0.21.1:2525", Access::Closed)
        .squid("127.0.22.1:3128", Access::Open)
        .squid("127.0.23.1:3128", Access::Closed)
        .dante("127.0.24.1:1080", Access::Open)
        .dante("127.0.25.1:1080", Access::Closed);
    let targets = (20..=27).map(|block| format!("127.0.{block}.0/29"));
    let asked = format!(
        "{} -p 1080,2525,3128 --rate 200 --prefix-rate 50 --settle 60s",
        targets.collect::<Vec<_>>().join(" ")
    );
    let local = rows(site.scan(&asked).findings().unwrap());
    assert_eq!(local.len(), 6, "{local:?}");
    let open = local.iter().filter(|row| row.1 == Verdict::Open).count();
    assert_eq!(open, 3, "{local:?}");

    let cluster = site.cluster().workers(2).start().unwrap();
    let id = cluster.submit(&asked).unwrap();
    assert_eq!(id.len(), 26, "the id alone is printed: {id:?}");
    let watched = cluster.run(&format!("campaign watch {id}")).unwrap();
    assert!(watched.stdout.contains("finished"), "{watched:?}");
    let export = format!("findings export --campaign {id}");
    let exported = cluster.run(&export).unwrap();
    assert_eq!(rows(exported.findings().unwrap()), local);

    // Whoever asks for a campaign that is over gets its results, and visits nobody again.
    let resumed = cluster
        .run(&format!("scan --resume {id} --format jsonl"))
        .unwrap();
    assert_eq!(resumed.stdout, exported.stdout, "{}", resumed.stderr);
}

#[tokio::test]
async fn a_worker_that_is_busy_and_asks_for_nothing_keeps_others_from_its_part_of_the_rate() {
    let site = Site::new();
    let cluster = site.cluster().workers(0).start().unwrap();
    // 32 shards, of which sixteen for each worker are to run side by side: all of them.
    cluster
        .submit("127.1.0.0/19 -p 25 --rate 160 --prefix-rate 20")
        .unwrap();
    let coordinator = Coordinator::remote(&cluster.url(), None, false).unwrap();
    let lease = async |worker: &str| {
        let request = v1::LeaseRequest {
            worker: worker.to_owned(),
            vantage: "here".to_owned(),
            ..v1::LeaseRequest::default()
        };
        let answer = coordinator.work().lease(request).await.unwrap();
        answer.into_inner().lease.unwrap()
    };
    let busy = [("ann", lease("ann").await), ("bob", lease("bob").await)];
    let started = Instant::now();
    // For longer than whoever asks for nothing is remembered.
    while started.elapsed() < Duration::from_secs(33) {
        for (worker, lease) in &busy {
            let renewal = v1::RenewRequest {
                shard: lease.shard.clone(),
                token: lease.token,
                want_rate: lease.rate,
                worker: (*worker).to_owned(),
                rate: lease.rate,
                number: 0,
                revision: 0,
            };
            let renewed = coordinator.work().renew(renewal).await.unwrap();
            assert!(renewed.into_inner().kept);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(lease("cid").await.rate, 160 / 32);
}

#[tokio::test]
async fn a_worker_that_lacks_a_probe_gets_no_lease_and_has_not_failed() {
    let cluster = Site::new().cluster().workers(0).start().unwrap();
    let asked = "127.0.65.1 -p 3128 --probes http-connect,socks5 --settle 1s";
    let id = cluster.submit(asked).unwrap();
    let coordinator = Coordinator::remote(&cluster.url(), None, true).unwrap();
    let ask = async |probes: &[&str]| {
        let request = v1::LeaseRequest {
            worker: format!("knows-{}", probes.len()),
            vantage: "here".to_owned(),
            probes: probes.iter().map(ToString::to_string).collect(),
        };
        let answer = coordinator.work().lease(request).await.unwrap();
        answer.into_inner().lease
    };
    assert!(ask(&["http-connect"]).await.is_none());
    let shown = cluster.show(&id).unwrap();
    assert!(shown.contains("does not know the probe socks5"), "{shown}");
    assert!(shown.contains(" 0 given up"), "{shown}");
    // One of the version before names none, and has them all.
    for _ in 0..20 {
        if ask(&[]).await.is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    panic!("no lease");
}
