//! Events that strangers can cause at will. Their log lines come once a minute.

use std::time::{Duration, Instant};

/// Time between two log lines on the same matter.
const SILENCE: Duration = Duration::from_secs(60);

/// Counts events of one kind between log lines.
#[derive(Debug, Default)]
pub struct Quiet {
    count: u64,
    said_at: Option<Instant>,
}

impl Quiet {
    /// Counts an event. Returns the number since the last log line if it is time for another one.
    pub fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let is_early = |at| now.saturating_duration_since(at) < SILENCE;
        if self.said_at.is_some_and(is_early) {
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_others_together() {
        let start = Instant::now();
        let mut quiet = Quiet::default();
        assert_eq!(quiet.count(start), Some(1));
        assert_eq!(quiet.count(start + SILENCE / 2), None);
        assert_eq!(quiet.count(start + SILENCE), Some(2));
    }
}
