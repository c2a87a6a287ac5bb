//! An audit of real servers, open and closed.

use std::net::SocketAddr;

use ajar_model::{Finding, Verdict, proof::Kind};
use ajar_tests::{Access, Finished, Front, Site, at};

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
    let site = Site::new()
        .postfix("127.0.7.1:2525", Access::Open)
        .postfix("127.0.7.2:2525", Access::Closed)
        .squid("127.0.7.3:3128", Access::Open)
        .squid("127.0.7.4:3128", Access::Closed)
        .dante("127.0.7.5:1080", Access::Open)
        .dante("127.0.7.6:1080", Access::Closed);
    let scan =
        site.scan("127.0.7.0/29 -p 1080,2525,3128 --rate 200 --prefix-rate 200 --settle 60s");
    let expected = [
        (at("127.0.7.1:2525"), Verdict::Open, Some(Kind::Mail)),
        (at("127.0.7.2:2525"), Verdict::Closed, None),
        (at("127.0.7.3:3128"), Verdict::Open, Some(Kind::Tunnel)),
        (at("127.0.7.4:3128"), Verdict::Closed, None),
        (at("127.0.7.5:1080"), Verdict::Open, Some(Kind::Tunnel)),
        (at("127.0.7.6:1080"), Verdict::Closed, None),
    ];
    assert_eq!(rows(&scan), expected, "{}", scan.stdout);
}

#[test]
fn a_telnet_style_gateway_is_proven_and_one_that_refuses_is_closed() {
    let site = Site::new()
        .telnet_gateway("127.0.12.1:2323", Access::Open)
        .telnet_gateway("127.0.12.2:2323", Access::Closed);
    let scan = site.scan("127.0.12.0/30 -p 2323 --settle 1s");
    let expected = [
        (at("127.0.12.1:2323"), Verdict::Open, Some(Kind::Tunnel)),
        (at("127.0.12.2:2323"), Verdict::Closed, None),
    ];
    assert_eq!(rows(&scan), expected, "{}", scan.stdout);
}

#[test]
fn a_web_server_that_fetches_what_a_stranger_names_is_proven() {
    let nginx = |host: u8, locations: &str| {
        Front::nginx(at(&format!("127.0.28.{host}:8080")), locations).unwrap()
    };
    let _servers = (
        nginx(1, "location / { proxy_pass http://$http_host; }"),
        nginx(2, "location ~ ^/(https?):/+(.*)$ { proxy_pass $1://$2; }"),
        nginx(3, "location ~ ^/(.+)$ { proxy_pass http://$1; }"),
        nginx(
            4,
            "location / { if ($arg_url = '') { return 404; } proxy_pass $arg_url; }",
        ),
        nginx(5, "location / { return 200 own; }"),
    );
    let site = Site::new();
    let scan = site.scan("127.0.28.0/29 -p 8080 --settle 1s");
    let probes: Vec<String> = scan
        .findings()
        .unwrap()
        .iter()
        .map(|f| format!("{} {}", f.verdict.as_str(), f.probe))
        .collect();
    let expected = [
        // nginx takes the host of an absolute URI for that of the field.
        "open http-get",
        "open http-path",
        "open http-path",
        "open http-path",
        "not_a_service http-connect",
    ];
    assert_eq!(probes, expected, "{}", scan.stdout);
}

#[test]
fn a_proxy_inside_tls_or_on_a_port_that_others_share_is_proven() {
    let site = Site::new()
        .dante("127.0.30.1:1080", Access::Open)
        .squid("127.0.30.2:3128", Access::Closed);
    let (socks, http) = (at("127.0.30.1:1080"), at("127.0.30.2:3128"));
    let _fronts = (
        Front::stunnel(at("127.0.30.3:8443"), socks).unwrap(),
        Front::sslh(at("127.0.30.4:8080"), http, socks).unwrap(),
    );
    let scan = site.scan("127.0.30.3-127.0.30.4 -p 8080,8443 --settle 1s");
    let findings = scan.findings().unwrap();
    let seen: Vec<_> = findings
        .iter()
        .map(|f| {
            let socks = f.variants.iter().any(|name| name.starts_with("socks5:"));
            (f.verdict, socks, f.tls)
        })
        .collect();
    let expected = [(Verdict::Open, true, true), (Verdict::Open, true, false)];
    assert_eq!(seen, expected, "{}", scan.stdout);
}

#[test]
fn a_proxy_that_speaks_http_2_alone_is_proven() {
    let site = Site::new()
        .squid("127.0.32.1:3128", Access::Open)
        .squid("127.0.32.2:3128", Access::Closed);
    let nghttpx = |endpoint, proxy| Front::nghttpx(at(endpoint), at(proxy)).unwrap();
    let _fronts = (
        nghttpx("127.0.32.3:8443", "127.0.32.1:3128"),
        nghttpx("127.0.32.4:8443", "127.0.32.2:3128"),
    );
    let scan = site.scan("127.0.32.3-127.0.32.4 -p 8443 --settle 1s");
    let findings = scan.findings().unwrap();
    let seen: Vec<_> = findings
        .iter()
        .map(|f| (f.verdict, f.probe.as_str(), f.tls))
        .collect();
    let expected = [
        (Verdict::Open, "http2-connect", true),
        (Verdict::Closed, "http2-connect", true),
    ];
    assert_eq!(seen, expected, "{}", scan.stdout);
}
