//! A second receipt, at another time, before an owner hears of a finding.
//!
//! A honeypot may relay the first mail that it is given and none after it, and an address may be somebody else's tomorrow.
//! So what is open is visited once more, in a further round, whose nonces are its own: by the vantage point that found it,
//! since what counts is whether it does the same again, and by another one too if there is one.

use std::collections::BTreeMap;

use crate::{
    Timestamp,
    finding::{Difference, Finding},
    judge::{Doubt, Verdict},
    proof::Confirmation,
};

/// A round that an open finding has yet to go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    pub round: u32,
    /// The vantage point that found it open.
    pub vantage: String,
    /// When it was found open.
    pub since: Timestamp,
}

/// What one observation of a key amounts to by itself, and the round that it is of.
#[derive(Debug, Clone)]
pub struct Judged {
    pub round: u32,
    pub finding: Finding,
}

/// What all observations of a key amount to together, and the round that is due. None if there is no observation.
///
/// What is open in one round, and decidedly not from the same vantage point after it, is not called open.
pub fn conclude(judged: Vec<Judged>) -> Option<(Finding, Option<Due>)> {
    let first = judged.iter().filter(|seen| seen.is_open());
    let first = first.min_by_key(|seen| seen.precedence()).cloned();
    let later: Vec<Judged> = judged
        .iter()
        .filter(|seen| first.as_ref().is_some_and(|f| seen.round > f.round))
        .cloned()
        .collect();
    let differs = differences(&judged);
    let findings = judged.into_iter().map(|seen| seen.finding);
    let merged = findings.reduce(Finding::merge)?;
    let Some(first) = first else {
        return Some((merged, None));
    };
    let is_here = |seen: &&Judged| seen.finding.vantage == first.finding.vantage;
    let is_open_here = later.iter().filter(is_here).any(Judged::is_open);
    let mut denials = later.iter().filter(is_here).filter_map(Judged::denial);
    if let (false, Some((verdict, doubt))) = (is_open_here, denials.next()) {
        let denied = Finding {
            verdict,
            doubt: Some(doubt),
            exposure: None,
            proof: None,
            variants: first.finding.variants,
            ..merged
        };
        return Some((denied, None));
    }
    let due = later.iter().all(|seen| !is_here(&seen)).then(|| Due {
        round: first.round + 1,
        since: first.opened_at(),
        vantage: first.finding.vantage.clone(),
    });
    // A receipt from elsewhere says more.
    let again = later.iter().filter(|seen| seen.is_open());
    let again = again.min_by_key(|seen| (is_here(seen), seen.precedence()));
    let confirmed = Finding {
        confirmation: again.and_then(Judged::confirmation),
        differs,
        ..merged
    };
    Some((confirmed, due))
}

/// The vantage points from which it is decidedly not open.
fn differences(judged: &[Judged]) -> Vec<Difference> {
    let mut verdicts: BTreeMap<&str, Verdict> = BTreeMap::new();
    for seen in judged {
        let verdict = verdicts.entry(&seen.finding.vantage);
        let verdict = verdict.or_insert(Verdict::Unresponsive);
        *verdict = (*verdict).max(seen.finding.verdict);
    }
    let shut = verdicts
        .into_iter()
        .filter(|(_, verdict)| verdict.is_shut());
    shut.map(|(vantage, verdict)| Difference {
        vantage: Some(vantage.to_owned()),
        ip: None,
        verdict: Some(verdict),
    })
    .collect()
}

impl Judged {
    fn is_open(&self) -> bool {
        self.finding.verdict == Verdict::Open
    }

    /// The earliest first.
    fn precedence(&self) -> impl Ord + use<> {
        let proof = self.finding.proof.as_ref();
        let received = proof.map(|proof| (proof.received_at, proof.nonce));
        (self.round, received, self.finding.vantage.clone())
    }

    /// A relay may deliver long after the visit.
    fn opened_at(&self) -> Timestamp {
        let seen = self.finding.last_seen;
        let proof = self.finding.proof.as_ref();
        proof.map_or(seen, |proof| proof.received_at.max(seen))
    }

    fn confirmation(&self) -> Option<Confirmation> {
        Some(Confirmation {
            vantage: self.finding.vantage.clone(),
            proof: self.finding.proof.clone()?,
        })
    }

    /// What becomes of a finding that was open before this; none if this leaves it undecided.
    fn denial(&self) -> Option<(Verdict, Doubt)> {
        match (self.finding.verdict, self.finding.doubt) {
            (verdict, Some(doubt @ Doubt::LeadsToCanary)) => Some((verdict, doubt)),
            // It did the same again; only the check on that came to nothing.
            (_, Some(Doubt::Unchecked | Doubt::OneDomain)) => None,
            (
                Verdict::Unproven | Verdict::Protected | Verdict::Closed | Verdict::NotAService,
                _,
            ) => Some((Verdict::Unproven, Doubt::NotAgain)),
            (Verdict::Open | Verdict::Inconclusive | Verdict::Unresponsive, _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round, a vantage point, and what was seen: `open`, or another verdict.
    fn judged(round: u32, vantage: &str, verdict: &str, doubt: Option<Doubt>) -> Judged {
        let at = format!("2026-11-25T0{round}:00:00Z");
        let proof = match verdict {
            "open" => format!(
                r#"{{"kind": "tunnel", "nonce": "0011223344556677889900000000000{round}",
                    "received_at": {at:?}, "egress_ip": "192.0.2.9"}}"#
            ),
            _ => "null".to_owned(),
        };
        let text = format!(
            r#"{{"id": "0", "campaign": "01JD3Y5Q9Z8K7W6V5T4S3R2Q1P", "ip": "192.0.2.1", "port": 3128,
            "transport": "tcp", "service": "http-proxy", "exposure": null, "verdict": {verdict:?},
            "probe": "http-connect", "variants": ["connect:{round}"], "proof": {proof}, "product": null,
            "banner": null, "tls": false, "vantage": {vantage:?}, "first_seen": {at:?}, "last_seen": {at:?},
            "attempts": 1}}"#
        );
        let finding: Finding = serde_json::from_str(&text).unwrap();
        let finding = Finding { doubt, ..finding };
        Judged { round, finding }
    }

    /// Verdict, doubt, who confirmed it, and the next round with its vantage point.
    type Expected<'a> = (
        Verdict,
        Option<Doubt>,
        Option<&'a str>,
        Option<(u32, &'a str)>,
    );

    #[track_caller]
    fn check(seen: &[(u32, &str, &str)], expect: Expected<'_>) {
        let seen = seen
            .iter()
            .map(|(r, from, verdict)| judged(*r, from, verdict, None));
        let mut seen: Vec<Judged> = seen.collect();
        for _ in 0..seen.len() {
            seen.rotate_left(1);
            let (finding, due) = conclude(seen.clone()).unwrap();
            let confirmed = finding.confirmation.as_ref();
            let due = due.as_ref();
            let got = (
                finding.verdict,
                finding.doubt,
                confirmed.map(|c| c.vantage.as_str()),
                due.map(|due| (due.round, due.vantage.as_str())),
            );
            assert_eq!(got, expect);
            assert_eq!(finding.proof.is_some(), finding.verdict == Verdict::Open);
        }
    }

    const NOT_AGAIN: Expected<'_> = (Verdict::Unproven, Some(Doubt::NotAgain), None, None);

    #[test]
    fn what_is_open_is_due_for_another_round_from_the_same_place() {
        check(
            &[(0, "a", "open")],
            (Verdict::Open, None, None, Some((1, "a"))),
        );
        check(&[(0, "a", "closed")], (Verdict::Closed, None, None, None));
        let of_two = [(0, "a", "closed"), (0, "b", "open")];
        check(&of_two, (Verdict::Open, None, None, Some((1, "b"))));
    }

    #[test]
    fn a_second_receipt_confirms_and_one_from_elsewhere_says_more() {
        let again = [(0, "a", "open"), (1, "a", "open")];
        check(&again, (Verdict::Open, None, Some("a"), None));
        let both = [(0, "a", "open"), (1, "a", "open"), (1, "b", "open")];
        check(&both, (Verdict::Open, None, Some("b"), None));
        let unclear = [(0, "a", "open"), (1, "a", "inconclusive"), (1, "b", "open")];
        check(&unclear, (Verdict::Open, None, Some("b"), None));
    }

    #[test]
    fn what_is_open_once_and_then_not_is_not_called_open() {
        for verdict in ["closed", "protected", "unproven", "not_a_service"] {
            check(&[(0, "a", "open"), (1, "a", verdict)], NOT_AGAIN);
        }
        // It may know whom it has shown enough.
        check(
            &[(0, "a", "open"), (1, "a", "unproven"), (1, "b", "open")],
            NOT_AGAIN,
        );
        let forward = [
            judged(0, "a", "open", None),
            judged(1, "a", "closed", Some(Doubt::LeadsToCanary)),
        ];
        let (finding, _) = conclude(forward.to_vec()).unwrap();
        assert_eq!(finding.verdict, Verdict::Closed);
        assert_eq!(finding.doubt, Some(Doubt::LeadsToCanary));
    }

    #[test]
    fn what_could_not_be_asked_again_stays_open_and_unconfirmed() {
        let unconfirmed = (Verdict::Open, None, None, None);
        check(&[(0, "a", "open"), (1, "a", "inconclusive")], unconfirmed);
        let elsewhere = [(0, "a", "open"), (1, "a", "open"), (1, "b", "protected")];
        let elsewhere = elsewhere.map(|(round, from, verdict)| judged(round, from, verdict, None));
        let (finding, _) = conclude(elsewhere.to_vec()).unwrap();
        let [differs] = &finding.differs[..] else {
            panic!("{finding:?}");
        };
        assert_eq!(differs.vantage.as_deref(), Some("b"));
        assert_eq!(differs.verdict, Some(Verdict::Protected));
        // Another place may not be let in at all.
        check(
            &[(0, "a", "open"), (1, "b", "closed")],
            (Verdict::Open, None, None, Some((1, "a"))),
        );
        check(
            &[
                (0, "a", "open"),
                (1, "a", "inconclusive"),
                (1, "b", "closed"),
            ],
            unconfirmed,
        );
    }

    #[test]
    fn what_opens_later_has_a_round_of_its_own() {
        check(
            &[(0, "a", "closed"), (1, "a", "open")],
            (Verdict::Open, None, None, Some((2, "a"))),
        );
        check(
            &[(0, "a", "closed"), (1, "a", "open"), (2, "a", "open")],
            (Verdict::Open, None, Some("a"), None),
        );
    }
}
