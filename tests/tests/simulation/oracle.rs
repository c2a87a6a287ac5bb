//! What must hold, whatever happened: read from the connections that left the program, and from the store's tables.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    net::{IpAddr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use ajar_model::{CampaignId, Plan, ShardId, Spec, Targets, campaign::State, space};
use ajar_store::{FindingQuery, Store};
use ipnet::IpNet;

use crate::{
    TICK,
    boundary::{Connection, Fate},
    hosts::{Order, Silences, WORKERS},
    store::Granted,
};

/// Seconds that connections may be late, and so fall together with others.
const LATE: usize = 3;

/// How long a worker opens connections that hears nothing of its lease, whatever was ordered.
const FRESH: Duration = Duration::from_secs(5);

/// A campaign, as it was asked for.
pub struct Asked {
    pub id: CampaignId,
    pub spec: Spec,
    pub plan: Plan,
}

/// Everything that a simulation left behind.
pub struct Left<'a> {
    pub asked: &'a [Asked],
    pub connections: &'a [Connection],
    pub grants: &'a [Granted],
    pub orders: &'a [Order],
    /// Connections a second of all campaigns together.
    pub rate: usize,
    /// Connections a second of the campaigns of each tenant together.
    pub tenants_rate: usize,
    pub store: &'a dyn Store,
}

impl Left<'_> {
    /// The first promise that was broken.
    pub async fn check(&self) -> Result<(), String> {
        self.scope()?;
        self.rates()?;
        self.orders()?;
        self.exclusivity().await?;
        self.outcomes().await
    }

    /// Nobody but those who were asked for is connected to.
    fn scope(&self) -> Result<(), String> {
        for connection in self.connections {
            let to = SocketAddr::V4(connection.to);
            let excluded = |asked: &Asked| asked.spec.exclude.iter().any(|t| t.contains(to.ip()));
            let asked = self.asked.iter().find(|asked| asked.plan.contains(to));
            if asked.is_none_or(excluded) {
                return Err(format!("{connection:?} is out of scope"));
            }
        }
        Ok(())
    }

    /// No second has more connections than the rate of all, and no network more than its own.
    fn rates(&self) -> Result<(), String> {
        let all: Vec<Duration> = self.connections.iter().map(|c| c.at).collect();
        most_in_a_second(&all, self.rate + LATE).map_err(|most| format!("{most} of all"))?;
        for tenant in self.asked.iter().map(|asked| &asked.spec.tenant) {
            let own = |c: &&Connection| {
                let mut theirs = self.asked.iter().filter(|a| a.spec.tenant == *tenant);
                theirs.any(|asked| asked.plan.contains(c.to.into()))
            };
            let own: Vec<Duration> = self.connections.iter().filter(own).map(|c| c.at).collect();
            let most = self.tenants_rate + LATE;
            most_in_a_second(&own, most).map_err(|most| format!("{most} of tenant {tenant}"))?;
        }
        for asked in self.asked {
            let own = |c: &&Connection| asked.plan.contains(c.to.into());
            let own: Vec<Duration> = self.connections.iter().filter(own).map(|c| c.at).collect();
            let most = asked.spec.rate as usize + LATE;
            most_in_a_second(&own, most).map_err(|most| format!("{most} of {}", asked.id))?;
        }
        let mut networks: BTreeMap<IpNet, Vec<Duration>> = BTreeMap::new();
        for c in self.connections {
            let network = space::prefix_of(IpAddr::V4(*c.to.ip()));
            networks.entry(network).or_default().push(c.at);
        }
        let each = self.asked[0].spec.prefix_rate as usize + LATE;
        for (network, times) in networks {
            most_in_a_second(&times, each).map_err(|most| format!("{most} to {network}"))?;
        }
        Ok(())
    }

    /// What was paused, stopped or excluded gets no connection, from workers that were cut off
    /// too.
    fn orders(&self) -> Result<(), String> {
        for order in self.orders {
            let silences = |c: &Connection| match &order.silences {
                Silences::Campaign(id) => self.plan(*id).contains(c.to.into()),
                Silences::Site => true,
                Silences::Addresses(excluded) => excluded.contains((*c.to.ip()).into()),
            };
            let from = order.from + FRESH + TICK;
            let during = |at| at >= from && order.until.is_none_or(|until| at < until);
            let broken = |c: &&Connection| during(c.at) && silences(c);
            if let Some(connection) = self.connections.iter().find(broken) {
                return Err(format!("{connection:?} during {order:?}"));
            }
        }
        Ok(())
    }

    /// True if the operator excluded an address in the middle.
    fn is_excluded(&self, to: &SocketAddrV4) -> bool {
        self.orders.iter().any(|order| match &order.silences {
            Silences::Addresses(excluded) => excluded.contains((*to.ip()).into()),
            Silences::Campaign(_) | Silences::Site => false,
        })
    }

    /// Whoever connects has the lease: the last that was granted over the network, of all campaigns.
    async fn exclusivity(&self) -> Result<(), String> {
        let mut blocks: HashMap<ShardId, HashSet<IpNet>> = HashMap::new();
        for grant in self.grants {
            if let Entry::Vacant(place) = blocks.entry(grant.shard) {
                let targets = self.targets(grant.shard).await?;
                place.insert(targets.prefixes().into_iter().collect());
            }
        }
        for connection in self.connections {
            let network = space::prefix_of(IpAddr::V4(*connection.to.ip()));
            let over = |grant: &&Granted| blocks[&grant.shard].contains(&network);
            let before = |grant: &&Granted| grant.at <= connection.at;
            let mut last = self.grants.iter().rev().filter(over).filter(before);
            let holds = |grant: &Granted| {
                grant.owner.starts_with(WORKERS[connection.host - 1])
                    && self
                        .plan(grant.shard.campaign)
                        .contains(connection.to.into())
            };
            let Some(latest) = last.next() else {
                return Err(format!("{connection:?} has no lease"));
            };
            // Within one tick nobody can say what came first.
            let at_once = latest.at + TICK > connection.at && last.next().is_some_and(holds);
            if !holds(latest) && !at_once {
                return Err(format!("{connection:?} while {latest:?}"));
            }
        }
        Ok(())
    }

    /// Every campaign is finished, every target has its outcome, and every open one its row, once.
    async fn outcomes(&self) -> Result<(), String> {
        let fail = |error: ajar_store::Error| error.to_string();
        for asked in self.asked {
            let campaign = self.store.campaign(asked.id).await.map_err(fail)?;
            let state = campaign.map(|campaign| campaign.state);
            if state != Some(State::Finished) {
                return Err(format!("{} is {state:?}", asked.id));
            }
            let shards = asked.plan.shards().len() as u64;
            let mut endpoints = HashSet::new();
            for number in 0..shards {
                let shard = ShardId {
                    campaign: asked.id,
                    number,
                };
                let targets = self.targets(shard).await?;
                for number in 0..targets.count() {
                    if let SocketAddr::V4(endpoint) = targets.get(number) {
                        endpoints.insert(endpoint);
                    }
                }
            }
            let progress = self.store.progress(asked.id).await.map_err(fail)?;
            let counted = progress.tally.total();
            if counted != endpoints.len() as u64 {
                return Err(format!("{counted} outcomes of {}", endpoints.len()));
            }
            // Those may have been visited before, or not.
            endpoints.retain(|endpoint| !self.is_excluded(endpoint));
            let visited: HashSet<SocketAddrV4> = self.connections.iter().map(|c| c.to).collect();
            if let Some(missed) = endpoints.iter().find(|to| !visited.contains(to)) {
                return Err(format!("{missed} has an outcome and was never visited"));
            }
            let query = FindingQuery {
                campaign: Some(asked.id),
                limit: 100_000,
                ..FindingQuery::default()
            };
            let found = self.store.findings(&query).await.map_err(fail)?;
            let mut found: Vec<_> = found
                .iter()
                .map(|finding| SocketAddr::new(finding.ip, finding.port))
                .filter(|found| match found {
                    SocketAddr::V4(found) => !self.is_excluded(found),
                    SocketAddr::V6(_) => true,
                })
                .collect();
            let is_open = |to: &&SocketAddrV4| Fate::of(**to) == Fate::Open;
            let mut open: Vec<_> = endpoints.iter().filter(is_open).collect();
            open.sort();
            found.sort();
            let open: Vec<SocketAddr> = open.into_iter().map(|&to| to.into()).collect();
            if found != open {
                return Err(format!("{} rows for {} open ones", found.len(), open.len()));
            }
        }
        Ok(())
    }

    async fn targets(&self, shard: ShardId) -> Result<Targets, String> {
        let work = self.store.work(shard).await.map_err(|e| e.to_string())?;
        let targets = work.and_then(|work| self.plan(shard.campaign).targets(&work));
        targets.ok_or_else(|| format!("{shard} was granted and is not there"))
    }

    fn plan(&self, id: CampaignId) -> &Plan {
        let asked = self.asked.iter().find(|asked| asked.id == id);
        &asked.expect("one of ours").plan
    }
}

/// Fails with the number of the first second that has more.
fn most_in_a_second(times: &[Duration], most: usize) -> Result<(), usize> {
    for (index, &from) in times.iter().enumerate() {
        let until = from + Duration::from_secs(1);
        let within = times[index..].iter().take_while(|at| **at < until).count();
        if within > most {
            return Err(within);
        }
    }
    Ok(())
}
