//! Logs a trouble that lasts once a minute, however often it is met.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// How often the same trouble is logged.
const AGAIN: Duration = Duration::from_secs(60);

/// When each trouble was logged last, by the name of what has it. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Troubles(Arc<Mutex<HashMap<String, Instant>>>);

impl Troubles {
    /// Logs that something cannot be looked after, unless that was logged a short while ago.
    pub(crate) fn log(&self, what: &str, cause: &str) {
        metrics::counter!("ajar_housekeeping_failures_total").increment(1);
        if self.is_due(what) {
            tracing::error!(what, cause, "it is left as it is, and the others go on");
        }
    }

    /// Returns whether a trouble was not told of for a while, and takes it as told.
    pub(crate) fn is_due(&self, what: &str) -> bool {
        let mut told = self.0.lock().expect("no holder panics");
        told.retain(|_, at| at.elapsed() < AGAIN);
        if told.contains_key(what) {
            return false;
        }
        told.insert(what.to_owned(), Instant::now());
        true
    }
}
