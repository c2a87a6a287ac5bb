//! The truth: campaigns, leases, observations, findings, sightings and the audit log.
//!
//! A finding is a pure function of the observations and sightings of its key: [`Store::ingest`] and
//! [`Store::record_sightings`] judge it anew inside their transaction (see [`ajar_model::judge`]), so that
//! batches may be replayed and reordered at will.
//!
//! Times are kept to the microsecond; what is finer is cut off on the way in.
//!
//! Architecture invariant: no caller sees SQL, a row or a pool; the two backends differ in nothing that
//! the conformance suite can see.

#![expect(
    clippy::duplicate_mod,
    reason = "the statements that both databases share are compiled once for each"
)]

mod audit;
mod campaigns;
mod columns;
mod counts;
mod engine;
mod error;
mod excluding;
mod exclusions;
mod failover;
mod fleet;
mod grant;
mod ingest;
mod leases;
mod mails;
mod older;
mod open;
mod orders;
mod postgres;
mod reconcile;
mod release;
mod renew;
mod replicas;
mod revisits;
mod rows;
mod runs;
mod schedules;
mod schema;
mod sqlite;
mod stops;
mod stored;
mod summaries;
mod unanimity;

use std::{net::IpAddr, ops::Range, time::Duration};

use ajar_model::{
    Ahead, Campaign, CampaignId, Finding, Nonce, Observation, ShardId, Sighting,
    SignedAuthorization, Tally, Timestamp, Verdict, campaign::State, lease::Work,
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

pub use crate::{
    audit::{AuditChain, AuditEntry, AuditLink},
    error::Error,
    exclusions::{Excluded, Exclusion, ExclusionQuery, Exclusions},
    fleet::{Fleet, ListedCanary, SeenWorker, WorkerLeases},
    leases::{
        Active, Caps, Demand, Grant, GrantRequest, Holder, Renewal, Renewed, Sending, Unleased,
    },
    open::{Access, Clock, Options, open},
    orders::{Orders, Stop},
    replicas::{Replicas, SeenCoordinator},
    schedules::{Hold, ListedSchedule, Outcome, Ran, Run, ScheduleKey, ScheduleQuery, Schedules},
    unanimity::UNANIMOUS,
};

/// Where everything durable lives.
#[async_trait]
pub trait Store:
    Schedules + Orders + Exclusions + Replicas + Fleet + Send + Sync + 'static
{
    /// Records a campaign in state `running` together with its shards, its authorization and an audit entry, all or nothing.
    /// Repeating it with the same id and spec (but for the trace) changes nothing; with another spec, or if the
    /// authorization's id was used for another text, it fails with [`Error::Conflict`].
    async fn create_campaign(&self, admission: &Admission<'_>) -> Result<(), Error>;

    /// A campaign, or none of that id.
    async fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>, Error>;

    /// Returns what lists show of a campaign. Works for one whose spec this version cannot read.
    async fn summary(&self, id: CampaignId) -> Result<Option<Summary>, Error>;

    /// Returns the same of many, newest first.
    async fn summaries(&self, query: &CampaignQuery) -> Result<Vec<Summary>, Error>;

    /// Returns the campaigns that are running or settling: the one that is named, or all that no
    /// single process drives.
    async fn active_campaigns(&self, only: Option<CampaignId>) -> Result<Vec<Active>, Error>;

    /// Moves a campaign to another state and appends to the audit log, both or neither. Returns
    /// `false` if it was in none of the states to move from, or does not exist, or if it is too
    /// early.
    async fn transition(&self, transition: &Transition<'_>) -> Result<bool, Error>;

    /// Lets a campaign that is paused, settling or incomplete go on, in one transaction: quarantined shards are open again,
    /// endpoints that are `unproven` are visited once more unless an open shard has them already, and a new
    /// authorization takes the place of the old one. Changes nothing for a running, finished or cancelled one.
    /// Returns the state that it was in, or none if there is no such campaign.
    async fn resume(&self, resumption: &Resumption<'_>) -> Result<Option<State>, Error>;

    /// Moves a running or settling campaign on if none of its shards is open and no endpoint waits for another visit: to
    /// `settling` while a late mail may still prove something and `settle` has not passed since the last report, else to its end. Returns the state that it
    /// has then, or none if there is no such campaign.
    async fn conclude(&self, id: CampaignId, settle: Duration) -> Result<Option<State>, Error>;

    /// Forgets a campaign that is over, with everything that it found; the audit log keeps that it was, and who removed it. Returns the
    /// state that it was in, or none if there is no such campaign; one that is not over stays. Nobody
    /// finds it any more, but its id is free only after [`Store::clear_removed`].
    async fn remove_campaign(
        &self,
        id: CampaignId,
        audit: &AuditEntry,
    ) -> Result<Option<State>, Error>;

    /// Returns the campaigns that are over and were created before this, oldest first, at most
    /// `limit` of them.
    async fn old_campaigns(&self, before: Timestamp, limit: u32) -> Result<Vec<CampaignId>, Error>;

    /// Deletes some rows of removed campaigns. Returns whether there are more to delete now.
    async fn clear_removed(&self) -> Result<bool, Error>;

    /// Drops what is left of months of which no campaign is left.
    async fn drop_unused(&self) -> Result<(), Error>;

    /// How far a campaign is; all zero for one that does not exist.
    async fn progress(&self, id: CampaignId) -> Result<Progress, Error>;

    /// The shards of running campaigns that are neither closed nor validly leased (a lease counts
    /// as valid until `margin` after its end): of the campaign that is named, or of all that no
    /// single process drives. Those that are stopped are left out.
    async fn unleased_shards(
        &self,
        only: Option<CampaignId>,
        margin: Duration,
    ) -> Result<Vec<Unleased>, Error>;

    /// Returns what running campaigns that are not stopped have and could use: the one that is
    /// named, or all that no single process drives. Open shards are counted up to `most`.
    async fn demands(&self, only: Option<CampaignId>, most: u32) -> Result<Vec<Demand>, Error>;

    /// Returns the campaigns for which something may be sent at present: all that are running and
    /// not stopped.
    async fn sending(&self) -> Result<Vec<Sending>, Error>;

    /// The shards of a campaign that were given up, by number, at most `limit` of them.
    async fn quarantined(&self, id: CampaignId, limit: u32) -> Result<Vec<Quarantined>, Error>;

    /// The addresses that took connections on so many ports of a campaign and said nothing on any, at most `limit` of them.
    /// Once a campaign is over the answer is kept, until it goes on.
    async fn mute(&self, id: CampaignId, ports: u32, limit: u32) -> Result<Mute, Error>;

    /// What a shard consists of.
    async fn work(&self, shard: ShardId) -> Result<Option<Work>, Error>;

    /// Makes shards of the endpoints of a running campaign that are due for another visit (see
    /// [`ajar_model::revisit`]), and names them. While other shards are open, endpoints are gathered
    /// for a while, so that a shard is worth a lease. Endpoints that are open by then are left out,
    /// unless that is what is to be confirmed (see [`ajar_model::confirmation`]): those are also
    /// visited from another vantage point, if one had a worker within `lately`.
    async fn plan_revisits(&self, id: CampaignId, lately: Duration) -> Result<Vec<ShardId>, Error>;

    /// Grants a shard in one transaction, or says why not. See [`GrantRequest`]. A shard that was granted
    /// [`ATTEMPTS`] times and never moved is cut in two, so that what stops it is found; one of at most [`ATOM`] targets
    /// is quarantined.
    async fn grant(&self, request: &GrantRequest) -> Result<Grant, Error>;

    /// Extends leases in one transaction, and answers in the order of the renewals. A lease is
    /// extended to `ttl` from now if `token` is the shard's current one and the campaign is
    /// running, under the authorization that the lease was granted under. Moves its rate towards
    /// `want_rate`: up as far as the caps have room; down in two steps, since its worker keeps its rate
    /// until the answer arrives. A lease that ended more than `margin` ago cannot be renewed, though nobody
    /// took the shard over: its blocks and its rate may be another's.
    async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Renewed>, Error>;

    /// Ends leases that expired `margin` ago or earlier: until then they count against the caps.
    /// Returns how many it ended.
    async fn end_leases(&self, margin: Duration) -> Result<u64, Error>;

    /// Gives a lease back before its end; the cursor stays. `failed` says why the shard itself is to blame: without it the
    /// grant does not count as an attempt. Ignored if `token` is stale.
    async fn release(&self, shard: ShardId, token: u64, failed: Option<&str>) -> Result<(), Error>;

    /// Notes why a worker gave a lease back, in place of what it said before. Shown in [`Progress::troubles`].
    async fn note_trouble(&self, trouble: &Trouble) -> Result<(), Error>;

    /// What was noted lately, as [`Progress::troubles`] has it.
    async fn troubles(&self, id: CampaignId) -> Result<Vec<Trouble>, Error>;

    /// Ends the leases of every campaign that a single process drives. Only for a store that one process owns, whose
    /// predecessor's workers died with it.
    async fn end_local_leases(&self) -> Result<(), Error>;

    /// Stores a batch in one transaction: observations, findings judged from them, and the shard's
    /// progress. Progress moves only if the token is current and its `from` equals the stored
    /// cursor. Observations of a stale token are kept if the token was issued for that shard within
    /// [`TOKEN_LIFE`], else refused with [`Error::Fenced`]. A batch whose progress was made before
    /// (its answer was lost) changes nothing and is not stale. An observation replaces one of the
    /// same (campaign, endpoint, probe, vantage) that finished before it; of two that finished at
    /// the same moment the later visit is kept, and of equal visits the one whose evidence sorts
    /// higher, so that the order of batches makes no difference. The earliest `started_at` is kept.
    /// A batch that no honest worker sends fails with [`Error::Invalid`], and nothing is stored.
    async fn ingest(&self, batch: &Batch) -> Result<Ingested, Error>;

    /// Records mails that the canary received, all of them or none, and judges the findings that their nonces belong to,
    /// as far as they are known. The earliest sighting of a nonce is kept.
    async fn record_sightings(&self, sightings: &[Sighting]) -> Result<Recorded, Error>;

    /// Judges the findings of sightings that nobody judged: a process may die between storing the one and the other.
    /// Returns the findings that changed.
    async fn judge_sightings(&self) -> Result<Vec<Finding>, Error>;

    /// Judges findings again that older rules have judged (see [`ajar_model::judge::RULES`]), at
    /// most a few hundred at a time, of one campaign after another. Returns the last one, to go
    /// on after, or `None` once all are judged by the rules of today.
    async fn judge_older(&self, after: Option<FindingKey>) -> Result<Option<FindingKey>, Error>;

    /// Returns whether there is a campaign whose findings older rules have judged.
    async fn has_older(&self) -> Result<bool, Error>;

    /// Returns to whom a shard was granted under this token, at any time; `None` if it was not.
    async fn holder(&self, shard: ShardId, token: u64) -> Result<Option<Holder>, Error>;

    /// Forgets tokens that are not current and that nothing is taken under any more (see
    /// [`TOKEN_LIFE`]).
    async fn forget_tokens(&self) -> Result<(), Error>;

    /// Returns finished campaigns with findings that are due for another visit, since a late mail
    /// proved them. Those that a single process drives are left out.
    async fn unconfirmed(&self) -> Result<Vec<CampaignId>, Error>;

    /// Forgets sightings that are of no finding: those received before `horizon`, and the oldest of those beyond `most`. Anybody
    /// can send the canary a mail with an invented nonce.
    async fn forget_sightings(&self, horizon: Timestamp, most: u32) -> Result<(), Error>;

    /// Findings, sorted by (campaign, ip, port, probe), at most `query.limit` of them after `query.after`.
    async fn findings(&self, query: &FindingQuery) -> Result<Vec<Finding>, Error>;

    /// A finding by its id, with the observations that it rests on.
    async fn finding(&self, id: &str) -> Result<Option<(Finding, Vec<Observation>)>, Error>;

    /// Appends to the audit log, chained by hash to the entry before.
    async fn audit(&self, entry: &AuditEntry) -> Result<(), Error>;

    /// Returns the entries of the audit log after a number, oldest first, at most `limit` of them:
    /// [`AuditChain`] checks them.
    async fn audit_log(&self, after: u64, limit: u32) -> Result<Vec<AuditLink>, Error>;

    /// Returns the time by the database's clock. It decides when a lease ends, whoever asks.
    async fn now(&self) -> Result<Timestamp, Error>;

    /// Ends every connection. A SQLite store is then one file that can be copied. What is asked afterwards fails.
    async fn close(&self) -> Result<(), Error>;
}

/// Grants of a shard that never moved, after which it is cut or quarantined.
pub const ATTEMPTS: u32 = 3;
/// How long after it was issued a token that is not current may bring observations.
pub const TOKEN_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Targets of a shard that is not cut any more: as many as a /24 has on one port.
pub const ATOM: u64 = 256;

/// A campaign to record.
#[derive(Debug, Clone, Copy)]
pub struct Admission<'a> {
    pub campaign: &'a Campaign,
    /// Ranges of permuted block indices, numbered from 0.
    pub shards: &'a [Range<u64>],
    /// How many (address, port) pairs it has.
    pub pairs: u64,
    /// What it runs under; none on loopback.
    pub authorization: Option<&'a Registered>,
    /// Its entry in the audit log.
    pub audit: &'a AuditEntry,
}

/// A campaign as lists show it, without what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub id: CampaignId,
    pub tenant: String,
    pub state: State,
    /// True if it is driven by the process that started it, and by no other.
    pub local: bool,
    pub created_at: Timestamp,
    /// How many (address, port) pairs it has; `None` for one that an older version started.
    pub pairs: Option<u64>,
    /// How many of them have an outcome, as far as their shards' cursors have come.
    pub finished: u64,
    pub open_endpoints: u64,
    /// What holds its tenant or the site.
    pub stopped: Option<Stop>,
}

/// Which campaigns are wanted.
#[derive(Debug, Clone, Default)]
pub struct CampaignQuery {
    /// Those of these tenants; of all if there is no list.
    pub tenants: Option<Vec<String>>,
    /// Those that come after this one in the list, for paging.
    pub after: Option<CampaignId>,
    /// At most so many.
    pub limit: u32,
}

/// An authorization, by name and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub id: String,
    /// The SHA-256 of its signed text.
    pub digest: [u8; 32],
}

/// A change of a campaign's state.
#[derive(Debug, Clone, Copy)]
pub struct Transition<'a> {
    pub id: CampaignId,
    /// The states that it may be in.
    pub from: &'a [State],
    /// The state that it gets.
    pub to: State,
    /// Why, if it ends incomplete.
    pub cause: Option<&'a str>,
    /// The time by the store's clock before which it does not move; at any time if there is none.
    pub not_before: Option<Timestamp>,
    /// The entry in the audit log.
    pub audit: &'a AuditEntry,
}

/// A campaign that is to go on.
#[derive(Debug, Clone, Copy)]
pub struct Resumption<'a> {
    pub id: CampaignId,
    /// An authorization in place of the one that it had, which covers its spec.
    pub authorization: Option<(&'a SignedAuthorization, &'a Registered)>,
    /// The entry in the audit log.
    pub audit: &'a AuditEntry,
}

/// Why a worker gave a lease back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub campaign: CampaignId,
    pub worker: String,
    pub vantage: String,
    pub cause: String,
    pub at: Timestamp,
}

/// A worker's report on one shard.
#[derive(Debug, Clone)]
pub struct Batch {
    pub shard: ShardId,
    /// The token that it was done under.
    pub token: u64,
    pub observations: Vec<Observation>,
    /// How far the shard is, if it moved.
    pub progress: Option<Advance>,
    /// Finished targets beyond the cursor.
    pub ahead: Ahead,
    /// Replies to SYNs that the worker had no room for since its last report.
    pub lost_replies: u64,
}

/// A move of a shard's cursor. It never goes back, and counts no more outcomes than it passes slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    pub from: u64,
    /// The cursor after: every slot before it has its outcome.
    pub to: u64,
    /// The outcomes of the slots in between.
    pub tally: Tally,
    /// True if this is the end of the shard. It closes only if the outcomes then add up to its targets; otherwise
    /// [`Error::Incomplete`], and nothing is stored.
    pub closes: bool,
}

/// The effects of recorded mails.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recorded {
    /// The findings that changed.
    pub changed: Vec<Finding>,
    /// Nonces that are of no finding yet, in ascending order.
    pub strays: Vec<Nonce>,
}

/// What became of a [`Batch`].
#[derive(Debug, Clone, PartialEq)]
pub struct Ingested {
    /// True if the progress that was asked for is not made, since the token or the cursor is stale.
    pub stale: bool,
    /// Findings that are new or changed.
    pub findings: Vec<Finding>,
}

/// How far a campaign is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// All shards, revisits included.
    pub shards: u64,
    /// Closed ones, quarantined ones included.
    pub closed: u64,
    /// Those that were given up.
    pub quarantined: u64,
    /// Those in live leases.
    pub leased: u64,
    /// Outcomes of the targets before the cursors; those of revisits are not among them.
    pub tally: Tally,
    /// Finished targets beyond the cursors, revisits not counted.
    pub ahead: Ahead,
    /// Endpoints with an open finding.
    pub open_endpoints: u64,
    pub verdicts: Vec<(Verdict, u64)>,
    /// Sum of the live leases' rates.
    pub rate: u64,
    /// Distinct owners of live leases.
    pub workers: u64,
    /// Findings that a late mail may still prove.
    pub awaiting_mail: u64,
    /// Findings whose endpoints wait for another visit.
    pub awaiting_revisit: u64,
    /// When the first of these visits is due.
    pub next_revisit_at: Option<Timestamp>,
    /// When the last batch of the campaign was stored.
    pub last_report_at: Option<Timestamp>,
    /// Why it is incomplete.
    pub cause: Option<String>,
    /// What holds its tenant or the site.
    pub stopped: Option<Stop>,
    /// Replies to SYNs that workers had no room for: open ports may be missed.
    pub lost_replies: u64,
    /// Why workers gave leases back during the last minute.
    pub troubles: Vec<Trouble>,
}

/// A shard that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    pub shard: ShardId,
    /// What it consists of.
    pub work: Work,
    /// The targets that have no outcome.
    pub targets: Range<u64>,
    /// What its last worker said, unless it only went silent.
    pub cause: Option<String>,
}

/// Addresses that take every connection and never say a word: somebody else answers in their place, such as a firewall.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mute {
    pub count: u64,
    /// The first ones, in order.
    pub first: Vec<IpAddr>,
}

/// Which findings are wanted.
#[derive(Debug, Clone, Default)]
pub struct FindingQuery {
    /// Of this campaign only.
    pub campaign: Option<CampaignId>,
    /// Of these tenants' campaigns; of all if there is no list.
    pub tenants: Option<Vec<String>>,
    /// With one of these verdicts; all if empty.
    pub verdicts: Vec<Verdict>,
    /// After this one in the order of results, for paging.
    pub after: Option<FindingKey>,
    /// At most so many.
    pub limit: u32,
}

/// A finding's place in the order of results.
pub type FindingKey = (CampaignId, std::net::IpAddr, u16, ajar_model::ProbeId);
