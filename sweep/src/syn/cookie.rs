//! What a reply must repeat, so that nothing is kept of what was sent.

use std::{
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
};

use siphasher::sip::SipHasher13;

/// Gives every SYN its sequence number: a keyed hash (SipHash-1-3) of its ends. Who did not receive the SYN cannot make up
/// a reply to it.
#[derive(Clone)]
pub struct Cookies {
    hasher: SipHasher13,
    port: u16,
}

impl Cookies {
    /// For SYNs from this port, under a key that nobody else knows.
    pub fn new(key: [u8; 16], port: u16) -> Self {
        Self {
            hasher: SipHasher13::new_with_key(&key),
            port,
        }
    }

    /// The port that every SYN is sent from.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The sequence number of the SYN from one of our addresses to a target.
    pub fn sequence(&self, ours: IpAddr, target: SocketAddr) -> u32 {
        let mut hasher = self.hasher;
        match (ours, target) {
            (IpAddr::V4(ours), SocketAddr::V4(target)) => {
                hasher.write_u32(ours.to_bits());
                hasher.write_u32(target.ip().to_bits());
            }
            (ours, target) => (ours, target.ip()).hash(&mut hasher),
        }
        hasher.write_u16(target.port());
        hasher.finish() as u32
    }
}
