//! `ajar schedule …`.

use clap::{Args, Subcommand};

use super::{Remote, Request};

/// `ajar schedule`.
#[derive(Debug, Subcommand)]
pub enum Schedule {
    /// Add a schedule, or change the tenant's schedule of that name; prints the next time.
    Put(Box<SchedulePut>),
    /// Every schedule: its next time, and what became of the last one.
    List(Remote),
    /// Start nothing more until it is resumed.
    Pause(OneSchedule),
    /// Go on with it, from the next time on.
    Resume(OneSchedule),
    /// Remove it; its campaigns stay.
    Remove(OneSchedule),
}

/// `ajar schedule put`.
#[derive(Debug, Args)]
pub struct SchedulePut {
    /// Its name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// When: minute, hour, day of month, month and day of week, as "0 3 * * 1" for Mondays at 3:00.
    #[arg(long, value_name = "EXPR")]
    pub cron: String,
    /// Whose clock is meant, as Europe/Berlin. What it leaves out in spring does not come; what it repeats in autumn comes once.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub time_zone: String,
    #[command(flatten)]
    pub request: Request,
    #[command(flatten)]
    pub remote: Remote,
}

/// A command on one schedule.
#[derive(Debug, Args)]
pub struct OneSchedule {
    /// Its name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Its tenant, where several have a schedule of that name.
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub remote: Remote,
}
