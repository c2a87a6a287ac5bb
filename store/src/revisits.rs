//! Endpoints that are due for another visit, to hear more of them or to confirm what was found,
//! made into shards.
//!
//! Locks are taken in one order: campaign, the keys of findings, sorted, then shards that were
//! never granted, then counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use ajar_model::{CampaignId, ShardId, Timestamp, space};

use crate::{
    ATOM, Error, excluding,
    rows::{Backend, Repeat, Rows},
    stored::{self, AWAITS_REVISIT},
};

/// How long the first endpoint that is due waits for others while workers have other things to do.
const GATHER: Duration = Duration::from_secs(10);
/// The most /24 and /64 prefixes of one revisit. All of them must be free at once before it is
/// granted.
const MOST_BLOCKS: usize = 16;

/// Returns whether a campaign's revisits are to be planned now. `next` is the time of the first of
/// them, and `is_open` says whether a shard of the campaign is open.
pub(crate) fn is_due(next: Timestamp, now: Timestamp, is_open: bool) -> bool {
    let latest = match is_open {
        true => stored::cutoff(now, GATHER),
        false => now,
    };
    next <= latest
}

/// See [`crate::Store::plan_revisits`].
pub(crate) async fn plan(
    backend: &dyn Backend,
    id: CampaignId,
    lately: Duration,
) -> Result<Vec<ShardId>, Error> {
    let mut tx = backend.read().await?;
    let now = tx.now().await?;
    let Some(next) = tx.next_revisit(id).await? else {
        return Ok(Vec::new());
    };
    let is_open = tx.open_shards(id, 1).await? > 0;
    if !is_due(next, now, is_open) {
        return Ok(Vec::new());
    }
    drop(tx);
    let mut tx = backend.write().await?;
    let standing = tx.lock_campaign(id).await?;
    if !standing.is_some_and(|standing| standing.may_send()) {
        return Ok(Vec::new());
    }
    let rules = tx.judging_key(id).await?;
    let Some(rules) = rules else {
        return Ok(Vec::new());
    };
    let most_visits = rules.revisits.most_visits();
    let excluded = excluding::addresses(tx.as_mut(), &rules.tenant).await?;
    let due = tx.hold_due(id, now, ATOM as u32).await?;
    let workers = tx.workers(stored::cutoff(now, lately)).await?;
    let mut shards: BTreeMap<Repeat, BTreeSet<SocketAddr>> = BTreeMap::new();
    for due in &due {
        let visit = due.visits + 1;
        // Whatever asked for the visit, an endpoint gets no more of them than its campaign allows.
        if visit > most_visits || excluded.contains(due.endpoint.ip()) {
            tx.set_planned(due.row, due.visits, due.round).await?;
            continue;
        }
        tx.set_planned(due.row, visit, due.round).await?;
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
        planned.extend(add(tx.as_mut(), id, endpoints, &repeat).await?);
    }
    let change = BTreeMap::from([(AWAITS_REVISIT, -(due.len() as i64))]);
    tx.add_counts(id, 0, &change).await?;
    tx.commit().await?;
    Ok(planned)
}

/// Adds endpoints to the last revisit of their kind, if no worker ever had it, and otherwise to
/// revisits of their own. Returns the shards that have them. The campaign's row is locked.
pub(crate) async fn add(
    tx: &mut dyn Rows,
    id: CampaignId,
    mut endpoints: BTreeSet<SocketAddr>,
    repeat: &Repeat,
) -> Result<Vec<ShardId>, Error> {
    let waiting = tx.lock_ungranted_revisit(id, repeat).await?;
    if let Some((_, known)) = &waiting {
        let known: Vec<SocketAddr> = stored::from_json("a shard's endpoints", known)?;
        endpoints.extend(known);
    }
    let mut waiting = waiting.map(|(shard, _)| shard);
    let mut shards = Vec::new();
    for endpoints in chunks(endpoints) {
        shards.push(match waiting.take() {
            Some(shard) => {
                tx.put_endpoints(shard, &endpoints).await?;
                shard
            }
            None => tx.insert_revisit(id, &endpoints, repeat).await?,
        });
    }
    Ok(shards)
}

/// Divides endpoints into shards: no more of them than are given up together, in no more blocks
/// than are soon free together.
fn chunks(endpoints: BTreeSet<SocketAddr>) -> Vec<Vec<SocketAddr>> {
    let mut chunks: Vec<Vec<SocketAddr>> = Vec::new();
    let (mut blocks, mut last) = (0, None);
    for endpoint in endpoints {
        let block = Some(space::prefix_of(endpoint.ip()));
        let is_new = block != last;
        last = block;
        match chunks.last_mut() {
            Some(chunk)
                if chunk.len() < ATOM as usize && blocks + usize::from(is_new) <= MOST_BLOCKS =>
            {
                chunk.push(endpoint);
                blocks += usize::from(is_new);
            }
            _ => {
                chunks.push(vec![endpoint]);
                blocks = 1;
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(endpoints: impl Iterator<Item = String>) -> Vec<usize> {
        let endpoints = endpoints.map(|text| text.parse().unwrap());
        chunks(endpoints.collect()).iter().map(Vec::len).collect()
    }

    #[test]
    fn a_revisit_has_few_endpoints_in_few_blocks() {
        let of_one_block = (1..=250).flat_map(|host| [25, 26].map(|port| (host, port)));
        let of_one_block = of_one_block.map(|(host, port)| format!("10.0.0.{host}:{port}"));
        assert_eq!(sizes(of_one_block), [256, 244]);
        let of_many = (0..40).map(|net| format!("10.0.{net}.1:25"));
        assert_eq!(sizes(of_many), [16, 16, 8]);
        assert_eq!(sizes(std::iter::empty()), [0; 0]);
    }
}
