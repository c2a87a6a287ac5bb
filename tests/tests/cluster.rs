//! A cluster in processes of its own finds what a local run finds, row by row.

use std::net::SocketAddr;

use ajar_model::{Finding, Verdict};
use ajar_tests::{
    Access, Ajar, Cluster, DOMAIN, Dante, Postfix, Postgres, Redis, Squid, free_port,
};

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
    let canary: [u16; 4] = std::array::from_fn(|_| free_port().unwrap());
    let sink: SocketAddr = format!("127.0.0.1:{}", canary[0]).parse().unwrap();
    let at =
        |block: u8, port: u16| -> SocketAddr { format!("127.0.{block}.1:{port}").parse().unwrap() };
    let _servers = (
        Postfix::start(Access::Open, at(20, 2525), DOMAIN, sink).unwrap(),
        Postfix::start(Access::Closed, at(21, 2525), DOMAIN, sink).unwrap(),
        Squid::start(Access::Open, at(22, 3128)).unwrap(),
        Squid::start(Access::Closed, at(23, 3128)).unwrap(),
        Dante::start(Access::Open, at(24, 1080)).unwrap(),
        Dante::start(Access::Closed, at(25, 1080)).unwrap(),
    );
    let ajar = Ajar::new().unwrap();
    let ports = canary.map(|port| port.to_string()).join(",");
    let targets: Vec<String> = (20..=27)
        .map(|block| format!("127.0.{block}.0/29"))
        .collect();
    let asked = |rest: &[&str]| -> Vec<String> {
        let fixed = [
            "-p",
            "1080,2525,3128",
            "--rate",
            "200",
            "--prefix-rate",
            "50",
            "--settle",
            "20s",
            "--canary-domain",
            DOMAIN,
        ];
        targets
            .iter()
            .map(String::as_str)
            .chain(fixed)
            .chain(rest.iter().copied())
            .map(str::to_owned)
            .collect()
    };
    let run = |first: &[&str], rest: &[&str]| {
        let arguments: Vec<String> = first
            .iter()
            .map(|s| (*s).to_owned())
            .chain(asked(rest))
            .collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        ajar.run(&arguments).unwrap()
    };
    let local = run(
        &["scan"],
        &[
            "--canary-ports",
            &ports,
            "--format",
            "jsonl",
            "--store",
            "local.db",
        ],
    );
    let local = rows(local.findings().unwrap());
    assert_eq!(local.len(), 6, "{local:?}");
    assert_eq!(
        local.iter().filter(|row| row.1 == Verdict::Open).count(),
        3,
        "{local:?}"
    );

    let (redis, postgres) = (Redis::start().unwrap(), Postgres::start().unwrap());
    let cluster = Cluster::start(&ajar, &redis.url(), &postgres.url(), &ports, 2, &[]).unwrap();
    let url = cluster.url();
    let submitted = run(&["campaign", "submit"], &["--coordinator", &url]);
    assert_eq!(submitted.status, 0, "{}", submitted.stderr);
    let id = submitted.stdout.trim();
    assert_eq!(
        id.len(),
        26,
        "the id alone is printed: {:?}",
        submitted.stdout
    );
    let watched = ajar
        .run(&["campaign", "watch", id, "--coordinator", &url])
        .unwrap();
    assert!(
        watched.stdout.contains("finished"),
        "{} {}",
        watched.stdout,
        watched.stderr
    );
    let exported = ajar
        .run(&[
            "findings",
            "export",
            "--campaign",
            id,
            "--coordinator",
            &url,
        ])
        .unwrap();
    assert_eq!(rows(exported.findings().unwrap()), local);
}
