//! A lease as its session keeps it: what is asked for at each renewal, and what the answer changes.
//!
//! Both happen where messages are sent and read, one after the other: the rate that a renewal names
//! is the one that its worker keeps to until the answer is there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ajar_model::{
    Lease, Permission, ShardId, Timestamp, admission::Refusal, signers::AllowedSigners,
};
use ajar_proto::{convert, v1};
use tokio::sync::{mpsc, watch};

use crate::{
    fence::{Fence, Now},
    pacer::Budget,
};

/// How much earlier than the coordinator the worker considers a lease ended.
pub(crate) const MARGIN: Duration = Duration::from_secs(2);

/// What the renewals of a lease go by.
pub(crate) struct Kept {
    pub lease: Lease,
    /// Of this worker.
    pub name: String,
    pub fence: Arc<Fence>,
    pub budget: Arc<Budget>,
    /// The rate that its networks can use together.
    pub usable: u32,
    /// True while some targets wait for their first connection.
    pub starting: Arc<AtomicBool>,
    pub permission: Permission,
    pub signers: watch::Receiver<AllowedSigners>,
    /// Renewals that were asked for.
    pub asked: AtomicU64,
    pub news: mpsc::Sender<News>,
}

/// What a lease hears of.
#[derive(Debug)]
pub(crate) enum News {
    /// What is excluded was of this epoch when the message was sent that the coordinator answers,
    /// if it answers one.
    Epoch(u64, Option<Now>),
    /// It is not allowed any more.
    Unauthorized(Refusal),
}

impl Kept {
    /// The shard and the token.
    pub fn key(&self) -> (ShardId, u64) {
        (self.lease.shard, self.lease.token)
    }

    /// Makes the next request. Returns `None` if the lease may not be kept, and ends it.
    pub fn renewal(&self) -> Option<v1::RenewRequest> {
        let checked = {
            let signers = self.signers.borrow();
            self.permission.check(&signers, Timestamp::now()).map(drop)
        };
        if let Err(cause) = checked {
            self.tell(News::Unauthorized(cause.into()));
            self.fence.close();
            return None;
        }
        let want = self.want();
        // Slower before the coordinator hears of it, faster only afterwards.
        self.budget.set_rate(self.budget.rate().min(want));
        Some(v1::RenewRequest {
            shard: Some(self.lease.shard.into()),
            token: self.lease.token,
            want_rate: want,
            rate: self.budget.rate(),
            number: 1 + self.asked.fetch_add(1, Ordering::Relaxed),
            worker: self.name.clone(),
            revision: self.lease.revision,
        })
    }

    /// Takes the answer to a request that was sent then, or the news that the lease has ended.
    pub fn renewed(&self, renewed: &v1::RenewResponse, sent: Option<Now>) {
        if !renewed.kept {
            tracing::info!(shard = %self.lease.shard, cause = renewed.cause, "the lease ends");
            self.fence.close();
            return;
        }
        if let Some(sent) = sent {
            let ttl = convert::duration_in("ttl", renewed.ttl).unwrap_or(self.lease.ttl);
            self.fence.extend(sent, ttl.saturating_sub(MARGIN));
            self.budget.set_rate(renewed.rate);
            self.tell(News::Epoch(renewed.epoch, Some(sent)));
        }
    }

    /// Tells its lease. One that is slow to listen hears the same at the next renewal.
    pub fn tell(&self, news: News) {
        let _ = self.news.try_send(news);
    }

    /// While targets are started, all that its networks can use. Conversations that remain need little: the rest goes back.
    fn want(&self) -> u32 {
        let demand = self.budget.demand();
        match self.starting.load(Ordering::Relaxed) {
            true => self.usable,
            false => demand.saturating_mul(4).clamp(4, self.usable.max(4)),
        }
    }
}
