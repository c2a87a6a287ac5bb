//! From evidence to verdict. The judge reads evidence only, never the name of a probe, so stored
//! observations can be judged again after a mistake in it was mended.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    disclosed::{Disclosed, received_from},
    evidence::{Attempt, Evidence, Reply},
    nonce::Nonce,
    proof::{CanaryKey, Check, Proof, Sighting},
};

/// What an endpoint amounts to. Closed list, never a yes or no; later ones outrank earlier ones when an
/// endpoint speaks several protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No connection.
    Unresponsive,
    /// Something answered, but not this protocol.
    NotAService,
    /// It speaks the protocol and refused every variant tried.
    Closed,
    /// Temporary failure, reset or time-out after connecting, or nothing was asked.
    Inconclusive,
    /// It asks for credentials.
    Protected,
    /// It accepted as far as it was asked, and no receipt has come.
    Unproven,
    /// The canary received this probe's nonce through the endpoint.
    Open,
}

impl Verdict {
    /// Every verdict, for option parsers and tests.
    pub const ALL: [Verdict; 7] = [
        Verdict::Unresponsive,
        Verdict::NotAService,
        Verdict::Closed,
        Verdict::Inconclusive,
        Verdict::Protected,
        Verdict::Unproven,
        Verdict::Open,
    ];

    /// True if it was asked, and is decidedly not open.
    pub fn is_shut(self) -> bool {
        matches!(
            self,
            Verdict::NotAService | Verdict::Closed | Verdict::Protected
        )
    }

    /// The name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Unresponsive => "unresponsive",
            Verdict::NotAService => "not_a_service",
            Verdict::Closed => "closed",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Protected => "protected",
            Verdict::Unproven => "unproven",
            Verdict::Open => "open",
        }
    }
}

/// A text that is not a verdict.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not a verdict: expected open, unproven, protected, inconclusive, closed, not_a_service or unresponsive"
)]
pub struct NotAVerdict(String);

impl std::str::FromStr for Verdict {
    type Err = NotAVerdict;

    fn from_str(text: &str) -> Result<Self, NotAVerdict> {
        Self::ALL
            .into_iter()
            .find(|verdict| verdict.as_str() == text)
            .ok_or_else(|| NotAVerdict(text.to_owned()))
    }
}

/// Why an endpoint is not called open although something reached the canary, or was accepted. Closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// It leads to the canary whatever is asked of it: a fixed forward, and no relay or proxy.
    LeadsToCanary,
    /// A check on the receipt could not be made.
    Unchecked,
    /// Mail to one of the canary's domains arrived, and none to the other: the server may be in charge of the one.
    OneDomain,
    /// It passed on what it was given once, and not when it was asked again later.
    NotAgain,
    /// It took a recipient that may as well be a mailbox of its own, and it takes any.
    TakesAnyMailbox,
}

impl Doubt {
    /// The name in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Doubt::LeadsToCanary => "leads_to_canary",
            Doubt::Unchecked => "unchecked",
            Doubt::OneDomain => "one_domain",
            Doubt::NotAgain => "not_again",
            Doubt::TakesAnyMailbox => "takes_any_mailbox",
        }
    }

    /// What it means, in a clause.
    pub fn explained(self) -> &'static str {
        match self {
            Doubt::LeadsToCanary => {
                "it leads to the canary whatever is asked of it, and nowhere else"
            }
            Doubt::Unchecked => "the canary was reached, and the check on that could not be made",
            Doubt::OneDomain => {
                "mail to one of the canary's domains arrived, and none to the other: it may be in charge of that domain"
            }
            Doubt::NotAgain => {
                "the canary was reached once, and not when the same was asked for again later"
            }
            Doubt::TakesAnyMailbox => {
                "it takes mail for any mailbox of its own, and took ours for one; nothing was relayed"
            }
        }
    }
}

/// A verdict with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    pub verdict: Verdict,
    /// The variants that decided it: the proven ones if it is open, else those that were answered the same way.
    pub variants: Vec<String>,
    /// The earliest receipt, if it is open.
    pub proof: Option<Proof>,
    /// Why it is no graver one.
    pub doubt: Option<Doubt>,
}

/// Judges one observation's evidence. `sightings` are the mails that the canary received; those for other
/// nonces are ignored. `key` is the canary's.
pub fn judge(evidence: &Evidence, sightings: &[Sighting], key: &CanaryKey) -> Judgement {
    let mut controls = evidence.controls.iter();
    let leads_to_canary = controls.any(|control| control.was_answered(key));
    let bench = Bench {
        evidence,
        sightings,
        key,
        leads_to_canary,
    };
    let weighed: Vec<(&Attempt, Weighed)> = evidence
        .attempts
        .iter()
        .map(|attempt| (attempt, bench.weigh(attempt)))
        .collect();
    let gravest = weighed
        .iter()
        .map(|(_, weighed)| weighed.verdict)
        .max()
        .unwrap_or_else(|| without_attempt(evidence));
    let decided = || {
        let weighed = weighed.iter();
        weighed.filter(|(_, weighed)| weighed.verdict == gravest)
    };
    let shows_proxy = evidence.shows_proxy.map(|shows| shows && !leads_to_canary);
    Judgement {
        verdict: match (gravest, shows_proxy) {
            // A plain server that refuses to be a gateway is none.
            (Verdict::Closed, Some(false)) => Verdict::NotAService,
            (verdict, _) => verdict,
        },
        variants: decided().map(|(a, _)| a.variant.clone()).collect(),
        proof: decided()
            .filter_map(|(_, weighed)| weighed.proof.clone())
            .min_by_key(|proof| (proof.received_at, proof.nonce)),
        doubt: decided().filter_map(|(_, weighed)| weighed.doubt).min(),
    }
}

/// What one attempt amounts to.
struct Weighed {
    verdict: Verdict,
    proof: Option<Proof>,
    doubt: Option<Doubt>,
}

impl Weighed {
    fn doubted(verdict: Verdict, doubt: Doubt) -> Self {
        Self {
            verdict,
            proof: None,
            doubt: Some(doubt),
        }
    }
}

/// What an attempt is weighed by.
struct Bench<'a> {
    evidence: &'a Evidence,
    sightings: &'a [Sighting],
    key: &'a CanaryKey,
    /// True if the canary answered where only a fixed forward reaches it. That condemns every variant of the probe.
    leads_to_canary: bool,
}

impl Bench<'_> {
    fn weigh(&self, attempt: &Attempt) -> Weighed {
        let receipt = self.receipt(attempt);
        let accepted = matches!(attempt.reply, Reply::Accepted { .. });
        if (receipt.is_some() || accepted) && self.leads_to_canary {
            return Weighed::doubted(Verdict::Closed, Doubt::LeadsToCanary);
        }
        let Some(proof) = receipt else {
            if accepted && self.takes_any_mailbox(attempt) {
                return Weighed::doubted(Verdict::Closed, Doubt::TakesAnyMailbox);
            }
            return Weighed {
                verdict: unproven_verdict(attempt.reply),
                proof: None,
                doubt: None,
            };
        };
        match self.checks(attempt) {
            Ok(checks) => Weighed {
                verdict: Verdict::Open,
                proof: Some(Proof { checks, ..proof }),
                doubt: None,
            },
            Err(Doubt::LeadsToCanary) => Weighed::doubted(Verdict::Closed, Doubt::LeadsToCanary),
            Err(doubt) => Weighed::doubted(Verdict::Unproven, doubt),
        }
    }

    fn receipt(&self, attempt: &Attempt) -> Option<Proof> {
        let proof = |received_at, egress_ip| Proof {
            kind: attempt.kind,
            nonce: attempt.nonce,
            received_at,
            egress_ip,
            checks: Vec::new(),
            anonymity: None,
            seen_as: None,
        };
        let answer = attempt.answer.as_ref();
        if let Some(answer) = answer.filter(|answer| answer.proves(attempt.nonce, self.key)) {
            return Some(Proof {
                anonymity: answer.disclosed.map(Disclosed::anonymity),
                seen_as: answer.disclosed.and_then(Disclosed::client),
                ..proof(answer.received_at, answer.egress_ip)
            });
        }
        let sightings = self.seen(attempt.nonce);
        let first = sightings.min_by_key(|sighting| (sighting.received_at, sighting.egress_ip))?;
        Some(Proof {
            seen_as: received_from(first.header.raw()),
            ..proof(first.received_at, first.egress_ip)
        })
    }

    /// The mails with this nonce that the campaign's own canary received: another one may be somebody else's.
    fn seen(&self, nonce: Nonce) -> impl Iterator<Item = &Sighting> {
        let sightings = self.sightings.iter();
        sightings.filter(move |seen| seen.nonce == nonce && seen.is_signed_by(self.key))
    }

    /// The checks that the receipt of an attempt has passed, or the doubt that is left.
    fn checks(&self, attempt: &Attempt) -> Result<Vec<Check>, Doubt> {
        let mut passed = BTreeSet::new();
        let reached = attempt.answer.as_ref().and_then(|answer| answer.port);
        if let (Some(asked), Some(reached)) = (attempt.port, reached) {
            if asked != reached {
                return Err(Doubt::LeadsToCanary);
            }
            passed.insert(Check::AskedPort);
        }
        let controls = self.evidence.controls.iter();
        let of_this = controls.filter(|control| control.of == attempt.variant);
        for control in of_this {
            match control.check {
                Check::OtherDomain if self.seen(control.nonce).next().is_none() => {
                    return Err(Doubt::OneDomain);
                }
                Check::Greeting if control.was_not_made() && !self.was_handled(attempt) => {
                    return Err(Doubt::Unchecked);
                }
                Check::OtherPort | Check::OtherName if control.was_not_made() => {
                    return Err(Doubt::Unchecked);
                }
                Check::AnyMailbox => false,
                _ => passed.insert(control.check),
            };
        }
        Ok(passed.into_iter().collect())
    }

    fn takes_any_mailbox(&self, attempt: &Attempt) -> bool {
        self.evidence.controls.iter().any(|control| {
            control.check == Check::AnyMailbox
                && control.of == attempt.variant
                && matches!(control.reply, Reply::Accepted { .. })
        })
    }

    /// True if a mail server has passed the message on, and not just its bytes (RFC 5321 section 4.4).
    fn was_handled(&self, attempt: &Attempt) -> bool {
        self.seen(attempt.nonce).any(|sighting| {
            let mut fields = sighting.header.raw().lines();
            fields.any(|field| field.to_ascii_lowercase().starts_with("received:"))
        })
    }
}

/// A service that was recognised, and was not asked to forward anything: it let us speak, and the tier ended there.
/// Somebody who was only connected to has said nothing, and was not asked.
fn without_attempt(evidence: &Evidence) -> Verdict {
    let only_connected = evidence.banner.is_none() && evidence.transcript.is_empty();
    match (&evidence.service, evidence.broken) {
        (_, Some(_)) => Verdict::Inconclusive,
        (Some(_), None) if evidence.shows_proxy == Some(false) => Verdict::NotAService,
        (Some(_), None) => Verdict::Unproven,
        (None, None) if only_connected => Verdict::Inconclusive,
        (None, None) => Verdict::NotAService,
    }
}

fn unproven_verdict(reply: Reply) -> Verdict {
    match reply {
        Reply::Accepted { .. } => Verdict::Unproven,
        Reply::AuthRequired { .. } => Verdict::Protected,
        Reply::Refused { .. } => Verdict::Closed,
        Reply::Temporary { .. } | Reply::Broken { .. } => Verdict::Inconclusive,
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::{
        Service, Timestamp,
        evidence::{Broken, Direction, Entry},
        proof::{Answer, Kind},
        text::Untrusted,
    };

    /// A fetch of the canary's page on port 80, whose answer came from `port`.
    fn fetched(key: &SigningKey, port: Option<u16>) -> Evidence {
        let nonce: Nonce = "00112233445566778899aabbccddeeff".parse().unwrap();
        let (egress, at) = ("192.0.2.1".parse().unwrap(), Timestamp::UNIX_EPOCH);
        let answer = match port {
            Some(port) => Answer::sign(key, nonce, egress, port, at),
            None => Answer::sign_without_port(key, nonce, egress, at),
        };
        Evidence {
            attempts: vec![Attempt {
                variant: "get:80".to_owned(),
                kind: Kind::Fetch,
                nonce,
                port: port.map(|_| 80),
                reply: Reply::Accepted { code: 200 },
                answer: Some(answer),
                at,
            }],
            ..Evidence::default()
        }
    }

    #[test]
    fn an_answer_from_another_port_than_the_one_asked_for_is_no_proof() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let judged = |port| judge(&fetched(&key, port), &[], &CanaryKey::from(&key));
        let straight = judged(Some(80));
        assert_eq!(straight.verdict, Verdict::Open);
        assert_eq!(straight.proof.unwrap().checks, [Check::AskedPort]);
        let astray = judged(Some(7401));
        assert_eq!(astray.verdict, Verdict::Closed);
        assert_eq!(astray.doubt, Some(Doubt::LeadsToCanary));
    }

    #[test]
    fn what_older_versions_proved_stays_proven_by_no_check() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let judged = judge(&fetched(&key, None), &[], &CanaryKey::from(&key));
        assert_eq!(judged.verdict, Verdict::Open);
        assert_eq!(judged.proof.unwrap().checks, []);
    }

    #[test]
    fn what_was_not_asked_is_not_called_something_else() {
        let key = CanaryKey::from(&SigningKey::from_bytes(&[3; 32]));
        let check = |evidence: Evidence, expect: Verdict| {
            assert_eq!(judge(&evidence, &[], &key).verdict, expect, "{evidence:?}");
        };
        let said = vec![Entry {
            at_ms: 0,
            direction: Direction::Event,
            text: Untrusted::from("connected".to_owned()),
        }];
        // At tier `connect` nobody said anything.
        check(Evidence::default(), Verdict::Inconclusive);
        let strange = Evidence {
            transcript: said.clone(),
            ..Evidence::default()
        };
        check(strange.clone(), Verdict::NotAService);
        // At tier `handshake` a proxy was recognised, and not asked to forward anything.
        let recognised = Evidence {
            service: Some(Service::from_static("http-proxy")),
            ..strange.clone()
        };
        check(recognised, Verdict::Unproven);
        let web_server = Evidence {
            service: Some(Service::from_static("http-proxy")),
            shows_proxy: Some(false),
            ..strange.clone()
        };
        check(web_server, Verdict::NotAService);
        let broken = Evidence {
            broken: Some(Broken::TimedOut),
            ..strange
        };
        check(broken, Verdict::Inconclusive);
    }
}
