//! Shares the store's connections out. They are few: batches and grants come by the thousand and can
//! wait, but a renewal that waits behind them ends a lease.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Grants at a time: one that holds the site's lock, and the next one.
const GRANTS: usize = 2;

/// Clones share the lanes.
#[derive(Clone)]
pub(crate) struct Lanes {
    batches: Arc<Semaphore>,
    grants: Arc<Semaphore>,
}

impl Lanes {
    /// For a store with so many connections. Six of ten are for batches: more would not be faster,
    /// since they wait for the same disk.
    pub(crate) fn new(connections: u32) -> Self {
        let batches = (connections as usize * 6 / 10).max(1);
        Self {
            batches: Arc::new(Semaphore::new(batches)),
            grants: Arc::new(Semaphore::new(GRANTS)),
        }
    }

    /// Waits for a place to store a batch.
    pub(crate) async fn batch(&self) -> SemaphorePermit<'_> {
        self.batches.acquire().await.expect("never closed")
    }

    /// Waits for a place to grant a lease.
    pub(crate) async fn grant(&self) -> SemaphorePermit<'_> {
        self.grants.acquire().await.expect("never closed")
    }
}
