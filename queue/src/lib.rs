//! Shards on offer.
//!
//! The queue proposes and nothing more: the store grants. Whatever is lost, repeated or forged here costs
//! time and never correctness, since an entry holds a shard's id and neither targets nor authority.
//!
//! Architecture invariant: entries are ids. No address, no authorization and no result passes through here.

use std::{sync::Arc, time::Duration};

use ajar_model::{CampaignId, ShardId, url::unescaped};
use async_trait::async_trait;

pub mod memory;
pub mod redis;
mod server;

/// Opens the queue that `url` names: `memory:`, or a Redis for one that coordinators share.
pub async fn open(url: &str) -> Result<Arc<dyn ShardQueue>, Error> {
    if let (Some((scheme, _)), Some(found)) = (url.split_once("://"), unescaped(url)) {
        return Err(Error::Password {
            scheme: scheme.to_owned(),
            found,
        });
    }
    match url {
        "memory:" => Ok(Arc::new(memory::Memory::new())),
        _ => Ok(Arc::new(redis::Redis::connect(url).await?)),
    }
}

/// Shards that wait for a worker.
#[async_trait]
pub trait ShardQueue: Send + Sync + 'static {
    /// Offers shards, each after `delay`. A shard that is already on offer keeps the earlier time; one that
    /// is taken becomes due again after `delay`. The last offer decides its priority.
    async fn offer(
        &self,
        shards: &[ShardId],
        priority: Priority,
        delay: Duration,
    ) -> Result<(), Error>;

    /// Takes the shard that has been due for longest, from the first of these lines that has one. It
    /// comes back by itself after `visibility`, unless somebody calls [`ShardQueue::done`] for it.
    async fn take(&self, lines: &[Line], visibility: Duration) -> Result<Option<ShardId>, Error>;

    /// Forgets a taken shard. One that was offered again meanwhile stays on offer.
    async fn done(&self, shard: ShardId) -> Result<(), Error>;

    /// Removes every shard of a campaign.
    async fn withdraw(&self, campaign: CampaignId) -> Result<(), Error>;

    /// How many shards are due or delayed, and how many are taken.
    async fn depth(&self) -> Result<Depth, Error>;

    /// True exactly once after the queue's content was lost, or may be older than it was: at first use, after
    /// a flush, a restart or a failover. What is missing should then be offered again without delay.
    async fn lost(&self) -> Result<bool, Error>;
}

/// The waiting shards of one campaign and priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Line {
    pub campaign: CampaignId,
    pub priority: Priority,
}

/// Which shards of a campaign others wait behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Revisits, for which a finding waits.
    High,
    Normal,
}

/// The size of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Due or delayed.
    pub waiting: u64,
    /// Taken and not yet due again.
    pub taken: u64,
}

/// Why the queue could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A password that is not escaped.
    #[error("the password in {scheme}://… has a {found:?}, which ends it: write it as %{:02X}", u32::from(*.found))]
    Password {
        /// The URL's scheme.
        scheme: String,
        /// The character that must be escaped.
        found: char,
    },
    /// Not a URL of a known kind.
    #[error(
        "{url:?} is not a queue: expected redis://HOST:PORT/DB, redis-sentinel://HOST:PORT,HOST:PORT/DB#MASTER or redis-cluster://HOST:PORT,HOST:PORT, or the same with rediss for TLS"
    )]
    Url {
        /// What was given, without its password.
        url: String,
    },
    /// It does not answer.
    #[error("redis at {url} does not answer ({cause}): start it, or correct --redis")]
    Unavailable {
        /// The server's URL without the password.
        url: String,
        cause: String,
    },
    /// It answers, and does not let us in.
    #[error(
        "redis at {url} refuses us ({cause}): correct the user, the password or the authority in --redis and SSL_CERT_FILE"
    )]
    Refused {
        /// The server's URL without the password.
        url: String,
        cause: String,
    },
    /// It answers, and takes nothing more.
    #[error(
        "redis at {url} is full: it uses its maxmemory of {most} bytes; raise it, or give ajar a server of its own"
    )]
    Full {
        /// The server's URL without the password.
        url: String,
        /// Its maxmemory.
        most: u64,
    },
    /// It answers, but would lose entries.
    #[error(
        "redis at {url} has maxmemory-policy {policy:?} and would drop shards: set it to noeviction"
    )]
    Evicting {
        /// The server's URL without the password.
        url: String,
        policy: String,
    },
}

impl Error {
    /// True if trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable { .. })
    }
}
