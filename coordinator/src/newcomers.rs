//! Connections of strangers: those that have not shown yet whose they are. The newest count most.
//!
//! Anybody can open connections and stay silent. A connection beyond the bound therefore takes the
//! place of another one: the oldest of the address that holds most of them. A client that goes on
//! at once is hardly ever that one, so strangers cannot keep operators out.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ajar_model::{quiet::Quiet, space::peer_of};
use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// Pause after a connection that could not be accepted, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A listener with a bound on its newcomers.
pub struct Newcomers {
    listener: TcpListener,
    most: usize,
    places: Places,
    evictions: Quiet,
    failures: Quiet,
}

impl Newcomers {
    /// Takes connections from `listener` and keeps at most `most` places.
    pub fn new(listener: TcpListener, most: usize) -> Self {
        Self {
            listener,
            most,
            places: Places::default(),
            evictions: Quiet::default(),
            failures: Quiet::default(),
        }
    }

    /// Waits for a connection. Logs evictions and failures once a minute.
    pub async fn next(&mut self) -> (TcpStream, SocketAddr, Place) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Calls are short, and each waits for its answer.
                    let _ = stream.set_nodelay(true);
                    let place = self.enter(peer.ip());
                    return (stream, peer, place);
                }
                Err(error) => {
                    if let Some(count) = self.failures.count(Instant::now()) {
                        tracing::error!(%error, count, "connections cannot be accepted; is the limit on open files too low?");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn enter(&mut self, peer: IpAddr) -> Place {
        let (place, evicted) = self.places.enter(peer_of(peer), self.most);
        if let Some(from) = evicted
            && let Some(count) = self.evictions.count(Instant::now())
        {
            tracing::warn!(
                %from, count,
                "connections that showed nothing were closed, since newer ones need their places"
            );
        }
        place
    }
}

/// The places of a listener. Clones share them.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    next: u64,
    /// In the order of their arrival.
    newcomers: BTreeMap<u64, (IpNet, CancellationToken)>,
}

/// The place of a newcomer, given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    number: u64,
    evicted: CancellationToken,
}

impl Place {
    /// Waits until a newer connection takes this place.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.held().newcomers.remove(&self.number);
    }
}

impl Places {
    /// Takes a place, and says who lost one for it.
    fn enter(&self, holder: IpNet, most: usize) -> (Place, Option<IpNet>) {
        let mut held = self.held();
        let lost = if held.newcomers.len() >= most {
            held.evict()
        } else {
            None
        };
        let number = held.next;
        held.next += 1;
        let evicted = CancellationToken::new();
        held.newcomers.insert(number, (holder, evicted.clone()));
        let place = Place {
            places: self.clone(),
            number,
            evicted,
        };
        (place, lost)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().expect("no holder panics")
    }
}

impl Held {
    /// Ends the oldest newcomer of the holder that has most of them.
    fn evict(&mut self) -> Option<IpNet> {
        let mut counts: HashMap<IpNet, usize> = HashMap::new();
        for (holder, _) in self.newcomers.values() {
            *counts.entry(*holder).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        let mut newcomers = self.newcomers.iter();
        let (&number, _) = newcomers.find(|(_, (holder, _))| counts[holder] == most)?;
        let (holder, evicted) = self.newcomers.remove(&number)?;
        evicted.cancel();
        Some(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> IpNet {
        peer_of([192, 0, 2, last].into())
    }

    #[test]
    fn the_oldest_of_who_has_most_makes_room() {
        let places = Places::default();
        let (operator, _) = places.enter(at(1), 8);
        let strangers: Vec<Place> = (0..20).map(|_| places.enter(at(2), 8).0).collect();
        let is_evicted = |place: &Place| place.evicted.is_cancelled();
        assert!(strangers[..13].iter().all(is_evicted));
        assert!(!strangers[13..].iter().any(is_evicted));
        assert!(!is_evicted(&operator));
    }

    #[test]
    fn a_place_that_was_given_back_costs_nobody_another() {
        let places = Places::default();
        for _ in 0..10 {
            let (_place, lost) = places.enter(at(1), 2);
            assert_eq!(lost, None);
        }
        assert!(places.held().newcomers.is_empty());
    }

    #[test]
    fn the_addresses_of_a_64_are_one_holder() {
        let holder = |ip: &str| peer_of(ip.parse().unwrap());
        assert_eq!(holder("2001:db8::1"), holder("2001:db8::2"));
        assert_ne!(holder("2001:db8::1"), holder("2001:db8:0:1::1"));
        assert_eq!(holder("::ffff:192.0.2.1"), at(1));
        assert_ne!(at(1), at(2));
    }
}
