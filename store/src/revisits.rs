//! Endpoints that are due for another visit, to hear more of them or to confirm what was found, made into shards.
//!
//! Locks are taken in one order: campaign, the keys of findings, sorted, then counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use ajar_model::{CampaignId, ShardId, Timestamp, campaign::State};

use crate::{
    ATOM, Error,
    rows::{Backend, Repeat},
    stored::{self, AWAITS_REVISIT},
};

/// How long the first endpoint that is due waits for others while workers have other things to do.
const GATHER: Duration = Duration::from_secs(10);

/// See [`crate::Store::plan_revisits`].
pub(crate) async fn plan(
    backend: &dyn Backend,
    id: CampaignId,
    now: Timestamp,
    seen_since: Timestamp,
) -> Result<Vec<ShardId>, Error> {
    let mut tx = backend.read().await?;
    let first = tx.next_revisit(id).await?.filter(|due| *due <= now);
    let Some(first) = first else {
        return Ok(Vec::new());
    };
    if first > stored::cutoff(now, GATHER) && tx.open_shards(id, 1).await? > 0 {
        return Ok(Vec::new());
    }
    drop(tx);
    let mut tx = backend.write().await?;
    if tx.lock_campaign(id).await? != Some(State::Running) {
        return Ok(Vec::new());
    }
    let due = tx.hold_due(id, now, ATOM as u32).await?;
    let workers = tx.workers(seen_since).await?;
    let mut shards: BTreeMap<Repeat, BTreeSet<SocketAddr>> = BTreeMap::new();
    for due in &due {
        let visit = due.visits + 1;
        tx.set_planned(due.row, visit).await?;
        let elsewhere = workers.iter().map(|worker| &worker.vantage);
        let elsewhere = elsewhere.filter(|vantage| **vantage != due.vantage);
        let vantages: Vec<&String> = match (due.round, due.is_open) {
            (0, true) => Vec::new(),
            (0, false) => vec![&due.vantage],
            // A second receipt is worth more from another place.
            _ => elsewhere.take(1).chain([&due.vantage]).collect(),
        };
        for vantage in vantages {
            let repeat = Repeat {
                visit,
                round: due.round,
                vantage: Some(vantage.clone()),
            };
            shards.entry(repeat).or_default().insert(due.endpoint);
        }
    }
    let mut planned = Vec::new();
    for (repeat, endpoints) in shards {
        let endpoints: Vec<SocketAddr> = endpoints.into_iter().collect();
        planned.push(tx.insert_revisit(id, &endpoints, &repeat).await?);
    }
    let change = BTreeMap::from([(AWAITS_REVISIT, -(due.len() as i64))]);
    tx.add_counts(id, 0, &change).await?;
    tx.commit().await?;
    Ok(planned)
}
