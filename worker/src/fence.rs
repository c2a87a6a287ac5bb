//! The end of a lease by this machine's own clocks.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// How long after a renewal was sent what the coordinator said in its answer counts as the present.
const FRESH: Duration = Duration::from_secs(5);

/// A deadline on two clocks, whichever ends first: one that goes on while the machine is suspended,
/// and the wall clock, in case the machine was restored from an image in which the first stood
/// still.
///
/// Within it lies another one, up to which nothing can have been excluded that this worker does not
/// know.
#[derive(Debug)]
pub struct Fence(Mutex<Deadlines>);

#[derive(Debug)]
struct Deadlines {
    /// `None` once the lease is closed.
    open: Option<Now>,
    fresh: Now,
}

/// The present on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    boot: Duration,
    wall: SystemTime,
}

impl Now {
    pub fn read() -> Self {
        #[cfg(target_os = "linux")]
        let clock = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = ClockId::Monotonic;
        let time = clock_gettime(clock);
        Self {
            boot: Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
            wall: SystemTime::now(),
        }
    }
}

impl Now {
    fn after(self, span: Duration) -> Self {
        Self {
            boot: self.boot + span,
            wall: self.wall + span,
        }
    }

    fn is_before(self, end: Self) -> bool {
        self.boot < end.boot && self.wall < end.wall
    }
}

impl Fence {
    /// Open until `ttl` after `sent`, the time at which the lease was asked for.
    pub fn new(sent: Now, ttl: Duration) -> Self {
        Self(Mutex::new(Deadlines {
            open: Some(sent.after(ttl)),
            fresh: sent.after(FRESH),
        }))
    }

    /// Moves the end to `ttl` after `sent`, the time at which the renewal was asked for.
    pub fn extend(&self, sent: Now, ttl: Duration) {
        self.lock().open = Some(sent.after(ttl));
    }

    /// Records that this worker knows everything that was excluded when the renewal was sent.
    pub fn confirm(&self, sent: Now) {
        self.lock().fresh = sent.after(FRESH);
    }

    /// Ends the lease at once.
    pub fn close(&self) {
        self.lock().open = None;
    }

    /// Returns whether the lease is valid.
    pub fn is_open(&self, now: Now) -> bool {
        self.lock().open.is_some_and(|end| now.is_before(end))
    }

    /// Returns whether the lease is valid, and may miss what was excluded lately.
    pub fn is_stale(&self, now: Now) -> bool {
        let fresh = self.lock().fresh;
        self.is_open(now) && !now.is_before(fresh)
    }

    /// Waits until the lease misses nothing that was excluded, or has ended.
    pub async fn fresh(&self) {
        const LOOK: Duration = Duration::from_millis(100);
        while self.is_stale(Now::read()) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for the end, whatever is done to either clock meanwhile.
    pub async fn closed(&self) {
        const LOOK: Duration = Duration::from_millis(200);
        while self.is_open(Now::read()) {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Deadlines> {
        self.0.lock().expect("no holder panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_clock_ends_a_lease() {
        let start = Now::read();
        let later = |boot, wall| Now {
            boot: start.boot + Duration::from_secs(boot),
            wall: start.wall + Duration::from_secs(wall),
        };
        let fence = Fence::new(start, Duration::from_secs(30));
        assert!(fence.is_open(later(29, 29)));
        assert!(!fence.is_open(later(30, 0)));
        assert!(!fence.is_open(later(0, 30)));
        fence.extend(later(20, 20), Duration::from_secs(30));
        assert!(fence.is_open(later(49, 49)));
        assert!(!fence.is_stale(later(4, 4)));
        assert!(fence.is_stale(later(5, 0)) && fence.is_stale(later(0, 5)));
        fence.confirm(later(3, 3));
        assert!(!fence.is_stale(later(7, 7)));
        fence.close();
        assert!(!fence.is_open(start) && !fence.is_stale(later(40, 40)));
    }
}
