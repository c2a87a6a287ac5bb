//! The number of connections to one port at once.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

use ajar_model::{quiet::Quiet, space::peer_of};
use ipnet::IpNet;

const MOST: usize = 4096;
/// A single open relay or proxy may bring all of its variants at once.
const MOST_OF_ONE: usize = 256;

#[derive(Debug, Clone, Default)]
pub(crate) struct PeerLimit(Arc<Mutex<HashMap<IpNet, usize>>>);

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    limit: PeerLimit,
    peer: IpNet,
}

impl PeerLimit {
    /// A place for one more connection of `peer`; none if there are too many.
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<Place> {
        let peer = peer_of(peer);
        let mut peers = self.0.lock().expect("no holder panics");
        let all: usize = peers.values().sum();
        let of_peer = peers.get(&peer).copied().unwrap_or_default();
        if all >= MOST || of_peer >= MOST_OF_ONE {
            return None;
        }
        peers.insert(peer, of_peer + 1);
        Some(Place {
            limit: self.clone(),
            peer,
        })
    }
}

/// Connections that one port turned away.
#[derive(Debug, Default)]
pub(crate) struct TurnedAway {
    quiet: Quiet,
}

impl TurnedAway {
    /// Counts one, and says so at most once a minute.
    pub(crate) fn note(&mut self, port: u16, peer: IpAddr) {
        metrics::counter!("ajar_canary_turned_away_total", "port" => port.to_string()).increment(1);
        if let Some(count) = self.quiet.count(Instant::now()) {
            tracing::warn!(
                port, %peer, count,
                "the canary has no place for more connections to this port, or from this peer"
            );
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut peers = self.limit.0.lock().expect("no holder panics");
        if let Some(of_peer) = peers.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn one_peer_cannot_take_every_place_and_who_was_refused_leaves_no_trace() {
        let limit = PeerLimit::default();
        let one = IpAddr::from([192, 0, 2, 1]);
        let places: Vec<Place> = (0..MOST_OF_ONE)
            .map(|_| limit.enter(one).unwrap())
            .collect();
        assert!(limit.enter(one).is_none());
        assert!(limit.enter([192, 0, 2, 2].into()).is_some());
        let all: Vec<Place> = (0..)
            .map_while(|i: u32| limit.enter(IpAddr::from(i.to_be_bytes())))
            .collect();
        assert_eq!(places.len() + all.len(), MOST);
        drop((places, all));
        assert!(limit.0.lock().unwrap().is_empty());
    }

    #[test]
    fn the_addresses_of_a_64_are_one_peer() {
        let limit = PeerLimit::default();
        let address = |n: u128| IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) | n));
        let places: Vec<_> = (0..MOST_OF_ONE as u128)
            .map(|n| limit.enter(address(n)).unwrap())
            .collect();
        assert!(limit.enter(address(9999)).is_none());
        assert!(limit.enter(address(1 << 64)).is_some());
        drop(places);
        assert!(limit.enter(address(9999)).is_some());
    }
}
