//! The values that rows are read into.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use ajar_model::{
    Ahead, Finding, Observation, ProbeId, Revisits, ShardId, Tally, Timestamp, campaign::State,
    proof::CanaryKey,
};

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

/// Whether anything may be sent for a campaign, and under which of its authorizations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub state: State,
    /// Authorizations that it had before.
    pub revision: u64,
    /// Its tenant, or the whole site, was stopped.
    pub stopped: bool,
    /// Changes of what is excluded at run time.
    pub epoch: u64,
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

/// A lease: live, or over and not ended yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub shard: ShardId,
    pub token: u64,
    pub owner: String,
    /// New connections a second.
    pub rate: u32,
    /// The campaign's revision when it was granted.
    pub revision: u64,
    pub until: Timestamp,
    /// The number of the renewal that moved its rate last.
    pub renewal: u64,
}

/// The sum of the leases of a campaign, or a change of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    /// New connections a second.
    pub rate: i64,
    pub leases: i64,
}

/// A shard's progress, and the token that may move it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShardRow {
    /// Its targets are endpoints that were visited before.
    pub is_revisit: bool,
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
    /// The token that may move the cursor. It stays when its lease ends, so that a late report
    /// still counts.
    pub token: Option<u64>,
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
