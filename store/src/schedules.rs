//! Schedules, and what became of their times.

use ajar_model::{CampaignId, Schedule, Timestamp, schedule::ScheduleName};
use async_trait::async_trait;

use crate::{Admission, AuditEntry, Error};

/// Campaigns that are run again and again.
#[async_trait]
pub trait Schedules {
    /// Records a schedule together with an audit entry, in place of the one of that name if there is one. That one stays
    /// paused if it was.
    async fn put_schedule(&self, schedule: &Schedule, audit: &AuditEntry) -> Result<(), Error>;

    /// Every schedule by name, with what became of its last time.
    async fn schedules(&self) -> Result<Vec<(Schedule, Option<Ran>)>, Error>;

    /// Pauses a schedule, or lets it go on from `now`, together with an audit entry. False, and nothing is written, if there is none of that
    /// name.
    async fn hold_schedule(&self, hold: &Hold<'_>) -> Result<bool, Error>;

    /// Removes a schedule together with an audit entry; its campaigns stay. False if there is none of that name.
    async fn remove_schedule(&self, name: &ScheduleName, audit: &AuditEntry)
    -> Result<bool, Error>;

    /// Runs what is due, unless the schedule is gone or paused, or the time was dealt with: then none is returned and nothing
    /// is written. A campaign does not start while the one before is not over.
    async fn run_scheduled(&self, run: &Run<'_>) -> Result<Option<Outcome>, Error>;
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
    pub name: &'a ScheduleName,
    pub paused: bool,
    pub now: Timestamp,
    pub audit: &'a AuditEntry,
}

/// A time that has come.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    pub schedule: &'a ScheduleName,
    pub at: Timestamp,
    /// Times up to this one are dealt with by it; `at` or later.
    pub handled: Timestamp,
    /// What to start, or why not.
    pub campaign: Result<&'a Admission<'a>, &'a str>,
    /// The entry in the audit log if nothing is started, but for the cause.
    pub skipped: &'a AuditEntry,
}
