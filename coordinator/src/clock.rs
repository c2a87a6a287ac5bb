//! The database's clock beside this machine's.
//!
//! The database's clock decides when leases end. A coordinator judges authorizations by it too, as
//! far as it has compared the two; and while its own clock is far off it grants nothing, since its
//! other times would be wrong.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ajar_model::Timestamp;
use tonic::Status;

use crate::{Coordinator, error};

/// How often the clocks are compared.
const EVERY: Duration = Duration::from_secs(10);
/// An answer that took longer says little of the time.
const PROMPT: Duration = Duration::from_secs(1);
/// How far off this machine's clock may be.
const MOST_SKEW: Duration = Duration::from_secs(2);

/// A coordinator's estimate of the database's clock. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<Mutex<Compared>>);

#[derive(Default)]
struct Compared {
    /// The database's time at a moment of ours.
    at: Option<(Instant, Timestamp)>,
    /// When the clocks are to be compared again.
    due: Option<Instant>,
    /// A wrong clock was logged, and was not right since.
    was_logged: bool,
}

impl Clock {
    /// Returns the database's time, or this machine's if the two were never compared.
    pub(crate) fn now(&self) -> Timestamp {
        let compared = self.0.lock().expect("no holder panics");
        let now = compared.at.map(|(at, theirs)| {
            let passed = theirs.saturating_add(at.elapsed());
            passed.unwrap_or(Timestamp::MAX)
        });
        now.unwrap_or_else(Timestamp::now)
    }

    /// Whether this machine's clock was compared with the database's and is near it.
    pub(crate) fn is_right(&self) -> bool {
        let is_known = self.0.lock().expect("no holder panics").at.is_some();
        is_known && self.skew().unsigned_abs() <= MOST_SKEW
    }

    /// How far this machine's clock is ahead of the database's.
    fn skew(&self) -> jiff::SignedDuration {
        Timestamp::now().duration_since(self.now())
    }

    fn is_due(&self) -> bool {
        let due = self.0.lock().expect("no holder panics").due;
        due.is_none_or(|due| Instant::now() >= due)
    }

    /// Takes the database's answer to a question that was asked at `asked`.
    fn compare(&self, asked: Instant, theirs: Timestamp) {
        let took = asked.elapsed();
        if took > PROMPT {
            return;
        }
        let mut compared = self.0.lock().expect("no holder panics");
        compared.at = Some((asked + took / 2, theirs));
        compared.due = Some(Instant::now() + EVERY);
    }

    /// Logs once that the clock is wrong, and once that it is right again.
    fn log(&self) {
        let (is_right, skew) = (self.is_right(), self.skew());
        metrics::gauge!("ajar_clock_skew_seconds").set(skew.as_secs_f64());
        let mut compared = self.0.lock().expect("no holder panics");
        if compared.was_logged != is_right {
            return;
        }
        compared.was_logged = !is_right;
        let skew = format!("{:.1}s", skew.as_secs_f64());
        match is_right {
            true => tracing::info!(skew, "the clock is right again"),
            false => tracing::error!(
                skew,
                "this machine's clock is not the database's: nothing is granted here until it is set right"
            ),
        }
    }
}

impl Coordinator {
    /// Compares the clocks if that is due.
    pub(crate) async fn compare_clocks(&self) -> Result<(), Status> {
        if self.clock.is_due() {
            let asked = Instant::now();
            let theirs = self.options.store.now().await.map_err(error::store)?;
            self.clock.compare(asked, theirs);
        }
        self.clock.log();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_right_only_near_the_databases() {
        let clock = Clock::default();
        assert!(!clock.is_right(), "it was never compared");
        let theirs = |off: i64| {
            let now = Timestamp::now();
            now.saturating_add(jiff::SignedDuration::from_millis(off))
                .unwrap()
        };
        for (off, is_right) in [(0, true), (1_500, true), (3_000, false), (-3_000, false)] {
            clock.compare(Instant::now(), theirs(off));
            assert_eq!(clock.is_right(), is_right, "{off} ms");
            let from_theirs = clock.now().duration_since(theirs(off)).as_millis();
            assert!(from_theirs.abs() < 500, "{from_theirs} ms");
        }
        clock.compare(Instant::now() - 2 * PROMPT, theirs(0));
        assert!(!clock.is_right(), "a late answer is no comparison");
    }
}
