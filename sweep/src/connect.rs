//! Discovery by plain connections: what the outcome of `connect` says of a target, and how long to wait for it.
//!
//! What says nothing of the target, because this machine failed, is sorted out before: the caller knows its machine.

use std::{io, time::Duration};

use ajar_model::Outcome;

/// What a failed `connect` says of its target.
pub fn outcome(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Outcome::Refused,
        io::ErrorKind::TimedOut => Outcome::Silent,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Outcome::Unreachable,
        _ => Outcome::Failed,
    }
}

/// How long to wait for a connection, learnt from those that were answered: the smoothed round-trip time and its
/// deviation as in RFC 6298 section 2. Never so long that the kernel sends a SYN of its own accord, which no pace would
/// count: it does after one second (section 2.1).
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    smoothed: Option<(Duration, Duration)>,
}

impl Patience {
    /// Before anything was answered. A late timer must not reach the kernel's.
    pub const MOST: Duration = Duration::from_millis(800);
    /// A busy host answers late, however near it is.
    const LEAST: Duration = Duration::from_millis(400);

    pub const fn new() -> Self {
        Self { smoothed: None }
    }

    /// Learns from a connection that was opened or refused after `round_trip`.
    pub fn answered_after(&mut self, round_trip: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (round_trip, round_trip / 2),
            Some((mean, deviation)) => (
                (mean * 7 + round_trip) / 8,
                (deviation * 3 + mean.abs_diff(round_trip)) / 4,
            ),
        });
    }

    /// How long to wait.
    pub fn timeout(&self) -> Duration {
        self.smoothed.map_or(Self::MOST, |(mean, deviation)| {
            (2 * (mean + 4 * deviation)).clamp(Self::LEAST, Self::MOST)
        })
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_failure_has_its_outcome() {
        let check = |kind: io::ErrorKind, expect: Outcome| {
            assert_eq!(outcome(&kind.into()), expect, "{kind:?}");
        };
        check(io::ErrorKind::ConnectionRefused, Outcome::Refused);
        check(io::ErrorKind::TimedOut, Outcome::Silent);
        check(io::ErrorKind::HostUnreachable, Outcome::Unreachable);
        check(io::ErrorKind::NetworkUnreachable, Outcome::Unreachable);
        check(io::ErrorKind::OutOfMemory, Outcome::Failed);
    }

    #[test]
    fn a_near_network_is_waited_for_less_and_none_until_the_kernel_repeats_itself() {
        let mut patience = Patience::new();
        assert_eq!(patience.timeout(), Patience::MOST);
        for _ in 0..50 {
            patience.answered_after(Duration::from_millis(2));
        }
        assert_eq!(patience.timeout(), Patience::LEAST);
        for _ in 0..50 {
            patience.answered_after(Duration::from_secs(2));
        }
        assert_eq!(patience.timeout(), Patience::MOST);
    }
}
