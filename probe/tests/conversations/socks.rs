//! SOCKS servers of both versions.

use std::time::Duration;

use ajar_model::{Service, Tier, Verdict, evidence::Reply, judge::Doubt};
use ajar_probe::Limits;

use crate::{
    canary,
    exam::{Exam, Examined},
    peer::Conn,
};

const PORTS: [u16; 4] = [80, 443, 25, 7401];

/// Reads a SOCKS 5 request to the canary: its port.
async fn request5(conn: &mut Conn) -> Option<u16> {
    let head = conn.take(4).await?;
    if head[..3] == [5, 3, 0] {
        // An association names nobody.
        assert_eq!(head[3], 1);
        assert_eq!(conn.take(6).await?, [0; 6]);
        return Some(0);
    }
    assert_eq!(head[..3], [5, 1, 0]);
    let host = match head[3] {
        1 => conn.take(4).await?,
        3 => {
            let length = conn.take(1).await?[0];
            conn.take(length.into()).await?
        }
        kind => panic!("no canary has an address of type {kind}"),
    };
    assert!(
        host == [192, 0, 2, 9] || host == b"canary.test",
        "a second hop to {host:?}"
    );
    port(conn).await
}

async fn port(conn: &mut Conn) -> Option<u16> {
    let bytes = conn.take(2).await?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// A SOCKS 5 server that selects a method, and answers requests.
async fn socks5(exam: Exam, method: u8, answer: &'static [u8]) -> Examined {
    exam.run(move |conn| serve5(conn, method, answer)).await
}

async fn serve5(mut conn: Conn, method: u8, answer: &'static [u8]) {
    if conn.take(3).await.as_deref() != Some(&[5, 1, 0]) {
        return;
    }
    conn.drip([5, method]).await;
    let Some(port) = request5(&mut conn).await else {
        return;
    };
    conn.drip(answer).await;
    if answer[1] == 0 {
        canary::serve(conn, port, canary::key()).await;
    }
}

const GRANTED5: &[u8] = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";

#[tokio::test(start_paused = true)]
async fn every_bound_address_leads_into_the_tunnel_even_byte_by_byte() {
    let check = async |granted: &'static [u8]| {
        let exam = socks5(Exam::of(1080), 0, granted).await;
        assert_eq!(exam.probes(), ["socks5"]);
        assert_eq!(
            exam.proven("socks5"),
            PORTS.map(|port| format!("socks5:{port}")),
            "{granted:?}"
        );
    };
    check(GRANTED5).await;
    check(b"\x05\x00\x00\x03\x05proxy\x04\x38").await;
    check(b"\x05\x00\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_of_one_destination_is_asked_for_the_others() {
    let drops_the_web = |mut conn: Conn| async move {
        if conn.take(3).await.as_deref() != Some(&[5, 1, 0]) {
            return;
        }
        conn.say([5, 0]).await;
        match request5(&mut conn).await {
            Some(port @ (25 | 7401)) => {
                conn.say(GRANTED5).await;
                canary::serve(conn, port, canary::key()).await;
            }
            _ => conn.idle().await,
        }
    };
    let exam = Exam::of(1080).run(drops_the_web).await;
    assert_eq!(exam.proven("socks5"), ["socks5:25", "socks5:7401"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_eight_seconds_to_its_exit_is_open() {
    let slow = |mut conn: Conn| async move {
        if conn.take(3).await.as_deref() != Some(&[5, 1, 0]) {
            return;
        }
        conn.say([5, 0]).await;
        let Some(port) = request5(&mut conn).await else {
            return;
        };
        tokio::time::sleep(Duration::from_secs(8)).await;
        conn.say(GRANTED5).await;
        canary::serve(conn, port, canary::key()).await;
    };
    for port in [1080, 9999] {
        let exam = Exam::of(port).run(slow).await;
        assert_eq!(exam.verdict("socks5"), Verdict::Open, "{port}");
    }
}

/// It asks somebody else whether it may answer at all.
#[tokio::test(start_paused = true)]
async fn a_server_that_takes_twenty_seconds_for_its_first_word_is_open_at_a_further_visit() {
    let slow = |mut conn: Conn| async move {
        let opening = conn.take(3).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        if opening.as_deref() != Some(&[5, 1, 0]) {
            return;
        }
        conn.say([5, 0]).await;
        let Some(port) = request5(&mut conn).await else {
            return;
        };
        conn.say(GRANTED5).await;
        canary::serve(conn, port, canary::key()).await;
    };
    for port in [8888, 9999] {
        let exam = Exam::of(port).run(slow).await;
        assert_eq!(exam.verdict("recognise"), Verdict::Inconclusive, "{port}");
        let mut exam = Exam::of(port);
        exam.limits = Limits::default().patient();
        let exam = exam.run(slow).await;
        assert_eq!(exam.verdict("socks5"), Verdict::Open, "{port}");
        assert!(exam.took <= Limits::default().patient().examination);
    }
}

/// It relays datagrams alone, and we may not send to the port that it names.
#[tokio::test(start_paused = true)]
async fn an_association_that_we_may_not_use_is_told_from_a_refusal() {
    let relays = |mut conn: Conn| async move {
        if conn.take(3).await.is_none() {
            return;
        }
        conn.say([5, 0]).await;
        match request5(&mut conn).await {
            Some(0) => conn.say(b"\x05\x00\x00\x01\xc0\x00\x02\x01\x9c\x40").await,
            _ => conn.say(b"\x05\x02\x00\x01\0\0\0\0\0\0").await,
        }
        conn.idle().await;
    };
    let exam = Exam::of(1080).run(relays).await;
    let judgement = exam.judgement("socks5");
    assert_eq!(judgement.verdict, Verdict::Unproven);
    assert_eq!(judgement.doubt, Some(Doubt::NotAsked));
    assert_eq!(judgement.variants, ["socks5-udp:7401"]);
}

/// It grants at once and connects later, through a far upstream.
#[tokio::test(start_paused = true)]
async fn a_server_that_grants_before_it_is_connected_is_open() {
    let check = async |seconds: u64, expect: Verdict| {
        let exam = Exam::of(1080)
            .run(move |mut conn| async move {
                if conn.take(3).await.is_none() {
                    return;
                }
                conn.say([5, 0]).await;
                if let Some(port) = request5(&mut conn).await {
                    conn.say(GRANTED5).await;
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    canary::serve(conn, port.max(25), canary::key()).await;
                }
            })
            .await;
        assert_eq!(exam.verdict("socks5"), expect, "{seconds} s");
    };
    check(9, Verdict::Open).await;
    check(25, Verdict::Open).await;
    check(40, Verdict::Unproven).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_a_password_is_protected_and_asked_once() {
    for method in [0xff, 2] {
        let exam = socks5(Exam::of(1080), method, GRANTED5).await;
        let reply = Reply::AuthRequired {
            code: method.into(),
        };
        assert_eq!(exam.replies("socks5"), [("socks5:80", reply)]);
        assert_eq!(exam.verdict("socks5"), Verdict::Protected);
        assert_eq!(
            exam.sent[0],
            [5, 1, 0],
            "nothing is sent before the method is known"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_denial_after_no_authentication_is_a_denial() {
    let check = async |answer: &'static [u8], verdict: Verdict| {
        let exam = socks5(Exam::of(1080), 0, answer).await;
        assert_eq!(exam.verdict("socks5"), verdict, "{answer:?}");
        assert_eq!(exam.evidence("socks5").attempts.len(), 6, "{answer:?}");
    };
    check(b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", Verdict::Closed).await;
    check(b"\x05\x02", Verdict::Closed).await;
    check(b"\x05\x01\x00\x01", Verdict::Closed).await;
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_fails_may_work_later() {
    let exam = socks5(
        Exam::of(1080),
        0,
        b"\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00",
    )
    .await;
    assert_eq!(exam.verdict("socks5"), Verdict::Inconclusive);
}

#[tokio::test(start_paused = true)]
async fn garbage_in_place_of_an_answer_is_no_success() {
    let exam = socks5(Exam::of(1080), 0, b"\x05\x00\x00\x09whatever").await;
    assert!(exam.rows.iter().all(|(_, evidence)| {
        evidence
            .attempts
            .iter()
            .all(|attempt| !matches!(attempt.reply, Reply::Accepted { .. }))
    }));
}

/// Reads a SOCKS 4 or 4A request to the canary: its port.
async fn request4(conn: &mut Conn) -> Option<(u16, bool)> {
    if conn.take(2).await? != [4, 1] {
        return None;
    }
    let port = port(conn).await?;
    let ip = conn.take(4).await?;
    assert_eq!(conn.take(5).await?, b"ajar\0", "some want a user id");
    let by_name = ip == [0, 0, 0, 1];
    if by_name {
        assert_eq!(conn.take(12).await?, b"canary.test\0");
    } else {
        assert_eq!(ip, [192, 0, 2, 9]);
    }
    Some((port, by_name))
}

async fn socks4(
    exam: Exam,
    grants: impl Fn(u16, bool) -> bool + Send + Sync + Copy + 'static,
) -> Examined {
    exam.run(move |mut conn| async move {
        let Some((port, by_name)) = request4(&mut conn).await else {
            return;
        };
        let granted = grants(port, by_name);
        conn.drip([0, if granted { 0x5a } else { 0x5b }, 0, 0, 0, 0, 0, 0])
            .await;
        if granted {
            canary::serve(conn, port, canary::key()).await;
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_socks_4_server_is_recognised_after_it_closed_on_a_socks_5_greeting() {
    let exam = socks4(Exam::of(1080), |_, _| true).await;
    assert_eq!(exam.probes(), ["socks4"]);
    assert_eq!(
        exam.proven("socks4"),
        PORTS.map(|port| format!("socks4:{port}"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_socks_4_server_that_takes_only_names_is_open_by_4a() {
    let exam = socks4(Exam::of(1080), |_, by_name| by_name).await;
    assert_eq!(
        exam.proven("socks4"),
        PORTS.map(|port| format!("socks4a:{port}"))
    );
}

#[tokio::test(start_paused = true)]
async fn the_ports_that_pass_are_told_from_those_that_do_not() {
    let exam = socks4(Exam::of(4145), |port, _| port == 25).await;
    assert_eq!(exam.proven("socks4"), ["socks4:25"]);
}

#[tokio::test(start_paused = true)]
async fn a_socks_4_server_that_refuses_is_closed() {
    let exam = socks4(Exam::of(1080), |_, _| false).await;
    assert_eq!(exam.verdict("socks4"), Verdict::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_server_of_both_versions_is_examined_in_both() {
    let both = |mut conn: Conn| async move {
        match conn.take(1).await.as_deref() {
            Some([5]) => {
                conn.take(2).await;
                conn.say([5, 0xff]).await;
            }
            Some([4]) => {
                conn.take(1).await;
                let port = port(&mut conn).await.unwrap();
                conn.take(9).await;
                conn.say([0, 0x5a, 0, 0, 0, 0, 0, 0]).await;
                canary::serve(conn, port, canary::key()).await;
            }
            _ => {}
        }
    };
    let exam = Exam::of(1080).run(both).await;
    assert_eq!(exam.probes(), ["socks5", "socks4"]);
    assert_eq!(exam.verdict("socks5"), Verdict::Protected);
    assert_eq!(
        exam.sent[0],
        [5, 1, 0],
        "recognition's greeting is not repeated"
    );
    assert_eq!(exam.sent.len(), 5);
    assert_eq!(exam.proven("socks4").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn below_deliver_only_the_greeting_is_sent() {
    let check = async |method: u8, verdict: Verdict| {
        let exam = socks5(Exam::of(1080).tier(Tier::Handshake), method, GRANTED5).await;
        assert_eq!(
            exam.evidence("socks5").service,
            Some(Service::from_static("socks5"))
        );
        assert_eq!(exam.sent, [vec![5, 1, 0]]);
        assert_eq!(exam.verdict("socks5"), verdict);
    };
    check(0, Verdict::Unproven).await;
    check(0xff, Verdict::Protected).await;
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_canary_is_named_to_socks_4_by_its_domain() {
    let mut exam = Exam::of(1080).only(&["socks4"]);
    exam.canary.address = "2001:db8::9".parse().unwrap();
    let exam = socks4(exam, |_, _| true).await;
    assert_eq!(
        exam.proven("socks4"),
        PORTS.map(|port| format!("socks4a:{port}"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_inside_tls_is_found_there() {
    for port in [443, 1080, 8443, 9999] {
        let exam = Exam::of(port)
            .run(|conn| async {
                if let Some(conn) = canary::secure(conn).await {
                    serve5(conn, 0, GRANTED5).await;
                }
            })
            .await;
        assert_eq!(exam.proven("socks5").len(), 4, "{port}");
        assert!(exam.evidence("socks5").tls);
    }
}

/// pproxy hangs up on whoever offers no password, if it wants one.
#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_up_on_whoever_has_no_password_is_protected() {
    let exam = Exam::of(1080)
        .run(|mut conn| async move {
            let Some(head) = conn.take(2).await else {
                return;
            };
            let methods = conn.take(usize::from(head[1])).await.unwrap_or_default();
            if head[0] == 5 && methods.contains(&2) {
                conn.say([5, 2]).await;
                assert_eq!(conn.take(1).await, None, "no credentials are sent");
            }
        })
        .await;
    assert_eq!(exam.verdict("socks5"), Verdict::Protected);
}
