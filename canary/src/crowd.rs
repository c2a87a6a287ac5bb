//! How many may be connected at once.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

const MOST: usize = 4096;
/// A single open relay or proxy may bring all of its variants at once.
const MOST_OF_ONE: usize = 256;

/// Who is connected.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crowd(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    crowd: Crowd,
    peer: IpAddr,
}

impl Crowd {
    /// A place for one more connection of `peer`; none where there are too many.
    pub(crate) fn enter(&self, peer: IpAddr) -> Option<Place> {
        let mut crowd = self.0.lock().expect("no holder panics");
        let all: usize = crowd.values().sum();
        let of_peer = crowd.get(&peer).copied().unwrap_or_default();
        if all >= MOST || of_peer >= MOST_OF_ONE {
            return None;
        }
        crowd.insert(peer, of_peer + 1);
        Some(Place {
            crowd: self.clone(),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut crowd = self.crowd.0.lock().expect("no holder panics");
        if let Some(of_peer) = crowd.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                crowd.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_cannot_take_every_place_and_who_was_refused_leaves_no_trace() {
        let crowd = Crowd::default();
        let one = IpAddr::from([192, 0, 2, 1]);
        let places: Vec<Place> = (0..MOST_OF_ONE)
            .map(|_| crowd.enter(one).unwrap())
            .collect();
        assert!(crowd.enter(one).is_none());
        assert!(crowd.enter([192, 0, 2, 2].into()).is_some());
        let all: Vec<Place> = (0..)
            .map_while(|i: u32| crowd.enter(IpAddr::from(i.to_be_bytes())))
            .collect();
        assert_eq!(places.len() + all.len(), MOST);
        drop((places, all));
        assert!(crowd.0.lock().unwrap().is_empty());
    }
}
