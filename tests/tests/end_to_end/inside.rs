//! What is open to a neighbour need not be open to strangers, and its owner is not told.

use ajar_model::{Finding, Verdict, judge::Doubt};
use ajar_tests::{Ajar, Site, Squid, at, captured, finished};

const REPORTER: &str = "--reporter=Example Net <abuse@example.net>";

/// Debian's rule: the machine itself may use the proxy.
const STOCK: &str = "http_access allow localhost";

#[test]
fn what_is_open_to_its_own_machine_is_not_reported() {
    let endpoint = "127.0.80.1:3128";
    let site = Site::new();
    let _squid = Squid::ruled(at(endpoint), STOCK).unwrap();
    let scan = site.scan("127.0.80.1 -p 3128 --settle 1s --confirm-after 1s");
    let findings = scan.findings().unwrap();
    let [finding] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert_eq!(finding.verdict, Verdict::Open);
    assert!(finding.confirmation.is_some());
    assert_eq!(finding.doubt, Some(Doubt::Inside));
    let at_the_start = "targets are asked from inside";
    assert!(scan.stderr.contains(at_the_start), "{}", scan.stderr);

    let report = |options: &str| {
        let line = format!("findings export --format xarf {options}");
        finished(site.ajar.command(&line).arg(REPORTER)).unwrap()
    };
    let by_itself = report("");
    assert_eq!((by_itself.status, by_itself.stdout.as_str()), (0, ""));
    let left_out =
        "an open endpoint is left out: owners are told only of what is open to strangers";
    assert!(by_itself.stderr.contains(left_out), "{}", by_itself.stderr);
    let audit = report("--inside-counts");
    assert_eq!(audit.stdout.lines().count(), 1, "{audit:?}");
    assert_eq!(audit.stderr, "");
}

/// Two proxies at the far end of a wire: one for its own network, and one for anybody. Their addresses
/// are nobody's special space, and nothing leaves the two namespaces.
const BOTH_ENDS: &str = r#"
    ip link set silent arp on
    ip address add 11.99.0.1/24 dev silent
    ip route add 11.98.0.0/24 dev silent src 11.99.0.1
    $FAR ip address add 11.98.0.1/24 dev wire
    $FAR ip route add 11.99.0.0/24 dev wire src 11.98.0.1
    squid() {
        printf '%s\n' "http_port 11.98.0.1:$1" "acl known src $2" 'http_access allow known' 'http_access deny all' \
            'cache deny all' 'pid_filename none' 'access_log none' 'cache_log /dev/null' 'netdb_filename none' \
            'pinger_enable off' 'coredump_dir /tmp' 'visible_hostname proxy.lab.test' >squid$1.conf
        $FAR /usr/sbin/squid -N -f $PWD/squid$1.conf -n lab$1 2>/dev/null &
        await $FAR curl --silent --output /dev/null http://11.98.0.1:$1/
    }
    squid 3128 11.98.0.0/24
    squid 8080 all
"#;

/// Audits both from one of the ends. Returns what was found, how many reports owners would get, and
/// what was said.
fn audited(end: &str, canary: &str, options: &str) -> (Vec<Finding>, usize, String) {
    let ajar = Ajar::new().unwrap();
    ajar.make_signer().unwrap();
    let domains = "--canary-domain canary.test,canary.example";
    let signed = format!("11.98.0.1 --canary {canary} {domains} --ports 3128,8080");
    ajar.authorize("a.toml", &signed).unwrap();
    let script = format!(
        "{BOTH_ENDS}
        {end} $AJAR scan --authorization a.toml --allowed-signers signers --format jsonl --settle 1s --confirm-after 1s \
            --canary-ports 2525,8000,8443,7401 {options}"
    );
    let seen = captured(&ajar, &script).unwrap();
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    let lines = seen.stdout.lines();
    let findings = lines.map(|line| serde_json::from_str(line).unwrap());
    let mut export = ajar.command("findings export --format xarf");
    let reports = finished(export.arg(REPORTER)).unwrap();
    let said = seen.stderr + &reports.stderr;
    (findings.collect(), reports.stdout.lines().count(), said)
}

fn verdicts(mut findings: Vec<Finding>) -> Vec<(u16, Verdict, Option<Doubt>)> {
    findings.sort_unstable_by_key(|finding| finding.port);
    let verdicts = findings.iter();
    let verdicts = verdicts.map(|finding| (finding.port, finding.verdict, finding.doubt));
    verdicts.collect()
}

#[test]
fn only_what_is_open_from_outside_is_reported() {
    let inside = Some(Doubt::Inside);
    let (findings, reports, said) = audited("$FAR", "11.98.0.1", "");
    let expected = [(3128, Verdict::Open, inside), (8080, Verdict::Open, inside)];
    assert_eq!(verdicts(findings), expected, "{said}");
    assert_eq!(reports, 0, "{said}");
    assert!(said.contains("2 open endpoints are left out"), "{said}");

    let (findings, reports, said) = audited("", "11.99.0.1", "");
    let expected = [(3128, Verdict::Closed, None), (8080, Verdict::Open, None)];
    assert_eq!(verdicts(findings), expected, "{said}");
    assert_eq!(reports, 1, "{said}");
    assert!(!said.contains("from inside"), "{said}");
}

/// The near end has a private address, and is known by another one outside.
const NAT: &str = "$FAR ip route add 10.98.0.0/16 dev wire src 11.98.0.1
    ip route replace 11.98.0.0/24 dev silent src 10.98.255.254
    nft add table ip nat
    nft add chain ip nat out '{ type nat hook postrouting priority 100; }'
    nft add rule ip nat out oifname silent ip saddr 10.98.255.254 snat to 11.99.0.1
   ";

#[test]
fn a_worker_behind_nat_is_outside_by_its_public_address() {
    let (findings, reports, said) = audited(NAT, "11.99.0.1", "--sweep connect");
    let inside = Some(Doubt::Inside);
    let expected = [(3128, Verdict::Closed, None), (8080, Verdict::Open, inside)];
    assert_eq!(verdicts(findings), expected, "{said}");
    assert_eq!(reports, 0, "{said}");

    let (findings, reports, said) = audited(
        NAT,
        "11.99.0.1",
        "--sweep connect --public-address 11.99.0.1",
    );
    let expected = [(3128, Verdict::Closed, None), (8080, Verdict::Open, None)];
    assert_eq!(verdicts(findings), expected, "{said}");
    assert_eq!(reports, 1, "{said}");
}
