//! When the next connection may be opened: the limits of one campaign in this worker.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex as SyncMutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    fence::{Fence, Now},
    limit::Limit,
};

/// How soon a changed rate is noticed by whoever waits for the next connection.
const NOTICE: Duration = Duration::from_millis(200);
/// The shortest time that the runtime's timers know.
const TICK: Duration = Duration::from_millis(1);
/// Networks whose limits are remembered at least, before those that were not used lately are forgotten.
const REMEMBERED: usize = 4096;

/// The rate of one lease, which counts while its fence is open, and how much of it was asked for.
#[derive(Debug)]
pub struct Budget {
    fence: Arc<Fence>,
    rate: AtomicU32,
    /// It was given up: others may have it.
    ended: AtomicBool,
    waiting: AtomicU32,
    admitted: AtomicU32,
}

impl Budget {
    /// New connections a second.
    pub fn rate(&self) -> u32 {
        match self.ended.load(Ordering::Relaxed) {
            true => 0,
            false => self.rate.load(Ordering::Relaxed),
        }
    }

    /// Gives the rate up for good, before the coordinator hears that the lease needs none.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub fn set_rate(&self, rate: u32) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// Connections that wait, and that were let go since it was asked last.
    pub fn demand(&self) -> u32 {
        let waiting = self.waiting.load(Ordering::Relaxed);
        waiting.saturating_add(self.admitted.swap(0, Ordering::Relaxed))
    }

    /// Counts one that waits, until it is dropped.
    fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }
}

struct Waiting<'a>(&'a Budget);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The limits of one campaign in this worker: the sum of its leases' rates, and the rate of each /24 or /64, which a
/// later lease of the same network finds as an earlier one left it. Both hold at the moment at which a connection is
/// let go, and whoever waits is served in order. No lock that a change of rate needs is held across a wait.
#[derive(Debug)]
pub struct Pacer {
    start: Instant,
    prefix_rate: u32,
    budgets: SyncMutex<Vec<Arc<Budget>>>,
    all: SyncMutex<Option<Limit>>,
    /// The queue of those who wait for `all`.
    queue: Mutex<()>,
    prefixes: SyncMutex<Remembered>,
}

/// The limits of prefixes that are in use, or were lately.
#[derive(Debug)]
struct Remembered {
    limits: HashMap<IpNet, Arc<Mutex<Limit>>>,
    /// How many there may be before those that nobody needs are looked for.
    enough: usize,
}

/// The limits of some prefixes.
#[derive(Debug)]
pub struct Prefixes {
    start: Instant,
    limits: Vec<Arc<Mutex<Limit>>>,
}

impl Prefixes {
    /// Counts one that is sent `now` to the prefix at this place, if its limit conforms and nobody waits for it.
    pub fn try_take(&self, place: usize, now: Instant) -> bool {
        let limit = self.limits[place].try_lock();
        limit.is_ok_and(|mut limit| limit.try_take(now - self.start))
    }
}

impl Pacer {
    /// For a campaign with this limit for each prefix, in connections a second, at least 1. Without a lease nothing is let go.
    pub fn new(prefix_rate: u32) -> Self {
        Self {
            start: Instant::now(),
            prefix_rate,
            budgets: SyncMutex::default(),
            all: SyncMutex::default(),
            queue: Mutex::default(),
            prefixes: SyncMutex::new(Remembered {
                limits: HashMap::new(),
                enough: REMEMBERED,
            }),
        }
    }

    /// Adds the rate of a lease, until it is dropped.
    pub fn lease(&self, fence: Arc<Fence>, rate: u32) -> Arc<Budget> {
        let budget = Arc::new(Budget {
            fence,
            rate: AtomicU32::new(rate),
            ended: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            admitted: AtomicU32::new(0),
        });
        let mut budgets = self.budgets.lock().expect("no holder panics");
        budgets.retain(|other| Arc::strong_count(other) > 1);
        budgets.push(Arc::clone(&budget));
        budget
    }

    /// Waits until one more connection of a lease to `prefix` may be opened. `jitter`, in 0..1, moves it within its own
    /// interval, so that connections have no common beat. It is counted when it goes, at the end of the wait.
    pub async fn admit(&self, lease: &Budget, prefix: IpNet, jitter: f64) {
        let _waiting = lease.wait();
        let limit = self.limit_of(prefix);
        // One waiter of each prefix competes for the whole: a crowded prefix does not hold up the others.
        let mut prefix = limit.lock().await;
        sleep_until(self.start + prefix.next()).await;
        {
            let _in_order = self.queue.lock().await;
            self.take(1, jitter).await;
        }
        prefix.take(self.start.elapsed());
        lease.admitted.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until the whole lets at least one more SYN of a lease go, and says how many: at most `most`, and no more than
    /// are due by now. What became of them is to be said by [`Pacer::used`], at once.
    pub async fn admit_some(&self, lease: &Budget, most: u32) -> u32 {
        let _waiting = lease.wait();
        let _in_order = self.queue.lock().await;
        self.take(most, 0.0).await
    }

    /// Counts those of the `admitted` SYNs that were sent. The others may go at any time.
    pub fn used(&self, lease: &Budget, admitted: u32, sent: u32) {
        lease.admitted.fetch_add(sent, Ordering::Relaxed);
        let mut all = self.all.lock().expect("no holder panics");
        if let Some(all) = all.as_mut() {
            (sent..admitted).for_each(|_| all.give_back());
        }
    }

    /// The limits of these prefixes, which are remembered until the last holder lets go.
    pub fn prefixes(&self, prefixes: Vec<IpNet>) -> Prefixes {
        let limits = prefixes.into_iter();
        Prefixes {
            start: self.start,
            limits: limits.map(|net| self.limit_of(net)).collect(),
        }
    }

    /// Waits until the whole lets go one or more, at most `most`, and says how many. The first is late by `jitter`, a part
    /// of its interval.
    async fn take(&self, most: u32, jitter: f64) -> u32 {
        loop {
            let wait = match self.try_take(most, jitter) {
                Ok(taken) => return taken,
                Err(wait) => wait,
            };
            sleep(wait.min(NOTICE)).await;
        }
    }

    fn try_take(&self, most: u32, jitter: f64) -> Result<u32, Duration> {
        let (rate, now) = (self.rate(), self.start.elapsed());
        if rate == 0 {
            return Err(NOTICE);
        }
        let mut all = self.all.lock().expect("no holder panics");
        let all = all.get_or_insert_with(|| Limit::new(rate, now));
        all.set_rate(rate);
        let late = match all.interval.mul_f64(jitter) {
            late if late >= TICK => late,
            // The runtime would make a whole tick of it, for which the next one would have to wait.
            _ => Duration::ZERO,
        };
        let due = all.next() + late;
        if due > now {
            return Err(due - now);
        }
        all.take_late(now, late);
        let more = (1..most).take_while(|_| all.try_take(now)).count();
        Ok(1 + more as u32)
    }

    /// The sum of the leases whose fences are open.
    fn rate(&self) -> u32 {
        let now = Now::read();
        let budgets = self.budgets.lock().expect("no holder panics");
        let live = budgets
            .iter()
            .filter(|budget| Arc::strong_count(budget) > 1 && budget.fence.is_open(now));
        live.map(|budget| budget.rate())
            .fold(0, u32::saturating_add)
    }

    fn limit_of(&self, prefix: IpNet) -> Arc<Mutex<Limit>> {
        let now = self.start.elapsed();
        let mut prefixes = self.prefixes.lock().expect("no holder panics");
        let Remembered { limits, enough } = &mut *prefixes;
        if limits.len() >= *enough && !limits.contains_key(&prefix) {
            limits.retain(|_, limit| {
                let idle = |limit: &Mutex<Limit>| limit.try_lock().is_ok_and(|l| l.next() <= now);
                Arc::strong_count(limit) > 1 || !idle(limit)
            });
            *enough = REMEMBERED.max(limits.len() * 2);
        }
        let limit = limits
            .entry(prefix)
            .or_insert_with(|| Arc::new(Mutex::new(Limit::new(self.prefix_rate, now))));
        Arc::clone(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{SLACK, interval};

    fn prefix(n: u32) -> IpNet {
        format!("10.0.{n}.0/24").parse().unwrap()
    }

    /// A pacer with one lease that has the whole rate.
    fn pacer(rate: u32, prefix_rate: u32) -> (Pacer, Arc<Budget>) {
        let pacer = Pacer::new(prefix_rate);
        let fence = Arc::new(Fence::new(Now::read(), Duration::from_secs(3600)));
        let budget = pacer.lease(fence, rate);
        (pacer, budget)
    }

    /// Lets `connections` go to the prefixes that `of` names, all waiting at once, and returns when each went.
    async fn times(
        (pacer, budget): (Pacer, Arc<Budget>),
        connections: u32,
        of: impl Fn(u32) -> u32,
    ) -> Vec<Duration> {
        let (pacer, start) = (Arc::new(pacer), Instant::now());
        let mut waiting = tokio::task::JoinSet::new();
        for i in 0..connections {
            let (pacer, budget, prefix) = (Arc::clone(&pacer), Arc::clone(&budget), prefix(of(i)));
            waiting.spawn(async move {
                pacer.admit(&budget, prefix, f64::from(i % 10) / 10.0).await;
                start.elapsed()
            });
        }
        let mut times = waiting.join_all().await;
        times.sort();
        times
    }

    fn most_in_a_second(times: &[Duration]) -> usize {
        let within = |i: usize| {
            let end = times[i] + Duration::from_secs(1);
            times[i..].iter().take_while(|&&t| t < end).count()
        };
        (0..times.len()).map(within).max().unwrap_or(0)
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_rate_is_kept_from_the_first_second_on() {
        let times = times(pacer(500, 20), 2000, |i| i % 250).await;
        assert!(
            most_in_a_second(&times) <= 500 + 11,
            "{}",
            most_in_a_second(&times)
        );
        let span = times[1999] - times[0];
        assert!(span < Duration::from_millis(4200), "{span:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_does_not_add_to_what_late_timers_may() {
        let ((pacer, budget), mut times) = (pacer(60, 1000), Vec::new());
        let start = Instant::now();
        pacer.admit(&budget, prefix(1), 0.0).await;
        // The next one is late, as far as its jitter and slack allow, and the others are prompt.
        sleep(interval(60).mul_f64(1.99) + SLACK - TICK).await;
        for connection in 0..100 {
            let jitter = if connection == 0 { 0.99 } else { 0.0 };
            pacer.admit(&budget, prefix(1), jitter).await;
            times.push(start.elapsed());
        }
        assert_eq!(most_in_a_second(&times), 62);
    }

    #[tokio::test(start_paused = true)]
    async fn a_prefix_has_its_own_limit() {
        let times = times(pacer(1000, 20), 200, |_| 1).await;
        assert!(most_in_a_second(&times) <= 21);
    }

    #[tokio::test(start_paused = true)]
    async fn bursts_keep_the_rate_and_what_was_not_sent_goes_later() {
        let (pacer, budget) = pacer(2000, 20);
        let start = Instant::now();
        let mut times = Vec::new();
        while times.len() < 4000 {
            let admitted = pacer.admit_some(&budget, 256).await;
            let sent = admitted.div_ceil(2);
            pacer.used(&budget, admitted, sent);
            times.extend((0..sent).map(|_| start.elapsed()));
        }
        assert!(most_in_a_second(&times) <= 2000 + 41);
        assert!(
            start.elapsed() < Duration::from_millis(2100),
            "{:?}",
            start.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_wait_for_a_prefix_keeps_its_limit_too() {
        let (pacer, budget) = pacer(1000, 10);
        let prefixes = pacer.prefixes(vec![prefix(1)]);
        let (start, mut times) = (Instant::now(), Vec::new());
        while start.elapsed() < Duration::from_secs(3) {
            if prefixes.try_take(0, Instant::now()) {
                times.push(start.elapsed());
            }
            if times.len() % 3 == 0 {
                pacer.admit(&budget, prefix(1), 0.0).await;
                times.push(start.elapsed());
            }
            sleep(Duration::from_millis(1)).await;
        }
        assert!(most_in_a_second(&times) <= 11, "{times:?}");
        assert!(times.len() > 25, "{}", times.len());
    }

    #[tokio::test(start_paused = true)]
    async fn one_after_another_reach_a_rate_of_several_in_a_tick() {
        let (pacer, budget) = pacer(10_000, 10_000);
        let start = Instant::now();
        for i in 0..10_000 {
            pacer
                .admit(&budget, prefix(1), f64::from(i % 10) / 10.0)
                .await;
        }
        let span = start.elapsed();
        assert!(span < Duration::from_millis(1100), "{span:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_saved_up_while_idle() {
        let pacer = pacer(100, 100);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let times = times(pacer, 300, |_| 1).await;
        assert!(most_in_a_second(&times) <= 100 + 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowded_prefix_does_not_hold_up_the_others() {
        let times = times(pacer(1000, 1), 60, |i| i.saturating_sub(49)).await;
        let early = times
            .iter()
            .filter(|&&t| t < Duration::from_millis(1200))
            .count();
        assert_eq!(early, 11);
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_connection_is_not_free() {
        let times = times(pacer(2, 10), 3, |i| i).await;
        assert!(times[0] >= Duration::from_millis(500), "{times:?}");
        assert!(most_in_a_second(&times) <= 3);
    }

    #[tokio::test(start_paused = true)]
    async fn leases_add_up_while_their_fences_are_open() {
        let (pacer, first) = pacer(10, 1000);
        let fence = Arc::new(Fence::new(Now::read(), Duration::from_secs(3600)));
        let second = pacer.lease(Arc::clone(&fence), 30);
        assert_eq!(pacer.rate(), 40);
        second.set_rate(5);
        assert_eq!(pacer.rate(), 15);
        let third = pacer.lease(Arc::clone(&fence), 20);
        assert_eq!(pacer.rate(), 35);
        third.end();
        third.set_rate(30);
        assert_eq!(pacer.rate(), 15);
        fence.close();
        assert_eq!(pacer.rate(), 10);
        drop(first);
        assert_eq!(pacer.rate(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_rate_waits_for_nobody_and_reaches_who_waits() {
        let (pacer, budget) = pacer(1, 1000);
        let pacer = Arc::new(pacer);
        let (waiting, own) = (Arc::clone(&pacer), Arc::clone(&budget));
        let start = Instant::now();
        let waiter = tokio::spawn(async move {
            for _ in 0..100 {
                waiting.admit(&own, prefix(1), 0.0).await;
            }
        });
        sleep(Duration::from_millis(100)).await;
        budget.set_rate(100);
        waiter.await.unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
    }
}
