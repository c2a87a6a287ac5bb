//! What housekeeping meets again and again, logged once a minute.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// How often the same trouble is logged.
const AGAIN: Duration = Duration::from_secs(60);

/// When each trouble was logged last, by what has it. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Troubles(Arc<Mutex<HashMap<String, Instant>>>);

impl Troubles {
    /// Logs that something cannot be looked after, unless that was logged a short while ago.
    pub(crate) fn log(&self, what: &str, cause: &str) {
        metrics::counter!("ajar_housekeeping_failures_total").increment(1);
        let mut logged = self.0.lock().expect("no holder panics");
        logged.retain(|_, at| at.elapsed() < AGAIN);
        if logged.insert(what.to_owned(), Instant::now()).is_none() {
            tracing::error!(what, cause, "it is left as it is, and the others go on");
        }
    }
}
