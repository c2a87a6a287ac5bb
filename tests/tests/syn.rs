//! Discovery by SYNs, as a capture on the targets' side sees it.

use std::collections::{BTreeSet, HashMap};

use ajar_tests::{Ajar, BEHIND_A_GATEWAY, Captured, captured};

const SWEEP: &str = "$AJAR sweep --authorization a.toml --allowed-signers signers --sweep syn";

/// What takes connections at the other end of the wire, on port 25: every 16th address.
const OPEN: &str = r#"
    listen() {
        rm -f listening
        $FAR python3 -c '
import ipaddress, os, socket, sys
for ip in list(ipaddress.ip_network(sys.argv[1]))[::16]:
    server = socket.socket(socket.AF_INET6 if ip.version == 6 else socket.AF_INET)
    server.bind((str(ip), 25))
    server.listen()
    os.set_inheritable(server.fileno(), True)
    server.detach()
print("ready", flush=True)
os.execvp("sleep", ["sleep", "infinity"])
' $1 > listening &
        await grep -q ready listening
    }
"#;

fn authorized(targets: &str) -> Ajar {
    let ajar = Ajar::new().unwrap();
    ajar.make_signer().unwrap();
    let limits = "--ports 25,26 --tier connect --rate 100000 --prefix-rate 100000";
    ajar.authorize("a.toml", &format!("{targets} --canary 127.0.0.1 {limits}"))
        .unwrap();
    ajar
}

fn swept(ajar: &Ajar, script: &str) -> Captured {
    let seen = captured(ajar, script).unwrap();
    assert_eq!(seen.status, 0, "{}", seen.stderr);
    seen
}

/// How many SYNs each target got.
fn counts(seen: &Captured) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for (_, endpoint) in &seen.syns {
        *counts.entry(endpoint.to_string()).or_default() += 1;
    }
    counts
}

#[test]
fn every_silent_target_is_asked_as_often_as_was_said_and_nobody_else_is() {
    let ajar = authorized("10.98.0.0/24 --exclude 10.98.0.64/26");
    let seen = swept(
        &ajar,
        &format!(
            "{SWEEP} 10.98.0.0/24 --exclude 10.98.0.128/26 --rate 1000 --prefix-rate 1000 --retries 2"
        ),
    );
    let expect = (0..64)
        .chain(192..256)
        .flat_map(|last| [25, 26].map(|port| (format!("10.98.0.{last}:{port}"), 3)));
    assert_eq!(counts(&seen), expect.collect());
    assert_eq!(seen.stdout, "");
    let most = seen.most_in_a_second();
    assert!(most <= 1000 + 22, "{most} in a second");
}

#[test]
fn what_is_open_behind_a_gateway_is_found_at_full_speed_and_asked_once() {
    let ajar = authorized("10.98.0.0/18");
    let seen = swept(
        &ajar,
        &format!(
            "{BEHIND_A_GATEWAY} {OPEN} listen 10.98.0.0/20
             AJAR_LOG=info {SWEEP} 10.98.0.0/20 --rate 20000 --prefix-rate 20000
             $FAR ss -Htan state syn-recv >half-open; ss -Htan >ours"
        ),
    );
    // Both ways had their turn, and whichever was chosen lost nothing.
    let chosen = seen
        .stderr
        .lines()
        .find(|line| line.contains("a SYN takes"));
    let chosen = chosen.unwrap_or_else(|| panic!("{}", seen.stderr));
    assert!(chosen.contains(" is used"), "{chosen}");
    let found: BTreeSet<&str> = seen.stdout.lines().collect();
    let open = (0..4096).step_by(16).map(|number| {
        format!(
            r#"{{"ip":"10.98.{}.{}","port":25}}"#,
            number / 256,
            number % 256
        )
    });
    let open: BTreeSet<String> = open.collect();
    assert_eq!(found, open.iter().map(String::as_str).collect());
    let counts = counts(&seen);
    assert_eq!(counts.len(), 2 * 4096);
    assert!(counts.values().all(|syns| *syns == 1), "{counts:?}");
    let most = seen.most_in_a_second();
    assert!(most <= 20_000 + 402, "{most} in a second");
    // Nobody is left with half a connection: our kernel reset it.
    let left = |file| std::fs::read_to_string(ajar.path().join(file)).unwrap();
    assert_eq!(left("half-open"), "");
    assert_eq!(left("ours"), "");
}

#[test]
fn whoever_cannot_be_reached_is_not_asked_again() {
    // A gateway of Linux says so five times, and then once in a second.
    let ajar = authorized("10.98.64.0/31");
    let seen = swept(
        &ajar,
        &format!("{BEHIND_A_GATEWAY} {SWEEP} 10.98.64.0/31 --rate 200 --prefix-rate 200"),
    );
    let counts = counts(&seen);
    assert_eq!(counts.len(), 4);
    assert!(counts.values().all(|syns| *syns == 1), "{counts:?}");
    assert_eq!(seen.stdout, "");
}

#[test]
fn what_is_open_by_ipv6_is_found() {
    let ajar = authorized("2001:db8:98::/118");
    let seen = swept(
        &ajar,
        &format!(
            "{BEHIND_A_GATEWAY} {OPEN} listen 2001:db8:98::/118
             {SWEEP} 2001:db8:98::/118 --rate 5000 --prefix-rate 5000"
        ),
    );
    let found: BTreeSet<&str> = seen.stdout.lines().collect();
    assert_eq!(found.len(), 1024 / 16, "{found:?}");
    assert!(
        found.contains(r#"{"ip":"2001:db8:98::3f0","port":25}"#),
        "{found:?}"
    );
}

#[test]
fn without_the_privilege_connections_are_used_or_the_door_is_shut() {
    let ajar = authorized("10.99.0.0/16");
    let without = "setpriv --bounding-set=-net_raw --inh-caps=-net_raw";
    let auto = SWEEP.replace("--sweep syn", "--sweep auto");
    let seen = captured(
        &ajar,
        &format!("{without} {auto} 10.99.1.0/29 && {without} {SWEEP} 10.99.2.0/29"),
    )
    .unwrap();
    assert_eq!(seen.status, 2, "{}", seen.stderr);
    assert!(seen.stderr.contains("CAP_NET_RAW"), "{}", seen.stderr);
    let asked: BTreeSet<u8> = seen.syns.iter().map(|syn| syn.1.ip().octets()[2]).collect();
    assert_eq!(asked, BTreeSet::from([1]));
    assert_eq!(seen.syns.len(), 16);
}
