//! Whether a campaign may run at all: its shape, its authorization, and a note of who started it.

use std::ops::Range;

use ajar_model::{
    Campaign, CampaignId, NonceKey, Permission, Plan, ShardId, Spec, Timestamp, admission::Refusal,
    authorization, campaign::State,
};
use ajar_queue::Priority;
use ajar_store::{Admission, AuditEntry, Registered};
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::{Coordinator, error};

/// A campaign that may start, as the store is to record it.
pub(crate) struct Admitted {
    campaign: Campaign,
    shards: Vec<Range<u64>>,
    registered: Option<Registered>,
    submission: AuditEntry,
    /// How many (address, port) pairs it has.
    pairs: u64,
}

impl Admitted {
    pub(crate) fn admission(&self) -> Admission<'_> {
        Admission {
            campaign: &self.campaign,
            shards: &self.shards,
            pairs: self.pairs,
            authorization: self.registered.as_ref(),
            audit: &self.submission,
        }
    }
}

/// Why a campaign may not start.
pub(crate) enum NotAdmitted {
    /// This coordinator does not accept its signature, or not at this time. Another one may.
    Here(Refusal),
    /// It is wrong in itself.
    Anywhere(Status),
}

impl From<Status> for NotAdmitted {
    fn from(status: Status) -> Self {
        NotAdmitted::Anywhere(status)
    }
}

impl From<Refusal> for NotAdmitted {
    fn from(refusal: Refusal) -> Self {
        use authorization::Error;
        match refusal {
            Refusal::Authorization(
                Error::UnknownSigner { .. } | Error::OtherTenant { .. } | Error::NotYetValid(_),
            ) => NotAdmitted::Here(refusal),
            refusal => NotAdmitted::Anywhere(denied(&refusal)),
        }
    }
}

impl From<NotAdmitted> for Status {
    fn from(cause: NotAdmitted) -> Self {
        match cause {
            NotAdmitted::Here(refusal) => denied(&refusal),
            NotAdmitted::Anywhere(status) => status,
        }
    }
}

fn denied(refusal: &Refusal) -> Status {
    Status::permission_denied(refusal.to_string())
}

impl Coordinator {
    /// Checks and starts a campaign; says how many (address, port) pairs it has.
    pub(crate) async fn admit(
        &self,
        id: CampaignId,
        spec: Spec,
        caller: &str,
    ) -> Result<u64, Status> {
        let admitted = self.admitted(id, spec, caller).map_err(Status::from)?;
        let admission = admitted.admission();
        let created = self.options.store.create_campaign(&admission).await;
        created.map_err(error::store)?;
        self.offer_admitted(&admitted).await;
        Ok(admitted.pairs)
    }

    /// Checks a campaign, which the caller starts.
    pub(crate) fn admitted(
        &self,
        id: CampaignId,
        spec: Spec,
        caller: &str,
    ) -> Result<Admitted, NotAdmitted> {
        self.check_shape(&spec)?;
        let plan = Plan::of(id, &spec).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let permission = self.permit(&spec)?;
        let pairs = plan.pairs();
        let campaign = Campaign {
            id,
            spec,
            key: nonce_key()?,
            created_at: Timestamp::now(),
            state: State::Running,
            local: self.options.drives.only() == Some(id),
            revision: 0,
        };
        let submission = {
            let signers = self.options.signers.borrow();
            let signer = permission
                .check(&signers, campaign.created_at)
                .ok()
                .flatten();
            submission(&campaign, &permission, signer, pairs, caller)
        };
        Ok(Admitted {
            pairs,
            shards: plan.shards(),
            registered: registered(&campaign.spec, &permission),
            submission,
            campaign,
        })
    }

    /// Offers the shards of a campaign that was started. Housekeeping offers them again once the queue is back.
    pub(crate) async fn offer_admitted(&self, admitted: &Admitted) {
        let campaign = admitted.campaign.id;
        let numbers = 0..admitted.shards.len() as u64;
        let shards: Vec<_> = numbers.map(|number| ShardId { campaign, number }).collect();
        if let Err(status) = self.offer(&shards, Priority::Normal).await {
            let cause = status.message();
            tracing::warn!(cause, "the shards will be offered when the queue is back");
        }
    }

    pub(crate) fn check_shape(&self, spec: &Spec) -> Result<(), Status> {
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
        Ok(())
    }

    /// What a campaign of this specification may run by now.
    pub(crate) fn permit(&self, spec: &Spec) -> Result<Permission, Refusal> {
        let signers = self.options.signers.borrow();
        Permission::admit(
            spec,
            self.options.allow_loopback,
            &signers,
            self.clock.now(),
        )
    }
}

/// The authorization of a specification, as the store keeps it.
pub(crate) fn registered(spec: &Spec, permission: &Permission) -> Option<Registered> {
    let (authorization, signed) = permission
        .authorization()
        .zip(spec.authorization.as_ref())?;
    Some(Registered {
        id: authorization.id.clone(),
        digest: Sha256::digest(signed.text.as_bytes()).into(),
    })
}

fn submission(
    campaign: &Campaign,
    permission: &Permission,
    signer: Option<&str>,
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
        authorization: permission.authorization().map(|a| a.id.clone()),
        campaign: Some(campaign.id),
        detail: format!(
            "{pairs} targets in {}{more}; ports {ports}; {rate}/s; authorized by {}",
            listed.join(", "),
            signer.unwrap_or("nobody: loopback")
        ),
    }
}

/// A fresh key for the nonces of a campaign.
fn nonce_key() -> Result<NonceKey, Status> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|cause| Status::internal(cause.to_string()))?;
    Ok(NonceKey(key))
}
