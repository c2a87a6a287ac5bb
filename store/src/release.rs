//! Ends leases: those that workers give back, and those that expired.
//!
//! Locks are taken in one order: shard, leases by shard, sums by campaign, blocks.

use std::{collections::BTreeMap, time::Duration};

use ajar_model::{Ahead, CampaignId, ShardId};

use crate::{
    Error,
    rows::{Backend, LeaseRow, Rows, ShardRow, Sum},
    stored,
};

/// Leases that are ended in one transaction.
const AT_ONCE: u32 = 500;

/// See [`crate::Store::end_leases`].
pub(crate) async fn expired(backend: &dyn Backend, margin: Duration) -> Result<u64, Error> {
    let mut ended = 0;
    loop {
        let mut tx = backend.write().await?;
        let (_, now) = tx.server().await?;
        let cutoff = stored::cutoff(now, margin);
        let dead = tx.lock_dead_leases(cutoff, AT_ONCE).await?;
        if dead.is_empty() {
            return Ok(ended);
        }
        forget(tx.as_mut(), &dead).await?;
        tx.commit().await?;
        ended += dead.len() as u64;
    }
}

/// Forgets leases whose rows are held, takes them off the sums and gives their blocks free.
pub(crate) async fn forget(tx: &mut dyn Rows, leases: &[LeaseRow]) -> Result<(), Error> {
    if leases.is_empty() {
        return Ok(());
    }
    let mut sums: BTreeMap<CampaignId, Sum> = BTreeMap::new();
    for lease in leases {
        let sum = sums.entry(lease.shard.campaign).or_default();
        sum.rate -= lease.sum().rate;
        sum.leases -= lease.sum().leases;
    }
    for (campaign, change) in sums {
        tx.add_to_sum(campaign, change).await?;
    }
    let shards: Vec<ShardId> = leases.iter().map(|lease| lease.shard).collect();
    tx.delete_leases(&shards).await
}

/// See [`crate::Store::release`].
pub(crate) async fn release(
    mut tx: Box<dyn Rows>,
    shard: ShardId,
    token: u64,
    failed: Option<&str>,
) -> Result<(), Error> {
    if let Some(cause) = failed {
        stored::plain("a cause", cause)?;
    }
    let current = tx.lock_shard(shard).await?;
    let Some(row) = current.filter(|row| !row.closed && row.token == Some(token)) else {
        return Ok(());
    };
    self::shard(tx.as_mut(), shard).await?;
    let released = ShardRow {
        attempt: row.attempt.saturating_sub(u32::from(failed.is_none())),
        cause: failed.map(str::to_owned).or_else(|| row.cause.clone()),
        ahead: Ahead::default(),
        token: None,
        ..row
    };
    tx.put_shard(shard, &released).await?;
    tx.commit().await
}

/// Ends the lease of a shard whose row is held, if it has one.
pub(crate) async fn shard(tx: &mut dyn Rows, shard: ShardId) -> Result<(), Error> {
    let lease = tx.lock_leases(&[shard]).await?;
    forget(tx, &lease).await
}
