//! Who may run a shard, for how long and how fast.
//!
//! A grant locks in this order: campaign, shard, leases by shard, blocks, authorization, site, sums
//! by campaign. It locks the authorization late, since all of its campaigns wait for that lock.

use ajar_model::{Ahead, CampaignId, ShardId, Timestamp};
use ipnet::IpNet;

use crate::{
    ATOM, ATTEMPTS, Caps, Error, Grant, GrantRequest, failover, release,
    rows::{Backend, LeaseRow, Lock, Rows, ShardRow, Standing, Sum},
    stored,
};

/// How often expired leases may be found in the way.
const TRIES: u32 = 4;

/// See [`crate::Store::grant`].
pub(crate) async fn grant(backend: &dyn Backend, request: &GrantRequest) -> Result<Grant, Error> {
    stored::name("a worker's identity", &request.owner)?;
    stored::name("a vantage point", &request.vantage)?;
    for _ in 0..TRIES {
        match try_grant(backend.write().await?, request).await? {
            // Expired leases have their rate until they are ended.
            Some(Grant::NoRate) if release::expired(backend, request.margin).await? > 0 => {}
            Some(grant) => return Ok(grant),
            None => {}
        }
    }
    Ok(Grant::BlocksBusy)
}

/// Returns nothing if leases were in the way that had expired, which it has ended.
async fn try_grant(mut tx: Box<dyn Rows>, request: &GrantRequest) -> Result<Option<Grant>, Error> {
    let GrantRequest { shard, caps, .. } = *request;
    let standing = tx.lock_campaign(shard.campaign).await?;
    let Some(standing) = standing.filter(Standing::may_send) else {
        return Ok(Some(Grant::NotOpen));
    };
    if standing.revision != request.revision {
        return Ok(Some(Grant::Outdated));
    }
    // Read after the campaign was waited for.
    let (server, now) = tx.server().await?;
    let cutoff = stored::cutoff(now, request.margin);
    if failover::settle(tx.as_mut(), server, now, request.ttl + request.margin).await? {
        tx.commit().await?;
        return Ok(Some(Grant::FailedOver));
    }
    let Some(row) = tx.lock_shard(shard).await?.filter(|row| !row.closed) else {
        return Ok(Some(Grant::NotOpen));
    };
    let blocks = distinct(&request.blocks);
    let in_the_way = tx.lock_overlapping(shard, &blocks).await?;
    if let Some(refused) = refused(&in_the_way, shard, cutoff) {
        return Ok(Some(refused));
    }
    if !in_the_way.is_empty() {
        // A late renewal must not revive one of them beside the lease that is about to be granted.
        release::forget(tx.as_mut(), &in_the_way).await?;
        tx.commit().await?;
        return Ok(None);
    }
    let mut end = row.to.unwrap_or(request.targets);
    if end > request.targets {
        return Ok(Some(Grant::Outdated));
    }
    let mut attempt = row.attempt;
    if attempt >= ATTEMPTS {
        let left = end.saturating_sub(row.cursor);
        if left <= ATOM {
            return quarantine(tx, shard, row).await.map(Some);
        }
        let middle = row.cursor + left / 2;
        tx.insert_rest(shard, middle, end).await?;
        (end, attempt) = (middle, 1);
    }
    if !tx.put_blocks(shard, &blocks).await? {
        return Ok(Some(Grant::BlocksBusy));
    }
    let token = tx.issue_token(request, now).await?;
    let granted = ShardRow {
        to: Some(end),
        ahead: Ahead::default(),
        token: Some(token),
        attempt: attempt.saturating_add(1),
        ..row
    };
    tx.put_shard(shard, &granted).await?;
    if caps.authorization.is_some() {
        tx.lock_authorization(shard.campaign).await?;
    }
    if caps.site.is_some() {
        tx.lock(Lock::Site).await?;
    }
    let room = room(tx.as_mut(), shard.campaign, &caps).await?;
    let room = u32::try_from(room.max(0)).unwrap_or(u32::MAX);
    let rate = request.want_rate.max(1).min(room);
    if rate == 0 {
        return Ok(Some(Grant::NoRate));
    }
    let lease = LeaseRow {
        shard,
        token,
        owner: request.owner.clone(),
        rate,
        revision: request.revision,
        until: until(now, request.ttl),
        renewal: 0,
    };
    tx.insert_lease(&lease).await?;
    tx.add_to_sum(shard.campaign, lease.sum()).await?;
    tx.commit().await?;
    Ok(Some(Grant::Granted {
        token,
        cursor: granted.cursor,
        end,
        rate,
        attempt: granted.attempt,
        epoch: standing.epoch,
    }))
}

/// Refuses a shard if a lease of its own or of one of its blocks is live.
fn refused(leases: &[LeaseRow], shard: ShardId, cutoff: Timestamp) -> Option<Grant> {
    let live = |lease: &&LeaseRow| lease.is_live(cutoff);
    if leases.iter().filter(live).any(|lease| lease.shard == shard) {
        return Some(Grant::Leased);
    }
    let is_any_live = leases.iter().any(|lease| lease.is_live(cutoff));
    is_any_live.then_some(Grant::BlocksBusy)
}

/// Gives a shard up. Its campaign can end without it, and says so.
async fn quarantine(mut tx: Box<dyn Rows>, shard: ShardId, row: ShardRow) -> Result<Grant, Error> {
    let quarantined = ShardRow {
        closed: true,
        quarantined: true,
        ahead: Ahead::default(),
        token: None,
        ..row
    };
    tx.put_shard(shard, &quarantined).await?;
    tx.commit().await?;
    Ok(Grant::Quarantined)
}

impl LeaseRow {
    /// Returns whether it ends after `cutoff`.
    pub(crate) fn is_live(&self, cutoff: Timestamp) -> bool {
        self.until > cutoff
    }

    /// Returns what it adds to the sum of its campaign.
    pub(crate) fn sum(&self) -> Sum {
        Sum {
            rate: self.rate.into(),
            leases: 1,
        }
    }
}

/// Returns when a lease ends that is granted or renewed now.
pub(crate) fn until(now: Timestamp, ttl: std::time::Duration) -> Timestamp {
    stored::to_micros(now.saturating_add(ttl).unwrap_or(Timestamp::MAX))
}

/// Returns how much more the leases of a campaign may have, less than nothing if they have too much.
/// The caller holds the authorization and the site if they have a cap.
pub(crate) async fn room(tx: &mut dyn Rows, id: CampaignId, caps: &Caps) -> Result<i64, Error> {
    let mut room = i64::from(caps.campaign) - tx.lock_sum(id).await?.rate;
    if let Some(cap) = caps.authorization {
        room = room.min(i64::from(cap) - tx.authorization_rate(id).await?);
    }
    if let Some(cap) = caps.site {
        room = room.min(i64::from(cap) - tx.site_rate().await?);
    }
    Ok(room)
}

fn distinct(blocks: &[IpNet]) -> Vec<IpNet> {
    let mut blocks: Vec<IpNet> = blocks.iter().map(IpNet::trunc).collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}
