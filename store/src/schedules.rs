//! Schedules, and what became of their times.

use ajar_model::{CampaignId, Schedule, Timestamp, schedule::ScheduleName};
use async_trait::async_trait;

use crate::{Admission, AuditEntry, Error};

/// Campaigns that are run again and again.
#[async_trait]
pub trait Schedules {
    /// Stores a schedule together with an audit entry, in place of its tenant's schedule of that
    /// name if there is one. That one stays paused if it was.
    async fn put_schedule(&self, schedule: &Schedule, audit: &AuditEntry) -> Result<(), Error>;

    /// Returns schedules by tenant and name. One that this version cannot read hides no other.
    async fn schedules(&self, query: &ScheduleQuery) -> Result<Vec<ListedSchedule>, Error>;

    /// Has a schedule, whose times up to `handled` were dealt with, looked at again at `next` and
    /// not before. Does nothing if it was changed meanwhile.
    async fn look_again(
        &self,
        key: &ScheduleKey,
        handled: Timestamp,
        next: Timestamp,
    ) -> Result<(), Error>;

    /// Pauses a schedule, or lets it go on from `now`, together with an audit entry. Returns
    /// `false`, and writes nothing, if there is no such schedule.
    async fn hold_schedule(&self, hold: &Hold<'_>) -> Result<bool, Error>;

    /// Removes a schedule together with an audit entry; its campaigns stay. Returns `false` if
    /// there is no such schedule.
    async fn remove_schedule(&self, key: &ScheduleKey, audit: &AuditEntry) -> Result<bool, Error>;

    /// Runs a time that has come, unless the schedule is gone or paused, or the time was dealt
    /// with: then it returns `None` and writes nothing. A campaign does not start while the one
    /// before is not over.
    async fn run_scheduled(&self, run: &Run<'_>) -> Result<Option<Outcome>, Error>;
}

/// Names a schedule: each tenant has names of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScheduleKey {
    pub tenant: String,
    pub name: ScheduleName,
}

impl ScheduleKey {
    pub fn of(schedule: &Schedule) -> Self {
        Self {
            tenant: schedule.spec.tenant.clone(),
            name: schedule.name.clone(),
        }
    }
}

/// Which schedules are wanted.
#[derive(Debug, Clone, Default)]
pub struct ScheduleQuery {
    /// Those of these tenants; of all if there is no list.
    pub tenants: Option<Vec<String>>,
    pub name: Option<ScheduleName>,
    /// Only schedules that are not paused and whose time to be looked at has come.
    pub due: bool,
}

/// A schedule as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedSchedule {
    pub key: ScheduleKey,
    pub cron: String,
    pub time_zone: String,
    pub paused: bool,
    /// Every time up to this one was dealt with.
    pub handled: Timestamp,
    /// The outcome of its last time.
    pub last: Option<Ran>,
    /// Or why this version cannot read it.
    pub schedule: Result<Schedule, String>,
}

/// What became of a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub at: Timestamp,
    pub outcome: Outcome,
}

/// See [`Ran`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Started(CampaignId),
    /// Why nothing was started.
    Skipped(String),
}

/// A schedule to be paused, or to go on.
#[derive(Debug, Clone, Copy)]
pub struct Hold<'a> {
    pub key: &'a ScheduleKey,
    pub paused: bool,
    pub now: Timestamp,
    pub audit: &'a AuditEntry,
}

/// A time that has come.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    pub key: &'a ScheduleKey,
    pub at: Timestamp,
    /// Times up to this one are dealt with by it; `at` or later.
    pub handled: Timestamp,
    /// What to start, or why not.
    pub campaign: Result<&'a Admission<'a>, &'a str>,
    /// The entry in the audit log if nothing is started, but for the cause.
    pub skipped: &'a AuditEntry,
}
