//! From evidence to verdict. The judge reads evidence only, never the name of a probe, so stored
//! observations can be judged again after a mistake in it was mended.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use crate::doubt::Doubt;
use crate::{
    disclosed::{Disclosed, received_from},
    evidence::{Attempt, Broken, Control, Evidence, Reply},
    proof::{CanaryKey, Check, Kind, Proof, Sighting},
    signed::Signed,
};

/// The version of the rules in this file. Raise it with every change that may alter a stored
/// verdict: stores then judge their findings again.
pub const RULES: u32 = 1;

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
    let leads_to_canary = evidence.leads_to_canary(key);
    let bench = Bench {
        evidence,
        signed: Signed::of(evidence, sightings, key),
        key,
        leads_to_canary,
    };
    let weighed: Vec<(&Attempt, Weighed)> = evidence
        .attempts
        .iter()
        .map(|attempt| (attempt, bench.weigh(attempt)))
        .collect();
    let gravest = gravest(&weighed).unwrap_or_else(|| without_attempt(evidence));
    if gravest == Verdict::Closed && evidence.shut_out_after.is_some() {
        // It refused every question, and was not asked all of them.
        return Judgement {
            verdict: Verdict::Inconclusive,
            variants: weighed.iter().map(|(a, _)| a.variant.clone()).collect(),
            proof: None,
            doubt: Some(Doubt::TurnedAway),
        };
    }
    let decided = || {
        let weighed = weighed.iter();
        weighed.filter(|(_, weighed)| weighed.verdict == gravest)
    };
    let is_forward = leads_to_canary || evidence.leads_to_canary;
    let shows_proxy = evidence.shows_proxy.map(|shows| shows && !is_forward);
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

/// Returns the gravest verdict. After a refusal, a conversation that breaks off decides nothing.
/// Nor does a delay, unless it answers the first attempt, the likeliest way in.
fn gravest(weighed: &[(&Attempt, Weighed)]) -> Option<Verdict> {
    let is_refused = |(_, weighed): &(&Attempt, Weighed)| {
        weighed.verdict == Verdict::Closed && weighed.doubt.is_none()
    };
    let was_refused = weighed.iter().any(is_refused);
    let attempts = weighed.iter().enumerate();
    let decide = attempts.filter(|(at, (attempt, weighed))| {
        let counts = match attempt.reply {
            Reply::Broken {
                how: Broken::Connect,
            } => true,
            Reply::Broken { .. } => false,
            Reply::Temporary { .. } => *at == 0,
            _ => !attempt.turned_away,
        };
        counts || !was_refused || weighed.proof.is_some()
    });
    decide.map(|(_, (_, weighed))| weighed.verdict).max()
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
    signed: Signed<'a>,
    key: &'a CanaryKey,
    /// True if the canary answered where only a fixed forward reaches it. That condemns every variant of the probe.
    leads_to_canary: bool,
}

impl Bench<'_> {
    fn weigh(&self, attempt: &Attempt) -> Weighed {
        let receipt = self.receipt(attempt);
        let accepted = matches!(attempt.reply, Reply::Accepted { .. });
        if (receipt.is_some() || accepted) && self.is_condemned(attempt) {
            return Weighed::doubted(Verdict::Closed, Doubt::LeadsToCanary);
        }
        let Some(proof) = receipt else {
            if accepted && self.takes_any_mailbox(attempt) {
                return Weighed::doubted(Verdict::Closed, Doubt::TakesAnyMailbox);
            }
            if attempt.is_ignored {
                return Weighed::doubted(Verdict::Unproven, Doubt::NotAsked);
            }
            if attempt.turned_away {
                return Weighed::doubted(Verdict::Inconclusive, Doubt::TurnedAway);
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
        if let Some(answer) = self.signed.answer(attempt) {
            return Some(Proof {
                anonymity: answer.disclosed.map(Disclosed::anonymity),
                seen_as: answer.disclosed.and_then(Disclosed::client),
                ..proof(answer.received_at, answer.egress_ip)
            });
        }
        // We never handed this mail over: somebody else has read the nonce and sent it.
        if attempt.sent == Some(false) {
            return None;
        }
        let sightings = self.signed.mails(attempt.nonce);
        let relayed = sightings.filter(|mail| !attempt.returns || !mail.mail_from.raw().is_empty());
        let first = relayed.min_by_key(|sighting| (sighting.received_at, sighting.egress_ip))?;
        let mut copies = std::iter::once(first).chain(self.copies(attempt));
        Some(Proof {
            seen_as: copies.find_map(|copy| received_from(copy.header.raw())),
            ..proof(first.received_at, first.egress_ip)
        })
    }

    /// Iterates over the mails of an attempt and of its checks. They may be one message, whose
    /// header is kept with one of its recipients.
    fn copies(&self, attempt: &Attempt) -> impl Iterator<Item = &Sighting> {
        let checks = self.controls_of(attempt).map(|control| control.nonce);
        std::iter::once(attempt.nonce)
            .chain(checks)
            .flat_map(|nonce| self.signed.mails(nonce))
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
        for control in self.controls_of(attempt) {
            match control.check {
                Check::OtherDomain if self.signed.mails(control.nonce).next().is_none() => {
                    return Err(match control.reply {
                        Reply::Broken { .. } => Doubt::Unchecked,
                        _ => Doubt::OneDomain,
                    });
                }
                Check::OtherPort | Check::OtherName
                    if !control.is_decided() && !self.was_answered(attempt, Check::Again) =>
                {
                    return Err(Doubt::Unchecked);
                }
                Check::SecondName if !self.was_answered(attempt, Check::SecondName) => {
                    return Err(match control.is_decided() {
                        true => Doubt::OneName,
                        false => Doubt::Unchecked,
                    });
                }
                Check::Literal if matches!(control.reply, Reply::Refused { .. }) => {
                    return Err(Doubt::OurDomains);
                }
                Check::Literal | Check::Greeting if !control.is_decided() => false,
                Check::Again if !control.was_answered(self.key) => false,
                Check::AnyMailbox => false,
                _ => passed.insert(control.check),
            };
        }
        match self.is_checked(attempt) {
            true => Ok(passed.into_iter().collect()),
            false => Err(Doubt::Unchecked),
        }
    }

    /// Returns whether a check was made that tells an endpoint which goes where it is told from a forward
    /// to the canary.
    fn is_checked(&self, attempt: &Attempt) -> bool {
        let mut controls = self.controls_of(attempt).map(|control| control.check);
        match attempt.kind {
            Kind::Mail => {
                let mut greetings = self.evidence.controls.iter();
                self.was_handled(attempt)
                    || greetings.any(|c| c.check == Check::Greeting && c.is_decided())
            }
            Kind::Fetch => {
                controls.any(|check| matches!(check, Check::OtherPort | Check::OtherName))
            }
            Kind::Tunnel => {
                controls.any(|check| matches!(check, Check::OtherPort | Check::OtherName))
                    || self.reached_another_port(attempt)
            }
        }
    }

    /// Returns whether the endpoint leads to the canary whatever it is asked. An endpoint that
    /// follows names and ignores ports has a check of its own for that.
    fn is_condemned(&self, attempt: &Attempt) -> bool {
        let mut controls = self.controls_of(attempt);
        let follows_names = controls.any(|control| control.check == Check::OtherName);
        self.leads_to_canary || (self.evidence.leads_to_canary && !follows_names)
    }

    fn controls_of(&self, attempt: &Attempt) -> impl Iterator<Item = &Control> {
        let controls = self.evidence.controls.iter();
        controls.filter(|control| control.of == attempt.variant)
    }

    /// Returns whether a check of this attempt led to the canary.
    fn was_answered(&self, attempt: &Attempt, check: Check) -> bool {
        let mut controls = self.controls_of(attempt);
        controls.any(|control| control.check == check && control.was_answered(self.key))
    }

    /// Returns whether the same probe reached the canary at another port too.
    fn reached_another_port(&self, attempt: &Attempt) -> bool {
        self.evidence
            .attempts
            .iter()
            .any(|other| other.port != attempt.port && self.signed.answer(other).is_some())
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
        self.copies(attempt).any(|sighting| {
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
    use crate::nonce::Nonce;
    use crate::{
        Service, Timestamp,
        evidence::{Direction, Entry},
        proof::{Answer, Kind},
        text::Untrusted,
    };

    #[test]
    fn what_older_versions_proved_without_a_check_is_unchecked() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let nonce: Nonce = "00112233445566778899aabbccddeeff".parse().unwrap();
        let (egress, at) = ("192.0.2.1".parse().unwrap(), Timestamp::UNIX_EPOCH);
        let fetched = Evidence {
            attempts: vec![Attempt {
                variant: "get:80".to_owned(),
                kind: Kind::Fetch,
                nonce,
                port: None,
                reply: Reply::Accepted { code: 200 },
                sent: None,
                returns: false,
                turned_away: false,
                is_ignored: false,
                answer: Some(Answer::sign_without_port(&key, nonce, egress, at)),
                at,
            }],
            ..Evidence::default()
        };
        let judged = judge(&fetched, &[], &CanaryKey::from(&key));
        assert_eq!(judged.verdict, Verdict::Unproven);
        assert_eq!(judged.doubt, Some(Doubt::Unchecked));
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
