//! Idle connections and invented mails of strangers cost little and keep nobody out.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use ajar_tests::{Ajar, Site, free_port};
use socket2::{Domain, Socket, Type};

use crate::roles::Certified;

/// More than there are places, and fewer than a test may open files.
const MANY: u16 = 800;

#[test]
fn idle_connections_to_the_monitoring_port_keep_no_scraper_out() {
    let ajar = Ajar::new().unwrap();
    let [listen, port] = [0; 2].map(|_| free_port().unwrap());
    let line = format!("coordinator --listen 127.0.0.1:{listen} --metrics 127.0.0.1:{port}");
    let mut coordinator = ajar.spawn(&line, "coordinator").unwrap();
    let ready = "the coordinator is ready";
    ajar.await_line("coordinator", ready).unwrap();
    let idle = held(port, |_| Ipv4Addr::LOCALHOST);
    let status = |path: &str| {
        let url = format!("http://127.0.0.1:{port}{path}");
        let asked = format!("curl -sS -m 5 -o body -w '%{{http_code}}' {url}");
        ajar.shell(&asked).unwrap()
    };
    let statuses = ["/healthz", "/readyz", "/", "/metrics"].map(status);
    let files = fs::read_dir(format!("/proc/{}/fd", coordinator.id())).unwrap();
    let files = files.count();
    drop(idle);
    coordinator.kill().unwrap();
    coordinator.wait().unwrap();
    assert_eq!(statuses, ["200", "200", "404", "200"]);
    let body = fs::read_to_string(ajar.path().join("body")).unwrap();
    assert!(body.contains("ajar_queue_shards"), "{body}");
    assert!(files < 200, "{files} open files");
    let log = fs::read_to_string(ajar.path().join("coordinator")).unwrap();
    assert!(log.lines().count() < 20, "{log}");
    assert!(log.contains("connections that showed nothing"), "{log}");
}

#[test]
fn idle_connections_to_a_coordinator_keep_no_operator_out() {
    let cluster = Certified::start(Site::new());
    let port = cluster.listen.rsplit(':').next().unwrap().parse().unwrap();
    for from in [
        |_| Ipv4Addr::LOCALHOST,
        // Each from an address of its own.
        |number: u16| Ipv4Addr::from_bits(0x7f09_0000 + u32::from(number)),
    ] {
        let idle = held(port, from);
        for line in ["campaign stop-all", "campaign start-again"] {
            let done = cluster.run("pki/operator-ann", line);
            assert_eq!(done.status, 0, "{line}: {}", done.stderr);
        }
        drop(idle);
    }
}

#[test]
fn strangers_of_one_network_get_one_entry_in_the_audit_log() {
    let cluster = Certified::start(Site::new());
    let port = cluster.listen.rsplit(':').next().unwrap();
    let handshakes = format!(
        r#"python3 -c "
import socket, ssl
tls = ssl.create_default_context(cafile='pki/ca.pem')
for last in range(1, 251):
    plain = socket.socket()
    plain.bind((f'127.9.9.{{last}}', 0))
    plain.connect(('127.0.0.1', {port}))
    try:
        tls.wrap_socket(plain, server_hostname='127.0.0.1').recv(1)
        raise SystemExit('somebody without a certificate was let in')
    except ssl.SSLError:
        pass
"
"#
    );
    cluster.ajar().shell(&handshakes).unwrap();
    let shown = cluster.run("pki/viewer-ann", "audit show").stdout;
    let refusals = shown
        .lines()
        .filter(|line| line.contains(": no certificate"));
    assert_eq!(refusals.count(), 1, "{shown}");
    assert!(shown.contains("127.9.9.1: no certificate"), "{shown}");
}

#[test]
fn mails_with_invented_nonces_are_bounded() {
    let site = Site::new();
    let cluster = site.cluster().workers(0).start().unwrap();
    let script = format!(
        r#"python3 -c "
import secrets, smtplib
put_off = 0
for mail in range(70):
    canary = smtplib.SMTP('127.0.0.1', {})
    invented = [secrets.token_hex(16) + '@canary.test' for _ in range(100)]
    try:
        canary.sendmail('', invented, 'Subject: none\n\nnothing')
    except smtplib.SMTPDataError as refusal:
        assert refusal.smtp_code == 451, refusal
        put_off += 1
print(put_off)
"
"#,
        site.canary_ports().split(',').next().unwrap()
    );
    let put_off: u32 = cluster.ajar.shell(&script).unwrap().trim().parse().unwrap();
    assert!((15..=20).contains(&put_off), "{put_off} of 70 mails");
    let rows = cluster
        .postgres
        .query("SELECT count(*) FROM ajar.sightings")
        .unwrap();
    let rows: u32 = rows.trim().parse().unwrap();
    assert!((5000..=5500).contains(&rows), "{rows} rows");
    let said = fs::read_to_string(cluster.ajar.path().join("canary")).unwrap();
    let warned = said
        .lines()
        .filter(|line| line.contains("could not be recorded"));
    assert_eq!(warned.count(), 1, "{said}");
}

/// Connections that say nothing, each from the address that is given for its number.
fn held(port: u16, from: impl Fn(u16) -> Ipv4Addr) -> Vec<Socket> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connect = |number| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let ours = SocketAddr::from((from(number), 0));
        socket.bind(&ours.into()).unwrap();
        socket.connect(&server.into()).unwrap();
        socket
    };
    (0..MANY).map(connect).collect()
}
