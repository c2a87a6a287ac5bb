//! Addresses that operators excluded while campaigns ran, as the coordinator said last.

use std::{net::IpAddr, sync::Arc};

use ajar_model::{addresses::AddressSet, scope};
use tokio::sync::{Mutex, MutexGuard, watch};

/// The addresses that are excluded from a campaign. Its leases share them, and every connection, datagram and SYN
/// asks it.
#[derive(Debug)]
pub struct Exclusions {
    known: watch::Sender<Known>,
    asking: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    epoch: u64,
    addresses: Arc<AddressSet>,
}

impl Exclusions {
    /// Excludes nothing, at the epoch 0, which no coordinator names.
    pub fn new() -> Self {
        Self {
            known: watch::Sender::new(Known::default()),
            asking: Mutex::default(),
        }
    }

    /// Returns the epoch of the coordinator's last answer.
    pub fn epoch(&self) -> u64 {
        self.known.borrow().epoch
    }

    /// Takes what the coordinator says. An epoch may be below the last one: a database may be
    /// restored.
    pub fn put(&self, epoch: u64, addresses: AddressSet) {
        self.known.send_replace(Known {
            epoch,
            addresses: Arc::new(addresses),
        });
    }

    /// Waits until no other lease asks the coordinator.
    pub async fn ask(&self) -> MutexGuard<'_, ()> {
        self.asking.lock().await
    }

    /// Returns the addresses as they are now.
    pub fn addresses(&self) -> Arc<AddressSet> {
        Arc::clone(&self.known.borrow().addresses)
    }

    /// Waits until an address is excluded.
    pub async fn until_excluded(&self, ip: IpAddr) {
        let mut known = self.known.subscribe();
        let excluded = known.wait_for(|known| scope::reaches(ip, &known.addresses));
        // The sender is part of this.
        let _ = excluded.await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ajar_model::Target;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_is_waited_for_until_it_is_excluded() {
        let exclusions = Exclusions::new();
        let ip: IpAddr = "2002:c000:0207::1".parse().unwrap();
        let soon = || timeout(Duration::from_secs(1), exclusions.until_excluded(ip));
        assert!(soon().await.is_err());
        let targets: [Target; 1] = ["192.0.2.0/24".parse().unwrap()];
        exclusions.put(2, AddressSet::new(&targets));
        assert_eq!(exclusions.epoch(), 2);
        // A 6to4 address stands for the IPv4 address inside it.
        assert!(soon().await.is_ok());
        exclusions.put(3, AddressSet::default());
        assert!(soon().await.is_err());
    }
}
