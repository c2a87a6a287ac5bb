//! A campaign as it is read again and again: its space is laid out once, and its authorization's signature checked once.

use std::{collections::BTreeSet, net::SocketAddr, ops::Range, sync::Arc};

use ajar_model::{
    Campaign, CampaignId, TargetSpace, Timestamp, authorization, lease::Work, shard::ShardSpace,
    signers::AllowedSigners, space,
};
use ajar_store::Caps;
use ipnet::IpNet;
use tonic::Status;

use crate::{Coordinator, error};

/// Leases of a campaign that a worker runs side by side. More of them would be slow ones; fewer would leave the last
/// shards of a campaign to be run one after the other.
const SIDE_BY_SIDE: u32 = 16;
/// Plans that are kept at hand.
const REMEMBERED: usize = 64;

/// A campaign with what follows from its specification.
pub(crate) struct Plan {
    /// Its state may be out of date, and so may its authorization: see [`Coordinator::permitted_plan`].
    pub campaign: Campaign,
    space: TargetSpace,
    authentic: Option<authorization::Authentic>,
}

impl Plan {
    fn new(campaign: Campaign) -> Result<Self, Status> {
        let corrupt = |cause: &dyn std::fmt::Display| {
            Status::internal(format!("campaign {} cannot be run: {cause}", campaign.id))
        };
        let spec = &campaign.spec;
        let space =
            TargetSpace::new(&spec.targets, &spec.exclude).map_err(|cause| corrupt(&cause))?;
        let authentic = spec
            .authorization
            .as_ref()
            .map(|signed| signed.authenticate());
        let authentic = authentic.transpose().map_err(|cause| corrupt(&cause))?;
        Ok(Self {
            campaign,
            space,
            authentic,
        })
    }

    /// How many (address, port) pairs there are.
    pub(crate) fn pairs(&self) -> u64 {
        self.space.addresses() * self.campaign.spec.ports.as_slice().len() as u64
    }

    /// True for an endpoint of the campaign.
    pub(crate) fn contains(&self, endpoint: SocketAddr) -> bool {
        self.space.contains(endpoint.ip()) && self.campaign.spec.ports.contains(endpoint.port())
    }

    /// How many targets a shard of this work has, and the prefixes that it touches.
    pub(crate) fn extent(&self, work: &Work) -> (u64, Vec<IpNet>) {
        match work {
            Work::Sweep(blocks) => {
                let shard = self.shard(blocks.clone());
                (shard.targets(), shard.prefixes())
            }
            Work::Revisit { endpoints, .. } => {
                (endpoints.len() as u64, prefixes(endpoints.iter().copied()))
            }
        }
    }

    /// The prefixes that these targets of a shard are in.
    pub(crate) fn networks(&self, work: &Work, targets: Range<u64>) -> Vec<IpNet> {
        match work {
            Work::Sweep(blocks) => {
                let shard = self.shard(blocks.clone());
                prefixes(targets.map(|number| shard.target(number)))
            }
            Work::Revisit { endpoints, .. } => {
                prefixes(targets.map(|number| endpoints[number as usize]))
            }
        }
    }

    /// The most that leases may have together, among so many workers.
    pub(crate) fn caps(&self, site: Option<u32>, workers: u32) -> Caps {
        Caps {
            side_by_side: SIDE_BY_SIDE.saturating_mul(workers),
            campaign: self.campaign.spec.rate,
            authorization: self.authentic.as_ref().map(|a| a.authorization.rate),
            site,
        }
    }

    /// Whether its authorization is good at `now`.
    fn check(&self, signers: &AllowedSigners, now: Timestamp) -> Result<(), authorization::Error> {
        let checked = self.authentic.as_ref().map(|a| a.check(signers, now));
        checked.transpose().map(drop)
    }

    fn shard(&self, blocks: Range<u64>) -> ShardSpace {
        let campaign = &self.campaign;
        ShardSpace::new(&self.space, &campaign.spec.ports, campaign.id, blocks)
    }
}

/// Each once, in order.
fn prefixes(endpoints: impl Iterator<Item = SocketAddr>) -> Vec<IpNet> {
    let prefixes: BTreeSet<IpNet> = endpoints.map(|e| space::prefix_of(e.ip())).collect();
    prefixes.into_iter().collect()
}

impl Coordinator {
    /// The plan of a campaign, whose authorization may be over.
    pub(crate) async fn plan(&self, id: CampaignId) -> Result<Arc<Plan>, Status> {
        if let Some(plan) = self.plans.lock().expect("no holder panics").get(&id) {
            return Ok(Arc::clone(plan));
        }
        self.read_plan(id).await
    }

    /// The plan of a campaign whose authorization is good right now, or why it is not.
    pub(crate) async fn permitted_plan(
        &self,
        id: CampaignId,
    ) -> Result<Result<Arc<Plan>, authorization::Error>, Status> {
        let check = |plan: &Plan| plan.check(&self.options.signers.borrow(), Timestamp::now());
        let plan = self.plan(id).await?;
        if check(&plan).is_ok() {
            return Ok(Ok(plan));
        }
        // A resumed campaign may have got a new one, perhaps through another coordinator.
        let plan = self.read_plan(id).await?;
        let checked = check(&plan);
        Ok(checked.map(|()| plan))
    }

    async fn read_plan(&self, id: CampaignId) -> Result<Arc<Plan>, Status> {
        let campaign = self.options.store.campaign(id).await;
        let campaign = campaign.map_err(error::store)?;
        let plan = Plan::new(campaign.ok_or_else(|| error::no_campaign(id))?)?;
        let plan = Arc::new(plan);
        let mut plans = self.plans.lock().expect("no holder panics");
        if plans.len() >= REMEMBERED {
            plans.clear();
        }
        plans.insert(id, Arc::clone(&plan));
        Ok(plan)
    }
}
