//! From evidence to verdict. The judge reads evidence only, never the name of a probe, so stored
//! observations can be judged again after a mistake in it was mended.

use serde::{Deserialize, Serialize};

use crate::{
    evidence::{Attempt, Evidence, Reply},
    proof::{CanaryKey, Proof, Sighting},
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
}

/// Judges one observation's evidence. `sightings` are the mails that the canary received; those for other
/// nonces are ignored. `key` is the canary's.
pub fn judge(evidence: &Evidence, sightings: &[Sighting], key: &CanaryKey) -> Judgement {
    let receipt = |attempt: &Attempt| receipt(attempt, sightings, key);
    let proven: Vec<(&Attempt, Proof)> = evidence
        .attempts
        .iter()
        .filter_map(|attempt| Some((attempt, receipt(attempt)?)))
        .collect();
    if !proven.is_empty() {
        return Judgement {
            verdict: Verdict::Open,
            variants: proven.iter().map(|(a, _)| a.variant.clone()).collect(),
            proof: proven
                .into_iter()
                .map(|(_, proof)| proof)
                .min_by_key(|proof| (proof.received_at, proof.nonce)),
        };
    }
    let verdict = evidence
        .attempts
        .iter()
        .map(|attempt| unproven_verdict(attempt.reply))
        .max()
        .unwrap_or_else(|| without_attempt(evidence));
    let verdict = match (verdict, evidence.shows_proxy) {
        // A plain server that refuses to be a gateway is none.
        (Verdict::Closed, Some(false)) => Verdict::NotAService,
        (verdict, _) => verdict,
    };
    let decided = evidence.attempts.iter().filter(|attempt| {
        let of_attempt = unproven_verdict(attempt.reply);
        of_attempt == verdict || (verdict, of_attempt) == (Verdict::NotAService, Verdict::Closed)
    });
    Judgement {
        verdict,
        variants: decided.map(|attempt| attempt.variant.clone()).collect(),
        proof: None,
    }
}

fn receipt(attempt: &Attempt, sightings: &[Sighting], key: &CanaryKey) -> Option<Proof> {
    let answered = attempt
        .answer
        .as_ref()
        .filter(|answer| answer.proves(attempt.nonce, key))
        .map(|answer| (answer.received_at, answer.egress_ip));
    let seen = sightings
        .iter()
        .filter(|sighting| sighting.nonce == attempt.nonce)
        .map(|sighting| (sighting.received_at, sighting.egress_ip))
        .min();
    let (received_at, egress_ip) = answered.or(seen)?;
    Some(Proof {
        kind: attempt.kind,
        nonce: attempt.nonce,
        received_at,
        egress_ip,
    })
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
        Service,
        evidence::{Broken, Direction, Entry},
        text::Untrusted,
    };

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
