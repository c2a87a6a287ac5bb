//! Who may run a shard, for how long and how fast.
//!
//! Locks are taken in one order: campaign, site, shard, the shards that hold a wanted block.

use ajar_model::{ShardId, Timestamp, campaign::State};
use ipnet::IpNet;

use crate::{
    Error, Grant, GrantRequest, Renewal, Renewed,
    rows::{Rows, ShardRow},
    stored,
};

/// See [`crate::Store::grant`].
pub(crate) async fn grant(mut tx: Box<dyn Rows>, request: &GrantRequest) -> Result<Grant, Error> {
    stored::name("a worker's identity", &request.owner)?;
    let shard = request.shard;
    let cutoff = stored::cutoff(request.now, request.margin);
    if tx.lock_campaign(shard.campaign).await? != Some(State::Running) {
        return Ok(Grant::NotOpen);
    }
    tx.lock_site().await?;
    let Some(row) = tx.lock_shard(shard).await?.filter(|row| !row.closed) else {
        return Ok(Grant::NotOpen);
    };
    if row.is_live(cutoff) {
        return Ok(Grant::Leased);
    }
    let blocks = distinct(&request.blocks);
    let Some(dead) = dead_holders(tx.as_mut(), shard, &blocks, cutoff).await? else {
        return Ok(Grant::BlocksBusy);
    };
    let used = tx.live_rate(shard.campaign, cutoff).await?;
    let rate = share(request.want_rate, request.campaign_rate, used);
    if rate == 0 {
        return Ok(Grant::NoRate);
    }
    for holder in dead.into_iter().chain([shard]) {
        tx.end_lease(holder).await?;
    }
    tx.put_blocks(shard, &blocks).await?;
    let token = tx.issue_token(shard, &request.owner, request.now).await?;
    let granted = ShardRow {
        token: Some(token),
        owner: Some(request.owner.clone()),
        attempt: row.attempt.saturating_add(1),
        rate,
        lease_until: Some(end(request.now, request.ttl)),
        ..row
    };
    tx.put_shard(shard, &granted).await?;
    tx.commit().await?;
    Ok(Grant::Granted {
        token,
        cursor: granted.cursor,
        rate,
        attempt: granted.attempt,
    })
}

/// See [`crate::Store::renew`].
pub(crate) async fn renew(mut tx: Box<dyn Rows>, renewal: &Renewal) -> Result<Renewed, Error> {
    let shard = renewal.shard;
    let cutoff = stored::cutoff(renewal.now, renewal.margin);
    let state = tx.lock_campaign(shard.campaign).await?;
    let Some(row) = tx.lock_shard(shard).await? else {
        return Ok(Renewed::Fenced);
    };
    if row.closed || row.token != Some(renewal.token) || !row.is_live(cutoff) {
        return Ok(Renewed::Fenced);
    }
    if state != Some(State::Running) {
        return Ok(Renewed::Stopped);
    }
    let others = tx
        .live_rate(shard.campaign, cutoff)
        .await?
        .saturating_sub(u64::from(row.rate));
    let rate = share(renewal.want_rate, renewal.campaign_rate, others).max(row.rate);
    let until = end(renewal.now, renewal.ttl);
    let renewed = ShardRow {
        rate,
        // A renewal that was delayed on its way never shortens what a later one gained.
        lease_until: row.lease_until.max(Some(until)),
        ..row
    };
    tx.put_shard(shard, &renewed).await?;
    tx.commit().await?;
    Ok(Renewed::Kept { rate })
}

/// See [`crate::Store::release`].
pub(crate) async fn release(
    mut tx: Box<dyn Rows>,
    shard: ShardId,
    token: u64,
) -> Result<(), Error> {
    let current = tx.lock_shard(shard).await?;
    let Some(row) = current.filter(|row| !row.closed && row.token == Some(token)) else {
        return Ok(());
    };
    tx.end_lease(shard).await?;
    tx.put_shard(shard, &row.without_lease(None)).await?;
    tx.commit().await
}

impl ShardRow {
    /// True where its lease ends after `cutoff`.
    pub(crate) fn is_live(&self, cutoff: Timestamp) -> bool {
        self.lease_until.is_some_and(|until| until > cutoff)
    }

    /// The row with its lease over, and this token left as the one that may report.
    pub(crate) fn without_lease(self, token: Option<u64>) -> Self {
        Self {
            token,
            owner: None,
            rate: 0,
            lease_until: None,
            ..self
        }
    }
}

/// The shards whose leases are over but whose blocks were never taken; none where a wanted block is in a live
/// lease. Ending theirs keeps a late renewal from reviving it beside the one that is about to be granted.
async fn dead_holders(
    tx: &mut dyn Rows,
    shard: ShardId,
    blocks: &[IpNet],
    cutoff: Timestamp,
) -> Result<Option<Vec<ShardId>>, Error> {
    let holders = tx.holders(blocks).await?;
    let mut others = holders.into_iter().filter(|(holder, _)| *holder != shard);
    let dead = others.try_fold(Vec::new(), |mut dead, (holder, until)| {
        let is_live = until.is_some_and(|until| until > cutoff);
        dead.push(holder);
        (!is_live).then_some(dead)
    });
    Ok(dead)
}

/// At least 1 is wanted, whatever was asked for.
fn share(want: u32, cap: u32, used: u64) -> u32 {
    let left = u64::from(cap).saturating_sub(used);
    u64::from(want.max(1)).min(left) as u32
}

fn end(now: Timestamp, ttl: std::time::Duration) -> Timestamp {
    stored::to_micros(now.saturating_add(ttl).unwrap_or(Timestamp::MAX))
}

fn distinct(blocks: &[IpNet]) -> Vec<IpNet> {
    let mut blocks: Vec<IpNet> = blocks.iter().map(IpNet::trunc).collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}
