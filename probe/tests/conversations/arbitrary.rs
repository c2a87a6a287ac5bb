//! Whatever a peer says, in whatever pieces: the promises hold.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ajar_model::Tier;
use proptest::prelude::*;
use tokio::time::sleep;

use crate::{
    exam::{Exam, Examined},
    peer::Conn,
};

/// What a peer does next.
#[derive(Debug, Clone)]
enum Move {
    Say(Vec<u8>),
    Wait(Duration),
    Listen,
    Repeat(Vec<u8>, usize),
    Close,
}

/// Pieces of the protocols, so that conversations get beyond the first line.
fn words() -> impl Strategy<Value = Vec<u8>> {
    let plausible: Vec<&'static [u8]> = vec![
        b"220 mail.example ESMTP\r\n",
        b"220 victim.example\n",
        b"250-STARTTLS\r\n250 SIZE\r\n",
        b"250 ok\r\n",
        b"354 go\r\n",
        b"421 later\r\n",
        b"450 greylisted\r\n",
        b"530 5.7.0 auth\r\n",
        b"550 no\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 407 Auth\r\n\r\n",
        b"HTTP/1.0 502 Bad\n\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"\x05\x00",
        b"\x05\x02",
        b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x50",
        b"\x05\x00\x00\x03\xff",
        b"\x00\x5a\x00\x50\x00\x00\x00\x00",
        b"\x00\x5b",
        b"ajar-proof-1 00112233445566778899aabbccddeeff 192.0.2.9 1 AAAA\r\n",
        b"ajar-proof-2 00112233445566778899aabbccddeeff 192.0.2.9 80 1 AAAA\r\n",
        b"ajar-canary canary.test\r\n",
        b"\x16\x03\x03\x00\x7a",
        b"\0\0\0\x04\0\0\0\0\0",
        b"\0\0\x01\x01\x04\0\0\0\x01\x88",
        b"\0\0\x04\0\0\0\0\0\x01220 ",
    ];
    prop_oneof![
        8 => prop::sample::select(plausible).prop_map(<[u8]>::to_vec),
        2 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        10 => words().prop_map(Move::Say),
        6 => Just(Move::Listen),
        2 => (0u64..40_000).prop_map(|millis| Move::Wait(Duration::from_millis(millis))),
        1 => (words(), 0usize..20_000).prop_map(|(words, times)| Move::Repeat(words, times)),
        1 => Just(Move::Close),
    ];
    prop::collection::vec(one, 0..40)
}

async fn act(mut conn: Conn, moves: Vec<Move>) {
    for step in moves {
        match step {
            Move::Say(words) => conn.say(words).await,
            Move::Wait(time) => sleep(time).await,
            Move::Listen => {
                if conn.take(1).await.is_none() {
                    return;
                }
            }
            Move::Repeat(words, times) => {
                for _ in 0..times {
                    conn.say(&words).await;
                }
            }
            Move::Close => return,
        }
    }
    conn.idle().await;
}

/// Each connection begins where the last one stopped, and the last script repeats.
fn examine(port: u16, tier: Tier, scripts: Vec<Vec<Move>>) -> Examined {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let next = Arc::new(Mutex::new(scripts.into_iter().cycle()));
    runtime.block_on(Exam::of(port).tier(tier).run(move |conn| {
        let moves = next.lock().unwrap().next().unwrap_or_default();
        act(conn, moves)
    }))
}

fn tiers() -> impl Strategy<Value = Tier> {
    prop::sample::select(vec![
        Tier::Connect,
        Tier::Handshake,
        Tier::Envelope,
        Tier::Deliver,
    ])
}

fn ports() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![25, 80, 443, 465, 1080, 3128, 9999])
}

/// How the canary may be named in a request that asks for something of it, or of what is not there.
const OURS: [&str; 5] = [
    "192.0.2.9:80",
    "192.0.2.9:1",
    "canary.test:80",
    "canary.test:1",
    "no-such-host.canary.test:80",
];

/// What a line names as a second hop or a mailbox is the canary, by one of the ways to write it.
fn names_only_the_canary(line: &str) -> bool {
    if let Some(target) = line.strip_prefix("CONNECT ") {
        let hosts = ["192.0.2.9", "canary.test"];
        let ports = ["80", "443", "25", "7401", "1"];
        let target = target.trim_end_matches(" HTTP/1.1");
        return target
            .rsplit_once(':')
            .is_some_and(|(host, port)| hosts.contains(&host) && ports.contains(&port));
    }
    let fetched = line.strip_prefix("GET ").or(line.strip_prefix("POST "));
    if let Some(target) = fetched {
        let before = [
            "http:/",
            "/http:/",
            "/http:",
            "",
            "/proxy/http:/",
            "/proxy",
            "/http",
            "/?url=http:/",
            "/proxy?url=http:/",
            "/proxy/?url=http:/",
            "/proxy.php?url=http:/",
            "/api/proxy?url=http:/",
            "/fetch?url=http:/",
            "/index.php?url=http:/",
        ];
        let is_its_own = target == "/ HTTP/1.1" || target.starts_with("http://192.0.2.1:");
        if is_its_own {
            return true;
        }
        let named = before.iter().any(|before| {
            let host = target
                .strip_prefix(before)
                .and_then(|rest| rest.strip_prefix('/'));
            host.is_some_and(|host| {
                OURS.iter()
                    .any(|ours| host.starts_with(&format!("{ours}/")))
            })
        });
        let masque = target.strip_prefix("/.well-known/masque/udp/192.0.2.9/");
        if let Some(port) = masque.and_then(|rest| rest.strip_suffix("/ HTTP/1.1")) {
            return ["7401", "1"].contains(&port);
        }
        let mut urls = target.split("http://").skip(1);
        let all = urls.all(|url| OURS.iter().any(|ours| url.starts_with(&format!("{ours}/"))));
        return (named && all) || target.len() == 1 + 32 + " HTTP/1.1".len();
    }
    if let Some(host) = line.strip_prefix("Host: ") {
        let of_target = host.starts_with("192.0.2.1:") || host == "localhost";
        let of_canary = ["80", "443", "25", "7401", "1"].iter().any(|port| {
            let host = host.strip_suffix(&format!(":{port}"));
            host.is_some_and(|host| host == "192.0.2.9" || host.ends_with("canary.test"))
        });
        let without_port = host == "192.0.2.9" || host.ends_with("canary.test");
        return of_target || of_canary || without_port;
    }
    if let Some(path) = line.strip_prefix("RCPT TO:") {
        // A mailbox that cannot exist, where the server would have ours if it were one of its own.
        // Among them are the canary's own address and a domain without an owner.
        let own = [
            "@mail.example",
            "@victim.example",
            "@[192.0.2.1]",
            "@[192.0.2.9]",
            "@ajar-audit.invalid",
            "",
        ];
        let path = path.trim_matches(['<', '>']);
        let is_made_up = own.iter().any(|domain| {
            let local = path.strip_suffix(domain);
            local.is_some_and(|local| local.len() == 32 && !local.contains('@'))
        });
        return is_made_up || path.contains("canary.test");
    }
    if let Some(path) = line.strip_prefix("MAIL FROM:<") {
        let domains = [
            "@canary.test>",
            "@canary.test> SMTPUTF8",
            "@sub.canary.test>",
            "@[192.0.2.1]>",
            "@localhost>",
            "@[IPv6:::1]>",
        ];
        let greeted = ["@mail.example>", "@victim.example>"];
        let bang = ["mail.example!", "victim.example!"];
        let is_local = path.len() == 33 && !path.contains('@');
        return path == ">"
            || is_local
            || bang.iter().any(|host| path.starts_with(host))
            || domains
                .iter()
                .chain(&greeted)
                .any(|domain| path.ends_with(domain));
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_promise_holds_against_any_peer(
        port in ports(),
        tier in tiers(),
        scripts in prop::collection::vec(moves(), 1..6),
    ) {
        let limits = Exam::of(port).limits;
        let exam = examine(port, tier, scripts);
        prop_assert!(exam.took <= limits.examination * 2, "took {:?}", exam.took);
        prop_assert!(exam.taken.iter().all(|&taken| taken <= limits.bytes), "{:?}", exam.taken);
        prop_assert!(exam.sent.len() <= 40, "{} connections", exam.sent.len());
        prop_assert_eq!(exam.rows.is_empty(), tier == Tier::Connect);
        let said = exam.said();
        for line in said.lines() {
            prop_assert!(names_only_the_canary(line), "{}", line);
        }
        if tier < Tier::Deliver {
            let tunnel = exam.sent.iter().any(|sent| sent.windows(7).any(|word| word == b"CONNECT"));
            prop_assert!(!tunnel);
            let tunnels = ["DATA", "CONNECT ", "GET ", "POST "].map(|word| exam.count(word));
            prop_assert_eq!(tunnels, [0, 0, 0, 0]);
            let socks = exam.sent.iter().all(|sent| !sent.starts_with(&[4, 1]) && !sent.starts_with(&[5, 1, 0, 5]));
            prop_assert!(socks);
        }
        if tier < Tier::Envelope {
            prop_assert_eq!(exam.count("MAIL ") + exam.count("RCPT "), 0);
        }
        for (_, evidence) in &exam.rows {
            let kept: usize = evidence.transcript.iter().map(|entry| entry.text.raw().len()).sum();
            prop_assert!(kept <= limits.transcript + 100);
        }
    }
}
