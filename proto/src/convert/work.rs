//! What workers and canaries are given, and what they report.

use ajar_model::{
    Finding, Lease, Observation, ProbeId, Sighting, Tally, Untrusted, lease::Work,
    proof::Signature64,
};

use super::{
    Error, duration_in, duration_out, missing, parse, parse_all, shard_in, texts, time_in,
    time_out, wrong,
};
use crate::v1;

impl From<Tally> for v1::Tally {
    fn from(tally: Tally) -> Self {
        Self {
            answered: tally.answered,
            refused: tally.refused,
            silent: tally.silent,
            unreachable: tally.unreachable,
            denied: tally.denied,
            failed: tally.failed,
        }
    }
}

impl From<v1::Tally> for Tally {
    fn from(tally: v1::Tally) -> Self {
        Self {
            answered: tally.answered,
            refused: tally.refused,
            silent: tally.silent,
            unreachable: tally.unreachable,
            denied: tally.denied,
            failed: tally.failed,
        }
    }
}

impl From<Lease> for v1::Lease {
    fn from(lease: Lease) -> Self {
        let work = match lease.work {
            Work::Sweep(blocks) => v1::lease::Work::Blocks(v1::Blocks {
                start: blocks.start,
                end: blocks.end,
            }),
            Work::Revisit {
                endpoints,
                visit,
                round,
                vantage,
            } => v1::lease::Work::Revisit(v1::Revisit {
                endpoints: texts(&endpoints),
                visit,
                round,
                vantage: vantage.unwrap_or_default(),
            }),
        };
        Self {
            shard: Some(lease.shard.into()),
            token: lease.token,
            work: Some(work),
            cursor: lease.cursor,
            ttl: Some(duration_out(lease.ttl)),
            rate: lease.rate,
            attempt: lease.attempt,
            alone: lease.alone,
            end: lease.end,
            revision: lease.revision,
            vantage: lease.vantage,
            epoch: lease.epoch,
        }
    }
}

impl TryFrom<v1::Lease> for Lease {
    type Error = Error;

    fn try_from(lease: v1::Lease) -> Result<Self, Error> {
        let work = match lease.work.ok_or_else(|| missing("work"))? {
            v1::lease::Work::Blocks(blocks) => Work::Sweep(blocks.start..blocks.end),
            v1::lease::Work::Revisit(revisit) => Work::Revisit {
                endpoints: parse_all("revisit.endpoints", &revisit.endpoints)?,
                visit: revisit.visit,
                round: revisit.round,
                vantage: Some(revisit.vantage).filter(|vantage| !vantage.is_empty()),
            },
        };
        Ok(Self {
            shard: shard_in(lease.shard)?,
            token: lease.token,
            work,
            cursor: lease.cursor,
            end: lease.end,
            ttl: duration_in("ttl", lease.ttl)?,
            rate: lease.rate,
            attempt: lease.attempt,
            alone: lease.alone,
            revision: lease.revision,
            vantage: lease.vantage,
            epoch: lease.epoch,
        })
    }
}

impl From<&Observation> for v1::Observation {
    fn from(observation: &Observation) -> Self {
        let evidence = serde_json::to_vec(&observation.evidence);
        Self {
            campaign: observation.campaign.to_string(),
            endpoint: observation.endpoint.to_string(),
            probe: observation.probe.to_string(),
            vantage: observation.vantage.clone(),
            started_at: Some(time_out(observation.started_at)),
            finished_at: Some(time_out(observation.finished_at)),
            visit: observation.visit,
            round: observation.round,
            evidence_json: evidence.expect("evidence has no map with keys other than text"),
        }
    }
}

impl TryFrom<v1::Observation> for Observation {
    type Error = Error;

    fn try_from(observation: v1::Observation) -> Result<Self, Error> {
        Ok(Self {
            campaign: parse("campaign", &observation.campaign)?,
            endpoint: parse("endpoint", &observation.endpoint)?,
            probe: ProbeId::from(observation.probe),
            vantage: observation.vantage,
            started_at: time_in("started_at", observation.started_at)?,
            finished_at: time_in("finished_at", observation.finished_at)?,
            visit: observation.visit,
            round: observation.round,
            evidence: serde_json::from_slice(&observation.evidence_json)
                .map_err(|cause| wrong("evidence_json", cause))?,
        })
    }
}

impl From<&Sighting> for v1::Sighting {
    fn from(sighting: &Sighting) -> Self {
        Self {
            nonce: sighting.nonce.to_string(),
            egress_ip: sighting.egress_ip.to_string(),
            received_at: Some(time_out(sighting.received_at)),
            helo: sighting.helo.raw().to_owned(),
            mail_from: sighting.mail_from.raw().to_owned(),
            rcpt_to: sighting.rcpt_to.raw().to_owned(),
            header: sighting.header.raw().to_owned(),
            signature: sighting.signature.0.to_vec(),
        }
    }
}

impl TryFrom<v1::Sighting> for Sighting {
    type Error = Error;

    fn try_from(sighting: v1::Sighting) -> Result<Self, Error> {
        Ok(Self {
            nonce: parse("nonce", &sighting.nonce)?,
            egress_ip: parse("egress_ip", &sighting.egress_ip)?,
            received_at: time_in("received_at", sighting.received_at)?,
            helo: Untrusted::from(sighting.helo),
            mail_from: Untrusted::from(sighting.mail_from),
            rcpt_to: Untrusted::from(sighting.rcpt_to),
            header: Untrusted::from(sighting.header),
            signature: Signature64(
                sighting
                    .signature
                    .try_into()
                    .map_err(|_| wrong("signature", "it has not 64 bytes"))?,
            ),
        })
    }
}

impl From<&Finding> for v1::Finding {
    fn from(finding: &Finding) -> Self {
        let json = serde_json::to_vec(finding);
        Self {
            json: json.expect("a finding has no map with keys other than text"),
        }
    }
}

impl TryFrom<v1::Finding> for Finding {
    type Error = Error;

    fn try_from(finding: v1::Finding) -> Result<Self, Error> {
        serde_json::from_slice(&finding.json).map_err(|cause| wrong("json", cause))
    }
}
