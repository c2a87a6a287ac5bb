//! Which targets of a shard answer, found by stateless SYNs at the granted pace.
//!
//! Most targets leave nothing behind: they are sent their SYNs in order ([`crate::passes`]), and what is not known of them
//! in the end was silence. Only a target whose network has to wait is followed by itself until its time is over.

use std::{
    collections::{HashSet, VecDeque},
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ajar_model::{Outcome, shard::ShardSpace};
use ajar_sweep::syn::{
    Listening, Syn,
    reply::{Reply, Said},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    egress::{Refusal, Unvisited},
    pacer::Prefixes,
    passes::Passes,
    progress::Progress,
    turn::{Starting, Turn},
    visit::{self, Visitor},
};

/// How long an answer to a SYN is waited for.
const WAIT: Duration = Duration::from_secs(1);
/// SYNs that go out together at most.
const BURST: u32 = 256;
/// Replies that may wait to be looked at.
const UNHEARD: usize = 65_536;
/// Replies that are looked at together.
const HEARD: usize = 1024;

/// The sweep of one shard.
pub struct Sweep<'a> {
    space: &'a ShardSpace,
    range: Range<u64>,
    visitor: Arc<Visitor>,
    syn: Arc<Syn>,
    attempts: u32,
    passes: Passes,
    prefixes: Prefixes,
    /// Waits for the pace: at most one.
    admission: JoinSet<u32>,
    /// Numbers of targets that are followed by themselves, and have not answered.
    followed: HashSet<u64>,
    /// Of those, the one that waits for a turn; those that wait for their network; those that were sent a SYN, and when;
    /// and those that are due again.
    held: Option<Followed>,
    queued: JoinSet<Sent>,
    sent: VecDeque<(Instant, Followed)>,
    again: VecDeque<Followed>,
    turns: Arc<Semaphore>,
    /// Held until every target was sent its first SYN.
    starting: Option<Arc<Starting>>,
    replies: mpsc::Receiver<Reply>,
    heard: Vec<Reply>,
    _listening: Listening,
}

/// A target that is followed by itself, and which of its SYNs is next.
#[derive(Debug, Clone, Copy)]
struct Followed {
    number: u64,
    attempt: u32,
}

/// What became of a SYN that waited for its network.
struct Sent {
    target: Followed,
    at: Instant,
    refused: Option<Refusal>,
}

/// A target that answered with SYN-ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    pub number: u64,
    pub endpoint: SocketAddr,
    /// Our address that it answered to.
    pub ours: IpAddr,
}

/// What a sweep needs beside its targets.
pub struct Tools {
    pub syn: Arc<Syn>,
    pub visitor: Arc<Visitor>,
    /// Places among those that wait for their network.
    pub turns: Arc<Semaphore>,
    pub starting: Option<Arc<Starting>>,
    /// Counts replies that there was no room for.
    pub lost: Arc<AtomicU64>,
}

impl<'a> Sweep<'a> {
    /// Sends nothing until it is [stepped](Self::step).
    pub fn new(space: &'a ShardSpace, range: Range<u64>, tools: Tools) -> Self {
        let Tools {
            syn,
            visitor,
            turns,
            starting,
            lost,
        } = tools;
        let attempts = visitor.spec.retries.saturating_add(1);
        let (hears, replies) = mpsc::channel(UNHEARD);
        let losing = Arc::clone(&lost);
        let listening = syn.listen(space.prefixes(), move |reply| {
            // Whoever floods us with answers loses some.
            if hears.try_send(reply).is_err() {
                losing.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            space,
            passes: Passes::new(range.clone(), attempts, WAIT),
            prefixes: visitor.egress.prefixes(space.prefixes()),
            range,
            visitor,
            syn,
            attempts,
            admission: JoinSet::new(),
            followed: HashSet::new(),
            held: None,
            queued: JoinSet::new(),
            sent: VecDeque::new(),
            again: VecDeque::new(),
            turns,
            starting,
            replies,
            heard: Vec::new(),
            _listening: listening,
        }
    }

    /// Waits for the next thing to do, does it, and returns the targets that were found open by it. Nothing is lost if it is
    /// dropped while it waits. SYNs are sent only if `may_send`.
    pub async fn step(
        &mut self,
        progress: &mut Progress,
        may_send: bool,
    ) -> Result<Vec<Open>, Unvisited> {
        if let Some(cause) = self.syn.fault() {
            return Err(Unvisited::Fault(cause));
        }
        let now = Instant::now();
        let sends = may_send && self.held.is_none();
        if sends && self.admission.is_empty() && (self.passes.is_due(now) || !self.again.is_empty())
        {
            let visitor = Arc::clone(&self.visitor);
            let admission = async move { visitor.egress.admit_some(BURST).await };
            self.admission.spawn(admission);
        }
        let due = self.due(now);
        tokio::select! {
            biased;
            heard = self.replies.recv_many(&mut self.heard, HEARD) => {
                debug_assert!(heard > 0, "the listener lives as long as this");
                return Ok(self.hear(progress));
            }
            Some(sent) = self.queued.join_next() => {
                let sent = sent.map_err(|error| Unvisited::Fault(error.to_string()))?;
                self.was_sent(sent, progress)?;
            }
            turn = Arc::clone(&self.turns).acquire_owned(), if self.held.is_some() && may_send => {
                let turn = turn.expect("never closed");
                if let Some(target) = self.held.take() {
                    self.queue(target, turn);
                }
            }
            Some(admitted) = self.admission.join_next() => {
                let admitted = admitted.map_err(|error| Unvisited::Fault(error.to_string()))?;
                let sent = if sends { self.burst(admitted, progress)? } else { 0 };
                self.visitor.egress.used(admitted, sent);
            }
            () = sleep_until(due.unwrap_or(now)), if due.is_some() => {}
        }
        self.settle(progress);
        Ok(Vec::new())
    }

    /// When something is over that nobody announces.
    fn due(&self, now: Instant) -> Option<Instant> {
        let followed = self.sent.front().map(|(at, _)| *at + WAIT);
        self.passes.due(now).into_iter().chain(followed).min()
    }

    /// Sends SYNs to as many targets as were admitted, if so many are due, and says to how many.
    fn burst(&mut self, admitted: u32, progress: &mut Progress) -> Result<u32, Unvisited> {
        let now = Instant::now();
        let mut targets = Vec::with_capacity(admitted as usize);
        while targets.len() < admitted as usize && self.held.is_none() {
            let again = self.again.pop_front();
            let mut next = || {
                let next = self.passes.next(now, |number| progress.knows(number));
                next.map(|(number, attempt)| Followed::new(number, attempt))
            };
            let Some(target) = again.or_else(&mut next) else {
                break;
            };
            let (place, endpoint) = self.space.placed(target.number);
            if self.prefixes.try_take(place, now) {
                targets.push(endpoint);
                if again.is_some() {
                    self.sent.push_back((now, target));
                }
                continue;
            }
            if again.is_none() {
                progress.begin(target.number);
                self.followed.insert(target.number);
            }
            match Arc::clone(&self.turns).try_acquire_owned() {
                Ok(turn) => self.queue(target, turn),
                Err(_) => self.held = Some(target),
            }
        }
        let refused = self.visitor.egress.syn(&self.syn, &targets);
        self.passes.sent(Instant::now());
        if !self.passes.is_starting() && self.held.is_none() {
            self.starting = None;
        }
        for (endpoint, refusal) in refused {
            let outcome = visit::refused(endpoint, refusal)?;
            if let Some(number) = self.space.number(endpoint) {
                self.finish(number, outcome, progress);
            }
        }
        Ok(targets.len() as u32)
    }

    /// Lets a target wait for its network, among the connections to it.
    fn queue(&mut self, target: Followed, turn: OwnedSemaphorePermit) {
        let starting = self.starting.clone().filter(|_| target.attempt == 1);
        let turn = Turn::new(turn, starting);
        let (visitor, syn) = (Arc::clone(&self.visitor), Arc::clone(&self.syn));
        let endpoint = self.space.target(target.number);
        self.queued.spawn(async move {
            visitor.egress.admit(endpoint).await;
            drop(turn);
            let refused = visitor.egress.syn(&syn, &[endpoint]).pop();
            Sent {
                target,
                at: Instant::now(),
                refused: refused.map(|(_, refusal)| refusal),
            }
        });
    }

    fn was_sent(&mut self, sent: Sent, progress: &mut Progress) -> Result<(), Unvisited> {
        let number = sent.target.number;
        match sent.refused {
            None => self.sent.push_back((sent.at, sent.target)),
            Some(refusal) => {
                let outcome = visit::refused(self.space.target(number), refusal)?;
                self.finish(number, outcome, progress);
            }
        }
        Ok(())
    }

    /// Takes note of the replies, and returns the targets that are open.
    fn hear(&mut self, progress: &mut Progress) -> Vec<Open> {
        let mut open = Vec::new();
        for reply in std::mem::take(&mut self.heard) {
            let number = self.space.number(reply.target);
            let Some(number) = number.filter(|number| self.range.contains(number)) else {
                continue;
            };
            match reply.said {
                Said::Closed => self.finish(number, Outcome::Refused, progress),
                Said::Unreachable => self.finish(number, Outcome::Unreachable, progress),
                Said::Open if self.followed.remove(&number) => open.push(Open::new(number, reply)),
                Said::Open if progress.knows(number) => {}
                Said::Open => {
                    progress.begin(number);
                    open.push(Open::new(number, reply));
                }
            }
        }
        open
    }

    /// Notes what a target said first.
    fn finish(&mut self, number: u64, outcome: Outcome, progress: &mut Progress) {
        if self.followed.remove(&number) || !progress.knows(number) {
            progress.finish(number, outcome);
        }
    }

    /// Gives up on those that have been silent for long enough.
    fn settle(&mut self, progress: &mut Progress) {
        let now = Instant::now();
        progress.settle(self.passes.settled(now));
        while let Some((_, target)) = self.sent.pop_front_if(|(at, _)| *at + WAIT <= now) {
            if !self.followed.contains(&target.number) {
                continue;
            }
            match target.attempt < self.attempts {
                true => self.again.push_back(target.next()),
                false => self.finish(target.number, Outcome::Silent, progress),
            }
        }
    }
}

impl Followed {
    fn new(number: u64, attempt: u32) -> Self {
        Self { number, attempt }
    }

    fn next(self) -> Self {
        Self::new(self.number, self.attempt + 1)
    }
}

impl Open {
    fn new(number: u64, reply: Reply) -> Self {
        Self {
            number,
            endpoint: reply.target,
            ours: reply.ours,
        }
    }
}
