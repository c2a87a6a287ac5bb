//! The truth: campaigns, leases, observations, findings, sightings and the audit log.
//!
//! A finding is a pure function of the observations and sightings of its key: [`Store::ingest`] and
//! [`Store::record_sighting`] judge it anew inside their transaction (see [`ajar_model::judge`]), so that
//! batches may be replayed and reordered at will.
//!
//! Times are kept to the microsecond; what is finer is cut off on the way in.
//!
//! Architecture invariant: no caller sees SQL, a row or a pool; the two backends differ in nothing that
//! the conformance suite can see.

mod audit;
mod engine;
mod error;
mod grant;
mod ingest;
mod open;
mod postgres;
mod reconcile;
mod rows;
mod schema;
mod sqlite;
mod stored;

use std::{net::SocketAddr, ops::Range, time::Duration};

use ajar_model::{
    Campaign, CampaignId, Canary, Finding, Observation, ShardId, Sighting, Tally, Timestamp,
    Verdict, campaign::State, lease::Work,
};
use async_trait::async_trait;
use ipnet::IpNet;

pub use crate::{
    error::Error,
    open::{Options, open},
};

/// Where everything durable lives.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Records a campaign in state `running` together with its shards, all or nothing. `shards` are ranges of
    /// permuted block indices, numbered from 0. Repeating it with the same id and spec (but for the trace) changes nothing;
    /// with another spec it fails with [`Error::Conflict`].
    async fn create_campaign(
        &self,
        campaign: &Campaign,
        shards: &[Range<u64>],
    ) -> Result<(), Error>;

    /// A campaign, or none of that id.
    async fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>, Error>;

    /// Every campaign, newest first.
    async fn campaigns(&self) -> Result<Vec<Campaign>, Error>;

    /// Moves a campaign to state `to` if it is in one of `from`. False where it was not.
    async fn transition(&self, id: CampaignId, from: &[State], to: State) -> Result<bool, Error>;

    /// How far a campaign is; all zero for one that does not exist.
    async fn progress(&self, id: CampaignId, now: Timestamp) -> Result<Progress, Error>;

    /// The shards of running campaigns that are neither closed nor validly leased at `now` (a lease counts as
    /// valid until `margin` after its end), for filling an empty queue.
    async fn unleased_shards(
        &self,
        now: Timestamp,
        margin: Duration,
    ) -> Result<Vec<ShardId>, Error>;

    /// What a shard consists of.
    async fn work(&self, shard: ShardId) -> Result<Option<Work>, Error>;

    /// Adds a shard of endpoints that are to be visited once more, and says its number. Fails with
    /// [`Error::Unknown`] where there is no such campaign.
    async fn add_revisit(
        &self,
        campaign: CampaignId,
        endpoints: &[SocketAddr],
        visit: u32,
    ) -> Result<ShardId, Error>;

    /// Grants a shard in one transaction, or says why not. See [`GrantRequest`].
    async fn grant(&self, request: &GrantRequest) -> Result<Grant, Error>;

    /// Extends a lease to `now + ttl` if `token` is the shard's current one and the campaign is running. Raises
    /// its rate up to `want_rate`, as far as the campaign's cap has room; never lowers it. A lease that ended more
    /// than `margin` ago cannot be renewed, though nobody took the shard over: its blocks and its rate may
    /// be another's.
    async fn renew(&self, renewal: &Renewal) -> Result<Renewed, Error>;

    /// Gives a lease back before its end; the cursor stays. Ignored where `token` is stale.
    async fn release(&self, shard: ShardId, token: u64) -> Result<(), Error>;

    /// Ends every lease at once. Only for a store that one process owns, whose leases died with its
    /// predecessor.
    async fn end_all_leases(&self) -> Result<(), Error>;

    /// Stores a batch in one transaction: observations, findings judged from them, and the shard's progress.
    /// Progress moves only if the token is current and its `from` equals the stored cursor. Observations of a
    /// stale token are kept if the token was ever issued for that shard, else refused with [`Error::Fenced`].
    /// A batch whose progress was made before (its answer was lost) changes nothing and is not stale.
    /// An observation replaces one of the same (campaign, endpoint, probe, vantage) that finished before it; of
    /// two that finished at the same moment the later visit is kept, and of equal visits the one whose evidence
    /// sorts higher, so that the order of batches makes no difference. The earliest `started_at` is kept.
    /// A batch that no honest worker sends fails with [`Error::Invalid`], and nothing is stored.
    async fn ingest(&self, batch: &Batch) -> Result<Ingested, Error>;

    /// Records a mail that the canary received, and judges the finding that its nonce belongs to, if any
    /// is known. The earliest sighting of a nonce is kept. Returns the finding if it changed.
    async fn record_sighting(&self, sighting: &Sighting) -> Result<Option<Finding>, Error>;

    /// Judges again every finding of the campaign that is not open although a sighting of one of its nonces is
    /// recorded: a sighting and its observation may have been stored at the same moment.
    async fn rejudge_sighted(&self, campaign: CampaignId) -> Result<Vec<Finding>, Error>;

    /// The endpoints of the campaign's findings that are `unproven`, each once, sorted.
    async fn unproven_endpoints(&self, campaign: CampaignId) -> Result<Vec<SocketAddr>, Error>;

    /// Findings, sorted by (campaign, ip, port, probe), at most `query.limit` of them after `query.after`.
    async fn findings(&self, query: &FindingQuery) -> Result<Vec<Finding>, Error>;

    /// A finding by its id, with the observations that it rests on.
    async fn finding(&self, id: &str) -> Result<Option<(Finding, Vec<Observation>)>, Error>;

    /// Records an authorization's id with the SHA-256 of its signed text. Fails with [`Error::Conflict`] where
    /// the id was used for another text.
    async fn register_authorization(&self, id: &str, digest: [u8; 32]) -> Result<(), Error>;

    /// Appends to the audit log, chained by hash to the entry before.
    async fn audit(&self, entry: &AuditEntry) -> Result<(), Error>;

    /// The audit log, oldest first, after its chain was checked; fails with [`Error::AuditBroken`].
    async fn audit_log(&self) -> Result<Vec<AuditEntry>, Error>;

    /// Registers a canary; a later one of the same address takes its place.
    async fn put_canary(&self, canary: &Canary) -> Result<(), Error>;

    /// The registered canaries, in order of registration.
    async fn canaries(&self) -> Result<Vec<Canary>, Error>;

    /// Notes that a worker is alive. Workers that were last seen over a week before `now` are forgotten.
    async fn seen_worker(&self, worker: &str, vantage: &str, now: Timestamp) -> Result<(), Error>;

    /// The workers that were seen at `since` or later, sorted by vantage and name.
    async fn workers(&self, since: Timestamp) -> Result<Vec<SeenWorker>, Error>;
}

/// A sign of life of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenWorker {
    /// Its identity, new at each start of its process.
    pub worker: String,
    /// The vantage point that it probes from.
    pub vantage: String,
    /// When it was last seen.
    pub last_seen: Timestamp,
}

/// What a worker asks for. Everything that the store cannot know by itself is in here.
#[derive(Debug, Clone)]
pub struct GrantRequest {
    /// The shard.
    pub shard: ShardId,
    /// The worker's identity, new at each start of its process.
    pub owner: String,
    /// The /24 and /64 prefixes that the shard touches. None of them may be in another live lease, of whatever
    /// campaign.
    pub blocks: Vec<IpNet>,
    /// The rate that the shard could use, per second.
    pub want_rate: u32,
    /// The campaign's cap: the sum over its live leases never exceeds it.
    pub campaign_rate: u32,
    /// The time.
    pub now: Timestamp,
    /// How long the lease is valid.
    pub ttl: Duration,
    /// How long after its end a lease still counts as live, for workers whose clocks run late.
    pub margin: Duration,
}

/// The store's answer to a [`GrantRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Granted.
    Granted {
        /// Fencing token: larger than every token that this store issued before.
        token: u64,
        /// The slot to go on from.
        cursor: u64,
        /// The rate, at least 1 and at most what was wanted.
        rate: u32,
        /// How often this shard was granted, this time included.
        attempt: u32,
    },
    /// One of its blocks is in another live lease: try later.
    BlocksBusy,
    /// The campaign's rate is used up by live leases: try later.
    NoRate,
    /// Another live lease holds it.
    Leased,
    /// It is closed, unknown, or its campaign is not running.
    NotOpen,
}

/// A request to keep a lease.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// The shard.
    pub shard: ShardId,
    /// Its token.
    pub token: u64,
    /// The rate that the shard could use.
    pub want_rate: u32,
    /// The campaign's cap.
    pub campaign_rate: u32,
    /// The time.
    pub now: Timestamp,
    /// How long the lease is valid from now.
    pub ttl: Duration,
    /// See [`GrantRequest::margin`].
    pub margin: Duration,
}

/// The store's answer to a [`Renewal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// Kept, at this rate.
    Kept {
        /// New connections a second.
        rate: u32,
    },
    /// Another worker holds the shard, or it is closed: stop at once.
    Fenced,
    /// The campaign is paused, cancelled or over: stop at once.
    Stopped,
}

/// A worker's report on one shard.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The shard.
    pub shard: ShardId,
    /// The token that it was done under.
    pub token: u64,
    /// What was observed.
    pub observations: Vec<Observation>,
    /// How far the shard is, where it moved.
    pub progress: Option<Advance>,
    /// The time.
    pub now: Timestamp,
}

/// A move of a shard's cursor. It never goes back, and counts no more outcomes than it passes slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// The cursor before.
    pub from: u64,
    /// The cursor after: every slot before it has its outcome.
    pub to: u64,
    /// The outcomes of the slots in between.
    pub tally: Tally,
    /// The number of targets in the whole shard, where this closes it. The shard closes only if the outcomes then
    /// add up to it; otherwise [`Error::Incomplete`], and nothing is stored.
    pub closes: Option<u64>,
}

/// What became of a [`Batch`].
#[derive(Debug, Clone, PartialEq)]
pub struct Ingested {
    /// True where the progress that was asked for is not made, since the token or the cursor is stale.
    pub stale: bool,
    /// Findings that are new or changed.
    pub findings: Vec<Finding>,
}

/// How far a campaign is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// All shards, revisits included.
    pub shards: u64,
    /// Closed ones.
    pub closed: u64,
    /// Those in live leases.
    pub leased: u64,
    /// Outcomes so far.
    pub tally: Tally,
    /// Findings by verdict.
    pub verdicts: Vec<(Verdict, u64)>,
    /// Sum of the live leases' rates.
    pub rate: u64,
    /// Distinct owners of live leases.
    pub workers: u64,
    /// Findings that a late mail may still prove.
    pub awaiting_mail: u64,
    /// When the last batch of the campaign was stored.
    pub last_report_at: Option<Timestamp>,
}

/// Which findings are wanted.
#[derive(Debug, Clone, Default)]
pub struct FindingQuery {
    /// Of this campaign only.
    pub campaign: Option<CampaignId>,
    /// With one of these verdicts; all where empty.
    pub verdicts: Vec<Verdict>,
    /// After this one in the order of results, for paging.
    pub after: Option<FindingKey>,
    /// At most so many.
    pub limit: u32,
}

/// A finding's place in the order of results.
pub type FindingKey = (CampaignId, std::net::IpAddr, u16, ajar_model::ProbeId);

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: the signer of the authorization, or the local user.
    pub actor: String,
    /// What: `campaign.submit`, `campaign.cancel` and so on.
    pub action: String,
    /// The authorization's id, where there is one.
    pub authorization: Option<String>,
    /// The campaign.
    pub campaign: Option<CampaignId>,
    /// Details for a person who reads it.
    pub detail: String,
}
