//! Signs of life of workers and canaries, and what each worker holds.

use std::{collections::BTreeMap, time::Duration};

use ajar_model::{CampaignId, Canary, Timestamp};
use async_trait::async_trait;

use crate::Error;

/// Workers and canaries, as all coordinators of a cluster know them.
#[async_trait]
pub trait Fleet {
    /// Registers a canary; a later one of the same address takes its place.
    async fn put_canary(&self, canary: &Canary) -> Result<(), Error>;

    /// The registered canaries, in order of registration.
    async fn canaries(&self) -> Result<Vec<Canary>, Error>;

    /// Returns every canary with when it came and was last heard of, in order of registration.
    async fn listed_canaries(&self) -> Result<Vec<ListedCanary>, Error>;

    /// Returns all live leases, summed by worker and campaign.
    async fn leases_by_worker(&self) -> Result<Vec<WorkerLeases>, Error>;

    /// Records that workers are alive. `workers` maps their names to their vantage points; those
    /// that cannot be stored are left out. Forgets workers that were last seen over a week ago.
    async fn seen_workers(&self, workers: &BTreeMap<String, String>) -> Result<(), Error>;

    /// Returns the workers that were seen within `lately`, sorted by vantage and name.
    async fn workers(&self, lately: Duration) -> Result<Vec<SeenWorker>, Error>;
}

/// A canary, with its signs of life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCanary {
    pub canary: Canary,
    /// When it came; `None` if only older versions saw it.
    pub first_seen: Option<Timestamp>,
    /// When it was last heard of; `None` if only older versions saw it.
    pub last_seen: Option<Timestamp>,
}

/// A worker's live leases of one campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerLeases {
    /// The worker's name, and the URI of its certificate if it has one.
    pub owner: String,
    pub campaign: CampaignId,
    pub leases: u64,
    /// New connections a second that they allow together.
    pub rate: u64,
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
