//! Who may run a shard, for how long and how fast.
//!
//! Locks are taken in one order: campaign, site, shard, the shards that hold a wanted block.

use ajar_model::{Ahead, CampaignId, ShardId, Timestamp};
use ipnet::IpNet;

use crate::{
    ATOM, ATTEMPTS, Caps, Error, Grant, GrantRequest, Renewal, Renewed, failover,
    rows::{Lock, Rates, Rows, ShardRow, Standing},
    stored,
};

/// See [`crate::Store::grant`].
pub(crate) async fn grant(mut tx: Box<dyn Rows>, request: &GrantRequest) -> Result<Grant, Error> {
    stored::name("a worker's identity", &request.owner)?;
    stored::name("a vantage point", &request.vantage)?;
    let shard = request.shard;
    let standing = tx.lock_campaign(shard.campaign).await?;
    let Some(standing) = standing.filter(Standing::may_send) else {
        return Ok(Grant::NotOpen);
    };
    if standing.revision != request.revision {
        return Ok(Grant::Outdated);
    }
    tx.lock(Lock::Site).await?;
    // Read after the locks were waited for.
    let (server, now) = tx.server().await?;
    let cutoff = stored::cutoff(now, request.margin);
    if failover::settle(tx.as_mut(), server, now, request.ttl + request.margin).await? {
        tx.commit().await?;
        return Ok(Grant::FailedOver);
    }
    let Some(row) = tx.lock_shard(shard).await?.filter(|row| !row.closed) else {
        return Ok(Grant::NotOpen);
    };
    if row.is_live(cutoff) {
        return Ok(Grant::Leased);
    }
    let mut end = row.to.unwrap_or(request.targets);
    if end > request.targets {
        return Ok(Grant::Outdated);
    }
    let mut attempt = row.attempt;
    if attempt >= ATTEMPTS {
        let left = end.saturating_sub(row.cursor);
        if left <= ATOM {
            return quarantine(tx, shard, row).await;
        }
        let middle = row.cursor + left / 2;
        tx.insert_rest(shard, middle, end).await?;
        (end, attempt) = (middle, 1);
    }
    let blocks = distinct(&request.blocks);
    let Some(dead) = dead_holders(tx.as_mut(), shard, &blocks, cutoff).await? else {
        return Ok(Grant::BlocksBusy);
    };
    let used = tx.live_rates(shard.campaign, cutoff).await?;
    let fair = fair(tx.as_mut(), shard.campaign, &request.caps).await?;
    let rate = share(request.want_rate.min(fair), &request.caps, &used);
    if rate == 0 {
        return Ok(Grant::NoRate);
    }
    for holder in dead.into_iter().chain([shard]) {
        tx.end_lease(holder).await?;
    }
    tx.put_blocks(shard, &blocks).await?;
    let token = tx.issue_token(request, now).await?;
    let granted = ShardRow {
        to: Some(end),
        ahead: Ahead::default(),
        token: Some(token),
        owner: Some(request.owner.clone()),
        attempt: attempt.saturating_add(1),
        rate,
        lease_until: Some(until(now, request.ttl)),
        revision: request.revision,
        ..row
    };
    tx.put_shard(shard, &granted).await?;
    tx.commit().await?;
    Ok(Grant::Granted {
        token,
        cursor: granted.cursor,
        end,
        rate,
        attempt: granted.attempt,
        epoch: standing.epoch,
    })
}

/// See [`crate::Store::renew`].
pub(crate) async fn renew(mut tx: Box<dyn Rows>, renewal: &Renewal) -> Result<Renewed, Error> {
    let shard = renewal.shard;
    let Some(row) = tx.lock_shard(shard).await? else {
        return Ok(Renewed::Fenced);
    };
    let (server, now) = tx.server().await?;
    let cutoff = stored::cutoff(now, renewal.margin);
    if row.closed || row.token != Some(renewal.token) || !row.is_live(cutoff) {
        return Ok(Renewed::Fenced);
    }
    if failover::is_settling(server, now) {
        return Ok(Renewed::Fenced);
    }
    // Not locked: a pause that is committed a moment later ends the lease at its next renewal.
    let standing = tx.standing(shard.campaign).await?;
    let Some(standing) = standing.filter(Standing::may_send) else {
        return Ok(Renewed::Stopped);
    };
    if standing.revision != row.revision {
        return Ok(Renewed::Fenced);
    }
    // A grant takes the site before its shards: whoever holds a shard may only try.
    let rate = match renewal.want_rate > row.rate && tx.try_lock(Lock::Site).await? {
        true => {
            let used = tx.live_rates(shard.campaign, cutoff).await?;
            let others = used.without(row.rate);
            let fair = fair(tx.as_mut(), shard.campaign, &renewal.caps).await?;
            share(renewal.want_rate.min(fair), &renewal.caps, &others).max(row.rate)
        }
        false => renewal.want_rate.clamp(1, row.rate.max(1)),
    };
    let until = until(now, renewal.ttl);
    let renewed = ShardRow {
        rate,
        // A renewal that was delayed on its way never shortens what a later one gained.
        lease_until: row.lease_until.max(Some(until)),
        ..row
    };
    tx.put_shard(shard, &renewed).await?;
    tx.commit().await?;
    Ok(Renewed::Kept {
        rate,
        epoch: standing.epoch,
    })
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
    tx.end_lease(shard).await?;
    let released = ShardRow {
        attempt: row.attempt.saturating_sub(u32::from(failed.is_none())),
        cause: failed.map(str::to_owned).or_else(|| row.cause.clone()),
        ahead: Ahead::default(),
        ..row.without_lease(None)
    };
    tx.put_shard(shard, &released).await?;
    tx.commit().await
}

/// Gives a shard up. Its campaign can end without it, and says so.
async fn quarantine(mut tx: Box<dyn Rows>, shard: ShardId, row: ShardRow) -> Result<Grant, Error> {
    tx.end_lease(shard).await?;
    let quarantined = ShardRow {
        closed: true,
        quarantined: true,
        ahead: Ahead::default(),
        ..row.without_lease(None)
    };
    tx.put_shard(shard, &quarantined).await?;
    tx.commit().await?;
    Ok(Grant::Quarantined)
}

impl ShardRow {
    /// True if its lease ends after `cutoff`.
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

/// The shards whose leases are over but whose blocks were never taken; none if a wanted block is in a live
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

/// What one of a campaign's leases should have.
async fn fair(tx: &mut dyn Rows, id: CampaignId, caps: &Caps) -> Result<u32, Error> {
    let open = tx.open_shards(id, caps.side_by_side.max(1)).await?;
    Ok(caps.campaign.div_ceil(open.max(1)))
}

/// At least 1 is wanted, whatever was asked for.
fn share(want: u32, caps: &Caps, used: &Rates) -> u32 {
    let limits = [
        (Some(caps.campaign), used.campaign),
        (caps.authorization, used.authorization),
        (caps.site, used.site),
    ];
    limits
        .into_iter()
        .filter_map(|(cap, used)| Some(u64::from(cap?).saturating_sub(used)))
        .fold(u64::from(want.max(1)), u64::min) as u32
}

impl Rates {
    /// The sums without a lease of this rate, which is part of each.
    fn without(self, rate: u32) -> Self {
        let less = |sum: u64| sum.saturating_sub(u64::from(rate));
        Self {
            campaign: less(self.campaign),
            authorization: less(self.authorization),
            site: less(self.site),
        }
    }
}

fn until(now: Timestamp, ttl: std::time::Duration) -> Timestamp {
    stored::to_micros(now.saturating_add(ttl).unwrap_or(Timestamp::MAX))
}

fn distinct(blocks: &[IpNet]) -> Vec<IpNet> {
    let mut blocks: Vec<IpNet> = blocks.iter().map(IpNet::trunc).collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}
