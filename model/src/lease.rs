//! The right to run one shard for a bounded time at a bounded rate.

use std::{net::SocketAddr, ops::Range, time::Duration};

use crate::id::ShardId;

/// What a shard consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Permuted block indices of the campaign's target space, see [`crate::shard`].
    Sweep(Range<u64>),
    /// Endpoints to visit once more.
    Revisit {
        endpoints: Vec<SocketAddr>,
        /// 2 for the first revisit, and so on; 1 if the first visit is repeated after a crash.
        visit: u32,
        /// See [`crate::Observation::round`].
        round: u32,
        /// The vantage point to visit them from, since a server remembers whom it put off; none if any will do.
        vantage: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub shard: ShardId,
    /// Fencing token: grows with every grant in a store, so that a stale owner is recognised.
    pub token: u64,
    pub work: Work,
    /// Targets before this one are done and accounted for.
    pub cursor: u64,
    /// One past the last target of the shard.
    pub end: u64,
    /// How long the lease is valid after the request that brought or renewed it was sent.
    pub ttl: Duration,
    /// Part of the campaign's rate that this lease may use: new connections a second.
    pub rate: u32,
    /// How often the shard was granted since it moved, this time included.
    pub attempt: u32,
    /// True if nothing may run beside it: it is given up if it does not move, so that it must be known who is to blame
    /// if the worker dies.
    pub alone: bool,
    /// The revision of the campaign that it was granted under.
    pub revision: u64,
    /// The worker's vantage point.
    pub vantage: String,
    /// The epoch of the exclusions that the coordinator knew when it granted the lease.
    pub epoch: u64,
}
