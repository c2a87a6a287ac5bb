//! Mail servers: what they say to variants.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use ajar_model::{
    Tier, Verdict,
    evidence::{Broken, Reply},
    judge::Doubt,
};

use crate::{
    exam::{Exam, Examined},
    peer::Conn,
};

/// A mail server that answers each command line by a rule; `.` stands for the end of a message.
pub async fn serve(mut conn: Conn, banner: &str, rule: impl Fn(&str) -> &'static str) {
    conn.say(banner).await;
    while let Some(line) = conn.line().await {
        let reply = answer(&mut conn, &line, &rule).await;
        if line == "QUIT" || reply.starts_with("421") {
            return;
        }
    }
}

/// Answers one command line, and the message after it; the last reply.
pub async fn answer(
    conn: &mut Conn,
    line: &str,
    rule: &impl Fn(&str) -> &'static str,
) -> &'static str {
    let mut reply = rule(line);
    conn.say(format!("{reply}\r\n")).await;
    if reply.starts_with("354") {
        while conn.line().await.is_some_and(|line| line != ".") {}
        reply = rule(".");
        conn.say(format!("{reply}\r\n")).await;
    }
    reply
}

/// What a server says to everything but recipients: yes.
pub fn obliging(line: &str) -> &'static str {
    match line.split(' ').next() {
        Some("EHLO") => "250-mail.example\r\n250 PIPELINING",
        Some("DATA") => "354 go on",
        Some("QUIT") => "221 bye",
        _ => "250 ok",
    }
}

pub const BANNER: &str = "220 mail.example ESMTP\r\n";

/// The ways for a server of this name: the likeliest, other senders, recipients and openings.
pub const ALL: usize = 5 + 8 + 16 + 2;

pub async fn examine(
    exam: Exam,
    rule: impl Fn(&str) -> &'static str + Send + Sync + 'static,
) -> Examined {
    let rule = Arc::new(rule);
    exam.run(move |conn| {
        let rule = Arc::clone(&rule);
        async move { serve(conn, BANNER, |line| rule(line)).await }
    })
    .await
}

/// A server that has one answer to every recipient.
pub async fn recipients(exam: Exam, answer: &'static str) -> Examined {
    examine(exam, move |line| {
        if line.starts_with("RCPT") {
            answer
        } else {
            obliging(line)
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn an_open_relay_is_given_one_message_and_is_open_once_that_arrives() {
    let exam = examine(Exam::of(25), obliging).await;
    assert_eq!(exam.probes(), ["smtp-relay"]);
    assert_eq!(
        exam.replies("smtp-relay"),
        [("direct/external", Reply::Accepted { code: 250 })]
    );
    assert_eq!(exam.verdict("smtp-relay"), Verdict::Unproven);
    assert_eq!(
        exam.verdict_with_mail("smtp-relay", "direct/external"),
        Verdict::Open
    );
    let nonce = exam.attempt("smtp-relay", "direct/external").nonce;
    assert_eq!(exam.count(&format!("RCPT TO:<{nonce}@canary.test>")), 1);
    assert_eq!(exam.count(&format!("X-Ajar-Nonce: {nonce}")), 1);
    assert_eq!(
        (exam.count("DATA"), exam.count("QUIT"), exam.sent.len()),
        (1, 1, 1)
    );
    assert_eq!(exam.count("RCPT TO:<"), 3, "and two that are sent nothing");
    assert_eq!(
        exam.count(&format!("MAIL FROM:<{nonce}")),
        0,
        "a bounce must not look like a relayed mail"
    );
}

#[tokio::test(start_paused = true)]
async fn one_refusal_never_ends_the_others() {
    let exam = recipients(Exam::of(25), "554 5.7.1 relay access denied").await;
    let replies = exam.replies("smtp-relay");
    assert_eq!(replies.len(), ALL);
    assert!(
        replies
            .iter()
            .all(|(_, reply)| *reply == Reply::Refused { code: 554 })
    );
    assert_eq!(exam.verdict("smtp-relay"), Verdict::Closed);
    assert_eq!(exam.count("DATA"), 0);
    assert_eq!(
        exam.sent.len(),
        4,
        "no connection carries more than ten refusals"
    );
    assert_eq!(exam.count("QUIT"), 4);
}

#[tokio::test(start_paused = true)]
async fn a_relay_open_only_by_percent_hack_is_found() {
    let exam = examine(Exam::of(25), |line| match line {
        rcpt if rcpt.starts_with("RCPT") && !rcpt.contains('%') => "550 no",
        line => obliging(line),
    })
    .await;
    let replies = exam.replies("smtp-relay");
    let accepted: Vec<_> = replies
        .iter()
        .filter(|(_, reply)| *reply == Reply::Accepted { code: 250 })
        .map(|(variant, _)| *variant)
        .collect();
    assert_eq!(
        accepted,
        [
            "percent-hack-host/external",
            "percent-hack/external",
            "quoted-percent/external"
        ]
    );
    assert_eq!((replies.len(), exam.count("DATA")), (ALL, 2));
    let open = exam.verdict_with_mail("smtp-relay", "percent-hack/external");
    assert_eq!(open, Verdict::Open);
}

#[tokio::test(start_paused = true)]
async fn a_relay_open_only_to_the_null_sender_is_found() {
    let exam = examine(Exam::of(25), |line| match line {
        mail if mail.starts_with("MAIL") && mail != "MAIL FROM:<>" => "550 sender refused",
        line => obliging(line),
    })
    .await;
    let expect = [
        ("direct/external", Reply::Refused { code: 550 }),
        ("direct/host", Reply::Refused { code: 550 }),
        ("as-localhost:direct/external", Reply::Refused { code: 550 }),
        ("direct/null", Reply::Accepted { code: 250 }),
    ];
    assert_eq!(exam.replies("smtp-relay"), expect);
}

#[tokio::test(start_paused = true)]
async fn a_demand_for_credentials_is_protected_and_a_greylister_inconclusive() {
    let check = async |answer: &'static str, reply: Reply, verdict: Verdict| {
        let exam = recipients(Exam::of(25), answer).await;
        assert!(
            exam.replies("smtp-relay")
                .iter()
                .all(|(_, got)| *got == reply),
            "{answer}"
        );
        assert_eq!(exam.verdict("smtp-relay"), verdict, "{answer}");
    };
    check(
        "530 5.7.0 Authentication required",
        Reply::AuthRequired { code: 530 },
        Verdict::Protected,
    )
    .await;
    check(
        "450 4.2.0 greylisted",
        Reply::Temporary { code: 450 },
        Verdict::Inconclusive,
    )
    .await;
    check(
        "530 Must issue a STARTTLS command first",
        Reply::Broken { how: Broken::Tls },
        Verdict::Inconclusive,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_to_hear_the_sender_is_weighed_and_nobody_is_named() {
    let exam = examine(Exam::of(587), |line| match line {
        mail if mail.starts_with("MAIL") => "530 5.7.0 authenticate first",
        line => obliging(line),
    })
    .await;
    assert_eq!(exam.replies("smtp-relay").len(), 4 + 8 + 2);
    assert_eq!(exam.verdict("smtp-relay"), Verdict::Protected);
    assert_eq!(exam.count("RCPT"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_turns_us_away_is_not_closed() {
    let check = async |refusal: &'static str, verdict: Verdict, doubt: Option<Doubt>| {
        let exam = recipients(Exam::of(25), refusal).await;
        let judgement = exam.judgement("smtp-relay");
        assert_eq!(
            (judgement.verdict, judgement.doubt),
            (verdict, doubt),
            "{refusal}"
        );
    };
    let turned_away = Some(Doubt::TurnedAway);
    for refusal in [
        "554 5.7.1 Client host [198.51.100.9] blocked using zen.spamhaus.org",
        "550 5.7.25 Client host rejected: cannot find your reverse hostname",
        "504 5.5.2 <audit.example>: Helo command rejected",
    ] {
        check(refusal, Verdict::Inconclusive, turned_away).await;
    }
    check("554 5.7.1 relay access denied", Verdict::Closed, None).await;
}

#[tokio::test(start_paused = true)]
async fn a_greeting_that_refuses_is_an_answer_to_everything() {
    let check = async |banner: &'static str, reply: Reply, verdict: Verdict| {
        let exam = Exam::of(25)
            .run(move |conn| serve(conn, banner, obliging))
            .await;
        assert_eq!(
            exam.replies("smtp-relay"),
            [("direct/external", reply)],
            "{banner}"
        );
        assert_eq!(exam.verdict("smtp-relay"), verdict);
        assert_eq!(exam.said(), "QUIT\r\n");
    };
    // It may serve others.
    check(
        "554 no service here\r\n",
        Reply::Refused { code: 554 },
        Verdict::Inconclusive,
    )
    .await;
    check(
        "421 too busy\r\n",
        Reply::Temporary { code: 421 },
        Verdict::Inconclusive,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_421_midway_means_later_and_the_variant_is_tried_again() {
    let exam = Exam::of(25)
        .run(|conn| async move {
            let first = conn.nth == 0;
            let rule = |line: &str| match line {
                mail if first && mail == "MAIL FROM:<>" => "421 too many errors",
                rcpt if rcpt.starts_with("RCPT") => "550 no",
                line => obliging(line),
            };
            serve(conn, BANNER, rule).await;
        })
        .await;
    assert_eq!(exam.replies("smtp-relay").len(), ALL);
    assert_eq!(exam.verdict("smtp-relay"), Verdict::Closed);
    assert!(exam.sent[1].starts_with(b"EHLO audit.example\r\nMAIL FROM:<>\r\n"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_always_cuts_us_off_is_left_in_peace() {
    let exam = recipients(Exam::of(25), "421 go away").await;
    assert!(exam.sent.len() <= 6, "{} connections", exam.sent.len());
    assert_eq!(exam.verdict("smtp-relay"), Verdict::Inconclusive);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_to_reset_is_met_anew() {
    let exam = examine(Exam::of(25), |line| match line {
        "RSET" => "502 unknown command",
        rcpt if rcpt.starts_with("RCPT") => "550 no",
        line => obliging(line),
    })
    .await;
    assert!(exam.sent.len() <= 16, "{} connections", exam.sent.len());
    for sent in &exam.sent {
        // A greeting by another name takes a mail back too.
        let said = String::from_utf8_lossy(sent).into_owned();
        let begun = said.matches("MAIL FROM").count();
        assert_eq!(begun, said.matches("EHLO").count(), "{said}");
    }
    assert_eq!(exam.verdict("smtp-relay"), Verdict::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_at_data_or_at_the_final_dot_is_no_acceptance() {
    let check = async |at: &'static str, reply: &'static str, ways: usize, messages: usize| {
        let rule = move |line: &str| if line == at { reply } else { obliging(line) };
        let exam = examine(Exam::of(25), rule).await;
        assert_eq!(exam.verdict("smtp-relay"), Verdict::Closed, "{at}");
        assert_eq!(exam.replies("smtp-relay").len(), ways, "{at}");
        assert_eq!(exam.count("X-Ajar-Nonce: "), messages, "{at}");
    };
    check("DATA", "554 no valid recipients", ALL, 0).await;
    // It is not sent one message after the other.
    check(".", "550 content rejected", 4, 4).await;
}

#[tokio::test(start_paused = true)]
async fn a_mail_is_not_repeated_when_the_connection_dies_after_its_message() {
    let exam = Exam::of(25)
        .run(|conn| async move {
            let dies = |line: &str| {
                if line == "." {
                    "421 shutting down"
                } else {
                    obliging(line)
                }
            };
            serve(conn, BANNER, dies).await;
        })
        .await;
    let replies = exam.replies("smtp-relay");
    assert_eq!(
        replies[0],
        ("direct/external", Reply::Temporary { code: 421 })
    );
    let nonce = exam.attempt("smtp-relay", "direct/external").nonce;
    assert_eq!(exam.count(&format!("X-Ajar-Nonce: {nonce}")), 1);
}

#[tokio::test(start_paused = true)]
async fn below_deliver_no_message_is_ever_sent() {
    let exam = examine(Exam::of(25).tier(Tier::Envelope), obliging).await;
    assert_eq!(
        exam.replies("smtp-relay"),
        [("direct/external", Reply::Accepted { code: 250 })]
    );
    assert_eq!(
        (exam.count("DATA"), exam.count("RCPT"), exam.count("RSET")),
        (0, 3, 1)
    );
    let exam = examine(Exam::of(25).tier(Tier::Handshake), obliging).await;
    assert_eq!(exam.said(), "EHLO audit.example\r\nQUIT\r\n");
    assert_eq!(exam.verdict("smtp-relay"), Verdict::Unproven);
    let exam = examine(Exam::of(25).tier(Tier::Connect), obliging).await;
    assert_eq!((exam.said().as_str(), exam.rows.len()), ("", 0));
}

/// Some servers trust whoever says to be them, or loopback.
#[tokio::test(start_paused = true)]
async fn a_relay_open_only_to_some_greeting_is_found() {
    let check = async |name: &'static str, expect: &str| {
        let exam = Exam::of(25)
            .run(move |conn| async move {
                let trusted = AtomicBool::new(false);
                let rule = |line: &str| {
                    if let Some(hello) = line.strip_prefix("EHLO ") {
                        trusted.store(hello == name, Relaxed);
                    }
                    match line.starts_with("RCPT") && !trusted.load(Relaxed) {
                        true => "550 relay access denied",
                        false => obliging(line),
                    }
                };
                serve(conn, BANNER, rule).await;
            })
            .await;
        assert_eq!(exam.verdict_with_mail("smtp-relay", expect), Verdict::Open);
    };
    check("mail.example", "as-host:direct/external").await;
    check("localhost", "as-localhost:direct/external").await;
    check("[127.0.0.1]", "as-loopback:direct/external").await;
}

/// It says nothing before it is told who is calling, and trusts loopback.
#[tokio::test(start_paused = true)]
async fn a_relay_that_believes_a_proxy_header_is_found() {
    for header in [
        &b"PROXY TCP4 127.0.0.1 192.0.2.1 40000 25\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\xc0\0\x02\x01\x9c\x40\0\x19",
    ] {
        let exam = Exam::of(25)
            .run(move |mut conn| async move {
                if conn
                    .take(header.len())
                    .await
                    .is_some_and(|got| got == header)
                {
                    serve(conn, BANNER, obliging).await;
                }
            })
            .await;
        let open = exam.verdict_with_mail("smtp-relay", "proxied:direct/external");
        assert_eq!(open, Verdict::Open, "{header:?}");
    }
}

/// Postfix gives up after a while, and says 421; Exim refuses every command.
#[tokio::test(start_paused = true)]
async fn a_relay_that_has_waited_for_a_proxy_header_gets_one() {
    for missed in ["421 4.3.0 server local error\r\n", "220 mx ESMTP\r\n"] {
        let exam = Exam::of(25)
            .run(move |mut conn| async move {
                let line = tokio::time::timeout(Duration::from_secs(3), conn.line()).await;
                match line {
                    Ok(Some(line)) if line.starts_with("PROXY TCP4 127.0.0.1 ") => {
                        serve(conn, BANNER, obliging).await;
                    }
                    _ => serve(conn, missed, |_| "503 PROXY negotiation failed").await,
                }
            })
            .await;
        let open = exam.verdict_with_mail("smtp-relay", "proxied:direct/external");
        assert_eq!(open, Verdict::Open, "{missed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_believes_xclient_is_found() {
    let exam = Exam::of(25)
        .run(|conn| async move {
            let believes = AtomicBool::new(false);
            let rule = |line: &str| match line {
                hello if hello.starts_with("EHLO") => "250-mail.example\r\n250 XCLIENT NAME ADDR",
                claim if claim.starts_with("XCLIENT") => {
                    believes.store(claim.contains("ADDR=127.0.0.1"), Relaxed);
                    "220 mail.example ESMTP"
                }
                rcpt if rcpt.starts_with("RCPT") && !believes.load(Relaxed) => {
                    "550 relay access denied"
                }
                line => obliging(line),
            };
            serve(conn, BANNER, rule).await;
        })
        .await;
    let open = exam.verdict_with_mail("smtp-relay", "xclient:direct/external");
    assert_eq!(open, Verdict::Open);
}
