//! Hosts with several addresses, of which one lets in what another does not.

use std::fs;

use ajar_model::{Finding, Verdict, finding::Difference};
use ajar_tests::{Access, DOMAINS, Finished, Postfix, Site, at, with_hosts};

/// Open by IPv6, closed by IPv4, and a third address at which nothing listens.
struct Host {
    site: Site,
    _postfixes: [Postfix; 2],
}

impl Host {
    fn start(four: &str, port: u16) -> Self {
        let site = Site::new();
        let postfix = |access, endpoint: String| {
            Postfix::start(access, at(&endpoint), DOMAINS, site.canary_mail()).unwrap()
        };
        Self {
            _postfixes: [
                postfix(Access::Open, format!("[::1]:{port}")),
                postfix(Access::Closed, format!("{four}:{port}")),
            ],
            site,
        }
    }
}

/// What is said of the open address.
fn differs(scan: &Finished) -> Vec<Difference> {
    let findings = scan.findings().unwrap();
    let open = findings.iter().filter(|f| f.verdict == Verdict::Open);
    let [open] = open.collect::<Vec<&Finding>>()[..] else {
        panic!("{findings:?}");
    };
    assert_eq!(open.ip.to_string(), "::1");
    open.differs.clone()
}

fn difference(ip: &str, verdict: Option<Verdict>) -> Difference {
    Difference {
        vantage: None,
        ip: Some(ip.parse().unwrap()),
        verdict,
    }
}

#[test]
fn a_host_that_is_open_by_ipv6_alone_is_told_by_its_name() {
    let host = Host::start("127.0.79.1", 2621);
    let ajar = &host.site.ajar;
    let hosts = ajar.path().join("hosts");
    fs::write(
        &hosts,
        "127.0.0.1 localhost\n127.0.79.1 mx.lab.test\n::1 mx.lab.test\n",
    )
    .unwrap();
    let line = host.site.scan_line("mx.lab.test -p 2621 --settle 60s");
    let scan = with_hosts(ajar, &line, &hosts).unwrap();
    let closed = difference("127.0.79.1", Some(Verdict::Closed));
    assert_eq!(differs(&scan), [closed]);
}

#[test]
fn a_host_that_is_open_by_ipv6_alone_is_told_by_its_authorization() {
    let host = Host::start("127.0.79.2", 2622);
    let ajar = &host.site.ajar;
    ajar.make_signer().unwrap();
    let [domain, other] = DOMAINS;
    let may = format!(
        "127.0.79.2/31 ::1 --ports 2622 --canary 127.0.0.1 --canary-domain {domain} --canary-domain {other} \
         --host mx=127.0.79.2,127.0.79.3,::1"
    );
    ajar.authorize("may.toml", &may).unwrap();
    let scan = host
        .site
        .scan("--authorization may.toml --allowed-signers signers --settle 60s");
    let expected = [
        difference("127.0.79.2", Some(Verdict::Closed)),
        difference("127.0.79.3", None),
    ];
    assert_eq!(differs(&scan), expected);
}
