//! Nothing is sent without a signed authorization, or beyond it: shown by a capture in a network namespace.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use ajar_tests::Ajar;

/// A key, an authorization for `targets` signed with it, and the key among the allowed signers.
fn authorized(ajar: &Ajar, targets: &[&str], more: &[&str]) {
    let keygen = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", "key"])
        .current_dir(ajar.path())
        .status()
        .unwrap();
    assert!(keygen.success());
    let fixed = [
        "--key",
        "key",
        "--contact",
        "ops@example.net",
        "-o",
        "a.toml",
    ];
    let arguments: Vec<&str> = ["authorize"]
        .iter()
        .chain(targets)
        .chain(&fixed)
        .chain(more)
        .copied()
        .collect();
    let written = ajar.run(&arguments).unwrap();
    assert_eq!(written.status, 0, "{}", written.stderr);
    let public = fs::read_to_string(ajar.path().join("key.pub")).unwrap();
    fs::write(
        ajar.path().join("signers"),
        format!("ops@example.net {public}"),
    )
    .unwrap();
}

const SCAN: [&str; 5] = [
    "scan",
    "--authorization",
    "a.toml",
    "--allowed-signers",
    "signers",
];

fn refused(ajar: &Ajar, more: &[&str], expect: &str) {
    let arguments: Vec<&str> = SCAN.iter().chain(more).copied().collect();
    let run = ajar.run(&arguments).unwrap();
    assert_eq!(run.status, 2, "{more:?}: {}", run.stderr);
    assert!(run.stderr.contains(expect), "{more:?}: {}", run.stderr);
}

#[test]
fn what_ajar_signs_ssh_keygen_verifies() {
    let ajar = Ajar::new().unwrap();
    authorized(&ajar, &["127.0.0.0/24"], &["--canary", "127.0.0.1"]);
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
    let ajar = Ajar::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let narrow = format!(
        "--canary 127.0.0.1 --ports {port} --probes socks5 --tier handshake --rate 7 --prefix-rate 3"
    );
    let narrow: Vec<&str> = narrow.split(' ').collect();
    authorized(&ajar, &["127.0.0.0/31"], &narrow);
    let mut sweep = SCAN.to_vec();
    sweep[0] = "sweep";
    sweep.extend(["-p", narrow[3]]);
    let pairs = ajar.run(&sweep).unwrap();
    let expected = format!("{{\"ip\":\"127.0.0.1\",\"port\":{port}}}\n");
    assert_eq!(pairs.stdout, expected, "{}", pairs.stderr);
    drop(listener);
    let ports = [&SCAN[..], &["-p", narrow[3]]].concat();
    let scan = ajar.run(&ports).unwrap();
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
        ajar.command(&arguments.split(' ').collect::<Vec<_>>())
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
    let run = ajar
        .run(&[&SCAN[..], &["--tier", "handshake", "-p", "25"]].concat())
        .unwrap();
    assert_eq!(run.status, 0, "{}", run.stderr);
}

#[test]
fn a_scan_beyond_its_authorization_is_refused_and_says_what_is_beyond() {
    let ajar = Ajar::new().unwrap();
    authorized(
        &ajar,
        &["127.0.0.0/24"],
        &[
            "--canary",
            "127.0.0.1",
            "--ports",
            "25,3128",
            "--tier",
            "envelope",
            "--rate",
            "100",
        ],
    );
    let within = [
        "--tier",
        "envelope",
        "--rate",
        "100",
        "--canary",
        "127.0.0.1",
    ];
    let with = |more: &[&str], expect: &str| {
        let all: Vec<&str> = within.iter().chain(more).copied().collect();
        refused(&ajar, &all, expect);
    };
    with(&["127.0.1.1"], "127.0.1.1 is outside the authorization");
    with(&["-p", "26"], "port 26");
    refused(&ajar, &["--tier", "deliver"], "tier");
    refused(&ajar, &["--rate", "101"], "rate");
    refused(
        &ajar,
        &[
            "--tier",
            "envelope",
            "--rate",
            "100",
            "--canary",
            "127.0.0.2",
        ],
        "canary 127.0.0.2",
    );

    let text = fs::read_to_string(ajar.path().join("a.toml")).unwrap();
    fs::write(
        ajar.path().join("a.toml"),
        text.replace("127.0.0.0/24", "127.0.0.0/16"),
    )
    .unwrap();
    refused(&ajar, &[], "altered");
    fs::write(ajar.path().join("signers"), "# nobody\n").unwrap();
    refused(&ajar, &[], "not allowed");
    fs::remove_file(ajar.path().join("a.toml.sig")).unwrap();
    refused(&ajar, &[], "not signed");
}

/// A network namespace and a capture need root; whoever runs the tests could install their packages by sudo as well.
fn as_root(program: &str) -> Command {
    let uid = Command::new("id").arg("-u").output().unwrap().stdout;
    if uid.trim_ascii() == b"0" {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

/// In a namespace of its own every address of 10.99.0.0/16 answers, and every packet is captured.
#[test]
fn no_packet_leaves_the_scope() {
    let ajar = Ajar::new().unwrap();
    let allowed = ["10.99.0.0/24", "10.99.2.0/25"];
    authorized(
        &ajar,
        &allowed,
        &[
            "--canary",
            "127.0.0.1",
            "--exclude",
            "10.99.0.64/26",
            "--ports",
            "25,3128",
            "--rate",
            "2000",
            "--prefix-rate",
            "2000",
        ],
    );
    let scan = ajar.command(
        &[
            &SCAN[..],
            &[
                "--exclude",
                "10.99.2.9",
                "--rate",
                "2000",
                "--prefix-rate",
                "2000",
                "--format",
                "jsonl",
            ],
        ]
        .concat(),
    );
    let words: Vec<String> = std::iter::once(scan.get_program())
        .chain(scan.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let script = format!(
        "set -e
        ip link set lo up
        ip route add local 10.99.0.0/16 dev lo
        tcpdump -i lo -Z root --immediate-mode -w capture.pcap 'tcp[tcpflags] & tcp-syn != 0' 2>tcpdump.log &
        capture=$!
        for _ in $(seq 100); do grep -q 'listening on' tcpdump.log && break; sleep 0.1; done
        {} >results.jsonl
        sleep 1
        kill -INT $capture
        wait $capture",
        words.join(" ")
    );
    let run = as_root("unshare")
        .args(["--net", "sh", "-c", &script])
        .current_dir(ajar.path())
        .env("HOME", ajar.path())
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );

    let captured = |filter: &str| {
        let read = as_root("tcpdump")
            .args(["-Z", "root", "-n", "-r", "capture.pcap", filter])
            .current_dir(ajar.path())
            .output()
            .unwrap();
        String::from_utf8_lossy(&read.stdout).lines().count()
    };
    let syn = "tcp[tcpflags] == tcp-syn and dst net 10.99.0.0/16";
    // Two ports at each address that is in the networks and in no exclusion.
    assert_eq!(captured(syn), 2 * (256 - 64 + 128 - 1));
    assert_eq!(
        captured(&format!(
            "{syn} and (dst net 10.99.0.64/26 or dst host 10.99.2.9)"
        )),
        0
    );
    assert_eq!(
        captured(&format!(
            "{syn} and not dst net 10.99.0.0/24 and not dst net 10.99.2.0/25"
        )),
        0
    );
    assert_eq!(
        captured(&format!("{syn} and not dst port 25 and not dst port 3128")),
        0
    );
}
