//! An audit of real servers, open and closed.

use std::net::SocketAddr;

use ajar_model::{Verdict, proof::Kind};
use ajar_tests::{Access, Ajar, DOMAIN, Dante, Postfix, Squid, free_port};

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
    let findings = scan.findings().unwrap();
    let found: Vec<(SocketAddr, Verdict, Option<Kind>)> = findings
        .iter()
        .map(|f| {
            (
                SocketAddr::new(f.ip, f.port),
                f.verdict,
                f.proof.as_ref().map(|proof| proof.kind),
            )
        })
        .collect();
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
