//! Shares the store's connections out. They are few: batches and grants come by the thousand and can
//! wait, but a renewal that waits behind them ends a lease.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Clones share the lanes.
#[derive(Clone)]
pub(crate) struct Lanes {
    batches: Arc<Semaphore>,
    grants: Arc<Semaphore>,
}

impl Lanes {
    /// Divides so many connections. Of ten, five are for batches: with more of them batches would
    /// not be faster, since all wait for the same disk. Three are for grants: one grant holds the
    /// lock of its authorization while others prepare.
    pub(crate) fn new(connections: u32) -> Self {
        let lane = |of_ten: usize| {
            let places = (connections as usize * of_ten / 10).max(1);
            Arc::new(Semaphore::new(places))
        };
        Self {
            batches: lane(5),
            grants: lane(3),
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
