//! Mail servers: what their yes is worth, by the checks on receipts and on silence.

use std::time::Duration;

use ajar_model::{Nonce, Reply, Verdict, judge::Doubt, proof::Check};

use crate::{
    canary,
    exam::Exam,
    peer::Conn,
    smtp::{ALL, BANNER, examine, obliging, serve},
};

/// A redirected port, or a load balancer: what takes the mail is the canary itself.
#[tokio::test(start_paused = true)]
async fn a_fixed_forward_to_the_canary_is_no_relay() {
    let exam = Exam::of(25)
        .run(|mut conn| async move {
            conn.say(BANNER).await;
            canary::sink(conn, canary::key(), obliging).await;
        })
        .await;
    let nonce = exam.attempt("smtp-relay", "direct/external").nonce;
    let judgement = exam.judgement_with_mails("smtp-relay", &[nonce], "");
    assert_eq!(judgement.verdict, Verdict::Closed);
    assert_eq!(judgement.doubt, Some(Doubt::LeadsToCanary));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_will_not_be_greeted_again_is_known_by_what_it_added_to_the_mail() {
    let exam = Exam::of(25)
        .run(|conn| async move {
            if conn.nth == 0 {
                let dies = |line: &str| match line {
                    hello if hello.starts_with("EHLO") && !hello.ends_with("audit.example") => {
                        "421 bye"
                    }
                    line => obliging(line),
                };
                serve(conn, BANNER, dies).await;
            }
        })
        .await;
    let nonces = [exam.attempt("smtp-relay", "direct/external").nonce];
    let passed = "Received: from audit.example by mail.example; now\r\nSubject: x\r\n";
    let judgement = exam.judgement_with_mails("smtp-relay", &nonces, passed);
    assert_eq!(judgement.verdict, Verdict::Open);
    assert_eq!(judgement.proof.unwrap().checks, [Check::Literal]);
}

#[tokio::test(start_paused = true)]
async fn a_server_in_charge_of_one_domain_of_the_canary_is_no_relay() {
    let mut exam = Exam::of(25);
    exam.canary.other_domain = Some("canary.example".to_owned());
    let exam = examine(exam, |line| match line {
        rcpt if rcpt.starts_with("RCPT") && !rcpt.ends_with("@canary.test>") => "550 no",
        line => obliging(line),
    })
    .await;
    // A mail for one domain alone ends no plan, and no further message is sent.
    assert_eq!(exam.replies("smtp-relay").len(), ALL);
    assert_eq!(exam.count("DATA"), 1);
    let nonce = exam.attempt("smtp-relay", "direct/external").nonce;
    let judgement = exam.judgement_with_mails("smtp-relay", &[nonce], "");
    assert_eq!(judgement.verdict, Verdict::Unproven);
    assert_eq!(judgement.doubt, Some(Doubt::OneDomain));
}

/// A gateway of the operator's own, which takes both domains of the canary and nothing else.
#[tokio::test(start_paused = true)]
async fn a_server_in_charge_of_both_domains_of_the_canary_is_no_relay() {
    let judged = async |refusal: &'static str| {
        let mut exam = Exam::of(25);
        exam.canary.other_domain = Some("canary.example".to_owned());
        let exam = examine(exam, move |line| match line {
            rcpt if rcpt.starts_with("RCPT") && rcpt.contains("@[") => refusal,
            line => obliging(line),
        })
        .await;
        let evidence = exam.evidence("smtp-relay");
        let mut controls = evidence.controls.iter();
        let other = controls.find(|control| control.check == Check::OtherDomain);
        let nonces = [evidence.attempts[0].nonce, other.unwrap().nonce];
        let judgement = exam.judgement_with_mails("smtp-relay", &nonces, "");
        (judgement.verdict, judgement.doubt)
    };
    let in_charge = (Verdict::Unproven, Some(Doubt::OurDomains));
    assert_eq!(judged("554 5.7.1 Relay access denied").await, in_charge);
    // Exim knows no addresses as domains by default.
    let unlettered = judged("501 5.1.3 domain literals not allowed").await;
    assert_eq!(unlettered, (Verdict::Open, None));
}

#[tokio::test(start_paused = true)]
async fn a_relay_is_open_once_mail_to_both_domains_has_arrived() {
    let mut exam = Exam::of(25);
    exam.canary.other_domain = Some("canary.example".to_owned());
    let exam = examine(exam, obliging).await;
    let evidence = exam.evidence("smtp-relay");
    let mut controls = evidence.controls.iter();
    let other = controls.find(|control| control.check == Check::OtherDomain);
    let nonces = [evidence.attempts[0].nonce, other.unwrap().nonce];
    assert_eq!((evidence.attempts.len(), exam.count("DATA")), (1, 1));
    let check = |arrived: &[Nonce], verdict: Verdict, doubt: Option<Doubt>| {
        let judgement = exam.judgement_with_mails("smtp-relay", arrived, "");
        assert_eq!((judgement.verdict, judgement.doubt), (verdict, doubt));
    };
    check(&[], Verdict::Unproven, None);
    check(&nonces[..1], Verdict::Unproven, Some(Doubt::OneDomain));
    check(&nonces, Verdict::Open, None);
    for (nonce, domain) in nonces.iter().zip(["canary.test", "canary.example"]) {
        assert_eq!(exam.count(&format!("RCPT TO:<{nonce}@{domain}>")), 1);
    }
}

/// A catch-all domain takes `u%D@H` as it takes everything at H.
#[tokio::test(start_paused = true)]
async fn a_server_that_takes_any_mailbox_of_its_own_is_closed() {
    let exam = examine(Exam::of(25), |line| match line {
        rcpt if rcpt.starts_with("RCPT") && !rcpt.ends_with("@mail.example>") => "550 no",
        line => obliging(line),
    })
    .await;
    let judgement = exam.judgement("smtp-relay");
    assert_eq!(judgement.verdict, Verdict::Closed);
    assert_eq!(judgement.doubt, Some(Doubt::TakesAnyMailbox));
    // The likeliest recipient at its name gets a message, and on each connection the others share
    // one.
    assert_eq!(exam.count("DATA"), 3);
    let open = exam.verdict_with_mail("smtp-relay", "percent-hack-host/external");
    assert_eq!(open, Verdict::Open, "it relayed all the same");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_took_ours_and_no_other_mailbox_is_unproven() {
    let exam = examine(Exam::of(25), |line| match line {
        rcpt if rcpt.starts_with("RCPT") && !rcpt.contains("%canary.test@mail.example>") => {
            "550 no"
        }
        line => obliging(line),
    })
    .await;
    let judgement = exam.judgement("smtp-relay");
    assert_eq!(
        (judgement.verdict, judgement.doubt),
        (Verdict::Unproven, None)
    );
}

/// Owners are written to at these addresses (RFC 2142 section 4): whether they exist is asked, and nothing is sent there.
#[tokio::test(start_paused = true)]
async fn the_addresses_for_complaints_are_asked_for_and_sent_nothing() {
    let exam = examine(Exam::of(25), |line| match line {
        "RCPT TO:<postmaster@victim.example>" => "550 5.1.1 unknown",
        rcpt if rcpt.starts_with("RCPT") && !rcpt.ends_with("@victim.example>") => "550 no relay",
        line => obliging(line),
    })
    .await;
    assert_eq!(
        exam.count("RCPT TO:<abuse@"),
        0,
        "its name has no domain above it"
    );
    let named = |line: &str| match line {
        "EHLO audit.example" => "250 mx.victim.example",
        "RCPT TO:<abuse@victim.example>" => "250 ok",
        rcpt if rcpt.starts_with("RCPT") => "550 no",
        line => obliging(line),
    };
    let exam = Exam::of(25)
        .run(move |conn| serve(conn, "220 mx.victim.example ESMTP\r\n", named))
        .await;
    let evidence = exam.evidence("smtp-relay");
    let answered: Vec<(&str, Reply)> = evidence
        .mailboxes
        .iter()
        .map(|mailbox| (mailbox.address.as_str(), mailbox.reply))
        .collect();
    let expected = [
        ("abuse@victim.example", Reply::Accepted { code: 250 }),
        ("postmaster@victim.example", Reply::Refused { code: 550 }),
    ];
    assert_eq!(answered, expected);
    assert_eq!(exam.count("DATA"), 0);
    assert_eq!(exam.verdict("smtp-relay"), Verdict::Closed);
}

#[tokio::test(start_paused = true)]
async fn nobody_claims_to_be_loopback_where_that_is_forbidden() {
    let asked = |claims| {
        let mut exam = Exam::of(25);
        exam.claims = claims;
        exam.run(|mut conn| async move {
            // It waits for a header, as a server behind a proxy does, and then offers XCLIENT.
            let header = tokio::time::timeout(Duration::from_secs(3), conn.line()).await;
            let rule = |line: &str| match line {
                hello if hello.starts_with("EHLO") => "250-mail.example\r\n250 XCLIENT NAME ADDR",
                rcpt if rcpt.starts_with("RCPT") => "550 relay access denied",
                line => obliging(line),
            };
            match header {
                Ok(Some(line)) if line.starts_with("PROXY ") => {}
                _ => serve(conn, BANNER, rule).await,
            }
        })
    };
    let said = asked(true).await.said();
    assert!(said.contains("XCLIENT ADDR=127.0.0.1"), "{said}");
    let exam = asked(false).await;
    assert_eq!((exam.count("XCLIENT"), exam.count("PROXY")), (0, 0));

    let silent = async |claims| {
        let mut exam = Exam::of(25);
        exam.claims = claims;
        let sent = exam.run(Conn::idle).await.sent;
        sent.iter()
            .filter(|said| said.starts_with(b"PROXY "))
            .count()
    };
    assert!(silent(true).await > 0);
    assert_eq!(silent(false).await, 0);
}
