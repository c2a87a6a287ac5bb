//! What the rules of this crate ask of a database: rows to read, to lock and to write inside one transaction.
//!
//! A backend is nothing but these statements. Every decision (who gets a lease, which observation stays, what a
//! finding says) is made once, above, so that the backends cannot differ in it.

use std::{collections::BTreeMap, net::IpAddr, ops::Range};

use ajar_model::{
    Campaign, CampaignId, Finding, Nonce, Observation, ProbeId, ShardId, Sighting, Tally,
    Timestamp, campaign::State, lease::Work, proof::CanaryKey,
};
use async_trait::async_trait;
use ipnet::IpNet;

use crate::{AuditEntry, Error, FindingQuery, Progress, SeenWorker};

/// A database.
#[async_trait]
pub(crate) trait Backend: Send + Sync + 'static {
    /// Begins to read one consistent snapshot.
    async fn read(&self) -> Result<Box<dyn Rows>, Error>;

    /// Begins to write. Dropped without [`Rows::commit`], it leaves no trace.
    async fn write(&self) -> Result<Box<dyn Rows>, Error>;

    /// True where two writes may run at the same time.
    fn writes_overlap(&self) -> bool;
}

/// A transaction.
#[async_trait]
pub(crate) trait Rows: CampaignRows + LeaseRows + FindingRows + RecordRows {
    /// Makes what was written durable and visible.
    async fn commit(self: Box<Self>) -> Result<(), Error>;
}

/// Campaigns and their shards.
#[async_trait]
pub(crate) trait CampaignRows: Send {
    /// False where the id is taken; then nothing is written.
    async fn insert_campaign(&mut self, campaign: &Campaign) -> Result<bool, Error>;
    async fn insert_shards(&mut self, id: CampaignId, shards: &[Range<u64>]) -> Result<(), Error>;
    async fn campaign(&mut self, id: CampaignId) -> Result<Option<Campaign>, Error>;
    /// Newest first.
    async fn campaigns(&mut self) -> Result<Vec<Campaign>, Error>;
    /// False where it is in none of `from`.
    async fn set_state(&mut self, id: CampaignId, from: &[State], to: State)
    -> Result<bool, Error>;
    /// Holds the campaign's row against every other transaction that locks it.
    async fn lock_campaign(&mut self, id: CampaignId) -> Result<Option<State>, Error>;
    /// What the findings of a campaign are judged by.
    async fn bench(&mut self, id: CampaignId) -> Result<Option<Bench>, Error>;
    /// Adds a shard under the next free number, and says it. The campaign's row is locked.
    async fn insert_revisit(
        &mut self,
        id: CampaignId,
        endpoints: &str,
        visit: u32,
    ) -> Result<u64, Error>;
    async fn work(&mut self, shard: ShardId) -> Result<Option<Work>, Error>;
    async fn progress(&mut self, id: CampaignId, now: Timestamp) -> Result<Progress, Error>;
    /// Open shards of running campaigns whose lease ended at `cutoff` or before.
    async fn unleased(&mut self, cutoff: Timestamp) -> Result<Vec<ShardId>, Error>;
}

/// Leases, tokens and the blocks that they hold.
#[async_trait]
pub(crate) trait LeaseRows: Send {
    /// Holds every other transaction back that grants or ends leases of several shards.
    async fn lock_site(&mut self) -> Result<(), Error>;
    /// Reads a shard and holds its row.
    async fn lock_shard(&mut self, shard: ShardId) -> Result<Option<ShardRow>, Error>;
    async fn put_shard(&mut self, shard: ShardId, row: &ShardRow) -> Result<(), Error>;
    /// The shards that hold one of the blocks, with the end of their leases; their rows are held.
    async fn holders(
        &mut self,
        blocks: &[IpNet],
    ) -> Result<Vec<(ShardId, Option<Timestamp>)>, Error>;
    /// Sum of the campaign's rates in leases that end after `cutoff`.
    async fn live_rate(&mut self, id: CampaignId, cutoff: Timestamp) -> Result<u64, Error>;
    /// Ends a lease and gives its blocks free; its token stays current, so that a late report still counts.
    async fn end_lease(&mut self, shard: ShardId) -> Result<(), Error>;
    async fn end_all_leases(&mut self) -> Result<(), Error>;
    async fn put_blocks(&mut self, shard: ShardId, blocks: &[IpNet]) -> Result<(), Error>;
    /// A token above all before.
    async fn issue_token(
        &mut self,
        shard: ShardId,
        owner: &str,
        now: Timestamp,
    ) -> Result<u64, Error>;
    async fn token_issued(&mut self, shard: ShardId, token: u64) -> Result<bool, Error>;
}

/// Observations, findings, nonces and sightings.
#[async_trait]
pub(crate) trait FindingRows: Send {
    /// Creates what is missing of the keys' rows, locks them all and reads what is known of each. `keys` are sorted:
    /// whoever takes several locks takes them in the same order.
    async fn hold_findings(&mut self, id: CampaignId, keys: &[Key]) -> Result<Vec<Held>, Error>;
    async fn put_observations(&mut self, rows: &[(i64, &Observation)]) -> Result<(), Error>;
    async fn put_nonces(&mut self, rows: &[(Nonce, i64)]) -> Result<(), Error>;
    async fn put_findings(&mut self, rows: &[FindingRow]) -> Result<(), Error>;
    /// The sightings of these nonces.
    async fn sightings(&mut self, nonces: &[Nonce]) -> Result<Vec<Sighting>, Error>;
    /// Keeps the earlier one of two of the same nonce.
    async fn put_sighting(&mut self, sighting: &Sighting) -> Result<(), Error>;
    async fn keys_of_nonce(&mut self, nonce: Nonce) -> Result<Vec<(CampaignId, Key)>, Error>;
    /// Sorted keys of findings that are not open although one of their nonces was sighted.
    async fn sighted_keys(&mut self, id: CampaignId) -> Result<Vec<Key>, Error>;
    /// Sorted, each once.
    async fn unproven(&mut self, id: CampaignId) -> Result<Vec<(IpAddr, u16)>, Error>;
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
    async fn insert_audit(&mut self, row: &AuditRow) -> Result<(), Error>;
    /// Oldest first.
    async fn audit_rows(&mut self) -> Result<Vec<AuditRow>, Error>;
    async fn put_canary(&mut self, address: IpAddr, body: &str) -> Result<(), Error>;
    /// In order of registration.
    async fn canaries(&mut self) -> Result<Vec<String>, Error>;
    /// Also forgets workers that were last seen before `horizon`.
    async fn put_worker(&mut self, worker: &SeenWorker, horizon: Timestamp) -> Result<(), Error>;
    async fn workers(&mut self, since: Timestamp) -> Result<Vec<SeenWorker>, Error>;
}

/// What the findings of a campaign are judged by.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    pub tenant: String,
    pub key: CanaryKey,
}

/// A shard's progress and lease.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShardRow {
    pub cursor: u64,
    pub tally: Tally,
    pub closed: bool,
    pub attempt: u32,
    /// The token that may move the cursor.
    pub token: Option<u64>,
    pub owner: Option<String>,
    pub rate: u32,
    /// None where there is no lease, or it was ended early.
    pub lease_until: Option<Timestamp>,
    pub reported_at: Option<Timestamp>,
}

/// What a finding is of, within a campaign; in the order of results.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub ip: IpAddr,
    pub port: u16,
    pub probe: ProbeId,
}

/// A locked key, with what is known of it.
#[derive(Debug)]
pub(crate) struct Held {
    /// The row's number.
    pub row: i64,
    pub key: Key,
    pub finding: Option<Finding>,
    /// By vantage point.
    pub observations: BTreeMap<String, Observation>,
}

/// A finding to write.
#[derive(Debug)]
pub(crate) struct FindingRow {
    pub row: i64,
    pub finding: Finding,
    /// A late mail may still prove it.
    pub awaits_mail: bool,
}

/// An entry of the audit log with its place in the chain.
#[derive(Debug, Clone)]
pub(crate) struct AuditRow {
    pub number: u64,
    pub entry: AuditEntry,
    pub hash: [u8; 32],
}
