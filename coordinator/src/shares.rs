//! Whose turn it is, and how much a campaign and each of its leases may have.
//!
//! Once a second a coordinator reads what running campaigns have, and divides what they share (see
//! [`ajar_model::shares`]). All coordinators divide alike, and the store keeps to the caps whatever
//! they think meanwhile.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use ajar_model::{
    CampaignId,
    shares::{Claim, shares},
};
use ajar_queue::{Line, Priority};
use ajar_store::Demand;
use tonic::Status;

use crate::{Coordinator, error};

/// How long a division holds.
const FRESH: Duration = Duration::from_secs(1);
/// How long a line rests when the caps have no room for it.
const REST: Duration = Duration::from_secs(1);
/// What a campaign is counted on to use: so many times what it has, and at least this part of its
/// rate if shards wait.
const GROWTH: u64 = 4;
const ENTRY: u32 = 8;
/// The part of a campaign's rate that is kept free for revisits while some wait.
const RESERVE: u32 = 16;
/// Leases of a campaign that a worker runs side by side. More of them would be slow ones; fewer would
/// leave the last shards of a campaign to be run one after the other.
const SIDE_BY_SIDE: u32 = 16;

/// What running campaigns have, and what they may have. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Shares {
    known: Arc<Mutex<Division>>,
    /// Held by whoever reads it anew.
    reading: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Division {
    /// `None` once something was offered that it does not know of.
    read_at: Option<Instant>,
    parts: BTreeMap<CampaignId, Part>,
    /// Lines that rest, and until when.
    resting: HashMap<Line, Instant>,
}

/// A campaign's part.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    tenant: String,
    /// What its tenant's part is worth.
    weight: u32,
    /// What its leases may have together.
    share: u32,
    /// Leases that should run side by side.
    side_by_side: u32,
    demand: Demand,
}

impl Part {
    /// What the leases of a campaign may have together before one of this priority gets nothing.
    pub(crate) fn most(&self, priority: Priority) -> u32 {
        match priority {
            Priority::High => self.share,
            Priority::Normal => self.share - self.reserve(),
        }
    }

    /// What one lease should have: none gets more than its part, so that it does not keep the others
    /// waiting.
    pub(crate) fn each(&self, priority: Priority) -> u32 {
        let open = u32::try_from(self.demand.open).unwrap_or(u32::MAX);
        let leases = open.min(self.side_by_side).max(1);
        let most = self.most(priority);
        // Rounded down, some of it is nobody's; rounded up, leases never come down to it.
        match self.demand.rate > u64::from(most) {
            true => (most / leases).max(1),
            false => most.div_ceil(leases),
        }
    }

    /// What is kept free for revisits.
    fn reserve(&self) -> u32 {
        match self.demand.revisit_waits {
            true => self.share.div_ceil(RESERVE).min(self.share - 1),
            false => 0,
        }
    }

    /// Whether something may wait in this line that there is room for.
    fn is_worth_asking(&self, priority: Priority) -> bool {
        let Demand { open, leases, .. } = self.demand;
        let waits = match priority {
            Priority::High => self.demand.revisit_waits,
            // Beyond the number up to which they are counted there may be more.
            Priority::Normal => open > leases || open >= u64::from(self.side_by_side),
        };
        waits && self.demand.rate < u64::from(self.most(priority))
    }

    /// How much its tenant, or it, has for its weight: who has least comes first.
    fn per_weight(&self, rate: u64) -> u64 {
        rate.saturating_mul(1000) / u64::from(self.weight)
    }
}

impl Shares {
    fn known(&self) -> MutexGuard<'_, Division> {
        self.known.lock().expect("no holder panics")
    }

    /// Returns the lines to take a shard from, in the order of their turns: the tenant that has least
    /// first, of its campaigns the one that has least, and revisits before sweeps.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut known = self.known();
        known.resting.retain(|_, until| *until > Instant::now());
        let mut tenants: BTreeMap<&str, u64> = BTreeMap::new();
        for part in known.parts.values() {
            *tenants.entry(&part.tenant).or_default() += part.demand.rate;
        }
        let mut lines = Vec::new();
        for part in known.parts.values() {
            for priority in [Priority::High, Priority::Normal] {
                let line = Line {
                    campaign: part.demand.campaign,
                    priority,
                };
                if part.is_worth_asking(priority) && !known.resting.contains_key(&line) {
                    let of_tenant = part.per_weight(tenants[&*part.tenant]);
                    let place = (of_tenant, &part.tenant, priority, part.demand.rate);
                    lines.push((place, line));
                }
            }
        }
        lines.sort_unstable();
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// Returns a campaign's part, if it is running.
    pub(crate) fn part(&self, id: CampaignId) -> Option<Part> {
        self.known().parts.get(&id).cloned()
    }

    /// Counts a lease that was just granted, until everything is read again.
    pub(crate) fn granted(&self, id: CampaignId, rate: u32) {
        if let Some(part) = self.known().parts.get_mut(&id) {
            part.demand.rate += u64::from(rate);
            part.demand.leases += 1;
        }
    }

    /// Leaves a line alone for a while.
    pub(crate) fn rest(&self, line: Line) {
        let until = Instant::now() + REST;
        self.known().resting.insert(line, until);
    }

    /// Something was offered: it is not to wait for the next division.
    pub(crate) fn offered(&self) {
        self.known().read_at = None;
    }
}

impl Coordinator {
    /// Reads anew what campaigns have, if that was a while ago, and divides what they share. Renewals
    /// do not wait for this: they go by the last division.
    pub(crate) async fn divide(&self) -> Result<(), Status> {
        let is_fresh = || {
            let read_at = self.shares.known().read_at;
            read_at.is_some_and(|at| at.elapsed() < FRESH)
        };
        if is_fresh() {
            return Ok(());
        }
        let _alone = match self.shares.reading.try_lock() {
            Ok(alone) => alone,
            // The division before will do while somebody makes the next.
            Err(_) if !self.shares.known().parts.is_empty() => return Ok(()),
            Err(_) => self.shares.reading.lock().await,
        };
        if is_fresh() {
            return Ok(());
        }
        let read_at = Instant::now();
        let side_by_side = SIDE_BY_SIDE.saturating_mul(self.presence.count().max(1));
        let only = self.options.drives.only();
        let demands = self.options.store.demands(only, side_by_side).await;
        let mut plans = Vec::new();
        for demand in demands.map_err(error::store)? {
            match self.plan(demand.campaign).await {
                Ok(plan) => plans.push((demand, plan)),
                Err(status) => {
                    let id = demand.campaign.to_string();
                    self.troubles.log(&id, status.message());
                }
            }
        }
        let claims = plans.iter().map(|(demand, plan)| Claim {
            tenant: &plan.campaign.spec.tenant,
            rate: plan.campaign.spec.rate,
            demand: wanted(demand, plan.campaign.spec.rate),
            authorization: plan.authorization(),
        });
        let claims: Vec<Claim<'_>> = claims.collect();
        let options = &self.options;
        let shares = shares(options.site_rate, &options.tenant_weights, &claims);
        let parts = plans.iter().zip(shares).map(|((demand, plan), share)| {
            let tenant = plan.campaign.spec.tenant.clone();
            let weight = options.tenant_weights.get(&tenant).copied();
            let part = Part {
                weight: weight.unwrap_or(1).max(1),
                tenant,
                share,
                side_by_side,
                demand: *demand,
            };
            (demand.campaign, part)
        });
        let parts = parts.collect();
        let mut known = self.shares.known();
        (known.read_at, known.parts) = (Some(read_at), parts);
        Ok(())
    }
}

/// What a campaign is counted on to use. One that cannot use its part, for whatever reason, keeps
/// little of it from others.
fn wanted(demand: &Demand, rate: u32) -> u32 {
    let grown = u32::try_from(demand.rate.saturating_mul(GROWTH)).unwrap_or(u32::MAX);
    match demand.open > demand.leases {
        true => grown.max(rate.div_ceil(ENTRY)),
        false => grown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> CampaignId {
        CampaignId(number.into())
    }

    fn part(number: u128, tenant: &str, share: u32, rate: u64) -> Part {
        Part {
            tenant: tenant.to_owned(),
            weight: 1,
            share,
            side_by_side: 16,
            demand: Demand {
                campaign: id(number),
                rate,
                leases: 2,
                open: 9,
                revisit_waits: false,
            },
        }
    }

    fn of(parts: Vec<Part>) -> Shares {
        let shares = Shares::default();
        let parts = parts.into_iter().map(|part| (part.demand.campaign, part));
        shares.known().parts = parts.collect();
        shares
    }

    fn campaigns(shares: &Shares) -> Vec<u128> {
        let lines = shares.lines().into_iter();
        lines.map(|line| line.campaign.0.0).collect()
    }

    #[test]
    fn it_is_the_turn_of_whoever_has_least() {
        let shares = of(vec![
            part(1, "a", 90, 30),
            part(2, "a", 90, 10),
            part(3, "b", 90, 35),
            part(4, "c", 90, 90),
        ]);
        // Tenant a has 40, and c has all of its share.
        assert_eq!(campaigns(&shares), [3, 2, 1]);
        shares.granted(id(3), 20);
        assert_eq!(campaigns(&shares), [2, 1, 3]);
        let line = Line {
            campaign: id(2),
            priority: Priority::Normal,
        };
        shares.rest(line);
        assert_eq!(campaigns(&shares), [1, 3]);
        for part in shares.known().parts.values_mut() {
            part.weight = if part.tenant == "b" { 2 } else { 1 };
        }
        assert_eq!(campaigns(&shares), [3, 1]);
    }

    #[test]
    fn a_part_is_kept_for_revisits_that_wait() {
        let mut sweeping = part(1, "a", 160, 150);
        assert_eq!(sweeping.most(Priority::Normal), 160);
        assert_eq!(sweeping.each(Priority::Normal), 18);
        sweeping.demand.revisit_waits = true;
        assert_eq!(sweeping.most(Priority::Normal), 150);
        assert_eq!(sweeping.most(Priority::High), 160);
        let shares = of(vec![sweeping]);
        let high = Line {
            campaign: id(1),
            priority: Priority::High,
        };
        assert_eq!(shares.lines(), [high]);
        let alone = Part {
            share: 1,
            ..shares.part(id(1)).unwrap()
        };
        assert_eq!(alone.most(Priority::Normal), 1);
    }

    #[test]
    fn nothing_is_asked_for_that_has_no_shard_to_lease() {
        let mut busy = part(1, "a", 90, 10);
        busy.demand.leases = 9;
        assert_eq!(campaigns(&of(vec![busy.clone()])), [0; 0]);
        // It has as many as are counted: there may be more.
        (busy.demand.leases, busy.demand.open) = (16, 16);
        assert_eq!(campaigns(&of(vec![busy])), [1]);
    }

    #[test]
    fn a_campaign_is_counted_on_to_grow_from_what_it_has() {
        let Part { demand, .. } = part(1, "a", 90, 10);
        assert_eq!(wanted(&demand, 160), 40);
        assert_eq!(wanted(&Demand { rate: 0, ..demand }, 160), 20);
        let leased = Demand {
            rate: 3,
            leases: 9,
            ..demand
        };
        assert_eq!(wanted(&leased, 160), 12);
    }
}
