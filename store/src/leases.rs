//! Asking for a lease, and keeping it.

use std::time::Duration;

use ajar_model::{CampaignId, ShardId, Timestamp};
use ipnet::IpNet;

/// Most new connections a second that live leases may have together, and how many of them share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Of the campaign.
    pub campaign: u32,
    /// Of every campaign under the same authorization; none without one.
    pub authorization: Option<u32>,
    /// Of every campaign in the store; none if the site has no limit.
    pub site: Option<u32>,
}

/// What a worker asks for. Everything that the store cannot know by itself is in here.
#[derive(Debug, Clone)]
pub struct GrantRequest {
    pub shard: ShardId,
    /// The revision of its campaign that the rest was worked out from.
    pub revision: u64,
    /// The worker's identity, new at each start of its process.
    pub owner: String,
    /// The worker's vantage point: its reports under the token are stored under this one.
    pub vantage: String,
    /// The /24 and /64 prefixes that the shard touches. None of them may be in another live lease,
    /// of whatever campaign.
    pub blocks: Vec<IpNet>,
    /// How many targets its blocks or endpoints have.
    pub targets: u64,
    /// The rate that it should get, per second.
    pub want_rate: u32,
    /// The sums over live leases never exceed them.
    pub caps: Caps,
    /// How long the lease is valid.
    pub ttl: Duration,
    /// How long after its end a lease still counts as live, for workers whose clocks run late.
    pub margin: Duration,
}

/// A shard without a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unleased {
    pub shard: ShardId,
    /// Its endpoints were visited before.
    pub is_revisit: bool,
}

/// The leases and open shards of a running campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    pub campaign: CampaignId,
    /// The sum of the rates of its leases, those included that expired and were not ended yet.
    pub rate: u64,
    pub leases: u64,
    /// Its open shards, counted up to the number that was asked for.
    pub open: u64,
    /// A revisit waits for a lease.
    pub revisit_waits: bool,
}

/// A campaign that is running or settling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Active {
    pub campaign: CampaignId,
    /// A shard is open, so that it cannot have ended.
    pub is_open: bool,
    /// Endpoints are to be visited again: see [`crate::Store::plan_revisits`].
    pub is_due: bool,
}

/// A campaign for which something may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    pub campaign: CampaignId,
    /// Authorizations that it had before. Leases of a lower revision have ended.
    pub revision: u64,
    /// Counts the changes of the exclusions.
    pub epoch: u64,
}

/// A worker that a token was issued to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub owner: String,
    /// `None` for a token that an older version issued.
    pub vantage: Option<String>,
    pub issued_at: Timestamp,
}

/// The store's answer to a [`GrantRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    Granted {
        /// Fencing token: larger than every token that this store issued before.
        token: u64,
        /// The target to go on from.
        cursor: u64,
        /// One past the last target.
        end: u64,
        /// The rate, at least 1 and at most what was wanted.
        rate: u32,
        /// How often this shard was granted since it moved, this time included.
        attempt: u32,
        /// The epoch of [`Exclusions`](crate::Exclusions).
        epoch: u64,
    },
    /// One of its blocks is in another live lease: try later.
    BlocksBusy,
    /// A cap is used up by live leases: try later.
    NoRate,
    /// Another live lease holds it.
    Leased,
    /// It is closed, unknown, or its campaign is not running, or is stopped.
    NotOpen,
    /// The request is of an earlier revision of the campaign, or of fewer targets than the shard
    /// has: read them again.
    Outdated,
    /// It never moved, however often it was granted, and was given up.
    Quarantined,
    /// The database failed over, and leases that it lost may still be valid: try later.
    FailedOver,
}

/// A request to keep a lease.
#[derive(Debug, Clone)]
pub struct Renewal {
    pub shard: ShardId,
    pub token: u64,
    /// Counts the renewals of a lease, in the order in which its worker sent them. One that comes
    /// after a later one does not move the rate.
    pub number: u64,
    /// The rate that its worker keeps to until it has the answer.
    pub rate: u32,
    /// The rate that the lease should have from now on; at least 1 is kept.
    pub want_rate: u32,
    /// See [`GrantRequest::caps`].
    pub caps: Caps,
    /// How long the lease is valid from now.
    pub ttl: Duration,
    /// See [`GrantRequest::margin`].
    pub margin: Duration,
}

/// The store's answer to a [`Renewal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// Kept.
    Kept {
        /// New connections a second from now on. If that is less than before, the rest is free for
        /// others once the worker says in its next renewal that it keeps to it.
        rate: u32,
        /// The epoch of [`Exclusions`](crate::Exclusions).
        epoch: u64,
    },
    /// Another worker holds the shard, or may since a failover, or it is closed, or its campaign
    /// has another authorization: stop at once.
    Fenced,
    /// The campaign is paused, stopped, cancelled or over: stop at once.
    Stopped,
}
