//! What a receipt does not show by itself.

use ajar_model::{
    Attempt, Evidence, Nonce, Reply, Revisits, Sighting, Timestamp, Untrusted, Verdict,
    evidence::{Broken, Control},
    judge::{Doubt, Judgement, judge},
    proof::{Answer, CanaryKey, Check, Kind},
};
use ed25519_dalek::SigningKey;

const ACCEPTED: Reply = Reply::Accepted { code: 250 };

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn nonce(digit: char) -> Nonce {
    String::from(digit).repeat(32).parse().unwrap()
}

fn attempt(kind: Kind, reply: Reply) -> Attempt {
    Attempt {
        variant: "v".to_owned(),
        kind,
        nonce: nonce('a'),
        port: None,
        reply,
        sent: None,
        returns: false,
        turned_away: false,
        is_ignored: false,
        answer: None,
        at: Timestamp::UNIX_EPOCH,
    }
}

/// A mail to the nonce of an attempt, from this sender.
fn mail(from: &str) -> Sighting {
    let text = |text: &str| Untrusted::from(text.to_owned());
    Sighting {
        nonce: nonce('a'),
        egress_ip: "192.0.2.1".parse().unwrap(),
        received_at: Timestamp::UNIX_EPOCH,
        helo: text("mx.example"),
        mail_from: text(from),
        rcpt_to: text("u@canary.test"),
        header: text("Received: by mx.example"),
        signature: Default::default(),
    }
    .signed(&key())
}

fn judged(evidence: &Evidence, mails: &[Sighting]) -> Judgement {
    judge(evidence, mails, &CanaryKey::from(&key()))
}

fn of(attempt: Attempt) -> Evidence {
    Evidence {
        attempts: vec![attempt],
        ..Evidence::default()
    }
}

#[test]
fn a_mail_that_was_never_handed_over_proves_nothing() {
    let check = |sent, expect: Verdict| {
        let evidence = of(Attempt {
            sent,
            ..attempt(Kind::Mail, Reply::Refused { code: 550 })
        });
        assert_eq!(
            judged(&evidence, &[mail("a@b.example")]).verdict,
            expect,
            "{sent:?}"
        );
    };
    check(Some(true), Verdict::Open);
    check(Some(false), Verdict::Closed);
    // Older versions did not say.
    check(None, Verdict::Open);
}

#[test]
fn a_bounce_to_a_sender_that_is_the_recipient_proves_nothing() {
    let check = |returns, from: &str, expect: Verdict| {
        let evidence = of(Attempt {
            returns,
            ..attempt(Kind::Mail, ACCEPTED)
        });
        assert_eq!(
            judged(&evidence, &[mail(from)]).verdict,
            expect,
            "{returns} {from:?}"
        );
    };
    check(true, "", Verdict::Unproven);
    check(true, "u@canary.test", Verdict::Open);
    check(false, "", Verdict::Open);
}

/// A page that was fetched, what became of the check on it, and of asking once more.
fn fetched(control: Option<Reply>, again: Option<bool>) -> Evidence {
    let answer = |nonce| {
        let egress = "192.0.2.1".parse().unwrap();
        Answer::sign(&key(), nonce, egress, 80, Timestamp::UNIX_EPOCH)
    };
    let of_check = |check, digit, reply, answer| Control {
        of: "v".to_owned(),
        check,
        nonce: nonce(digit),
        reply,
        answer,
    };
    let control = control.map(|reply| of_check(Check::OtherPort, 'b', reply, None));
    let again = again.map(|answered| match answered {
        true => of_check(Check::Again, 'c', ACCEPTED, Some(answer(nonce('c')))),
        false => of_check(Check::Again, 'c', Reply::Temporary { code: 429 }, None),
    });
    Evidence {
        attempts: vec![Attempt {
            port: Some(80),
            answer: Some(answer(nonce('a'))),
            ..attempt(Kind::Fetch, ACCEPTED)
        }],
        controls: control.into_iter().chain(again).collect(),
        ..Evidence::default()
    }
}

#[test]
fn a_check_that_decided_nothing_is_none_unless_the_door_still_opens() {
    let check = |control, again, expect: (Verdict, Option<Doubt>)| {
        let Judgement { verdict, doubt, .. } = judged(&fetched(control, again), &[]);
        assert_eq!((verdict, doubt), expect, "{control:?} {again:?}");
    };
    let (open, unchecked) = (
        (Verdict::Open, None),
        (Verdict::Unproven, Some(Doubt::Unchecked)),
    );
    check(None, None, unchecked);
    check(Some(Reply::Refused { code: 403 }), None, open);
    check(Some(ACCEPTED), None, open);
    for undecided in [
        Reply::Temporary { code: 429 },
        Reply::Temporary { code: 503 },
        Reply::Broken {
            how: Broken::Closed,
        },
        Reply::Broken {
            how: Broken::TimedOut,
        },
    ] {
        check(Some(undecided), None, unchecked);
        check(Some(undecided), Some(false), unchecked);
        check(Some(undecided), Some(true), open);
    }
}

#[test]
fn an_answer_from_another_port_than_the_one_asked_for_is_no_proof() {
    let mut astray = fetched(Some(Reply::Refused { code: 403 }), None);
    let checks = judged(&astray, &[]).proof.unwrap().checks;
    assert_eq!(checks, [Check::AskedPort, Check::OtherPort]);
    astray.attempts[0].port = Some(7401);
    let judgement = judged(&astray, &[]);
    assert_eq!(judgement.verdict, Verdict::Closed);
    assert_eq!(judgement.doubt, Some(Doubt::LeadsToCanary));
}

#[test]
fn one_break_or_delay_does_not_outweigh_what_was_refused() {
    let refused = Reply::Refused { code: 550 };
    let cut = Reply::Broken {
        how: Broken::TimedOut,
    };
    let later = Reply::Temporary { code: 450 };
    let unasked = Reply::Broken {
        how: Broken::Connect,
    };
    let check = |replies: &[Reply], expect: Verdict| {
        let attempts = replies.iter();
        let evidence = Evidence {
            attempts: attempts.map(|reply| attempt(Kind::Mail, *reply)).collect(),
            ..Evidence::default()
        };
        assert_eq!(judged(&evidence, &[]).verdict, expect, "{replies:?}");
    };
    check(&[refused, refused, cut], Verdict::Closed);
    check(&[cut, refused], Verdict::Closed);
    check(&[refused, later, refused], Verdict::Closed);
    // It put off the likeliest way in, or took no further connection.
    check(&[later, refused], Verdict::Inconclusive);
    check(&[refused, unasked], Verdict::Inconclusive);
    check(&[cut], Verdict::Inconclusive);
    check(&[refused, ACCEPTED], Verdict::Unproven);
}

#[test]
fn a_refusal_of_us_is_no_refusal_to_relay() {
    let refused = attempt(Kind::Mail, Reply::Refused { code: 554 });
    let of_us = Attempt {
        turned_away: true,
        ..refused.clone()
    };
    let check = |attempts: Vec<Attempt>, expect: (Verdict, Option<Doubt>)| {
        let evidence = Evidence {
            attempts,
            ..Evidence::default()
        };
        let judgement = judged(&evidence, &[]);
        assert_eq!((judgement.verdict, judgement.doubt), expect);
    };
    let turned_away = (Verdict::Inconclusive, Some(Doubt::TurnedAway));
    check(vec![of_us.clone()], turned_away);
    // Another greeting was let in, and refused to relay.
    check(vec![of_us, refused], (Verdict::Closed, None));
}

#[test]
fn what_knows_one_name_of_the_canary_alone_is_not_open() {
    let mut by_name = fetched(Some(Reply::Refused { code: 404 }), None);
    by_name.controls[0].check = Check::OtherName;
    assert_eq!(judged(&by_name, &[]).verdict, Verdict::Open);
    let second = |reply| Control {
        check: Check::SecondName,
        reply,
        ..by_name.controls[0].clone()
    };
    let check = |reply, doubt| {
        let mut evidence = by_name.clone();
        evidence.controls.push(second(reply));
        let judgement = judged(&evidence, &[]);
        assert_eq!(judgement.verdict, Verdict::Unproven);
        assert_eq!(judgement.doubt, Some(doubt));
    };
    check(Reply::Refused { code: 404 }, Doubt::OneName);
    check(Reply::Temporary { code: 503 }, Doubt::Unchecked);
    // The name is followed, whatever becomes of the port.
    by_name.leads_to_canary = true;
    assert_eq!(judged(&by_name, &[]).verdict, Verdict::Open);
}

#[test]
fn one_forward_condemns_what_other_probes_reached() {
    let row = Evidence {
        leads_to_canary: true,
        ..fetched(Some(Reply::Refused { code: 403 }), None)
    };
    let judgement = judged(&row, &[]);
    assert_eq!(judgement.verdict, Verdict::Closed);
    assert_eq!(judgement.doubt, Some(Doubt::LeadsToCanary));
}

/// A mail that was taken for the canary's two domains, and what became of the question for its
/// address.
fn relayed_to_both(literal: Option<Reply>) -> (Evidence, [Sighting; 2]) {
    let control = |check, digit, reply| Control {
        of: "v".to_owned(),
        check,
        nonce: nonce(digit),
        reply,
        answer: None,
    };
    let other = control(Check::OtherDomain, 'b', ACCEPTED);
    let literal = literal.map(|reply| control(Check::Literal, 'c', reply));
    let evidence = Evidence {
        controls: std::iter::once(other).chain(literal).collect(),
        ..of(attempt(Kind::Mail, ACCEPTED))
    };
    // Both were recipients of one message, whose header is kept with the second.
    let first = Sighting {
        header: Untrusted::default(),
        ..mail("a@b.example")
    };
    let second = Sighting {
        nonce: nonce('b'),
        ..mail("a@b.example")
    };
    (evidence, [first.signed(&key()), second.signed(&key())])
}

#[test]
fn who_relays_to_our_domains_and_not_to_our_address_is_in_doubt() {
    let check = |literal, expect: (Verdict, Option<Doubt>)| {
        let (evidence, mails) = relayed_to_both(literal);
        let judgement = judged(&evidence, &mails);
        assert_eq!((judgement.verdict, judgement.doubt), expect, "{literal:?}");
    };
    check(None, (Verdict::Open, None));
    check(Some(ACCEPTED), (Verdict::Open, None));
    check(Some(Reply::Temporary { code: 451 }), (Verdict::Open, None));
    check(
        Some(Reply::Refused { code: 554 }),
        (Verdict::Unproven, Some(Doubt::OurDomains)),
    );
}

#[test]
fn who_shuts_us_out_is_neither_closed_nor_visited_again() {
    let refused = of(attempt(Kind::Mail, Reply::Refused { code: 554 }));
    assert_eq!(judged(&refused, &[]).verdict, Verdict::Closed);
    let shut_out = Evidence {
        shut_out_after: Some(5),
        ..refused
    };
    let judgement = judged(&shut_out, &[]);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert_eq!(judgement.doubt, Some(Doubt::TurnedAway));
    let revisits = Revisits {
        most: 2,
        after_secs: 30,
        confirm_after_secs: None,
    };
    assert_eq!(revisits.wait(&shut_out, judgement.verdict, 1), None);
    // It relayed before it had enough of us.
    let relayed = Evidence {
        shut_out_after: Some(5),
        ..of(attempt(Kind::Mail, ACCEPTED))
    };
    let judgement = judged(&relayed, &[mail("a@b.example")]);
    assert_eq!(judgement.verdict, Verdict::Open);
}

/// Tunnels to two ports, of which each is the other's check, and what came back through the second.
fn tunnelled(second: Answer) -> Evidence {
    let tunnel = |digit, port, answer| Attempt {
        variant: format!("connect:{port}"),
        nonce: nonce(digit),
        port: Some(port),
        answer: Some(answer),
        ..attempt(Kind::Tunnel, Reply::Accepted { code: 200 })
    };
    let first = answer(&key(), 'a', 80);
    Evidence {
        attempts: vec![tunnel('a', 80, first), tunnel('b', 443, second)],
        ..Evidence::default()
    }
}

fn answer(key: &SigningKey, digit: char, port: u16) -> Answer {
    let egress = "192.0.2.1".parse().unwrap();
    Answer::sign(key, nonce(digit), egress, port, Timestamp::UNIX_EPOCH)
}

#[test]
fn an_answer_counts_if_our_canary_gave_it_to_this_very_attempt() {
    let check = |answer, expect: Verdict| {
        let judgement = judged(&tunnelled(answer), &[]);
        assert_eq!(judgement.verdict, expect);
    };
    let another = SigningKey::from_bytes(&[4; 32]);
    check(answer(&key(), 'b', 443), Verdict::Open);
    check(answer(&another, 'b', 443), Verdict::Unproven);
    check(answer(&key(), 'a', 443), Verdict::Unproven);
    check(answer(&key(), 'a', 80), Verdict::Unproven);
}

#[test]
fn a_mail_counts_if_our_canary_received_it() {
    let evidence = of(attempt(Kind::Mail, ACCEPTED));
    let ours = mail("a@b.example");
    let theirs = ours.clone().signed(&SigningKey::from_bytes(&[4; 32]));
    assert_eq!(judged(&evidence, &[theirs]).verdict, Verdict::Unproven);
    assert_eq!(judged(&evidence, &[ours]).verdict, Verdict::Open);
}

#[test]
fn a_grant_that_we_may_not_follow_is_no_refusal() {
    let granted = of(Attempt {
        is_ignored: true,
        ..attempt(Kind::Tunnel, Reply::Refused { code: 0 })
    });
    let judgement = judged(&granted, &[]);
    let expect = (Verdict::Unproven, Some(Doubt::NotAsked));
    assert_eq!((judgement.verdict, judgement.doubt), expect);
}
