//! The newest look at each endpoint: of several campaigns that visited it, the last one decides.
//!
//! A campaign that is over looked at every endpoint of its plan, so an endpoint without a finding
//! there did not answer. One that is still at work, or that stayed incomplete, looked where it has
//! findings. A campaign with fewer probes or a lower tier does not replace an older one: the graver
//! of their findings is kept.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use ajar_model::{Campaign, CampaignId, Finding, Plan, ProbeId, Tier, Verdict, campaign::State};
use ajar_store::{CampaignQuery, FindingQuery, Store};
use sha2::{Digest, Sha256};
use tonic::Status;

use crate::error;

/// Campaigns that are read at once.
const PAGE: u32 = 500;
/// Findings of one endpoint that are read: more than there are probes.
const ROWS: u32 = 64;

/// Campaigns, from the newest to the oldest. Clones share a cache.
#[derive(Clone)]
pub(crate) struct Looks {
    store: Arc<dyn Store>,
    looks: Arc<[Look]>,
    /// The questions of each campaign, even of those that later ones repeat.
    asked: Arc<HashMap<CampaignId, Arc<Asked>>>,
    /// Findings of all campaigns at the last endpoint.
    last: Arc<Mutex<AtEndpoint>>,
}

type AtEndpoint = (Option<SocketAddr>, HashMap<CampaignId, Arc<[Finding]>>);

/// A campaign as a look at its endpoints.
struct Look {
    campaign: CampaignId,
    is_over: bool,
    plan: Plan,
    asked: Arc<Asked>,
    /// A digest of the parts of the specification behind plan and questions.
    digest: [u8; 32],
}

/// How a campaign asks.
struct Asked {
    tier: Tier,
    probes: BTreeSet<ProbeId>,
}

impl Looks {
    /// Reads the campaigns of these tenants; of all if there is no list.
    pub(crate) async fn of(
        store: &Arc<dyn Store>,
        tenants: Option<Vec<String>>,
    ) -> Result<Self, Status> {
        let mut looks: Vec<Look> = Vec::new();
        let mut query = CampaignQuery {
            tenants,
            after: None,
            limit: PAGE,
        };
        loop {
            let page = store.summaries(&query).await.map_err(error::store)?;
            for summary in &page {
                let campaign = store.campaign(summary.id).await.map_err(error::store)?;
                looks.extend(campaign.and_then(Look::by));
            }
            query.after = page.last().map(|summary| summary.id);
            if page.len() < PAGE as usize {
                break;
            }
        }
        looks.sort_by_key(|look| std::cmp::Reverse(look.campaign));
        let asked = looks
            .iter()
            .map(|look| (look.campaign, Arc::clone(&look.asked)));
        let asked = Arc::new(asked.collect());
        // A schedule repeats itself: of looks that are alike the newest decides.
        let mut seen = HashSet::new();
        looks.retain(|look| !look.is_over || seen.insert(look.digest));
        Ok(Self {
            store: Arc::clone(store),
            looks: looks.into(),
            asked,
            last: Arc::default(),
        })
    }

    /// Drops the findings of endpoints that a later campaign looked at.
    pub(crate) async fn keep_newest(&self, findings: Vec<Finding>) -> Result<Vec<Finding>, Status> {
        let mut kept = Vec::new();
        for finding in findings {
            if !self.is_superseded(&finding).await? && !self.is_outranked(&finding).await? {
                kept.push(finding);
            }
        }
        Ok(kept)
    }

    /// Returns the findings of one endpoint by the campaigns that looked at it last.
    pub(crate) async fn at(&self, endpoint: SocketAddr) -> Result<Vec<Finding>, Status> {
        let mut found: BTreeMap<(CampaignId, ProbeId), Finding> = BTreeMap::new();
        for look in self
            .looks
            .iter()
            .filter(|look| look.plan.contains(endpoint))
        {
            let here = findings_at(&*self.store, look.campaign, endpoint).await?;
            for finding in self.keep_newest(here).await? {
                found.insert((finding.campaign, finding.probe.clone()), finding);
            }
        }
        Ok(found.into_values().collect())
    }

    /// Returns whether a later campaign asked for as much and looked at the endpoint.
    async fn is_superseded(&self, finding: &Finding) -> Result<bool, Status> {
        let endpoint = SocketAddr::new(finding.ip, finding.port);
        let looks = self.looks.iter();
        for look in looks.take_while(|look| look.campaign > finding.campaign) {
            let is_later = look.plan.contains(endpoint) && self.asks_as_much(look, finding);
            if is_later && (look.is_over || !self.rows(look.campaign, endpoint).await?.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns whether a campaign that asked for something else says more of the endpoint: one line
    /// is enough for it.
    async fn is_outranked(&self, finding: &Finding) -> Result<bool, Status> {
        let endpoint = SocketAddr::new(finding.ip, finding.port);
        let own = self.asked.get(&finding.campaign);
        let covers_all_of = |other: &Asked| {
            own.is_some_and(|own| own.probes.is_superset(&other.probes) && own.tier >= other.tier)
        };
        let rank = |finding: &Finding| {
            let undecided = [Verdict::Inconclusive, Verdict::Unresponsive];
            let is_decided = !undecided.contains(&finding.verdict);
            (is_decided, finding.verdict, finding.campaign)
        };
        for look in self.looks.iter() {
            let is_rival = match look.campaign.cmp(&finding.campaign) {
                Ordering::Greater => !self.asks_as_much(look, finding),
                Ordering::Less => !covers_all_of(&look.asked),
                Ordering::Equal => false,
            };
            if !is_rival || !look.plan.contains(endpoint) {
                continue;
            }
            for rival in self.rows(look.campaign, endpoint).await?.iter() {
                if rank(rival) > rank(finding) && !self.is_superseded(rival).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn asks_as_much(&self, look: &Look, finding: &Finding) -> bool {
        let Some(own) = self.asked.get(&finding.campaign) else {
            return true;
        };
        // Every campaign recognises services, whatever its probes are.
        let is_named = own.probes.contains(&finding.probe);
        look.asked.tier >= own.tier && (!is_named || look.asked.probes.contains(&finding.probe))
    }

    /// Returns the findings of a campaign at an endpoint. Consecutive calls share an endpoint.
    async fn rows(
        &self,
        campaign: CampaignId,
        endpoint: SocketAddr,
    ) -> Result<Arc<[Finding]>, Status> {
        let known = {
            let mut last = self.last.lock().expect("no holder panics");
            if last.0 != Some(endpoint) {
                *last = (Some(endpoint), HashMap::new());
            }
            last.1.get(&campaign).cloned()
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let rows: Arc<[Finding]> = findings_at(&*self.store, campaign, endpoint).await?.into();
        let mut last = self.last.lock().expect("no holder panics");
        if last.0 == Some(endpoint) {
            last.1.insert(campaign, Arc::clone(&rows));
        }
        Ok(rows)
    }
}

impl Look {
    /// Returns `None` for a campaign that cannot be laid out by the rules of today.
    fn by(campaign: Campaign) -> Option<Self> {
        let (id, spec) = (campaign.id, campaign.spec);
        let asked = (
            &spec.targets,
            &spec.exclude,
            &spec.ports,
            &spec.probes,
            spec.tier,
        );
        let asked = serde_json::to_vec(&asked).ok()?;
        Some(Self {
            campaign: id,
            is_over: campaign.state == State::Finished,
            plan: Plan::of(id, &spec).ok()?,
            digest: Sha256::digest(&asked).into(),
            asked: Arc::new(Asked {
                tier: spec.tier,
                probes: spec.probes.into_iter().collect(),
            }),
        })
    }
}

/// Returns the findings of a campaign at one endpoint, one for each probe.
pub(crate) async fn findings_at(
    store: &dyn Store,
    campaign: CampaignId,
    endpoint: SocketAddr,
) -> Result<Vec<Finding>, Status> {
    let (ip, port): (IpAddr, u16) = (endpoint.ip(), endpoint.port());
    let query = FindingQuery {
        campaign: Some(campaign),
        // No probe's name comes before this one.
        after: Some((campaign, ip, port, ProbeId::from_static(""))),
        limit: ROWS,
        ..FindingQuery::default()
    };
    let mut rows = store.findings(&query).await.map_err(error::store)?;
    rows.retain(|finding| (finding.ip, finding.port) == (ip, port));
    Ok(rows)
}
