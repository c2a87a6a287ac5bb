//! What a swarm is to do, and what it counts.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use ajar_model::{CampaignId, ShardId};
use tokio::time::Instant;

/// The vantage point of its workers.
pub const VANTAGE: &str = "swarm";

/// What a swarm is to do.
#[derive(Debug, Clone)]
pub struct Order {
    pub url: String,
    pub workers: usize,
    /// Leases that each has.
    pub leases: usize,
    /// How long they report, in seconds.
    pub seconds: u64,
    /// Observations a second of each, on its first lease; a batch is sent whenever there are `batch` of them.
    pub observations: u64,
    pub batch: u64,
    /// How many of them die then.
    pub deaths: usize,
}

/// What was counted and timed.
#[derive(Debug, Default)]
pub struct Seen {
    pub leases: AtomicUsize,
    pub renewals: AtomicU64,
    pub observations: AtomicU64,
    /// How long the answers took to what named leases.
    pub answers: Mutex<Vec<Duration>>,
    /// How long after a pause was asked for each lease first heard of it.
    pub ends: Mutex<HashMap<(ShardId, Instant), Duration>>,
}

/// What all workers are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Join,
    Work,
    /// A campaign is paused, as was asked for then.
    Pause(CampaignId, Instant),
    /// Those from this number on die.
    Die(usize),
}
