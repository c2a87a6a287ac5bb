//! Endpoints that are due for another visit, made into shards.
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
    rows::Backend,
    stored::{self, AWAITS_REVISIT},
};

/// How long the first endpoint that is due waits for others while workers have other things to do.
const GATHER: Duration = Duration::from_secs(10);

/// See [`crate::Store::plan_revisits`].
pub(crate) async fn plan(
    backend: &dyn Backend,
    id: CampaignId,
    now: Timestamp,
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
    let mut shards: BTreeMap<(u32, &str), BTreeSet<SocketAddr>> = BTreeMap::new();
    for due in &due {
        let visit = due.visits + 1;
        tx.set_planned(due.row, visit).await?;
        if !due.is_open {
            let endpoints = shards.entry((visit, &due.vantage)).or_default();
            endpoints.insert(due.endpoint);
        }
    }
    let mut planned = Vec::new();
    for ((visit, vantage), endpoints) in shards {
        let endpoints: Vec<SocketAddr> = endpoints.into_iter().collect();
        let shard = tx.insert_revisit(id, &endpoints, visit, Some(vantage));
        planned.push(shard.await?);
    }
    let change = BTreeMap::from([(AWAITS_REVISIT, -(due.len() as i64))]);
    tx.add_counts(id, 0, &change).await?;
    tx.commit().await?;
    Ok(planned)
}
