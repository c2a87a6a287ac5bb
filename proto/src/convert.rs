//! Between wire and model. Outward conversions cannot fail; inward ones name the field that is wrong.

use std::time::Duration;

use ajar_model::{
    Campaign, CampaignId, Canary, Finding, Lease, NonceKey, Observation, ProbeId, Revisits,
    ShardId, Sighting, SignedAuthorization, Spec, Tally, Tier, Timestamp, Untrusted,
    campaign::State, campaign::Sweep, lease::Work,
};

use crate::v1;

/// A field of a message that cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error("field {field}: {cause}")]
pub struct Error {
    /// Its name, as in the .proto file.
    pub field: &'static str,
    /// What is wrong with it.
    pub cause: String,
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        tonic::Status::invalid_argument(error.to_string())
    }
}

/// Parses the text of a field.
pub fn parse<T>(field: &'static str, text: &str) -> Result<T, Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|cause: T::Err| Error {
        field,
        cause: cause.to_string(),
    })
}

fn missing(field: &'static str) -> Error {
    Error {
        field,
        cause: "is missing".to_owned(),
    }
}

fn wrong(field: &'static str, cause: impl std::fmt::Display) -> Error {
    Error {
        field,
        cause: cause.to_string(),
    }
}

fn parse_all<T>(field: &'static str, texts: &[String]) -> Result<Vec<T>, Error>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    texts.iter().map(|text| parse(field, text)).collect()
}

fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn port(field: &'static str, number: u32) -> Result<u16, Error> {
    u16::try_from(number).map_err(|_| wrong(field, format_args!("{number} is not a port")))
}

/// A point in time for the wire.
pub fn time_out(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// A point in time from the wire.
pub fn time_in(
    field: &'static str,
    at: Option<prost_types::Timestamp>,
) -> Result<Timestamp, Error> {
    let at = at.ok_or_else(|| missing(field))?;
    Timestamp::new(at.seconds, at.nanos).map_err(|cause| wrong(field, cause))
}

/// A span of time for the wire.
pub fn duration_out(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: duration.as_secs() as i64,
        nanos: duration.subsec_nanos() as i32,
    }
}

/// A span of time from the wire; never negative.
pub fn duration_in(
    field: &'static str,
    duration: Option<prost_types::Duration>,
) -> Result<Duration, Error> {
    let duration = duration.ok_or_else(|| missing(field))?;
    Duration::try_from(duration).map_err(|cause| wrong(field, cause))
}

impl From<ShardId> for v1::ShardId {
    fn from(shard: ShardId) -> Self {
        Self {
            campaign: shard.campaign.to_string(),
            number: shard.number,
        }
    }
}

impl TryFrom<v1::ShardId> for ShardId {
    type Error = Error;

    fn try_from(shard: v1::ShardId) -> Result<Self, Error> {
        Ok(Self {
            campaign: parse("shard.campaign", &shard.campaign)?,
            number: shard.number,
        })
    }
}

/// A shard's id that must be there.
pub fn shard_in(shard: Option<v1::ShardId>) -> Result<ShardId, Error> {
    shard.ok_or_else(|| missing("shard"))?.try_into()
}

impl From<&Canary> for v1::Canary {
    fn from(canary: &Canary) -> Self {
        Self {
            domain: canary.domain.clone(),
            other_domain: canary.other_domain.clone().unwrap_or_default(),
            address: canary.address.to_string(),
            smtp: canary.smtp.into(),
            http: canary.http.into(),
            https: canary.https.into(),
            raw: canary.raw.into(),
            key: canary.key.to_string(),
        }
    }
}

impl TryFrom<v1::Canary> for Canary {
    type Error = Error;

    fn try_from(canary: v1::Canary) -> Result<Self, Error> {
        Ok(Self {
            address: parse("canary.address", &canary.address)?,
            smtp: port("canary.smtp", canary.smtp)?,
            http: port("canary.http", canary.http)?,
            https: port("canary.https", canary.https)?,
            raw: port("canary.raw", canary.raw)?,
            key: parse("canary.key", &canary.key)?,
            domain: canary.domain,
            other_domain: Some(canary.other_domain).filter(|name| !name.is_empty()),
        })
    }
}

/// A specification that must be there.
pub fn spec_in(spec: Option<v1::Spec>) -> Result<Spec, Error> {
    spec.ok_or_else(|| missing("spec"))?.try_into()
}

/// A nonce key of 32 bytes.
pub fn nonce_key_in(bytes: &[u8]) -> Result<NonceKey, Error> {
    let key = bytes
        .try_into()
        .map_err(|cause| wrong("nonce_key", cause))?;
    Ok(NonceKey(key))
}

/// A canary that must be there.
pub fn canary_in(canary: Option<v1::Canary>) -> Result<Canary, Error> {
    canary.ok_or_else(|| missing("canary"))?.try_into()
}

impl From<Tier> for v1::Tier {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Connect => v1::Tier::Connect,
            Tier::Handshake => v1::Tier::Handshake,
            Tier::Envelope => v1::Tier::Envelope,
            Tier::Deliver => v1::Tier::Deliver,
        }
    }
}

impl From<Sweep> for v1::Sweep {
    fn from(sweep: Sweep) -> Self {
        match sweep {
            Sweep::Auto => v1::Sweep::Auto,
            Sweep::Syn => v1::Sweep::Syn,
            Sweep::Connect => v1::Sweep::Connect,
            Sweep::None => v1::Sweep::None,
        }
    }
}

impl From<&Spec> for v1::Spec {
    fn from(spec: &Spec) -> Self {
        Self {
            tenant: spec.tenant.clone(),
            targets: texts(&spec.targets),
            exclude: texts(&spec.exclude),
            ports: spec.ports.to_string(),
            probes: texts(&spec.probes),
            rate: spec.rate,
            prefix_rate: spec.prefix_rate,
            tier: v1::Tier::from(spec.tier).into(),
            sweep: v1::Sweep::from(spec.sweep).into(),
            settle: Some(duration_out(Duration::from_secs(spec.settle_secs.into()))),
            canary: Some((&spec.canary).into()),
            authorization: spec.authorization.as_ref().map(Into::into),
            traceparent: spec.traceparent.clone().unwrap_or_default(),
            revisits: spec.revisits.most,
            revisit_after: Some(duration_out(Duration::from_secs(
                spec.revisits.after_secs.into(),
            ))),
            confirm_after: spec
                .revisits
                .confirm_after_secs
                .map(|secs| duration_out(Duration::from_secs(secs.into()))),
        }
    }
}

impl TryFrom<v1::Spec> for Spec {
    type Error = Error;

    fn try_from(spec: v1::Spec) -> Result<Self, Error> {
        let tier = match spec.tier() {
            v1::Tier::Unspecified => return Err(missing("tier")),
            v1::Tier::Connect => Tier::Connect,
            v1::Tier::Handshake => Tier::Handshake,
            v1::Tier::Envelope => Tier::Envelope,
            v1::Tier::Deliver => Tier::Deliver,
        };
        let sweep = match spec.sweep() {
            v1::Sweep::Unspecified => return Err(missing("sweep")),
            v1::Sweep::Auto => Sweep::Auto,
            v1::Sweep::Syn => Sweep::Syn,
            v1::Sweep::Connect => Sweep::Connect,
            v1::Sweep::None => Sweep::None,
        };
        let settle = duration_in("settle", spec.settle)?.as_secs();
        let after = duration_in(
            "revisit_after",
            spec.revisit_after.or(Some(Default::default())),
        )?
        .as_secs();
        let confirm_after = spec.confirm_after.map(|after| {
            let after = duration_in("confirm_after", Some(after))?.as_secs();
            u32::try_from(after).map_err(|cause| wrong("confirm_after", cause))
        });
        Ok(Self {
            targets: parse_all("targets", &spec.targets)?,
            exclude: parse_all("exclude", &spec.exclude)?,
            ports: parse("ports", &spec.ports)?,
            probes: spec.probes.into_iter().map(ProbeId::from).collect(),
            rate: spec.rate,
            prefix_rate: spec.prefix_rate,
            tier,
            sweep,
            settle_secs: u32::try_from(settle).map_err(|cause| wrong("settle", cause))?,
            revisits: Revisits {
                most: spec.revisits,
                after_secs: u32::try_from(after).map_err(|cause| wrong("revisit_after", cause))?,
                confirm_after_secs: confirm_after.transpose()?,
            },
            canary: canary_in(spec.canary)?,
            authorization: spec.authorization.map(Into::into),
            traceparent: Some(spec.traceparent).filter(|parent| !parent.is_empty()),
            tenant: spec.tenant,
        })
    }
}

impl From<&SignedAuthorization> for v1::SignedAuthorization {
    fn from(signed: &SignedAuthorization) -> Self {
        Self {
            text: signed.text.clone(),
            signature: signed.signature.clone(),
        }
    }
}

impl From<v1::SignedAuthorization> for SignedAuthorization {
    fn from(signed: v1::SignedAuthorization) -> Self {
        Self {
            text: signed.text,
            signature: signed.signature,
        }
    }
}

impl From<State> for v1::CampaignState {
    fn from(state: State) -> Self {
        match state {
            State::Running => v1::CampaignState::Running,
            State::Paused => v1::CampaignState::Paused,
            State::Settling => v1::CampaignState::Settling,
            State::Finished => v1::CampaignState::Finished,
            State::Incomplete => v1::CampaignState::Incomplete,
            State::Cancelled => v1::CampaignState::Cancelled,
        }
    }
}

/// A campaign's state from the wire.
pub fn state_in(state: i32) -> Result<State, Error> {
    match v1::CampaignState::try_from(state) {
        Ok(v1::CampaignState::Running) => Ok(State::Running),
        Ok(v1::CampaignState::Paused) => Ok(State::Paused),
        Ok(v1::CampaignState::Settling) => Ok(State::Settling),
        Ok(v1::CampaignState::Finished) => Ok(State::Finished),
        Ok(v1::CampaignState::Incomplete) => Ok(State::Incomplete),
        Ok(v1::CampaignState::Cancelled) => Ok(State::Cancelled),
        Ok(v1::CampaignState::Unspecified) | Err(_) => Err(missing("state")),
    }
}

impl From<&Campaign> for v1::Campaign {
    fn from(campaign: &Campaign) -> Self {
        Self {
            id: campaign.id.to_string(),
            spec: Some((&campaign.spec).into()),
            state: v1::CampaignState::from(campaign.state).into(),
            created_at: Some(time_out(campaign.created_at)),
            local: campaign.local,
            progress: None,
        }
    }
}

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

/// A campaign's id from the wire.
pub fn campaign_id(text: &str) -> Result<CampaignId, Error> {
    parse("campaign", text)
}
