//! When the next connection may be opened: a pure limit that is given the time, and the two limits of a lease.
//!
//! The maths is the generic cell rate algorithm (ITU-T I.371), as in the crate `governor`: a limit is one
//! theoretical arrival time. It starts at the time of its creation, so that there is no burst at the
//! start, and what was not used is not saved up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as SyncMutex},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until},
};

/// How far a limit may lag behind and catch up, so that late timers do not lower the rate. At a rate r, any window W
/// holds at most r x (W + SLACK) + 1 connections.
const SLACK: Duration = Duration::from_millis(20);

/// One limit, in connections a second.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    interval: Duration,
    next: Duration,
}

impl Limit {
    /// At most `rate` a second (at least 1) from `now`, a time since any fixed point.
    pub fn new(rate: u32, now: Duration) -> Self {
        Self {
            interval: Duration::from_secs(1) / rate.max(1),
            next: now,
        }
    }

    /// When the next connection conforms.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// Counts a connection that is opened at `now`, which must not be before [`Limit::next`].
    pub fn take(&mut self, now: Duration) {
        self.next = self.next.max(now.saturating_sub(SLACK)) + self.interval;
    }

    /// Changes the rate for what comes after the next connection.
    pub fn set_rate(&mut self, rate: u32) {
        self.interval = Duration::from_secs(1) / rate.max(1);
    }
}

/// The limits of one lease: all of its connections, and those to each /24 or /64. Both hold at the moment at which
/// a connection is let go, and whoever waits is served in order.
#[derive(Debug)]
pub struct Pacer {
    start: Instant,
    all: Mutex<Limit>,
    prefix_rate: u32,
    prefixes: SyncMutex<HashMap<IpNet, Arc<Mutex<Limit>>>>,
}

impl Pacer {
    /// Limits in connections a second, both at least 1.
    pub fn new(rate: u32, prefix_rate: u32) -> Self {
        Self {
            start: Instant::now(),
            all: Mutex::new(Limit::new(rate, Duration::ZERO)),
            prefix_rate,
            prefixes: SyncMutex::default(),
        }
    }

    /// Waits until one more connection to `prefix` may be opened. `jitter`, in 0..1, moves it within its own
    /// interval, so that connections have no common beat.
    pub async fn admit(&self, prefix: IpNet, jitter: f64) {
        let limit = Arc::clone(
            self.prefixes
                .lock()
                .expect("no holder panics")
                .entry(prefix)
                .or_insert_with(|| {
                    Arc::new(Mutex::new(Limit::new(
                        self.prefix_rate,
                        self.start.elapsed(),
                    )))
                }),
        );
        // One waiter of each prefix competes for the whole: a crowded prefix does not hold up the others.
        let mut prefix = limit.lock().await;
        sleep_until(self.start + prefix.next()).await;
        let interval = {
            let mut all = self.all.lock().await;
            sleep_until(self.start + all.next()).await;
            all.take(self.start.elapsed());
            all.interval
        };
        prefix.take(self.start.elapsed());
        drop(prefix);
        tokio::time::sleep(interval.mul_f64(jitter)).await;
    }

    /// Changes the rate of the lease.
    pub async fn set_rate(&self, rate: u32) {
        self.all.lock().await.set_rate(rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(n: u32) -> IpNet {
        format!("10.0.{n}.0/24").parse().unwrap()
    }

    /// Lets `connections` go to the prefixes that `of` names, all waiting at once, and returns when each went.
    async fn times(pacer: Pacer, connections: u32, of: impl Fn(u32) -> u32) -> Vec<Duration> {
        let (pacer, start) = (Arc::new(pacer), Instant::now());
        let mut waiting = tokio::task::JoinSet::new();
        for i in 0..connections {
            let (pacer, prefix) = (Arc::clone(&pacer), prefix(of(i)));
            waiting.spawn(async move {
                pacer.admit(prefix, f64::from(i % 10) / 10.0).await;
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
        let times = times(Pacer::new(500, 20), 2000, |i| i % 250).await;
        assert!(
            most_in_a_second(&times) <= 500 + 11,
            "{}",
            most_in_a_second(&times)
        );
        let span = times[1999] - times[0];
        assert!(span < Duration::from_millis(4200), "{span:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_prefix_has_its_own_limit() {
        let times = times(Pacer::new(1000, 20), 200, |_| 1).await;
        assert!(most_in_a_second(&times) <= 21);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_saved_up_while_idle() {
        let pacer = Pacer::new(100, 100);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let times = times(pacer, 300, |_| 1).await;
        assert!(most_in_a_second(&times) <= 100 + 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowded_prefix_does_not_hold_up_the_others() {
        let times = times(Pacer::new(1000, 1), 60, |i| i.saturating_sub(49)).await;
        let early = times
            .iter()
            .filter(|&&t| t < Duration::from_millis(200))
            .count();
        assert_eq!(early, 11);
    }
}
