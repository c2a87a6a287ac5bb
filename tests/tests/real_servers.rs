//! An audit of real servers, open and closed.

use std::net::SocketAddr;

use ajar_model::{Finding, Verdict, proof::Kind};
use ajar_tests::{Access, Ajar, DOMAIN, Dante, Finished, Postfix, Squid, TelnetGateway, free_port};

type Row = (SocketAddr, Verdict, Option<Kind>);

fn rows(scan: &Finished) -> Vec<Row> {
    let findings = scan.findings().unwrap();
    let row = |f: &Finding| {
        let endpoint = SocketAddr::new(f.ip, f.port);
        (
            endpoint,
            f.verdict,
            f.proof.as_ref().map(|proof| proof.kind),
        )
    };
    findings.iter().map(row).collect()
}

#[test]
fn real_relays_and_proxies_are_judged_as_what_they_are() {
    let canary: [u16; 4] = std::array::from_fn(|_| free_port().unwrap());
    let sink: SocketAddr = format!("127.0.0.1:{}", canary[0]).parse().unwrap();
    let at =
        |host: u8, port: u16| -> SocketAddr { format!("127.0.7.{host}:{port}").parse().unwrap() };
    let _servers = (
        Postfix::start(Access::Open, at(1, 2525), DOMAIN, sink).unwrap(),
        Postfix::start(Access::Closed, at(2, 2525), DOMAIN, sink).unwrap(),
        Squid::start(Access::Open, at(3, 3128)).unwrap(),
        Squid::start(Access::Closed, at(4, 3128)).unwrap(),
        Dante::start(Access::Open, at(5, 1080)).unwrap(),
        Dante::start(Access::Closed, at(6, 1080)).unwrap(),
    );
    let ajar = Ajar::new().unwrap();
    let ports = canary.map(|port| port.to_string()).join(",");
    let scan = ajar
        .run(&[
            "scan",
            "127.0.7.0/29",
            "-p",
            "1080,2525,3128",
            "--rate",
            "200",
            "--prefix-rate",
            "200",
            "--settle",
            "20s",
            "--canary-domain",
            DOMAIN,
            "--canary-ports",
            &ports,
            "--format",
            "jsonl",
        ])
        .unwrap();
    let found = rows(&scan);
    let expected = vec![
        (at(1, 2525), Verdict::Open, Some(Kind::Mail)),
        (at(2, 2525), Verdict::Closed, None),
        (at(3, 3128), Verdict::Open, Some(Kind::Tunnel)),
        (at(4, 3128), Verdict::Closed, None),
        (at(5, 1080), Verdict::Open, Some(Kind::Tunnel)),
        (at(6, 1080), Verdict::Closed, None),
    ];
    assert_eq!(found, expected, "{}", scan.stdout);
}

#[test]
fn a_telnet_style_gateway_is_proven_and_one_that_refuses_is_closed() {
    let canary: [u16; 4] = std::array::from_fn(|_| free_port().unwrap());
    let at = |host: u8| -> SocketAddr { format!("127.0.12.{host}:2323").parse().unwrap() };
    let _servers = (
        TelnetGateway::start(Access::Open, at(1)).unwrap(),
        TelnetGateway::start(Access::Closed, at(2)).unwrap(),
    );
    let ports = canary.map(|port| port.to_string()).join(",");
    let arguments = format!(
        "scan 127.0.12.0/30 -p 2323 --settle 1s --format jsonl \
         --canary-domain {DOMAIN} --canary-ports {ports}"
    );
    let ajar = Ajar::new().unwrap();
    let scan = ajar.run(&arguments.split(' ').collect::<Vec<_>>()).unwrap();
    let expected = [
        (at(1), Verdict::Open, Some(Kind::Tunnel)),
        (at(2), Verdict::Closed, None),
    ];
    assert_eq!(rows(&scan), expected, "{}", scan.stdout);
}
