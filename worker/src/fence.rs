//! The end of a lease by this machine's own clocks.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// A deadline on two clocks, whichever ends first: one that goes on while the machine is suspended, and the wall
/// clock, in case the machine was restored from an image in which the first stood still.
#[derive(Debug)]
pub struct Fence(Mutex<Option<(Duration, SystemTime)>>);

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

impl Fence {
    /// Open until `ttl` after `sent`, the time at which the lease was asked for.
    pub fn new(sent: Now, ttl: Duration) -> Self {
        let fence = Self(Mutex::new(None));
        fence.extend(sent, ttl);
        fence
    }

    /// Moves the end to `ttl` after `sent`, the time at which the renewal was asked for.
    pub fn extend(&self, sent: Now, ttl: Duration) {
        *self.lock() = Some((sent.boot + ttl, sent.wall + ttl));
    }

    /// Ends the lease at once.
    pub fn close(&self) {
        *self.lock() = None;
    }

    /// True while the lease is valid.
    pub fn is_open(&self, now: Now) -> bool {
        self.lock()
            .is_some_and(|(boot, wall)| now.boot < boot && now.wall < wall)
    }

    /// Waits for the end, whatever is done to either clock meanwhile.
    pub async fn closed(&self) {
        const LOOK: Duration = Duration::from_millis(200);
        while self.is_open(Now::read()) {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(Duration, SystemTime)>> {
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
        fence.close();
        assert!(!fence.is_open(start));
    }
}
