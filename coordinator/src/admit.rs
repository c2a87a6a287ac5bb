//! Whether a campaign may run at all: its shape, its authorization, and a note of who started it.

use std::time::Duration;

use ajar_model::{
    Campaign, CampaignId, Spec, TargetSpace, Timestamp,
    authorization::{self, Verified},
    campaign::{State, Sweep},
    shard::{self, Pace},
};
use ajar_store::{Admission, AuditEntry, Registered};
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::{Coordinator, campaigns, error};

impl Coordinator {
    /// Checks and starts a campaign; says how many (address, port) pairs it has.
    pub(crate) async fn admit(
        &self,
        id: CampaignId,
        spec: Spec,
        caller: &str,
    ) -> Result<u64, Status> {
        let space = self.check_shape(&spec)?;
        let verified = self.check_authorization(&spec)?;
        let pairs = space.addresses() * spec.ports.as_slice().len() as u64;
        let pace = Pace {
            rate: spec.rate,
            prefix_rate: spec.prefix_rate,
            targets: pairs,
        };
        let shards = shard::plan(space.blocks(), pace);
        let campaign = Campaign {
            id,
            spec,
            key: campaigns::nonce_key()?,
            created_at: Timestamp::now(),
            state: State::Running,
            local: self.options.drives.only() == Some(id),
        };
        let registered = registered(&campaign.spec, verified.as_ref());
        let admission = Admission {
            campaign: &campaign,
            shards: &shards,
            authorization: registered.as_ref(),
            audit: &submission(&campaign, verified.as_ref(), pairs, caller),
        };
        let created = self.options.store.create_campaign(&admission).await;
        created.map_err(error::store)?;
        let ids: Vec<_> = (0..shards.len() as u64)
            .map(|number| ajar_model::ShardId {
                campaign: id,
                number,
            })
            .collect();
        // Housekeeping offers them again once the queue is back.
        if let Err(error) = self.options.queue.offer(&ids, Duration::ZERO).await {
            tracing::warn!(%error, "the shards will be offered when the queue is back");
        }
        Ok(pairs)
    }

    fn check_shape(&self, spec: &Spec) -> Result<TargetSpace, Status> {
        let refuse = |cause: String| Err(Status::invalid_argument(cause));
        if spec.rate == 0 || spec.prefix_rate == 0 {
            return refuse(
                "a rate of 0 would never end: give at least 1 connection a second".to_owned(),
            );
        }
        if spec.probes.is_empty() {
            return refuse("no probe was chosen".to_owned());
        }
        if let Some(unknown) = spec
            .probes
            .iter()
            .find(|probe| !self.options.probes.contains(probe))
        {
            return refuse(format!(
                "{unknown} is not a probe: `ajar probes` lists them"
            ));
        }
        if spec.sweep == Sweep::Syn {
            return refuse("this version has no SYN sweep: use --sweep connect".to_owned());
        }
        TargetSpace::new(&spec.targets, &spec.exclude)
            .map_err(|e| Status::invalid_argument(e.to_string()))
    }

    /// Whether a campaign of this specification may run now.
    pub(crate) fn check_authorization(&self, spec: &Spec) -> Result<Option<Verified>, Status> {
        let Some(signed) = &spec.authorization else {
            return self.check_unsigned(spec).map(|()| None);
        };
        let denied = |cause: String| Status::permission_denied(cause);
        let verified = signed
            .verify(&self.options.signers.borrow(), Timestamp::now())
            .map_err(|cause| denied(cause.to_string()))?;
        verified
            .authorization
            .covers(spec)
            .map_err(|cause| denied(cause.to_string()))?;
        Ok(Some(verified))
    }

    fn check_unsigned(&self, spec: &Spec) -> Result<(), Status> {
        if !self.options.allow_loopback {
            return Err(Status::permission_denied(
                "this coordinator takes signed authorizations only: make one with `ajar authorize`",
            ));
        }
        authorization::check_unsigned(spec)
            .map_err(|cause| Status::permission_denied(cause.to_string()))
    }
}

/// The authorization of a specification, as the store keeps it.
pub(crate) fn registered(spec: &Spec, verified: Option<&Verified>) -> Option<Registered> {
    let (verified, signed) = verified.zip(spec.authorization.as_ref())?;
    Some(Registered {
        id: verified.authorization.id.clone(),
        digest: Sha256::digest(signed.text.as_bytes()).into(),
    })
}

fn submission(
    campaign: &Campaign,
    verified: Option<&Verified>,
    pairs: u64,
    caller: &str,
) -> AuditEntry {
    let Spec {
        targets,
        ports,
        rate,
        ..
    } = &campaign.spec;
    let listed: Vec<String> = targets.iter().take(8).map(ToString::to_string).collect();
    let more = if targets.len() > 8 { ", …" } else { "" };
    AuditEntry {
        at: campaign.created_at,
        actor: caller.to_owned(),
        action: "campaign.submit".to_owned(),
        authorization: verified.map(|verified| verified.authorization.id.clone()),
        campaign: Some(campaign.id),
        detail: format!(
            "{pairs} targets in {}{more}; ports {ports}; {rate}/s; authorized by {}",
            listed.join(", "),
            verified.map_or("nobody: loopback", |verified| verified.signer.as_str())
        ),
    }
}
