//! The result of one endpoint, in the shape that users and scripts rely on.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Timestamp,
    evidence::{Evidence, RoleMailbox},
    id::{CampaignId, Exposure, ProbeId, Service},
    judge::{Doubt, Judgement, Verdict},
    observation::Observation,
    product::Product,
    proof::{Confirmation, Proof},
    special,
    text::Untrusted,
};

/// A result: what ajar says of one endpoint and probe. Serialized, it is one line of JSONL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Names it in `ajar findings show`; the same for every run over the same key.
    pub id: String,
    pub campaign: CampaignId,
    pub ip: IpAddr,
    pub port: u16,
    /// Always `tcp` so far.
    pub transport: String,
    /// The protocol that it was recognised by.
    pub service: Option<Service>,
    /// What it exposes; set if the verdict is `open`.
    pub exposure: Option<Exposure>,
    pub verdict: Verdict,
    pub probe: ProbeId,
    /// The variants that decided the verdict.
    pub variants: Vec<String>,
    /// The receipt, if it is open.
    pub proof: Option<Proof>,
    /// The receipt of a later round, once there is one: before that, no owner is written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
    /// Why it is not called open although something reached the canary, or need not be open to
    /// strangers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// Why it is open, if what arrived at the canary shows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Where the same door was found otherwise, if it is open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differs: Vec<Difference>,
    /// Whether its domain's addresses for complaints take mail, if it is a mail server: whom to write to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mailboxes: Vec<RoleMailbox>,
    /// The product, if the endpoint names it.
    pub product: Option<Product>,
    /// The greeting or first reply.
    pub banner: Option<Untrusted>,
    /// True if the target was spoken to through TLS.
    pub tls: bool,
    pub vantage: String,
    /// Start of the first visit.
    pub first_seen: Timestamp,
    /// End of the last visit.
    pub last_seen: Timestamp,
    /// How many visits it took.
    pub attempts: u32,
}

/// Why a door is open. Closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It takes strangers for a neighbour: something in front of it puts an internal address in place of theirs.
    SourceNat,
}

impl Cause {
    /// What it means, and what helps, in a sentence.
    pub fn explained(self) -> &'static str {
        match self {
            Cause::SourceNat => {
                "it saw an internal address instead of ours (seen_as): something in front of it, such as the port mapping of a container \
                 network, hides who connects, and it trusts its own network; pass the client's address on (host networking, \
                 externalTrafficPolicy: Local, the PROXY protocol), or trust no network"
            }
        }
    }
}

/// What was found of the same door from another place, or at another address of the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Difference {
    /// The vantage point, if that is the other place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vantage: Option<String>,
    /// The other address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// Absent if nothing answered there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// An address that is not ours, and nobody's on the Internet, was put in place of ours.
fn cause(evidence: &Evidence, proof: Option<&Proof>) -> Option<Cause> {
    let proof = proof?;
    let (ours, seen_as) = (evidence.source?, proof.seen_as?);
    let is_internal = special::denied(seen_as).is_some();
    let mut attempts = evidence.attempts.iter();
    let attempt = attempts.find(|attempt| attempt.nonce == proof.nonce)?;
    let put_by_us = attempt.variant.starts_with("proxied:") || attempt.variant.contains("xclient");
    (is_internal && seen_as != ours && !put_by_us).then_some(Cause::SourceNat)
}

impl Finding {
    /// The finding that an observation, once judged, amounts to.
    pub fn new(tenant: &str, observation: &Observation, judgement: Judgement) -> Self {
        let Observation {
            campaign,
            endpoint,
            probe,
            evidence,
            ..
        } = observation;
        Self {
            id: id(tenant, *campaign, *endpoint, probe),
            campaign: *campaign,
            ip: endpoint.ip(),
            port: endpoint.port(),
            transport: "tcp".to_owned(),
            service: evidence.service.clone(),
            exposure: evidence
                .exposure()
                .filter(|_| judgement.verdict == Verdict::Open),
            verdict: judgement.verdict,
            probe: probe.clone(),
            variants: judgement.variants,
            cause: cause(evidence, judgement.proof.as_ref()),
            proof: judgement.proof,
            confirmation: None,
            differs: Vec::new(),
            doubt: match judgement.verdict {
                Verdict::Open if evidence.is_from_inside(endpoint.ip()) => Some(Doubt::Inside),
                _ => judgement.doubt,
            },
            mailboxes: evidence.mailboxes.clone(),
            product: Product::of(evidence),
            banner: evidence.banner.clone(),
            tls: evidence.tls,
            vantage: observation.vantage.clone(),
            first_seen: observation.started_at,
            last_seen: observation.finished_at,
            attempts: observation.visit,
        }
    }

    /// Merges two findings of one endpoint, of the same probe from other times or vantage points, or of
    /// different probes: the graver verdict wins. The order of merging makes no difference.
    pub fn merge(self, other: Self) -> Self {
        let first_seen = self.first_seen.min(other.first_seen);
        let last_seen = self.last_seen.max(other.last_seen);
        let attempts = self.attempts.max(other.attempts);
        let tls = self.tls || other.tls;
        let (mut winner, loser) = if self.precedence() >= other.precedence() {
            (self, other)
        } else {
            (other, self)
        };
        if winner.verdict == loser.verdict {
            for variant in loser.variants {
                if !winner.variants.contains(&variant) {
                    winner.variants.push(variant);
                }
            }
            winner.variants.sort();
            let doubts = [winner.doubt, loser.doubt];
            winner.doubt = match winner.verdict {
                // One finding without a doubt settles it.
                Verdict::Open if doubts.contains(&None) => None,
                _ => doubts.into_iter().flatten().min(),
            };
        }
        winner.banner = winner.banner.or(loser.banner);
        winner.product = winner.product.or(loser.product);
        winner.cause = winner.cause.or(loser.cause);
        if winner.mailboxes.is_empty() {
            winner.mailboxes = loser.mailboxes;
        }
        winner.differs.extend(loser.differs);
        winner.differs.sort();
        winner.differs.dedup();
        Self {
            first_seen,
            last_seen,
            attempts,
            tls,
            ..winner
        }
    }

    fn precedence(&self) -> impl Ord + use<> {
        let earliest_proof = self
            .proof
            .as_ref()
            .map(|proof| std::cmp::Reverse((proof.received_at, proof.nonce)));
        (
            self.verdict,
            self.confirmation.is_some(),
            std::cmp::Reverse(self.probe.clone()),
            earliest_proof,
            std::cmp::Reverse((self.vantage.clone(), self.first_seen)),
        )
    }
}

/// A finding's id: the first 64 bits of SHA-256 over its key, in hex.
pub fn id(tenant: &str, campaign: CampaignId, endpoint: SocketAddr, probe: &ProbeId) -> String {
    let key = format!("{tenant}\n{campaign}\n{endpoint}\n{probe}");
    let digest = Sha256::digest(key.as_bytes());
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
