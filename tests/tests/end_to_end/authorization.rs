//! Nothing is sent without a signed authorization, or beyond it: shown by a capture in a network namespace.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::PermissionsExt,
    process::Command,
};

use ajar_tests::{Ajar, captured};

/// A key, an authorization for `targets` signed with it, and the key among the allowed signers.
fn authorized(targets: &str, limits: &str) -> Ajar {
    let ajar = Ajar::new().unwrap();
    ajar.make_signer().unwrap();
    ajar.authorize("a.toml", &format!("{targets} {limits}"))
        .unwrap();
    ajar
}

const SIGNED: &str = "--authorization a.toml --allowed-signers signers";

fn refused(ajar: &Ajar, options: &str, expect: &str) {
    let run = ajar.run(&format!("scan {SIGNED} {options}")).unwrap();
    assert_eq!(run.status, 2, "{options}: {}", run.stderr);
    assert!(run.stderr.contains(expect), "{options}: {}", run.stderr);
}

#[test]
fn what_ajar_signs_ssh_keygen_verifies() {
    let ajar = authorized("127.0.0.0/24", "--canary 127.0.0.1");
    let text = fs::File::open(ajar.path().join("a.toml")).unwrap();
    let verified = Command::new("ssh-keygen")
        .args([
            "-Y",
            "verify",
            "-f",
            "signers",
            "-I",
            "ops@example.net",
            "-n",
            "ajar-authorization",
            "-s",
            "a.toml.sig",
        ])
        .current_dir(ajar.path())
        .stdin(text)
        .output()
        .unwrap();
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stderr)
    );
}

/// What is not asked for is taken from the authorization, however narrow.
#[test]
fn scan_and_sweep_run_under_a_narrow_authorization_without_further_options() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let narrow = format!(
        "--canary 127.0.0.1 --ports {port} --probes socks5 --tier handshake --rate 7 --prefix-rate 3"
    );
    let ajar = authorized("127.0.0.0/31", &narrow);
    let pairs = ajar.run(&format!("sweep {SIGNED} -p {port}")).unwrap();
    let expected = format!("{{\"ip\":\"127.0.0.1\",\"port\":{port}}}\n");
    assert_eq!(pairs.stdout, expected, "{}", pairs.stderr);
    drop(listener);
    let scan = ajar.run(&format!("scan {SIGNED} -p {port}")).unwrap();
    assert_eq!(scan.status, 0, "{}", scan.stderr);
    assert!(
        scan.stderr.contains("2 targets at 7/s, 3/s"),
        "{}",
        scan.stderr
    );
}

#[test]
fn a_key_with_a_passphrase_signs_by_ssh_keygen() {
    let ajar = Ajar::new().unwrap();
    let keygen = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "secret", "-f", "key"])
        .current_dir(ajar.path())
        .status()
        .unwrap();
    assert!(keygen.success());
    let ask = ajar.path().join("ask");
    let sign = |answer: &str, output: &str| {
        fs::write(&ask, format!("#!/bin/sh\necho {answer}\n")).unwrap();
        fs::set_permissions(&ask, fs::Permissions::from_mode(0o755)).unwrap();
        let arguments = format!(
            "authorize 127.0.0.0/31 --canary 127.0.0.1 --key key --contact a@example.net -o {output}"
        );
        ajar.command(&arguments)
            .envs([
                ("SSH_ASKPASS", ask.as_os_str()),
                ("SSH_ASKPASS_REQUIRE", "force".as_ref()),
            ])
            .output()
            .unwrap()
    };
    let wrong = sign("wrong", "wrong.toml");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(!ajar.path().join("wrong.toml").exists());
    let signed = sign("secret", "a.toml");
    assert!(signed.status.success(), "{signed:?}");
    let public = fs::read_to_string(ajar.path().join("key.pub")).unwrap();
    fs::write(
        ajar.path().join("signers"),
        format!("ops@example.net {public}"),
    )
    .unwrap();
    let run = ajar.run(&format!("scan {SIGNED} --tier handshake -p 25"));
    let run = run.unwrap();
    assert_eq!(run.status, 0, "{}", run.stderr);
}

#[test]
fn a_scan_beyond_its_authorization_is_refused_and_says_what_is_beyond() {
    let limits = "--canary 127.0.0.1 --ports 25,3128 --tier envelope --rate 100";
    let ajar = authorized("127.0.0.0/24", limits);
    let with = |more: &str, expect: &str| {
        let within = "--tier envelope --rate 100 --canary 127.0.0.1";
        refused(&ajar, &format!("{within} {more}"), expect);
    };
    with("127.0.1.1", "127.0.1.1 is outside the authorization");
    with("-p 26", "port 26");
    refused(&ajar, "--tier deliver", "tier");
    refused(&ajar, "--rate 101", "rate");
    let elsewhere = "--tier envelope --rate 100 --canary 127.0.0.2";
    refused(&ajar, elsewhere, "canary 127.0.0.2");

    let text = fs::read_to_string(ajar.path().join("a.toml")).unwrap();
    fs::write(
        ajar.path().join("a.toml"),
        text.replace("127.0.0.0/24", "127.0.0.0/16"),
    )
    .unwrap();
    refused(&ajar, "", "altered");
    fs::write(ajar.path().join("a.toml"), text).unwrap();
    fs::write(ajar.path().join("signers"), "# nobody\n").unwrap();
    refused(&ajar, "", "not allowed");
    fs::remove_file(ajar.path().join("a.toml.sig")).unwrap();
    refused(&ajar, "", "not signed");
}

/// The connections that a scan opened in a network namespace of its own.
fn scanned(ajar: &Ajar, options: &str) -> Vec<(f64, SocketAddrV4)> {
    let seen = captured(ajar, &format!("$AJAR scan {SIGNED} {options}")).unwrap();
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    seen.syns
}

#[test]
fn no_packet_leaves_the_scope() {
    let limits =
        "--canary 127.0.0.1 --exclude 10.99.0.64/26 --ports 25,3128 --rate 2000 --prefix-rate 2000";
    let ajar = authorized("10.99.0.0/24 10.99.2.0/25", limits);
    let seen = scanned(&ajar, "--exclude 10.99.2.9 --rate 2000 --prefix-rate 2000");
    let addresses = (0..=255).map(|host| Ipv4Addr::new(10, 99, 0, host));
    let addresses = addresses.filter(|ip| !(64..128).contains(&ip.octets()[3]));
    let second = (0..128).map(|host| Ipv4Addr::new(10, 99, 2, host));
    let addresses = addresses.chain(second.filter(|ip| ip.octets()[3] != 9));
    let mut expected: Vec<SocketAddrV4> = addresses
        .flat_map(|ip| [25, 3128].map(|port| SocketAddrV4::new(ip, port)))
        .collect();
    expected.sort();
    let mut seen: Vec<SocketAddrV4> = seen.into_iter().map(|(_, endpoint)| endpoint).collect();
    seen.sort();
    assert_eq!(seen, expected);
}
