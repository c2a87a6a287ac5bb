//! Who may use the store at the same time. It has ten connections: batches and grants come by the thousand and can wait, a renewal
//! that waits behind them ends a lease.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Batches at a time. More would not be faster: they wait for the same disk.
const BATCHES: usize = 6;
/// Grants at a time: one that holds the site's lock, and the next one.
const GRANTS: usize = 2;

/// Clones share the lanes.
#[derive(Clone)]
pub(crate) struct Lanes {
    batches: Arc<Semaphore>,
    grants: Arc<Semaphore>,
}

impl Lanes {
    pub(crate) fn new() -> Self {
        Self {
            batches: Arc::new(Semaphore::new(BATCHES)),
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
