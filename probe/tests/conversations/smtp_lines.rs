//! Mail servers: greetings, TLS, and servers that never come to an end.

use std::time::Duration;

use ajar_model::{
    Service, Verdict,
    evidence::{Broken, Reply},
};
use ajar_probe::Limits;
use tokio::time::sleep;

use crate::{
    canary,
    exam::Exam,
    peer::Conn,
    smtp::{obliging, serve},
};

const BANNER: &str = "220 mail.example ESMTP\r\n";

#[tokio::test(start_paused = true)]
async fn a_server_without_ehlo_is_greeted_by_helo() {
    let rule = |line: &str| {
        if line.starts_with("EHLO") {
            "502 what"
        } else {
            obliging(line)
        }
    };
    let exam = Exam::of(25)
        .run(move |conn| serve(conn, BANNER, rule))
        .await;
    assert_eq!(exam.count("HELO audit.example"), 1);
    assert_eq!(
        exam.replies("smtp-relay"),
        [("direct/external", Reply::Accepted { code: 250 })]
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_both_greetings_is_closed() {
    let rule = |line: &str| {
        if line.contains("LO ") {
            "550 not you"
        } else {
            obliging(line)
        }
    };
    let exam = Exam::of(25)
        .run(move |conn| serve(conn, BANNER, rule))
        .await;
    assert_eq!(
        exam.replies("smtp-relay"),
        [("direct/external", Reply::Refused { code: 550 })]
    );
}

async fn offers_tls(mut conn: Conn, works: bool) {
    let offer = |line: &str| match line {
        hello if hello.starts_with("EHLO") => "250-mail.example\r\n250 STARTTLS",
        line => obliging(line),
    };
    conn.say(BANNER).await;
    while let Some(line) = conn.line().await {
        if line != "STARTTLS" {
            conn.say(format!("{}\r\n", offer(&line))).await;
            if line == "DATA" {
                while conn.line().await.is_some_and(|line| line != ".") {}
                conn.say("250 queued\r\n").await;
            }
        } else if works {
            // What is injected before the handshake must not be taken for an answer inside it.
            conn.say("220 go ahead\r\n250 injected\r\n").await;
            return serve(canary::secure(conn).await.unwrap(), "", obliging).await;
        } else {
            return conn.say("220 go ahead\r\nthis is no handshake\r\n").await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn starttls_is_used_where_it_is_offered() {
    let exam = Exam::of(25).run(|conn| offers_tls(conn, true)).await;
    assert!(exam.evidence("smtp-relay").tls);
    assert_eq!(
        exam.replies("smtp-relay"),
        [("direct/external", Reply::Accepted { code: 250 })]
    );
    assert_eq!(
        (exam.count("MAIL"), exam.count("STARTTLS"), exam.sent.len()),
        (0, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_broken_starttls_is_done_without() {
    let exam = Exam::of(25).run(|conn| offers_tls(conn, false)).await;
    assert!(!exam.evidence("smtp-relay").tls);
    assert_eq!(
        exam.replies("smtp-relay"),
        [("direct/external", Reply::Accepted { code: 250 })]
    );
    assert_eq!((exam.count("STARTTLS"), exam.sent.len()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn port_465_is_greeted_by_a_handshake() {
    let secure =
        |conn| async { serve(canary::secure(conn).await.unwrap(), BANNER, obliging).await };
    let exam = Exam::of(465).run(secure).await;
    assert!(exam.evidence("smtp-relay").tls);
    assert_eq!(
        exam.evidence("smtp-relay").service,
        Some(Service::from_static("smtp"))
    );
    assert_eq!(
        exam.replies("smtp-relay"),
        [("direct/external", Reply::Accepted { code: 250 })]
    );
    assert_eq!(exam.sent.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_plain_server_on_port_465_is_recognised_all_the_same() {
    let exam = Exam::of(465)
        .run(|conn| serve(conn, BANNER, obliging))
        .await;
    assert!(!exam.evidence("smtp-relay").tls);
    assert_eq!(
        exam.replies("smtp-relay"),
        [("direct/external", Reply::Accepted { code: 250 })]
    );
}

#[tokio::test(start_paused = true)]
async fn a_banner_that_comes_late_is_waited_for() {
    let late = |mut conn: Conn| async {
        sleep(Duration::from_secs(20)).await;
        conn.say("220-mail.example please wait\r\n").await;
        sleep(Duration::from_secs(6)).await;
        serve(conn, BANNER, obliging).await;
    };
    let exam = Exam::of(25).run(late).await;
    assert_eq!(
        exam.replies("smtp-relay"),
        [("direct/external", Reply::Accepted { code: 250 })]
    );
    assert_eq!(exam.sent.len(), 1);
}

/// Look-ups that a firewall drops take a minute; RFC 5321 section 4.5.3.2.1 allows five.
#[tokio::test(start_paused = true)]
async fn a_further_visit_waits_two_minutes_for_a_banner() {
    let examined = async |limits: Limits| {
        let mut exam = Exam::of(25);
        exam.limits = limits;
        exam.run(|conn| async {
            sleep(Duration::from_secs(100)).await;
            serve(conn, BANNER, obliging).await;
        })
        .await
    };
    let first = examined(Limits::default()).await;
    assert_eq!(first.verdict("recognise"), Verdict::Inconclusive);
    let patient = Limits::default().patient();
    let exam = examined(patient).await;
    assert_eq!(exam.replies("smtp-relay").len(), 1);
    assert!(exam.took <= patient.examination);
}

#[tokio::test(start_paused = true)]
async fn a_tarpit_costs_no_more_than_the_session() {
    let check = async |port: u16| {
        let drip = |mut conn: Conn| async move {
            for byte in "220-tarpit.example ESMTP and so on "
                .bytes()
                .cycle()
                .take(10_000)
            {
                conn.say([byte]).await;
                sleep(Duration::from_secs(1)).await;
            }
        };
        let exam = Exam::of(port).run(drip).await;
        assert_eq!(
            exam.evidence("recognise").broken,
            Some(Broken::TimedOut),
            "{port}"
        );
        assert_eq!(exam.verdict("recognise"), Verdict::Inconclusive);
        assert_eq!((exam.said().as_str(), exam.sent.len()), ("", 1));
        assert!(exam.took <= Exam::of(port).limits.examination);
    };
    check(25).await;
    check(2526).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drips_every_reply_is_left_at_the_deadline() {
    let slow = |mut conn: Conn| async move {
        conn.say(BANNER).await;
        while let Some(line) = conn.line().await {
            sleep(Duration::from_secs(10)).await;
            let reply = if line.starts_with("RCPT") {
                "550 no"
            } else {
                obliging(&line)
            };
            conn.say(format!("{reply}\r\n")).await;
        }
    };
    let exam = Exam::of(25).run(slow).await;
    assert!(exam.took <= exam_session());
    // It has refused every question that it answered.
    assert_eq!(exam.verdict("smtp-relay"), Verdict::Closed);
    let asked = exam.replies("smtp-relay");
    assert!(
        asked.len() >= 5,
        "the likeliest ways were not all asked: {asked:?}"
    );
}

/// It waits before each refusal (Exchange: TarpitInterval), and relays for senders at localhost.
#[tokio::test(start_paused = true)]
async fn a_tarpit_is_asked_as_much_as_others_as_long_as_it_answers() {
    let slow = |mut conn: Conn| async move {
        conn.say(BANNER).await;
        let (mut is_local, mut has_refused) = (false, false);
        while let Some(line) = conn.line().await {
            if line.starts_with("MAIL") {
                is_local = line.ends_with("@localhost>");
            }
            let refuses = line.starts_with("RCPT") && !is_local;
            // It makes clients wait for everything once it has refused something.
            if refuses || has_refused {
                sleep(Duration::from_secs(14)).await;
            }
            has_refused |= refuses;
            if refuses {
                conn.say("550 5.7.1 unable to relay\r\n").await;
            } else {
                crate::smtp::answer(&mut conn, &line, &obliging).await;
            }
        }
    };
    let exam = Exam::of(25).run(slow).await;
    let open = exam.verdict_with_mail("smtp-relay", "direct/localhost");
    assert_eq!(open, Verdict::Open);
}

/// Twice, for answers that come late.
fn exam_session() -> Duration {
    Exam::of(25).limits.examination * 2
}

#[tokio::test(start_paused = true)]
async fn an_endless_banner_ends_at_the_limits() {
    let check = async |text: &'static str| {
        let endless = move |mut conn: Conn| async move {
            for _ in 0..100_000 {
                conn.say(text).await;
            }
        };
        let exam = Exam::of(25).run(endless).await;
        assert_eq!(
            exam.evidence("recognise").broken,
            Some(Broken::Limit),
            "{text:?}"
        );
        assert!(
            exam.taken
                .iter()
                .all(|&taken| taken <= Exam::of(25).limits.bytes)
        );
        assert!(exam.evidence("recognise").banner.is_some());
    };
    check("220-more to come\r\n").await;
    check("220-no end of line ").await;
}

#[tokio::test(start_paused = true)]
async fn a_long_conversation_keeps_its_transcript_in_bounds() {
    let rule = |line: &str| {
        if line.starts_with("RCPT") {
            "550 no"
        } else {
            obliging(line)
        }
    };
    let mut exam = Exam::of(25);
    exam.limits.transcript = 2000;
    let exam = exam.run(move |conn| serve(conn, BANNER, rule)).await;
    let texts = exam
        .evidence("smtp-relay")
        .transcript
        .iter()
        .map(|entry| entry.text.raw().len());
    assert!(texts.sum::<usize>() <= 2100);
}

/// A server that offers STARTTLS, and relays for those who pass a test inside TLS, or else without it.
async fn relays_if(mut conn: Conn, asks: bool, is_welcome: fn(Option<&Conn>) -> bool) {
    let refuses = |line: &str| match line.starts_with("RCPT") {
        true => "550 relay access denied",
        false => obliging(line),
    };
    let offer = |line: &str| match line.starts_with("EHLO") {
        true => "250-mail.example\r\n250 STARTTLS",
        false => obliging(line),
    };
    conn.say(BANNER).await;
    while let Some(line) = conn.line().await {
        if line == "STARTTLS" {
            conn.say("220 go ahead\r\n").await;
            let inside = match asks {
                true => canary::secure_and_ask(conn, false).await.unwrap(),
                false => canary::secure(conn).await.unwrap(),
            };
            return match is_welcome(Some(&inside)) {
                true => serve(inside, "", obliging).await,
                false => serve(inside, "", refuses).await,
            };
        }
        match line.starts_with("RCPT") && !is_welcome(None) {
            true => conn.say("550 relay access denied\r\n").await,
            false => {
                crate::smtp::answer(&mut conn, &line, &offer).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_open_only_without_tls_is_found() {
    let exam = Exam::of(25)
        .run(|conn| relays_if(conn, false, |inside| inside.is_none()))
        .await;
    let open = exam.verdict_with_mail("smtp-relay", "plain:direct/external");
    assert_eq!(open, Verdict::Open);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_believes_any_certificate_is_found() {
    let shows = |inside: Option<&Conn>| inside.is_some_and(|conn| conn.showed_certificate);
    let exam = Exam::of(25)
        .run(move |conn| relays_if(conn, true, shows))
        .await;
    let open = exam.verdict_with_mail("smtp-relay", "certificate:direct/external");
    assert_eq!(open, Verdict::Open);
    let exam = Exam::of(25)
        .run(move |conn| relays_if(conn, false, shows))
        .await;
    let replies = exam.replies("smtp-relay");
    let asked = replies
        .iter()
        .filter(|(variant, _)| variant.starts_with("certificate:"));
    assert_eq!(asked.count(), 0, "nobody asked for one");
}
