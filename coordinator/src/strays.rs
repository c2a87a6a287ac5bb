//! Mails with the nonce of no known attempt. Anybody can send the canary one.
//!
//! Most are early: a relay delivers before its worker's report is stored. So they are stored, for a
//! short time, but only so many of one network.

use std::{
    net::IpAddr,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ajar_model::{quiet::Quiet, space::prefix_of};
use ipnet::IpNet;
use lru::LruCache;

/// How long a mail waits for the attempt that it belongs to. A worker reports within seconds. If
/// its report is lost, another worker visits the endpoint again, and another mail comes.
pub(crate) const LIFE: Duration = Duration::from_secs(600);
/// The number of them that are stored at a time.
pub(crate) const MOST: u32 = 20_000;
/// The number that one /24 or /64 may cause in that time.
const OF_ONE: u32 = 5000;
/// Networks that are remembered.
const NETWORKS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// How many each network caused lately. Clones share it.
#[derive(Clone)]
pub(crate) struct Strays(Arc<Mutex<Counted>>);

struct Counted {
    /// The beginning of its time, and the number since.
    of: LruCache<IpNet, (Instant, u32)>,
    refusals: Quiet,
}

impl Strays {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Counted {
            of: LruCache::new(NETWORKS),
            refusals: Quiet::default(),
        })))
    }

    /// Counts one that was stored.
    pub(crate) fn count(&self, from: IpAddr, now: Instant) {
        metrics::counter!("ajar_stray_mails_total").increment(1);
        let mut counted = self.counted();
        let (since, number) = counted.of.get_or_insert_mut(prefix_of(from), || (now, 0));
        if now.saturating_duration_since(*since) >= LIFE {
            (*since, *number) = (now, 0);
        }
        *number += 1;
    }

    /// Returns whether no more mails are taken from a network.
    pub(crate) fn are_too_many(&self, from: IpAddr, now: Instant) -> bool {
        let mut counted = self.counted();
        let of_network = counted.of.peek(&prefix_of(from));
        let too_many = of_network.is_some_and(|(since, number)| {
            *number >= OF_ONE && now.saturating_duration_since(*since) < LIFE
        });
        if !too_many {
            return false;
        }
        metrics::counter!("ajar_stray_mails_refused_total").increment(1);
        if let Some(count) = counted.refusals.count(now) {
            tracing::warn!(
                %from, count,
                "mails with invented nonces come from this network: no more are taken from it for some minutes"
            );
        }
        true
    }

    fn counted(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.0.lock().expect("no holder panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_invents_nonces_is_refused_for_a_while_and_no_other() {
        let strays = Strays::new();
        let start = Instant::now();
        let stranger = |last: u8| IpAddr::from([192, 0, 2, last]);
        let relay = IpAddr::from([198, 51, 100, 1]);
        for number in 0..OF_ONE {
            assert!(!strays.are_too_many(stranger(1), start));
            strays.count(stranger(number as u8), start);
        }
        assert!(strays.are_too_many(stranger(77), start));
        assert!(!strays.are_too_many(relay, start));
        assert!(!strays.are_too_many(stranger(1), start + LIFE));
        strays.count(stranger(1), start + LIFE);
        assert!(!strays.are_too_many(stranger(1), start + LIFE));
    }
}
