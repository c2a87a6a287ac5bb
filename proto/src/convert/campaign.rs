//! What was asked for, and where it stands.

use std::time::Duration;

use ajar_model::{
    Campaign, Canary, Effort, Host, NonceKey, ProbeId, Revisits, SignedAuthorization, Spec, Tier,
    campaign::{State, Sweep},
};

use super::{
    Error, duration_in, duration_out, missing, parse, parse_all, port, texts, time_out, wrong,
};
use crate::v1;

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

impl From<Effort> for v1::Effort {
    fn from(effort: Effort) -> Self {
        match effort {
            Effort::Quick => v1::Effort::Quick,
            Effort::Normal => v1::Effort::Normal,
            Effort::Full => v1::Effort::Full,
        }
    }
}

impl From<&Spec> for v1::Spec {
    fn from(spec: &Spec) -> Self {
        Self {
            tenant: spec.tenant.clone(),
            targets: texts(&spec.targets),
            exclude: texts(&spec.exclude),
            hosts: spec.hosts.iter().map(Into::into).collect(),
            ports: spec.ports.to_string(),
            probes: texts(&spec.probes),
            rate: spec.rate,
            prefix_rate: spec.prefix_rate,
            tier: v1::Tier::from(spec.tier).into(),
            effort: v1::Effort::from(spec.effort).into(),
            sweep: v1::Sweep::from(spec.sweep).into(),
            retries: spec.retries,
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
        let effort = match spec.effort() {
            v1::Effort::Unspecified | v1::Effort::Normal => Effort::Normal,
            v1::Effort::Quick => Effort::Quick,
            v1::Effort::Full => Effort::Full,
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
        let hosts = spec.hosts.into_iter().map(Host::try_from);
        Ok(Self {
            targets: parse_all("targets", &spec.targets)?,
            exclude: parse_all("exclude", &spec.exclude)?,
            hosts: hosts.collect::<Result<_, _>>()?,
            ports: parse("ports", &spec.ports)?,
            probes: spec.probes.into_iter().map(ProbeId::from).collect(),
            rate: spec.rate,
            prefix_rate: spec.prefix_rate,
            tier,
            effort,
            sweep,
            retries: spec.retries,
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

impl From<&Host> for v1::Host {
    fn from(host: &Host) -> Self {
        Self {
            name: host.name.clone(),
            addresses: texts(&host.addresses),
        }
    }
}

impl TryFrom<v1::Host> for Host {
    type Error = Error;

    fn try_from(host: v1::Host) -> Result<Self, Error> {
        Ok(Self {
            addresses: parse_all("hosts", &host.addresses)?,
            name: host.name,
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
