//! Mail servers: the number of questions and the limits of servers.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ajar_model::{Effort, Verdict, judge::Doubt, proof::Check};

use crate::{
    exam::Exam,
    smtp::{ALL, BANNER, obliging, recipients, serve},
};

#[tokio::test(start_paused = true)]
async fn a_server_that_will_not_be_greeted_twice_is_met_anew() {
    let exam = Exam::of(25)
        .run(|conn| async move {
            let is_known = AtomicBool::new(false);
            let rule = |line: &str| match line {
                hello if hello.starts_with("EHLO") && is_known.swap(true, Relaxed) => {
                    "503 we have met"
                }
                rcpt if rcpt.starts_with("RCPT") => "550 no",
                line => obliging(line),
            };
            serve(conn, BANNER, rule).await;
        })
        .await;
    assert_eq!(exam.replies("smtp-relay").len(), ALL);
    assert_eq!(exam.count("503"), 0);
    for name in ["localhost", "mail.example", "[127.0.0.1]"] {
        let begins = |sent: &&Vec<u8>| sent.starts_with(format!("EHLO {name}\r\nMAIL").as_bytes());
        assert_eq!(exam.sent.iter().filter(begins).count(), 1, "{name}");
    }
}

/// Programs that watch logs ban a client after a few refusals (fail2ban).
#[tokio::test(start_paused = true)]
async fn a_server_that_shuts_us_out_is_not_closed_and_not_asked_again() {
    let mut exam = Exam::of(25);
    exam.connections = 1;
    let exam = recipients(exam, "554 5.7.1 relay access denied").await;
    let evidence = exam.evidence("smtp-relay");
    assert_eq!(evidence.shut_out_after, Some(10));
    assert_eq!(evidence.attempts.len(), 10, "what was refused is kept");
    let judgement = exam.judgement("smtp-relay");
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert_eq!(judgement.doubt, Some(Doubt::TurnedAway));
}

#[tokio::test(start_paused = true)]
async fn effort_decides_how_often_a_server_has_to_refuse() {
    let check = async |effort: Effort, refused: usize, connections: usize| {
        let mut exam = Exam::of(25);
        exam.effort = effort;
        let exam = recipients(exam, "554 5.7.1 relay access denied").await;
        assert_eq!(exam.replies("smtp-relay").len(), refused, "{effort:?}");
        assert_eq!(exam.sent.len(), connections, "{effort:?}");
    };
    check(Effort::Quick, 5, 1).await;
    check(Effort::Normal, ALL, 4).await;
    // No second sender is left out: its rarer recipients, and every opening.
    check(Effort::Full, ALL + 17 + 3, 6).await;
}

/// Some servers take one recipient a mail and defer the others.
#[tokio::test(start_paused = true)]
async fn a_server_that_takes_one_recipient_a_mail_gets_one_mail_for_each_domain() {
    let mut exam = Exam::of(25);
    exam.canary.other_domain = Some("canary.example".to_owned());
    let exam = exam
        .run(|conn| async move {
            let is_taken = AtomicBool::new(false);
            let rule = |line: &str| match line.split([' ', ':']).next() {
                Some("MAIL") => {
                    is_taken.store(false, Relaxed);
                    "250 ok"
                }
                Some("RCPT") if is_taken.swap(true, Relaxed) => "452 too many recipients",
                _ => obliging(line),
            };
            serve(conn, BANNER, rule).await;
        })
        .await;
    assert_eq!(exam.count("DATA"), 2);
    let evidence = exam.evidence("smtp-relay");
    let mut controls = evidence.controls.iter();
    let other = controls.find(|control| control.check == Check::OtherDomain);
    let nonces = [evidence.attempts[0].nonce, other.unwrap().nonce];
    let judgement = exam.judgement_with_mails("smtp-relay", &nonces, "");
    assert_eq!(judgement.verdict, Verdict::Open);
}
