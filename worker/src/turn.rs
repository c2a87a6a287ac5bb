//! The right to wait for a first connection, and who hears that nobody needs it any more.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

/// Held by a visit until its first connection is let go.
pub struct Turn {
    _place: OwnedSemaphorePermit,
    _starting: Option<Arc<Starting>>,
}

impl Turn {
    /// Takes a place among those who wait, as one of those that are not started.
    pub fn new(place: OwnedSemaphorePermit, starting: Option<Arc<Starting>>) -> Self {
        Self {
            _place: place,
            _starting: starting,
        }
    }
}

/// Held as long as some target was not started.
pub struct Starting(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Starting {
    /// Calls `all_started` once the last holder lets go.
    pub fn new(all_started: Box<dyn FnOnce() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self(Some(all_started)))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(all_started) = self.0.take() {
            all_started();
        }
    }
}
