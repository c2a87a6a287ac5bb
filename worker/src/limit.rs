//! A pure limit, which is given the time.
//!
//! The maths is the generic cell rate algorithm (ITU-T I.371), as in the crate `governor`: a limit is one
//! theoretical arrival time. The first connection waits for its interval like every other, so that what follows another
//! lease of the same network is no burst, and what was not used is not saved up.

use std::time::Duration;

/// How far a limit may lag behind and catch up, so that late timers do not lower the rate. At a rate r, any window W
/// holds at most r x (W + max(SLACK, 1/r)) + 1 connections.
pub const SLACK: Duration = Duration::from_millis(20);
/// One limit, in connections a second.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub interval: Duration,
    /// When the last connection would have been opened had every one gone as early as it may.
    last: Duration,
}

impl Limit {
    /// At most `rate` a second (at least 1) after `now`, a time since any fixed point.
    pub fn new(rate: u32, now: Duration) -> Self {
        Self {
            interval: interval(rate),
            last: now,
        }
    }

    /// When the next connection conforms.
    pub fn next(&self) -> Duration {
        self.last + self.interval
    }

    /// Counts a connection that is opened at `now`, which must not be before [`Limit::next`].
    pub fn take(&mut self, now: Duration) {
        self.take_late(now, Duration::ZERO);
    }

    /// Counts a connection that is opened at `now`, and was to be `late` by this much.
    pub fn take_late(&mut self, now: Duration, late: Duration) {
        self.last = self.next().max(now.saturating_sub(late.max(SLACK)));
    }

    /// Counts a connection that is opened at `now`, if it conforms.
    pub fn try_take(&mut self, now: Duration) -> bool {
        let conforms = self.next() <= now;
        if conforms {
            self.take(now);
        }
        conforms
    }

    /// Takes back one that was counted and is not opened after all.
    pub fn give_back(&mut self) {
        self.last = self.last.saturating_sub(self.interval);
    }

    /// Changes the rate, for the next connection on.
    pub fn set_rate(&mut self, rate: u32) {
        self.interval = interval(rate);
    }
}

/// Rounded up: a high rate must not be exceeded for the sake of parts of a nanosecond.
pub fn interval(rate: u32) -> Duration {
    Duration::from_nanos(1_000_000_000_u64.div_ceil(rate.max(1).into()))
}
