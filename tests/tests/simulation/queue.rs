//! A queue that forgets, goes back to what it was, is forged, and is away at times.

use std::{sync::Mutex, time::Duration};

use ajar_model::{CampaignId, ShardId};
use ajar_queue::{Depth, Error, Line, Priority, ShardQueue, memory::Offers};
use async_trait::async_trait;

use crate::boundary;

#[derive(Debug, Default)]
pub struct FlakyQueue(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    offers: Offers,
    /// What it was when it was kept last.
    kept: Offers,
    away: bool,
    /// It does not know that it is not what it was.
    lost: bool,
}

impl FlakyQueue {
    /// Notes what it is, so that it can go back to it.
    pub fn keep(&self) {
        let mut content = self.0.lock().unwrap();
        content.kept = content.offers.clone();
    }

    /// Is again what it was when it was kept, and says so only if it `notices`.
    pub fn go_back(&self, notices: bool) {
        let mut content = self.0.lock().unwrap();
        content.offers = content.kept.clone();
        content.lost = notices;
    }

    pub fn forget(&self, notices: bool) {
        let mut content = self.0.lock().unwrap();
        content.offers = Offers::default();
        content.lost = notices;
    }

    /// Offers whatever somebody made up.
    pub fn forge(&self, shards: &[ShardId]) {
        let mut content = self.0.lock().unwrap();
        for &shard in shards {
            content
                .offers
                .offer(shard, Priority::Normal, Duration::ZERO);
        }
    }

    pub fn set_away(&self, away: bool) {
        self.0.lock().unwrap().away = away;
    }

    fn with<T>(&self, act: impl FnOnce(&mut Content, Duration) -> T) -> Result<T, Error> {
        let mut content = self.0.lock().unwrap();
        match content.away {
            true => Err(Error::Unavailable {
                url: "simulated".to_owned(),
                cause: "it is away".to_owned(),
            }),
            false => Ok(act(&mut content, boundary::elapsed())),
        }
    }
}

#[async_trait]
impl ShardQueue for FlakyQueue {
    async fn offer(
        &self,
        shards: &[ShardId],
        priority: Priority,
        delay: Duration,
    ) -> Result<(), Error> {
        self.with(|content, now| {
            for &shard in shards {
                content.offers.offer(shard, priority, now + delay);
            }
        })
    }

    async fn take(&self, lines: &[Line], visibility: Duration) -> Result<Option<ShardId>, Error> {
        self.with(|content, now| content.offers.take(lines, now, visibility))
    }

    async fn done(&self, shard: ShardId) -> Result<(), Error> {
        self.with(|content, _| content.offers.done(shard))
    }

    async fn withdraw(&self, campaign: CampaignId) -> Result<(), Error> {
        self.with(|content, _| content.offers.withdraw(campaign))
    }

    async fn depth(&self) -> Result<Depth, Error> {
        self.with(|content, now| content.offers.depth(now))
    }

    async fn lost(&self) -> Result<bool, Error> {
        self.with(|content, _| std::mem::take(&mut content.lost))
    }
}
