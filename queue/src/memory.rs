//! The queue in this process: the executable specification of the others, and the embedded default.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ajar_model::{CampaignId, ShardId};
use async_trait::async_trait;
use tokio::time::Instant;

use crate::{Depth, Error, Line, Priority, ShardQueue};

/// The pure part: what is on offer, given the time since any fixed point.
#[derive(Debug, Clone, Default)]
pub struct Offers {
    entries: HashMap<ShardId, Entry>,
    /// When each entry is due, in the order in which those of a line are proposed.
    order: BTreeSet<(Line, Duration, ShardId)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    priority: Priority,
    due: Duration,
    taken: bool,
}

impl Offers {
    /// See [`ShardQueue::offer`].
    pub fn offer(&mut self, shard: ShardId, priority: Priority, due: Duration) {
        let waiting = self.entries.get(&shard).filter(|entry| !entry.taken);
        let due = waiting.map_or(due, |entry| entry.due.min(due));
        let taken = false;
        let entry = Entry {
            priority,
            due,
            taken,
        };
        self.put(shard, entry);
    }

    /// See [`ShardQueue::take`].
    pub fn take(&mut self, lines: &[Line], now: Duration, visibility: Duration) -> Option<ShardId> {
        let first = |line: &Line| {
            let from = ShardId {
                campaign: line.campaign,
                number: 0,
            };
            let first = self.order.range((*line, Duration::ZERO, from)..).next();
            first.filter(|(of, due, _)| of == line && *due <= now)
        };
        let &(line, _, shard) = lines.iter().find_map(first)?;
        let entry = Entry {
            priority: line.priority,
            due: now + visibility,
            taken: true,
        };
        self.put(shard, entry);
        Some(shard)
    }

    /// See [`ShardQueue::done`].
    pub fn done(&mut self, shard: ShardId) {
        if self.entries.get(&shard).is_some_and(|entry| entry.taken) {
            self.remove(shard);
        }
    }

    /// See [`ShardQueue::withdraw`].
    pub fn withdraw(&mut self, campaign: CampaignId) {
        self.entries.retain(|shard, _| shard.campaign != campaign);
        self.order.retain(|(line, ..)| line.campaign != campaign);
    }

    /// See [`ShardQueue::depth`].
    pub fn depth(&self, now: Duration) -> Depth {
        let taken = self
            .entries
            .values()
            .filter(|entry| entry.taken && entry.due > now)
            .count() as u64;
        Depth {
            waiting: self.entries.len() as u64 - taken,
            taken,
        }
    }

    fn remove(&mut self, shard: ShardId) {
        if let Some(entry) = self.entries.remove(&shard) {
            self.order.remove(&entry.place(shard));
        }
    }

    fn put(&mut self, shard: ShardId, entry: Entry) {
        self.remove(shard);
        self.entries.insert(shard, entry);
        self.order.insert(entry.place(shard));
    }
}

impl Entry {
    /// Returns its place in the order of entries.
    fn place(&self, shard: ShardId) -> (Line, Duration, ShardId) {
        let line = Line {
            campaign: shard.campaign,
            priority: self.priority,
        };
        (line, self.due, shard)
    }
}

/// A queue that dies with its process.
#[derive(Debug)]
pub struct Memory {
    offers: Mutex<Offers>,
    start: Instant,
    used: AtomicBool,
}

impl Memory {
    pub fn new() -> Self {
        Self {
            offers: Mutex::default(),
            start: Instant::now(),
            used: AtomicBool::new(false),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Offers, Duration) -> T) -> T {
        let mut offers = self.offers.lock().expect("no holder panics");
        act(&mut offers, self.start.elapsed())
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ShardQueue for Memory {
    async fn offer(
        &self,
        shards: &[ShardId],
        priority: Priority,
        delay: Duration,
    ) -> Result<(), Error> {
        self.with(|offers, now| {
            for &shard in shards {
                offers.offer(shard, priority, now + delay);
            }
        });
        Ok(())
    }

    async fn take(&self, lines: &[Line], visibility: Duration) -> Result<Option<ShardId>, Error> {
        Ok(self.with(|offers, now| offers.take(lines, now, visibility)))
    }

    async fn done(&self, shard: ShardId) -> Result<(), Error> {
        self.with(|offers, _| offers.done(shard));
        Ok(())
    }

    async fn withdraw(&self, campaign: CampaignId) -> Result<(), Error> {
        self.with(|offers, _| offers.withdraw(campaign));
        Ok(())
    }

    async fn depth(&self) -> Result<Depth, Error> {
        Ok(self.with(|offers, now| offers.depth(now)))
    }

    async fn lost(&self) -> Result<bool, Error> {
        Ok(!self.used.swap(true, Ordering::Relaxed))
    }
}
