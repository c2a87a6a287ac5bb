//! How many conversations go on with one /24 or /64 at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places in the conversations with each prefix. Connections of one prefix share its pace: were there more
/// conversations than places, each would spend its deadline waiting for the others.
#[derive(Debug)]
pub struct PrefixSlots {
    places: usize,
    prefixes: Mutex<HashMap<IpNet, Arc<Semaphore>>>,
}

impl PrefixSlots {
    /// As many places as the prefix may have new connections a second, within reason.
    pub fn new(prefix_rate: u32) -> Self {
        Self {
            places: prefix_rate.clamp(4, 512) as usize,
            prefixes: Mutex::default(),
        }
    }

    /// A place, if one is free.
    pub fn try_enter(&self, prefix: IpNet) -> Option<OwnedSemaphorePermit> {
        self.semaphore(prefix).try_acquire_owned().ok()
    }

    /// A place, as soon as one is free.
    pub async fn enter(&self, prefix: IpNet) -> OwnedSemaphorePermit {
        let permit = self.semaphore(prefix).acquire_owned().await;
        permit.expect("the semaphore is never closed")
    }

    fn semaphore(&self, prefix: IpNet) -> Arc<Semaphore> {
        let mut prefixes = self.prefixes.lock().expect("no holder panics");
        Arc::clone(
            prefixes
                .entry(prefix)
                .or_insert_with(|| Arc::new(Semaphore::new(self.places))),
        )
    }
}
