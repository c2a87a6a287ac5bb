//! Keeping leases, many at once, and moving their rates.
//!
//! A renewal locks in this order: leases by shard, authorization, site, sums by campaign. It waits
//! for no grant: if one holds the authorization or the site, no rate rises this time.

use std::collections::{BTreeMap, btree_map::Entry};

use ajar_model::{CampaignId, ShardId};

use crate::{
    Caps, Error, Renewal, Renewed, failover, grant,
    rows::{LeaseRow, Lock, Rows, Standing, Sum},
    stored,
};

/// See [`crate::Store::renew`].
pub(crate) async fn renew(
    mut tx: Box<dyn Rows>,
    renewals: &[Renewal],
) -> Result<Vec<Renewed>, Error> {
    let mut shards: Vec<ShardId> = renewals.iter().map(|renewal| renewal.shard).collect();
    shards.sort_unstable();
    shards.dedup();
    let leases = tx.lock_leases(&shards).await?;
    let (server, now) = tx.server().await?;
    if failover::is_settling(server, now) {
        return Ok(vec![Renewed::Fenced; renewals.len()]);
    }
    let mut leases: BTreeMap<ShardId, LeaseRow> = leases
        .into_iter()
        .map(|lease| (lease.shard, lease))
        .collect();
    let mut standings = Standings::default();
    let mut answers = vec![Renewed::Fenced; renewals.len()];
    let mut kept: BTreeMap<CampaignId, Vec<usize>> = BTreeMap::new();
    for (at, renewal) in renewals.iter().enumerate() {
        let cutoff = stored::cutoff(now, renewal.margin);
        let lease = leases.get(&renewal.shard);
        let lease = lease.filter(|l| l.token == renewal.token && l.is_live(cutoff));
        let Some(lease) = lease else {
            continue;
        };
        match standings.of(tx.as_mut(), renewal.shard.campaign).await? {
            None => answers[at] = Renewed::Stopped,
            Some(standing) if standing.revision != lease.revision => {}
            Some(standing) => {
                let rate = lease.rate;
                let epoch = standing.epoch;
                answers[at] = Renewed::Kept { rate, epoch };
                kept.entry(renewal.shard.campaign).or_default().push(at);
            }
        }
    }
    let mut changed: BTreeMap<ShardId, LeaseRow> = BTreeMap::new();
    for (campaign, kept) in kept {
        let mut rates = Campaign::default();
        for at in kept {
            let renewal = &renewals[at];
            let Some(lease) = leases.get_mut(&renewal.shard) else {
                continue;
            };
            let rate = rates.moved(tx.as_mut(), lease, renewal).await?;
            // A renewal that was delayed on its way never shortens what a later one gained.
            lease.until = lease.until.max(grant::until(now, renewal.ttl));
            changed.insert(lease.shard, lease.clone());
            if let Renewed::Kept { rate: answer, .. } = &mut answers[at] {
                *answer = rate;
            }
        }
        let change = Sum {
            rate: rates.change,
            leases: 0,
        };
        if change != Sum::default() {
            tx.add_to_sum(campaign, change).await?;
        }
    }
    if changed.is_empty() {
        return Ok(answers);
    }
    let changed: Vec<LeaseRow> = changed.into_values().collect();
    tx.put_leases(&changed).await?;
    tx.commit().await?;
    Ok(answers)
}

/// What was read of campaigns. Not locked: a pause that is committed a moment later ends their
/// leases at the next renewal.
#[derive(Default)]
struct Standings(BTreeMap<CampaignId, Option<Standing>>);

impl Standings {
    /// Returns none for a campaign that may not send.
    async fn of(&mut self, tx: &mut dyn Rows, id: CampaignId) -> Result<Option<Standing>, Error> {
        match self.0.entry(id) {
            Entry::Occupied(known) => Ok(*known.get()),
            Entry::Vacant(unknown) => {
                let standing = tx.standing(id).await?.filter(Standing::may_send);
                Ok(*unknown.insert(standing))
            }
        }
    }
}

/// The leases of a campaign whose rates are moved together.
#[derive(Default)]
struct Campaign {
    /// What they have more than before.
    change: i64,
    /// The caps' room before any of them changed, once it was read.
    room: Option<i64>,
}

impl Campaign {
    /// Moves the rate of a lease, and returns the one that its worker may go at from now on.
    async fn moved(
        &mut self,
        tx: &mut dyn Rows,
        lease: &mut LeaseRow,
        renewal: &Renewal,
    ) -> Result<u32, Error> {
        if renewal.number < lease.renewal {
            return Ok(lease.rate);
        }
        lease.renewal = renewal.number;
        let kept = renewal.rate.clamp(1, lease.rate.max(1));
        self.change += i64::from(kept) - i64::from(lease.rate);
        lease.rate = kept;
        let want = renewal.want_rate.max(1);
        if want <= kept {
            return Ok(want);
        }
        let room = self.room(tx, renewal).await? - self.change;
        let more = i64::from(want - kept).min(room.max(0)) as u32;
        self.change += i64::from(more);
        lease.rate += more;
        Ok(lease.rate)
    }

    /// Returns the caps' room before any of its leases changed.
    async fn room(&mut self, tx: &mut dyn Rows, renewal: &Renewal) -> Result<i64, Error> {
        let (id, caps) = (renewal.shard.campaign, &renewal.caps);
        let room = match self.room {
            Some(room) => room,
            None if try_lock(tx, id, caps).await? => grant::room(tx, id, caps).await?,
            // A grant decides on it just now.
            None => NONE,
        };
        self.room = Some(room);
        Ok(room)
    }
}

/// No room, whatever others give back.
const NONE: i64 = i64::MIN / 2;

/// Tries to take what a grant takes before it adds rates up.
async fn try_lock(tx: &mut dyn Rows, id: CampaignId, caps: &Caps) -> Result<bool, Error> {
    if caps.authorization.is_some() && !tx.try_lock_authorization(id).await? {
        return Ok(false);
    }
    Ok(caps.site.is_none() || tx.try_lock(Lock::Site).await?)
}
