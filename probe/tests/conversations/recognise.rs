//! Which protocol an endpoint is taken for, and what an endpoint that speaks none is told.

use std::time::Duration;

use ajar_model::{
    Service, Verdict,
    evidence::{Broken, Direction},
};
use tokio::time::sleep;

use crate::{
    canary,
    exam::Exam,
    peer::Conn,
    smtp::{obliging, serve},
};

#[tokio::test(start_paused = true)]
async fn a_service_that_greets_in_another_protocol_is_heard_and_left_alone() {
    let check = async |port: u16, banner: &'static str| {
        let greets = move |mut conn: Conn| async move {
            conn.say(banner).await;
            conn.idle().await;
        };
        let exam = Exam::of(port).run(greets).await;
        let evidence = exam.evidence("recognise");
        assert_eq!(
            (evidence.service.clone(), evidence.broken),
            (None, None),
            "{banner:?}"
        );
        assert_eq!(
            evidence.banner.as_ref().unwrap().raw(),
            banner.replace('\0', "\u{fffd}")
        );
        assert_eq!(
            exam.verdict("recognise"),
            Verdict::NotAService,
            "{banner:?}"
        );
        assert_eq!(
            (exam.said().as_str(), exam.sent.len()),
            ("", 1),
            "{banner:?}"
        );
    };
    check(22, "SSH-2.0-OpenSSH_9.2p1\r\n").await;
    check(25, "SSH-2.0-OpenSSH_9.2p1\r\n").await;
    check(21, "220 ProFTPD Server ready\r\n").await;
    check(21, "220-FTP\r\n220 go\r\n").await;
    check(110, "+OK POP3 ready\r\n").await;
    check(119, "200 news.example InterNetNews\r\n").await;
    check(119, "502 no permission\r\n").await;
    check(3306, "J\0\0\0\n8.0.36\0").await;
}

#[tokio::test(start_paused = true)]
async fn a_greeting_without_a_hint_is_settled_by_ehlo() {
    let check = async |hello: &'static str, expect: &str| {
        let rule = move |line: &str| {
            if line.contains("LO ") {
                hello
            } else {
                obliging(line)
            }
        };
        let exam = Exam::of(10_025)
            .run(move |conn| serve(conn, "220 ready\r\n", rule))
            .await;
        assert_eq!(exam.probes(), [expect], "{hello}");
    };
    check("250 hello", "smtp-relay").await;
    check("500 unknown command", "recognise").await;
}

#[tokio::test(start_paused = true)]
async fn a_mail_server_on_any_port_is_recognised_by_its_banner() {
    let exam = Exam::of(8080)
        .run(|conn| serve(conn, "220 mx ESMTP\r\n", obliging))
        .await;
    assert_eq!(exam.probes(), ["smtp-relay"]);
    assert_eq!(exam.sent.len(), 1, "the sweep's connection is used");
}

#[tokio::test(start_paused = true)]
async fn a_mail_server_that_greets_late_on_an_odd_port_is_recognised_by_its_complaint() {
    let late = |mut conn: Conn| async move {
        let first = conn.nth == 0;
        sleep(Duration::from_secs(if first { 3 } else { 0 })).await;
        if first {
            conn.say("554 mx ESMTP not accepting messages: you talked first\r\n")
                .await;
            return;
        }
        serve(conn, "220 mx ESMTP\r\n", obliging).await;
    };
    let exam = Exam::of(3025).run(late).await;
    assert_eq!(
        exam.evidence("smtp-relay").service,
        Some(Service::from_static("smtp"))
    );
    assert_eq!(exam.replies("smtp-relay").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_never_speaks_is_inconclusive_in_bounded_time() {
    for port in [25, 80, 443, 1080, 9999] {
        let exam = Exam::of(port).run(Conn::idle).await;
        let evidence = exam.evidence("recognise");
        assert_eq!(
            (evidence.service.clone(), evidence.broken),
            (None, Some(Broken::TimedOut)),
            "{port}"
        );
        assert_eq!(exam.verdict("recognise"), Verdict::Inconclusive);
        assert!(
            exam.sent.len() <= 8,
            "{} connections to port {port}",
            exam.sent.len()
        );
        assert!(exam.took <= Exam::of(port).limits.examination, "{port}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_closes_without_a_byte_is_inconclusive() {
    let exam = Exam::of(3128).run(|conn| async { drop(conn) }).await;
    assert_eq!(exam.evidence("recognise").broken, Some(Broken::Closed));
    assert_eq!(exam.verdict("recognise"), Verdict::Inconclusive);
}

#[tokio::test(start_paused = true)]
async fn garbage_and_echoes_are_no_service() {
    let garbage = |mut conn: Conn| async move {
        conn.take(1).await;
        conn.say(b"\xde\xad\xbe\xef\r\n").await;
        conn.idle().await;
    };
    let exam = Exam::of(9999).run(garbage).await;
    assert_eq!(exam.verdict("recognise"), Verdict::NotAService);
    let exam = Exam::of(9999).run(Conn::echo).await;
    assert_eq!(
        exam.verdict("recognise"),
        Verdict::NotAService,
        "{:?}",
        exam.evidence("recognise")
    );
}

#[tokio::test(start_paused = true)]
async fn a_web_server_that_complains_of_nonsense_is_recognised_by_it() {
    let web = |mut conn: Conn| async move {
        match conn.take(1).await.as_deref() {
            Some(b"C" | b"G") => {
                conn.head().await;
                conn.say("HTTP/1.1 405 Not Allowed\r\n\r\n").await;
            }
            _ => conn.say("HTTP/1.1 400 Bad Request\r\n\r\n").await,
        }
    };
    let exam = Exam::of(1080).run(web).await;
    assert_eq!(
        exam.probes(),
        [
            "http-connect",
            "http-get",
            "http-host",
            "http-path",
            "http-udp"
        ]
    );
    assert_eq!(exam.verdict("http-connect"), Verdict::NotAService);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_nobody_asked_about_is_not_spoken_to() {
    let exam = Exam::of(25)
        .only(&["http-connect"])
        .run(|conn| serve(conn, "220 mx ESMTP\r\n", obliging))
        .await;
    assert_eq!(exam.verdict("recognise"), Verdict::NotAService);
    assert_eq!(exam.said(), "");
}

#[tokio::test(start_paused = true)]
async fn names_of_unknown_probes_are_passed_over() {
    let exam = Exam::of(25).only(&["smtp-relay", "from-the-future"]);
    let exam = exam
        .run(|conn| serve(conn, "220 mx ESMTP\r\n", obliging))
        .await;
    assert_eq!(exam.probes(), ["smtp-relay"]);
}

#[tokio::test(start_paused = true)]
async fn the_transcript_tells_both_sides_in_their_order() {
    let exam = Exam::of(25)
        .run(|conn| serve(conn, "220 mx ESMTP\r\n", obliging))
        .await;
    let transcript = &exam.evidence("smtp-relay").transcript;
    let told: Vec<_> = transcript
        .iter()
        .map(|entry| (entry.direction, entry.text.raw()))
        .take(4)
        .collect();
    let expect = [
        (Direction::Event, "connected"),
        (Direction::Received, "220 mx ESMTP\r\n"),
        (Direction::Sent, "EHLO audit.example\r\n"),
        (
            Direction::Received,
            "250-mail.example\r\n250 PIPELINING\r\n",
        ),
    ];
    assert_eq!(told, expect);
    assert_eq!(transcript.last().unwrap().text.raw(), "221 bye\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_hostile_banner_reaches_nobody_as_it_is() {
    let hostile = |mut conn: Conn| async move {
        conn.say(b"SSH-\x1b]0;owned\x07\0\xff\r\n").await;
        conn.idle().await;
    };
    let exam = Exam::of(22).run(hostile).await;
    let banner = exam.evidence("recognise").banner.clone().unwrap();
    assert!(!banner.raw().contains('\0'));
    assert!(!banner.clean().contains('\x1b'));
}

#[tokio::test(start_paused = true)]
async fn a_closed_protocol_does_not_hide_an_open_one_on_the_same_port() {
    let check = async |port: u16, http: u64, socks: u64| {
        let shared = move |mut conn: Conn| async move {
            let Some(first) = conn.take(1).await else {
                return;
            };
            if first == [5] {
                sleep(Duration::from_millis(socks)).await;
                conn.take(2).await;
                conn.say([5, 0]).await;
                let request = conn.take(10).await.unwrap_or_default();
                let port = u16::from_be_bytes([request[8], request[9]]);
                conn.say([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await;
                canary::serve(conn, port, canary::key()).await;
            } else {
                sleep(Duration::from_millis(http)).await;
                conn.say("HTTP/1.1 403 Forbidden\r\nVia: 1.1 lab\r\n\r\n")
                    .await;
            }
        };
        let exam = Exam::of(port).run(shared).await;
        assert_eq!(exam.verdict("http-connect"), Verdict::Closed, "{port}");
        assert_eq!(exam.proven("socks5").len(), 4, "{port} {http} {socks}");
    };
    check(8080, 0, 0).await;
    check(9999, 0, 0).await;
    // Over a path that loses a segment, and to a slow machine.
    check(8080, 5, 1400).await;
    check(8080, 1000, 3900).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_answers_at_once_in_one_protocol_is_not_waited_for_long_in_others() {
    let http = |mut conn: Conn| async move {
        let Some(first) = conn.take(1).await else {
            return;
        };
        match first[0].is_ascii_uppercase() {
            true => {
                conn.say("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n")
                    .await
            }
            false => conn.idle().await,
        }
    };
    let exam = Exam::of(3128).run(http).await;
    assert_eq!(exam.verdict("http-connect"), Verdict::NotAService);
    assert!(exam.took < Duration::from_secs(6), "{:?}", exam.took);
}
