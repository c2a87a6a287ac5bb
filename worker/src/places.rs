//! How many targets are visited at the same time, which follows what this machine can bear.
//!
//! There are as many places as the operator allows, until something runs out. A visit that finds no socket takes its place
//! with it, so that exactly those remain that fit. Each second the places become fewer if memory is scarce, if this process is
//! late, or if connections time out that were answered before; and more again while nothing is wrong.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

/// Places that remain in any case.
const LEAST: usize = 16;
/// How often the machine is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long there are no more places after there were too many.
const CALM: Duration = Duration::from_secs(30);
/// A process that is later than this takes its own lateness for its targets'.
const LATE: Duration = Duration::from_secs(1);
/// Of the memory that we may use, how much we may, in percent.
const FULL: u64 = 85;
/// The same, with what the kernel keeps for us or others do.
const TIGHT: u64 = 95;
/// Connections to targets that had answered a SYN, before it is judged how many of them time out.
const ENOUGH: u32 = 32;

/// Why there are fewer places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Sockets,
    Memory,
    Lateness,
    TimeOuts,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sockets => "no more sockets can be opened (ulimit -n, ip_local_port_range)",
            Self::Memory => "memory is scarce",
            Self::Lateness => "this machine has more to do than it can",
            Self::TimeOuts => "connections time out to targets that had answered",
        })
    }
}

/// The places of one worker.
#[derive(Debug)]
pub struct Places {
    most: usize,
    free: Arc<Semaphore>,
    size: Mutex<Size>,
    /// Connections to targets that had answered a SYN, since the last look: all, and those that timed out.
    known: AtomicU32,
    timed_out: AtomicU32,
}

#[derive(Debug)]
struct Size {
    now: usize,
    /// Places in use that are not given back, since there are fewer now.
    owed: usize,
    /// Why there are fewer than before, since the last look.
    cause: Option<Cause>,
    /// When there may be more again.
    calm: Instant,
    /// What was said last.
    said: usize,
}

/// The right to visit one target.
#[derive(Debug)]
pub struct Place {
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

impl Places {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            free: Arc::new(Semaphore::new(most)),
            size: Mutex::new(Size {
                now: most,
                owed: 0,
                cause: None,
                calm: Instant::now(),
                said: most,
            }),
            known: AtomicU32::new(0),
            timed_out: AtomicU32::new(0),
        })
    }

    /// Waits for a place.
    pub async fn enter(self: Arc<Self>) -> Place {
        let permit = Arc::clone(&self.free).acquire_owned().await;
        Place {
            permit: Some(permit.expect("never closed")),
            places: self,
        }
    }

    /// Waits until a place is free.
    pub async fn room(&self) {
        let _free = self.free.acquire().await;
    }

    /// Takes one place away for a visit that found no socket. False if none can be spared: then it is no crowd of ours.
    pub fn crowded(&self) -> bool {
        self.fewer(1, Cause::Sockets) > 0
    }

    /// Learns what became of a connection to a target that had answered a SYN.
    pub fn tried(&self, timed_out: bool) {
        self.known.fetch_add(1, Ordering::Relaxed);
        self.timed_out
            .fetch_add(u32::from(timed_out), Ordering::Relaxed);
    }

    fn measure(&self) {
        let size = self.size.lock().expect("no holder panics");
        let taken = size.now + size.owed - self.free.available_permits();
        metrics::gauge!("ajar_places", "state" => "all").set(size.now as f64);
        metrics::gauge!("ajar_places", "state" => "taken").set(taken as f64);
    }

    /// Looks at this machine from time to time, and follows.
    pub async fn follow(self: Arc<Self>) {
        let mut memory = Memory::new();
        loop {
            let due = Instant::now() + LOOK;
            sleep_until(due).await;
            let late = due.elapsed() > LATE;
            let time_outs = self.time_outs();
            self.measure();
            self.look(match () {
                () if memory.is_full() => Some(Cause::Memory),
                () if late => Some(Cause::Lateness),
                () => time_outs,
            });
        }
    }

    /// Whether most connections to targets that had answered timed out since this was asked last.
    fn time_outs(&self) -> Option<Cause> {
        let known = self.known.swap(0, Ordering::Relaxed);
        let timed_out = self.timed_out.swap(0, Ordering::Relaxed);
        (known >= ENOUGH && timed_out > known / 2).then_some(Cause::TimeOuts)
    }

    /// Makes the places fewer for a cause, or more where there was none for a while and all are in use.
    fn look(&self, cause: Option<Cause>) {
        let now = self.size.lock().expect("no holder panics").now;
        match cause {
            Some(cause) => drop(self.fewer(now.div_ceil(4), cause)),
            None if self.free.available_permits() == 0 => self.more(now.div_ceil(16)),
            None => {}
        }
        self.say();
    }

    /// How many of so many places could be spared.
    fn fewer(&self, by: usize, cause: Cause) -> usize {
        let mut size = self.size.lock().expect("no holder panics");
        let by = by.min(size.now.saturating_sub(LEAST));
        if by > 0 {
            size.now -= by;
            size.owed += by - self.free.forget_permits(by);
            size.cause = Some(cause);
        }
        size.calm = Instant::now() + CALM;
        by
    }

    fn more(&self, by: usize) {
        let mut size = self.size.lock().expect("no holder panics");
        if Instant::now() < size.calm {
            return;
        }
        let by = by.min(self.most - size.now);
        let kept = by.min(size.owed);
        size.now += by;
        size.owed -= kept;
        self.free.add_permits(by - kept);
    }

    /// Says how many there are, if that is news.
    fn say(&self) {
        let mut size = self.size.lock().expect("no holder panics");
        let (now, most, cause) = (size.now, self.most, size.cause.take());
        let news = now * 4 <= size.said * 3 || size.said == most;
        match cause {
            Some(cause) if news => {
                tracing::warn!(
                    "at most {now} targets are visited at a time, and not {most}: {cause}"
                );
                size.said = now;
            }
            None if now == most && size.said < most => {
                tracing::info!("{most} targets may be visited at a time again");
                size.said = most;
            }
            _ => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut size = self.places.size.lock().expect("no holder panics");
        if size.owed > 0
            && let Some(permit) = self.permit.take()
        {
            size.owed -= 1;
            permit.forget();
        }
    }
}

/// The memory that this process may use: its control group's, or the machine's. None where nothing can be known of it.
struct Memory(Option<System>);

impl Memory {
    fn new() -> Self {
        Self(System::new().ok())
    }

    fn is_full(&mut self) -> bool {
        let Self(Some(system)) = self else {
            return false;
        };
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let (total, available) = (system.total_memory(), system.available_memory());
        if total > 0 && total.saturating_sub(available) > total / 100 * TIGHT {
            return true;
        }
        let Ok(ours) = sysinfo::get_current_pid() else {
            return false;
        };
        system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[ours]),
            false,
            ProcessRefreshKind::nothing(),
        );
        let limits = system
            .process(ours)
            .and_then(|process| process.cgroup_limits());
        limits.is_some_and(|limits| is_full(limits.total_memory, limits.rss, limits.free_memory))
    }
}

/// Whether memory is scarce in a control group with a limit. What is neither ours nor free is the kernel's, for our sockets, or
/// its copies of files, which it gives up.
fn is_full(limit: u64, ours: u64, free: u64) -> bool {
    let percent = |memory: u64| memory.saturating_mul(100) / limit.max(1);
    percent(ours) > FULL || (percent(free) < 100 - TIGHT && percent(ours) > 50)
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;

    async fn enter(places: &Arc<Places>, count: usize) -> Vec<Place> {
        join_all((0..count).map(|_| Arc::clone(places).enter())).await
    }

    fn now(places: &Places) -> usize {
        places.size.lock().unwrap().now
    }

    #[tokio::test(start_paused = true)]
    async fn those_remain_that_find_a_socket() {
        let places = Places::new(200);
        let mut visits = enter(&places, 200).await;
        for visit in visits.drain(50..) {
            assert!(places.crowded());
            drop(visit);
        }
        assert_eq!((now(&places), places.free.available_permits()), (50, 0));
        drop(visits);
        assert_eq!(places.free.available_permits(), 50);
        let spared = (0..100).filter(|_| places.crowded()).count();
        assert_eq!((spared, now(&places)), (50 - LEAST, LEAST));
        assert_eq!(places.free.available_permits(), LEAST);
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_more_again_after_a_calm_time_if_somebody_needs_them() {
        let places = Places::new(100);
        let visits = enter(&places, 100).await;
        places.look(Some(Cause::Memory));
        assert_eq!(now(&places), 75);
        places.look(None);
        assert_eq!(now(&places), 75, "it is too early");
        tokio::time::advance(CALM).await;
        for _ in 0..100 {
            places.look(None);
        }
        assert_eq!(now(&places), 100);
        drop(visits);
        assert_eq!(
            places.free.available_permits(),
            100,
            "none is owed any more"
        );
        places.look(Some(Cause::Lateness));
        tokio::time::advance(CALM).await;
        places.look(None);
        assert_eq!(now(&places), 75, "nobody needs more");
    }

    #[test]
    fn memory_is_scarce_if_it_is_ours_that_fills_it() {
        assert!(!is_full(1 << 30, 800 << 20, 200 << 20));
        assert!(is_full(1 << 30, 900 << 20, 100 << 20));
        assert!(is_full(1 << 30, 600 << 20, 10 << 20), "sockets");
        assert!(!is_full(1 << 30, 100 << 20, 1 << 20), "files");
    }

    #[test]
    fn time_outs_of_known_targets_count_once_there_are_enough() {
        let places = Places::new(100);
        let tried = |all: u32, timed_out: u32| {
            (0..all).for_each(|i| places.tried(i < timed_out));
            places.time_outs()
        };
        assert_eq!(tried(ENOUGH - 1, ENOUGH - 1), None);
        assert_eq!(tried(2 * ENOUGH, ENOUGH), None);
        assert_eq!(tried(2 * ENOUGH, ENOUGH + 1), Some(Cause::TimeOuts));
        assert_eq!(tried(0, 0), None);
    }
}
