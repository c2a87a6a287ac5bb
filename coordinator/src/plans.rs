//! Campaigns as they are read again and again: each laid out once, its authorization's signature checked once.

use std::sync::Arc;

use ajar_model::{Campaign, CampaignId, Permission, Plan, Targets, authorization, lease::Work};
use ajar_store::Caps;
use tonic::Status;

use crate::{Coordinator, error, recent::Recent};

/// Bytes of plans that are kept at hand.
const REMEMBERED: usize = 64 << 20;

/// Plans by campaign.
pub(crate) type Plans = Recent<CampaignId, Arc<Planned>>;

/// An empty cache of plans.
pub(crate) fn none() -> Plans {
    Recent::new(REMEMBERED)
}

/// A campaign with what follows from its specification.
pub(crate) struct Planned {
    /// Its state may be out of date, and so may its authorization: see [`Coordinator::permitted_plan`].
    pub campaign: Campaign,
    pub plan: Plan,
    permission: Permission,
}

impl Planned {
    fn new(campaign: Campaign) -> Result<Self, Status> {
        let corrupt = |cause: &dyn std::fmt::Display| {
            Status::internal(format!("campaign {} cannot be run: {cause}", campaign.id))
        };
        let plan = Plan::of(campaign.id, &campaign.spec).map_err(|cause| corrupt(&cause))?;
        let permission = Permission::of(&campaign.spec).map_err(|cause| corrupt(&cause))?;
        Ok(Self {
            campaign,
            plan,
            permission,
        })
    }

    /// About how much memory it takes: each target is in the specification, in the plan and in the
    /// authorization.
    fn bytes(&self) -> usize {
        const EACH: usize = 200;
        const AT_LEAST: usize = 8 << 10;
        let spec = &self.campaign.spec;
        let texts = spec
            .authorization
            .as_ref()
            .map_or(0, |signed| signed.text.len());
        let targets = spec.targets.len() + spec.exclude.len() + spec.hosts.len();
        AT_LEAST + 4 * texts + EACH * targets
    }

    /// The targets of a shard of this work.
    pub(crate) fn targets(&self, work: &Work) -> Result<Targets, Status> {
        self.plan.targets(work).ok_or_else(|| {
            let id = self.campaign.id;
            Status::internal(format!(
                "campaign {id} has fewer blocks than its shard {work:?}"
            ))
        })
    }

    /// The authorization that it runs under, and the rate of that.
    pub(crate) fn authorization(&self) -> Option<(&str, u32)> {
        let authorization = self.permission.authorization()?;
        Some((&authorization.id, authorization.rate))
    }

    /// The most that leases may have together: those of the campaign no more than `share`.
    pub(crate) fn caps(&self, share: u32, site: Option<u32>) -> Caps {
        Caps {
            campaign: share.min(self.campaign.spec.rate),
            authorization: self.authorization().map(|(_, rate)| rate),
            site,
        }
    }
}

impl Coordinator {
    /// The plan of a campaign, whose authorization may be over.
    pub(crate) async fn plan(&self, id: CampaignId) -> Result<Arc<Planned>, Status> {
        match self.plans.get(&id) {
            Some(plan) => Ok(plan),
            None => self.read_plan(id).await,
        }
    }

    /// The plan of a campaign whose authorization is good right now, or why it is not.
    pub(crate) async fn permitted_plan(
        &self,
        id: CampaignId,
    ) -> Result<Result<Arc<Planned>, authorization::Error>, Status> {
        let check = |plan: &Planned| {
            let signers = self.options.signers.borrow();
            plan.permission.check(&signers, self.clock.now()).map(drop)
        };
        let plan = self.plan(id).await?;
        if check(&plan).is_ok() {
            return Ok(Ok(plan));
        }
        // A resumed campaign may have got a new one, perhaps through another coordinator.
        let plan = self.read_plan(id).await?;
        let checked = check(&plan);
        Ok(checked.map(|()| plan))
    }

    /// Has the plan of a campaign read again when it is asked for next.
    pub(crate) fn forget_plan(&self, id: CampaignId) {
        self.plans.forget_if(&id, |_| true);
    }

    /// The same, but only if the plan is older than this revision.
    pub(crate) fn forget_plan_before(&self, id: CampaignId, revision: u64) {
        let is_old = |plan: &Arc<Planned>| plan.campaign.revision < revision;
        self.plans.forget_if(&id, is_old);
    }

    async fn read_plan(&self, id: CampaignId) -> Result<Arc<Planned>, Status> {
        let campaign = self.options.store.campaign(id).await;
        let campaign = campaign.map_err(error::store)?;
        let plan = Planned::new(campaign.ok_or_else(|| error::no_campaign(id))?)?;
        let plan = Arc::new(plan);
        self.plans.put(id, Arc::clone(&plan), plan.bytes());
        Ok(plan)
    }
}
