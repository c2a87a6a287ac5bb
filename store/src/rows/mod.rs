//! What the rules of this crate ask of a database: rows to read, to lock and to write inside one transaction.
//!
//! A backend is nothing but these statements. Every decision (who gets a lease, which observation stays, what a
//! finding says) is made once, above, so that the backends cannot differ in it. Most statements are the same SQL: they stand
//! in `statements`, whose files are compiled once for each backend.

mod values;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use ajar_model::{
    Campaign, CampaignId, Finding, Nonce, Observation, Schedule, ShardId, Sighting, Spec, Target,
    Timestamp, campaign::State, lease::Work,
};
use async_trait::async_trait;
use ipnet::IpNet;

use crate::{
    Admission, AuditLink, CampaignQuery, Demand, Error, FindingQuery, GrantRequest, Holder,
    ListedCanary, Mute, Progress, Quarantined, SeenWorker, Sending, Summary, Trouble, Unleased,
    WorkerLeases,
    exclusions::{Exclusion, ExclusionQuery},
    orders::Stop,
    replicas::SeenCoordinator,
    schedules::{ListedSchedule, Ran, ScheduleKey, ScheduleQuery},
};
pub(crate) use values::*;

#[async_trait]
pub(crate) trait Backend: Send + Sync + 'static {
    /// Begins to read one consistent snapshot.
    async fn read(&self) -> Result<Box<dyn Rows>, Error>;

    /// Begins to write. Dropped without [`Rows::commit`], it leaves no trace.
    async fn write(&self) -> Result<Box<dyn Rows>, Error>;

    /// True if two writes may run at the same time.
    fn writes_overlap(&self) -> bool;

    /// Drops tables of months of which no campaign is left.
    async fn drop_unused(&self) -> Result<(), Error>;

    async fn close(&self) -> Result<(), Error>;
}

#[async_trait]
pub(crate) trait Rows:
    CampaignRows
    + ShardRows
    + LeaseRows
    + FindingRows
    + RecordRows
    + ScheduleRows
    + OrderRows
    + ExclusionRows
    + ReplicaRows
    + BatchRows
    + PartitionRows
    + RemovalRows
{
    /// Waits until no other transaction holds the lock, and holds it to the end of this one.
    async fn lock(&mut self, lock: Lock) -> Result<(), Error>;
    /// The same without waiting; false if another one holds it.
    async fn try_lock(&mut self, lock: Lock) -> Result<bool, Error>;
    /// The time by the database's clock, which all coordinators share.
    async fn now(&mut self) -> Result<Timestamp, Error>;
    /// Whether another server took over from the one that wrote before; and the time by its clock.
    async fn server(&mut self) -> Result<(Server, Timestamp), Error>;
    /// Notes when the leases of the server before are over.
    async fn put_settles_at(&mut self, at: Timestamp) -> Result<(), Error>;
    /// Makes what was written durable and visible.
    async fn commit(self: Box<Self>) -> Result<(), Error>;
}

/// Shards of campaigns.
#[async_trait]
pub(crate) trait ShardRows: Send {
    /// Adds a shard under the next free number, and returns it. The campaign's row is locked.
    async fn insert_revisit(
        &mut self,
        id: CampaignId,
        endpoints: &[SocketAddr],
        repeat: &Repeat,
    ) -> Result<ShardId, Error>;
    /// Locks the shard of such a revisit that was added last and never granted, and returns it with
    /// its endpoints as JSON.
    async fn lock_ungranted_revisit(
        &mut self,
        id: CampaignId,
        repeat: &Repeat,
    ) -> Result<Option<(ShardId, String)>, Error>;
    /// Replaces the endpoints of a revisit that was never granted. The shard's row is locked.
    async fn put_endpoints(
        &mut self,
        shard: ShardId,
        endpoints: &[SocketAddr],
    ) -> Result<(), Error>;
    /// Adds a shard of the same blocks or endpoints that has the targets `from..to`, under the next
    /// free number. It counts as granted once. The campaign's row is locked.
    async fn insert_rest(&mut self, shard: ShardId, from: u64, to: u64) -> Result<(), Error>;
    /// The endpoints, as JSON, of the revisits that are not closed.
    async fn open_revisits(&mut self, id: CampaignId) -> Result<Vec<String>, Error>;
    /// The quarantined shards by number.
    async fn quarantined(&mut self, id: CampaignId, limit: u32) -> Result<Vec<Quarantined>, Error>;
    /// Quarantined shards are open again, as if never granted.
    async fn reopen_quarantined(&mut self, id: CampaignId) -> Result<(), Error>;
    /// How many shards are not closed, counted up to `most`.
    async fn open_shards(&mut self, id: CampaignId, most: u32) -> Result<u32, Error>;
    async fn work(&mut self, shard: ShardId) -> Result<Option<Work>, Error>;
    /// Open shards, whose lease ended at `cutoff` or before, of running campaigns: of the one that
    /// is named, or of all that no single process drives.
    async fn unleased(
        &mut self,
        only: Option<CampaignId>,
        cutoff: Timestamp,
    ) -> Result<Vec<Unleased>, Error>;
    /// See [`crate::Store::demands`].
    async fn demands(&mut self, only: Option<CampaignId>, most: u32) -> Result<Vec<Demand>, Error>;
}

/// Campaigns.
#[async_trait]
pub(crate) trait CampaignRows: Send {
    /// False if the id is taken; then nothing is written.
    async fn insert_campaign(&mut self, admission: &Admission<'_>) -> Result<bool, Error>;
    async fn campaign(&mut self, id: CampaignId) -> Result<Option<Campaign>, Error>;
    /// Reads no spec: one that cannot be read leaves a campaign to be listed and steered.
    async fn summary(&mut self, id: CampaignId) -> Result<Option<Summary>, Error>;
    /// Newest first.
    async fn summaries(&mut self, query: &CampaignQuery) -> Result<Vec<Summary>, Error>;
    /// Returns the campaigns that are running or settling: `only` this one, or all that no single
    /// process drives. With each comes whether one of its shards is open, and when its next revisit
    /// is due.
    async fn active(
        &mut self,
        only: Option<CampaignId>,
    ) -> Result<Vec<(CampaignId, bool, Option<Timestamp>)>, Error>;
    /// The campaign's row is locked.
    async fn put_state(
        &mut self,
        id: CampaignId,
        state: State,
        cause: Option<&str>,
    ) -> Result<(), Error>;
    /// Counts the campaign's revision up. The campaign's row is locked.
    async fn put_authorization(
        &mut self,
        id: CampaignId,
        spec: &Spec,
        authorization: &str,
    ) -> Result<(), Error>;
    /// Holds the campaign's row against every other transaction that locks it.
    async fn lock_campaign(&mut self, id: CampaignId) -> Result<Option<Standing>, Error>;
    /// Reads the same and locks nothing: a shared lock would let renewals pass a pause that waits
    /// for the row.
    async fn standing(&mut self, id: CampaignId) -> Result<Option<Standing>, Error>;
    /// See [`crate::Store::sending`].
    async fn sending(&mut self) -> Result<Vec<Sending>, Error>;
    /// What the findings of a campaign are judged by.
    async fn judging_key(&mut self, id: CampaignId) -> Result<Option<JudgingKey>, Error>;
    /// Reads no observations, and of the findings only the first one that waits for another visit, if there is one.
    async fn progress(&mut self, id: CampaignId, now: Timestamp) -> Result<Progress, Error>;
    /// Adds to the counts of one slot, in the order of their kinds.
    async fn add_counts(
        &mut self,
        id: CampaignId,
        slot: i64,
        counts: &BTreeMap<&'static str, i64>,
    ) -> Result<(), Error>;
    /// Returns a campaign whose findings were judged by rules before these, the newest first.
    async fn judged_by_older(&mut self, rules: u32) -> Result<Option<CampaignId>, Error>;
    /// Notes that a campaign's findings are judged by these rules.
    async fn put_judge(&mut self, id: CampaignId, rules: u32) -> Result<(), Error>;
    /// Returns the campaigns that are over and began before this, oldest first, at most so many.
    async fn old_campaigns(
        &mut self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<CampaignId>, Error>;
    async fn troubles(&mut self, id: CampaignId, now: Timestamp) -> Result<Vec<Trouble>, Error>;
    async fn put_trouble(&mut self, trouble: &Trouble, horizon: Timestamp) -> Result<(), Error>;
}

/// Tables of what campaigns observed, and of their nonces.
#[async_trait]
pub(crate) trait PartitionRows: Send {
    /// Makes those that a campaign needs.
    async fn add_partitions(&mut self, id: CampaignId) -> Result<(), Error>;
}

/// Campaigns that are removed.
#[async_trait]
pub(crate) trait RemovalRows: Send {
    /// Makes a campaign unknown. The campaign's row is locked.
    async fn retire(&mut self, id: CampaignId, now: Timestamp) -> Result<(), Error>;
    /// Returns whether rows of a retired campaign of this id may be left.
    async fn is_retired(&mut self, id: CampaignId) -> Result<bool, Error>;
    /// Deletes some rows of a retired campaign. Returns whether there may be more to delete.
    async fn clear(&mut self, now: Timestamp) -> Result<bool, Error>;
}

/// Shards' progress, leases, what these have together, and tokens.
#[async_trait]
pub(crate) trait LeaseRows: Send {
    /// Reads a shard and holds its row.
    async fn lock_shard(&mut self, shard: ShardId) -> Result<Option<ShardRow>, Error>;
    async fn put_shard(&mut self, shard: ShardId, row: &ShardRow) -> Result<(), Error>;
    async fn insert_lease(&mut self, lease: &LeaseRow) -> Result<(), Error>;
    /// Holds leases that ended at `cutoff` or before, by shard, at most so many; leaves out those
    /// that another transaction holds.
    async fn lock_dead_leases(
        &mut self,
        cutoff: Timestamp,
        limit: u32,
    ) -> Result<Vec<LeaseRow>, Error>;
    /// Reads the sum of a campaign's leases and holds its row.
    async fn lock_sum(&mut self, id: CampaignId) -> Result<Sum, Error>;
    /// Adds to the sum of a campaign's leases.
    async fn add_to_sum(&mut self, id: CampaignId, change: Sum) -> Result<(), Error>;
    /// Holds the authorization of a campaign, if it has one, against every other transaction that
    /// grants under it.
    async fn lock_authorization(&mut self, id: CampaignId) -> Result<(), Error>;
    /// Tries the same without waiting. Returns `false` if another transaction holds it.
    async fn try_lock_authorization(&mut self, id: CampaignId) -> Result<bool, Error>;
    /// The rate of all campaigns under the same authorization as this one.
    async fn authorization_rate(&mut self, id: CampaignId) -> Result<i64, Error>;
    /// The rate of all campaigns.
    async fn site_rate(&mut self) -> Result<i64, Error>;
    /// Ends the leases of campaigns that a single process drives.
    async fn end_local_leases(&mut self) -> Result<(), Error>;
    /// A token above all before.
    async fn issue_token(&mut self, request: &GrantRequest, now: Timestamp) -> Result<u64, Error>;
    /// Forgets tokens that were issued before `horizon` and are not current.
    async fn delete_tokens(&mut self, horizon: Timestamp) -> Result<(), Error>;
    /// Returns to whom it was issued for this shard.
    async fn holder(&mut self, shard: ShardId, token: u64) -> Result<Option<Holder>, Error>;
}

/// Observations, findings, nonces and sightings.
#[async_trait]
pub(crate) trait FindingRows: Send {
    /// Creates what is missing of the keys' rows, locks them all and reads what is known of each. `keys` are sorted:
    /// whoever takes several locks takes them in the same order.
    async fn hold_findings(&mut self, id: CampaignId, keys: &[Key]) -> Result<Vec<Held>, Error>;
    /// Returns sighted nonces that nobody has looked at, at most so many.
    async fn unjudged(&mut self, limit: u32) -> Result<Vec<Nonce>, Error>;
    /// Returns strays that are older than `horizon`, or than the newest `most`, at most `limit` of
    /// them.
    async fn old_strays(
        &mut self,
        horizon: Timestamp,
        most: u32,
        limit: u32,
    ) -> Result<Vec<Nonce>, Error>;
    /// Forgets an endpoint as open, unless another finding still calls it so. Returns whether it
    /// did.
    async fn shut_endpoint(
        &mut self,
        id: CampaignId,
        endpoint: (IpAddr, u16),
    ) -> Result<bool, Error>;
    /// Returns finished campaigns with findings that are due for another visit.
    async fn unconfirmed(&mut self) -> Result<Vec<CampaignId>, Error>;
    /// Sorted, each once.
    async fn unproven(&mut self, id: CampaignId) -> Result<Vec<(IpAddr, u16)>, Error>;
    /// See [`crate::Store::mute`].
    async fn mute(&mut self, id: CampaignId, ports: u32, limit: u32) -> Result<Mute, Error>;
    /// Returns the answer that the store keeps, as JSON.
    async fn kept_mute(&mut self, id: CampaignId) -> Result<Option<String>, Error>;
    /// Keeps it if the campaign is over.
    async fn keep_mute(&mut self, id: CampaignId, mute: String) -> Result<(), Error>;
    /// When the first endpoint is due that waits for another visit.
    async fn next_revisit(&mut self, id: CampaignId) -> Result<Option<Timestamp>, Error>;
    /// Holds the findings whose endpoints are due for another visit, at most so many.
    async fn hold_due(
        &mut self,
        id: CampaignId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Due>, Error>;
    /// Records that a shard has the endpoint of a finding, for this visit of this round.
    async fn set_planned(&mut self, row: i64, visit: u32, round: u32) -> Result<(), Error>;
    async fn findings(&mut self, query: &FindingQuery) -> Result<Vec<Finding>, Error>;
    async fn finding(&mut self, id: &str) -> Result<Option<(Finding, Vec<Observation>)>, Error>;
}

/// Authorizations, the audit log, canaries and workers.
#[async_trait]
pub(crate) trait RecordRows: Send {
    /// Records the digest unless the id has one already, and says which one it has.
    async fn authorization(&mut self, id: &str, digest: [u8; 32]) -> Result<[u8; 32], Error>;
    /// Holds every other appender back; says number and hash of the last entry.
    async fn lock_audit(&mut self) -> Result<Option<(u64, [u8; 32])>, Error>;
    async fn insert_audit(&mut self, row: &AuditLink) -> Result<(), Error>;
    /// Returns the entries after a number, oldest first, at most `limit` of them.
    async fn audit_rows(&mut self, after: u64, limit: u32) -> Result<Vec<AuditLink>, Error>;
    async fn put_canary(
        &mut self,
        address: IpAddr,
        body: String,
        now: Timestamp,
        gone: Timestamp,
    ) -> Result<(), Error>;
    /// In order of registration.
    async fn canaries(&mut self) -> Result<Vec<ListedCanary>, Error>;
    async fn leases_by_worker(&mut self, now: Timestamp) -> Result<Vec<WorkerLeases>, Error>;
    /// Forgets workers that were last seen before then.
    async fn forget_workers(&mut self, before: Timestamp) -> Result<(), Error>;
    async fn workers(&mut self, since: Timestamp) -> Result<Vec<SeenWorker>, Error>;
}

/// Schedules, and what became of their times.
#[async_trait]
pub(crate) trait ScheduleRows: Send {
    async fn put_schedule(&mut self, schedule: &Schedule) -> Result<(), Error>;
    /// By tenant and name.
    async fn schedules(
        &mut self,
        query: &ScheduleQuery,
        now: Timestamp,
    ) -> Result<Vec<ListedSchedule>, Error>;
    /// Sets when a schedule is to be looked at again, unless it was changed since.
    async fn put_next(
        &mut self,
        key: &ScheduleKey,
        handled: Timestamp,
        next: Timestamp,
    ) -> Result<(), Error>;
    /// Returns `false` if there is no such schedule.
    async fn hold_schedule(
        &mut self,
        key: &ScheduleKey,
        paused: bool,
        now: Timestamp,
    ) -> Result<bool, Error>;
    async fn delete_schedule(&mut self, key: &ScheduleKey) -> Result<bool, Error>;
    /// Holds a schedule's row; returns whether it is paused, and up to when everything was dealt
    /// with.
    async fn lock_schedule(
        &mut self,
        key: &ScheduleKey,
    ) -> Result<Option<(bool, Timestamp)>, Error>;
    /// Returns the campaign that it started last, and where that one stands.
    async fn last_campaign(
        &mut self,
        key: &ScheduleKey,
    ) -> Result<Option<(CampaignId, State)>, Error>;
    /// The schedule's row is held.
    async fn put_run(
        &mut self,
        key: &ScheduleKey,
        ran: &Ran,
        handled: Timestamp,
    ) -> Result<(), Error>;
}

/// Orders for a tenant, or for the whole site where no tenant is named.
#[async_trait]
pub(crate) trait OrderRows: Send {
    /// Returns `false`, and writes nothing, if there is such a stop already.
    async fn insert_stop(&mut self, stop: &Stop) -> Result<bool, Error>;
    /// Returns `false` if there is no such stop.
    async fn delete_stop(&mut self, tenant: Option<&str>) -> Result<bool, Error>;
    /// Returns the site's stop first, then those of tenants by name.
    async fn stops(&mut self) -> Result<Vec<Stop>, Error>;
    /// Returns the running and settling campaigns that a stop of this tenant, or of the site,
    /// holds.
    async fn held_campaigns(&mut self, tenant: Option<&str>) -> Result<Vec<CampaignId>, Error>;
}

/// Addresses that get no packet.
#[async_trait]
pub(crate) trait ExclusionRows: Send {
    async fn insert_exclusion(&mut self, exclusion: &Exclusion) -> Result<(), Error>;
    /// Returns `false` if none of this id is in force for these tenants.
    async fn end_exclusion(
        &mut self,
        id: &str,
        tenants: Option<&[String]>,
        now: Timestamp,
    ) -> Result<bool, Error>;
    /// Returns how many ended.
    async fn end_expired_exclusions(&mut self, now: Timestamp) -> Result<u64, Error>;
    async fn exclusions(&mut self, query: &ExclusionQuery) -> Result<Vec<Exclusion>, Error>;
    /// Returns what is in force for a tenant.
    async fn excluded(&mut self, tenant: &str, now: Timestamp) -> Result<Vec<Target>, Error>;
    async fn epoch(&mut self) -> Result<u64, Error>;
    async fn count_epoch_up(&mut self) -> Result<(), Error>;
}

/// Coordinators, and the campaigns that they refuse to run.
#[async_trait]
pub(crate) trait ReplicaRows: Send {
    /// Records a sign of life, and forgets coordinators that gave none since `horizon`.
    async fn put_coordinator(
        &mut self,
        seen: &SeenCoordinator<'_>,
        now: Timestamp,
        horizon: Timestamp,
    ) -> Result<(), Error>;
    /// Returns whether every coordinator that was seen after `since` and might run a campaign
    /// refuses it since then or longer.
    async fn is_refused_by_all(&mut self, id: CampaignId, since: Timestamp) -> Result<bool, Error>;
}

/// Many rows at once, which each database takes in its own way.
#[async_trait]
pub(crate) trait BatchRows: Send {
    async fn insert_shards(&mut self, id: CampaignId, shards: &[Range<u64>]) -> Result<(), Error>;
    /// Holds the leases of these shards, by shard.
    async fn lock_leases(&mut self, shards: &[ShardId]) -> Result<Vec<LeaseRow>, Error>;
    /// Holds the lease of a shard and those that have one of the blocks, by shard.
    async fn lock_overlapping(
        &mut self,
        shard: ShardId,
        blocks: &[IpNet],
    ) -> Result<Vec<LeaseRow>, Error>;
    /// Writes rates, ends and last renewals of leases whose rows are held.
    async fn put_leases(&mut self, leases: &[LeaseRow]) -> Result<(), Error>;
    /// Gives these shards' blocks free, and forgets their leases.
    async fn delete_leases(&mut self, shards: &[ShardId]) -> Result<(), Error>;
    /// Returns `false` if another lease got one of the blocks meanwhile. Blocks are sorted, each
    /// once.
    async fn put_blocks(&mut self, shard: ShardId, blocks: &[IpNet]) -> Result<bool, Error>;
    /// Creates what is missing of the keys' rows, locks them all and reads the findings.
    async fn hold_keys(&mut self, id: CampaignId, keys: &[Key]) -> Result<Vec<Held>, Error>;
    /// Reads the observations of what is held.
    async fn add_observations(&mut self, id: CampaignId, held: &mut [Held]) -> Result<(), Error>;
    async fn put_observations(
        &mut self,
        id: CampaignId,
        rows: &[(i64, &Observation)],
    ) -> Result<(), Error>;
    async fn put_nonces(&mut self, id: CampaignId, rows: &[(Nonce, i64)]) -> Result<(), Error>;
    async fn put_findings(&mut self, rows: &[&FindingRow]) -> Result<(), Error>;
    /// Makes the findings of keys that have no row, in the order of keys, and names their rows. Keys that have one are left out.
    async fn make_findings(
        &mut self,
        id: CampaignId,
        rows: &[&FindingRow],
    ) -> Result<BTreeMap<Key, i64>, Error>;
    /// Takes sightings, sorted by nonce and each of another one. Keeps the earlier one of two of the same nonce.
    async fn put_sightings(&mut self, sightings: &[Sighting]) -> Result<(), Error>;
    /// What these nonces are known to belong to.
    async fn keys_of_nonces(
        &mut self,
        nonces: &[Nonce],
    ) -> Result<Vec<(Nonce, CampaignId, Key)>, Error>;
    /// They are no strays any more.
    async fn set_judged(&mut self, nonces: &[Nonce]) -> Result<(), Error>;
    async fn set_stray(&mut self, nonces: &[Nonce]) -> Result<(), Error>;
    async fn delete_sightings(&mut self, nonces: &[Nonce]) -> Result<(), Error>;
    /// The sightings of these nonces.
    async fn sightings(&mut self, nonces: &[Nonce]) -> Result<Vec<Sighting>, Error>;
    /// Notes endpoints, which are sorted, as open; says how many were not before.
    async fn put_open_endpoints(
        &mut self,
        id: CampaignId,
        endpoints: &[(IpAddr, u16)],
    ) -> Result<u64, Error>;
    /// Takes workers sorted by name. Keeps the later of two times at which one was seen.
    async fn put_workers(&mut self, workers: &[SeenWorker]) -> Result<(), Error>;
}
