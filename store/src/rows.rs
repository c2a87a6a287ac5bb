//! What the rules of this crate ask of a database: rows to read, to lock and to write inside one transaction.
//!
//! A backend is nothing but these statements. Every decision (who gets a lease, which observation stays, what a
//! finding says) is made once, above, so that the backends cannot differ in it. Most statements are the same SQL: they stand
//! in `statements`, whose files are compiled once for each backend.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use ajar_model::{
    Ahead, Campaign, CampaignId, Finding, Nonce, Observation, ProbeId, Revisits, Schedule, ShardId,
    Sighting, Spec, Tally, Timestamp, campaign::State, lease::Work, proof::CanaryKey,
    schedule::ScheduleName,
};
use async_trait::async_trait;
use ipnet::IpNet;

use crate::{
    Admission, AuditLink, Error, FindingQuery, Mute, Progress, Quarantined, SeenWorker, Trouble,
    orders::Stop, replicas::SeenCoordinator, schedules::Ran,
};

#[async_trait]
pub(crate) trait Backend: Send + Sync + 'static {
    /// Begins to read one consistent snapshot.
    async fn read(&self) -> Result<Box<dyn Rows>, Error>;

    /// Begins to write. Dropped without [`Rows::commit`], it leaves no trace.
    async fn write(&self) -> Result<Box<dyn Rows>, Error>;

    /// True if two writes may run at the same time.
    fn writes_overlap(&self) -> bool;

    async fn close(&self) -> Result<(), Error>;
}

#[async_trait]
pub(crate) trait Rows:
    CampaignRows
    + LeaseRows
    + FindingRows
    + RecordRows
    + ScheduleRows
    + OrderRows
    + ReplicaRows
    + BatchRows
    + PartitionRows
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

/// Locks beside those of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lock {
    /// Granting and ending leases of several shards.
    Site,
    /// Appending to the audit log.
    Audit,
}

/// What is known of the server behind a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// It is the one that wrote before.
    Same,
    /// It took over, and nothing was granted since.
    TookOver,
    /// It took over. Whatever the one before granted is over by then.
    SettlesAt(Timestamp),
}

/// Campaigns and their shards.
#[async_trait]
pub(crate) trait CampaignRows: Send {
    /// False if the id is taken; then nothing is written.
    async fn insert_campaign(&mut self, admission: &Admission<'_>) -> Result<bool, Error>;
    async fn campaign(&mut self, id: CampaignId) -> Result<Option<Campaign>, Error>;
    /// Newest first.
    async fn campaigns(&mut self) -> Result<Vec<Campaign>, Error>;
    /// Campaigns that are running or settling: the one that is named, or all that no single process drives.
    async fn active(&mut self, only: Option<CampaignId>) -> Result<Vec<CampaignId>, Error>;
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
    /// Reads the same and locks nothing: a shared lock would let renewals pass a pause that waits for the row.
    async fn standing(&mut self, id: CampaignId) -> Result<Option<Standing>, Error>;
    /// What the findings of a campaign are judged by.
    async fn judging_key(&mut self, id: CampaignId) -> Result<Option<JudgingKey>, Error>;
    /// Adds a shard under the next free number, and returns it. The campaign's row is locked.
    async fn insert_revisit(
        &mut self,
        id: CampaignId,
        endpoints: &[SocketAddr],
        repeat: &Repeat,
    ) -> Result<ShardId, Error>;
    /// Locks the shard of such a revisit that was added last and never granted, and returns it with its endpoints as JSON.
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
    /// Adds a shard of the same blocks or endpoints that has the targets `from..to`, under the next free number. It counts
    /// as granted once. The campaign's row is locked.
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
    /// Reads no observations, and of the findings only the first one that waits for another visit, if there is one.
    async fn progress(&mut self, id: CampaignId, now: Timestamp) -> Result<Progress, Error>;
    /// Open shards, whose lease ended at `cutoff` or before, of running campaigns: of the one that is named, or of all that
    /// no single process drives.
    async fn unleased(
        &mut self,
        only: Option<CampaignId>,
        cutoff: Timestamp,
    ) -> Result<Vec<ShardId>, Error>;
    /// Adds to the counts of one slot, in the order of their kinds.
    async fn add_counts(
        &mut self,
        id: CampaignId,
        slot: i64,
        counts: &BTreeMap<&'static str, i64>,
    ) -> Result<(), Error>;
    /// Deletes the campaign with everything that names it, but for its partitions.
    async fn delete_campaign(&mut self, id: CampaignId) -> Result<(), Error>;
    async fn troubles(&mut self, id: CampaignId, now: Timestamp) -> Result<Vec<Trouble>, Error>;
    async fn put_trouble(&mut self, trouble: &Trouble, horizon: Timestamp) -> Result<(), Error>;
}

/// What a campaign observed and the nonces that it used, which can be dropped at once.
#[async_trait]
pub(crate) trait PartitionRows: Send {
    /// Makes room for a campaign's.
    async fn add_partitions(&mut self, id: CampaignId) -> Result<(), Error>;
    /// Drops a campaign's, and the mails that its nonces arrived by.
    async fn drop_partitions(&mut self, id: CampaignId) -> Result<(), Error>;
}

/// Leases, tokens and the blocks that they hold.
#[async_trait]
pub(crate) trait LeaseRows: Send {
    /// Reads a shard and holds its row.
    async fn lock_shard(&mut self, shard: ShardId) -> Result<Option<ShardRow>, Error>;
    async fn put_shard(&mut self, shard: ShardId, row: &ShardRow) -> Result<(), Error>;
    /// Sums of the rates in leases that end after `cutoff`.
    async fn live_rates(&mut self, id: CampaignId, cutoff: Timestamp) -> Result<Rates, Error>;
    /// Ends a lease and gives its blocks free; its token stays current, so that a late report still counts.
    async fn end_lease(&mut self, shard: ShardId) -> Result<(), Error>;
    /// Ends the leases of campaigns that a single process drives.
    async fn end_local_leases(&mut self) -> Result<(), Error>;
    /// A token above all before.
    async fn issue_token(
        &mut self,
        shard: ShardId,
        owner: &str,
        now: Timestamp,
    ) -> Result<u64, Error>;
    /// To whom it was issued for this shard, if it was.
    async fn token_owner(&mut self, shard: ShardId, token: u64) -> Result<Option<String>, Error>;
}

/// Observations, findings, nonces and sightings.
#[async_trait]
pub(crate) trait FindingRows: Send {
    /// Creates what is missing of the keys' rows, locks them all and reads what is known of each. `keys` are sorted:
    /// whoever takes several locks takes them in the same order.
    async fn hold_findings(&mut self, id: CampaignId, keys: &[Key]) -> Result<Vec<Held>, Error>;
    /// Sighted nonces of known findings that were not judged since, at most so many.
    async fn unjudged(&mut self, limit: u32) -> Result<Vec<Nonce>, Error>;
    /// Removes sightings of no finding that are older than `horizon`, or than the newest `most`.
    async fn delete_unmatched(&mut self, horizon: Timestamp, most: u32) -> Result<(), Error>;
    /// Sorted, each once.
    async fn unproven(&mut self, id: CampaignId) -> Result<Vec<(IpAddr, u16)>, Error>;
    /// See [`crate::Store::mute`].
    async fn mute(&mut self, id: CampaignId, ports: u32, limit: u32) -> Result<Mute, Error>;
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
    /// Oldest first.
    async fn audit_rows(&mut self) -> Result<Vec<AuditLink>, Error>;
    async fn put_canary(&mut self, address: IpAddr, body: String) -> Result<(), Error>;
    /// In order of registration.
    async fn canaries(&mut self) -> Result<Vec<String>, Error>;
    /// Also forgets workers that were last seen before `horizon`.
    async fn put_worker(&mut self, worker: &SeenWorker, horizon: Timestamp) -> Result<(), Error>;
    async fn workers(&mut self, since: Timestamp) -> Result<Vec<SeenWorker>, Error>;
}

/// Schedules, and what became of their times.
#[async_trait]
pub(crate) trait ScheduleRows: Send {
    async fn put_schedule(&mut self, schedule: &Schedule) -> Result<(), Error>;
    /// By name.
    async fn schedules(&mut self) -> Result<Vec<(Schedule, Option<Ran>)>, Error>;
    /// False if there is none of that name.
    async fn hold_schedule(
        &mut self,
        name: &ScheduleName,
        paused: bool,
        now: Timestamp,
    ) -> Result<bool, Error>;
    async fn delete_schedule(&mut self, name: &ScheduleName) -> Result<bool, Error>;
    /// Holds a schedule's row; says whether it is paused, and up to when everything was dealt with.
    async fn lock_schedule(
        &mut self,
        name: &ScheduleName,
    ) -> Result<Option<(bool, Timestamp)>, Error>;
    /// The campaign that it started last, and where that one stands.
    async fn last_campaign(
        &mut self,
        name: &ScheduleName,
    ) -> Result<Option<(CampaignId, State)>, Error>;
    /// The schedule's row is held.
    async fn put_run(
        &mut self,
        name: &ScheduleName,
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
    /// Returns the running and settling campaigns that a stop of this tenant, or of the site, holds.
    async fn held_campaigns(&mut self, tenant: Option<&str>) -> Result<Vec<CampaignId>, Error>;
}

/// Coordinators, and what they refuse to run.
#[async_trait]
pub(crate) trait ReplicaRows: Send {
    /// Records a sign of life, and forgets coordinators that gave none since `horizon`.
    async fn put_coordinator(
        &mut self,
        seen: &SeenCoordinator<'_>,
        now: Timestamp,
        horizon: Timestamp,
    ) -> Result<(), Error>;
    /// Returns whether every coordinator that was seen after `since` and might run a campaign refuses it since then or longer.
    async fn is_refused_by_all(&mut self, id: CampaignId, since: Timestamp) -> Result<bool, Error>;
}

/// Many rows at once, which each database takes in its own way.
#[async_trait]
pub(crate) trait BatchRows: Send {
    async fn insert_shards(&mut self, id: CampaignId, shards: &[Range<u64>]) -> Result<(), Error>;
    /// The shards that hold one of the blocks, with the end of their leases; their rows are held.
    async fn holders(
        &mut self,
        blocks: &[IpNet],
    ) -> Result<Vec<(ShardId, Option<Timestamp>)>, Error>;
    async fn put_blocks(&mut self, shard: ShardId, blocks: &[IpNet]) -> Result<(), Error>;
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
    async fn set_judged(&mut self, nonces: &[Nonce]) -> Result<(), Error>;
    /// The sightings of these nonces.
    async fn sightings(&mut self, nonces: &[Nonce]) -> Result<Vec<Sighting>, Error>;
    /// Notes endpoints, which are sorted, as open; says how many were not before.
    async fn put_open_endpoints(
        &mut self,
        id: CampaignId,
        endpoints: &[(IpAddr, u16)],
    ) -> Result<u64, Error>;
}

/// Whether anything may be sent for a campaign, and under which of its authorizations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub state: State,
    /// Authorizations that it had before.
    pub revision: u64,
    /// Its tenant, or the whole site, was stopped.
    pub stopped: bool,
}

impl Standing {
    pub fn may_send(&self) -> bool {
        self.state == State::Running && !self.stopped
    }
}

/// What the findings of a campaign are judged by.
#[derive(Debug, Clone)]
pub(crate) struct JudgingKey {
    pub tenant: String,
    pub key: CanaryKey,
    pub revisits: Revisits,
}

/// What may still change a finding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Awaits {
    /// A late mail.
    pub mail: bool,
    /// Another visit, which no shard has.
    pub revisit: Option<Revisit>,
}

/// When an endpoint should be visited again, and from which vantage point.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Revisit {
    pub at: Timestamp,
    pub vantage: String,
    pub round: u32,
}

/// How endpoints are visited again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Repeat {
    pub visit: u32,
    pub round: u32,
    /// The vantage point; none if any will do.
    pub vantage: Option<String>,
}

/// A finding whose endpoint is due for another visit.
#[derive(Debug)]
pub(crate) struct Due {
    pub row: i64,
    pub endpoint: SocketAddr,
    /// Visits that were made.
    pub visits: u32,
    pub vantage: String,
    pub round: u32,
    /// True if another probe found it open.
    pub is_open: bool,
}

/// Sums of live rates: of a campaign, of every campaign under the same authorization, of the whole site.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub campaign: u64,
    pub authorization: u64,
    pub site: u64,
}

/// A shard's progress and lease.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShardRow {
    /// Its targets are `from..to`; `to` is known from the first grant on.
    pub from: u64,
    pub to: Option<u64>,
    pub cursor: u64,
    /// Finished targets beyond the cursor.
    pub ahead: Ahead,
    pub tally: Tally,
    pub closed: bool,
    /// Closed although not every target has its outcome.
    pub quarantined: bool,
    /// Grants since the cursor moved.
    pub attempt: u32,
    /// What the worker said that failed last since the cursor moved.
    pub cause: Option<String>,
    /// The token that may move the cursor.
    pub token: Option<u64>,
    pub owner: Option<String>,
    pub rate: u32,
    /// None if there is no lease, or it was ended early.
    pub lease_until: Option<Timestamp>,
    /// The campaign's revision when it was granted.
    pub revision: u64,
    pub reported_at: Option<Timestamp>,
}

/// What a finding is of, within a campaign; in the order of results.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub ip: IpAddr,
    pub port: u16,
    pub probe: ProbeId,
}

/// What tells the observations of a key apart: the vantage point, and the round.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    pub round: u32,
    pub vantage: String,
}

impl Source {
    pub fn of(observation: &Observation) -> Self {
        Self {
            round: observation.round,
            vantage: observation.vantage.clone(),
        }
    }
}

/// A locked key, with what is known of it.
#[derive(Debug)]
pub(crate) struct Held {
    pub row: i64,
    pub key: Key,
    pub finding: Option<Finding>,
    pub awaits: Awaits,
    /// Visits that were made, or that a shard has.
    pub visits: u32,
    /// The last round that a shard has, or had: no round is planned twice.
    pub planned_round: u32,
    pub observations: BTreeMap<Source, Observation>,
}

impl Held {
    /// Of a key that has no row yet, and what was observed first.
    pub(crate) fn new(key: Key, first: Option<Observation>) -> Self {
        let first = first.map(|first| (Source::of(&first), first));
        Self {
            row: 0,
            key,
            finding: None,
            awaits: Awaits::default(),
            visits: 0,
            planned_round: 0,
            observations: first.into_iter().collect(),
        }
    }
}

/// A finding to write.
#[derive(Debug)]
pub(crate) struct FindingRow {
    pub row: i64,
    pub finding: Finding,
    pub awaits: Awaits,
    /// Visits that were made, or that a shard has.
    pub visits: u32,
}
