//! Troubles that last: logged once a minute, and shown with campaigns.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ajar_model::{CampaignId, Timestamp};
use ajar_store::Trouble;

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

/// Why the queue cannot be used, as long as that lasts. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct QueueFault(Arc<Mutex<Option<(String, Timestamp)>>>);

impl QueueFault {
    /// Notes what became of a look at the queue.
    pub(crate) fn note<T>(&self, looked: &Result<T, ajar_queue::Error>) {
        let mut fault = self.0.lock().expect("no holder panics");
        match (looked, &*fault) {
            (Ok(_), _) => *fault = None,
            (Err(error), None) => *fault = Some((error.to_string(), Timestamp::now())),
            (Err(_), Some(_)) => {}
        }
    }

    /// Returns the trouble that a campaign has by it.
    pub(crate) fn of(&self, campaign: CampaignId, coordinator: &str) -> Option<Trouble> {
        let (cause, at) = self.0.lock().expect("no holder panics").clone()?;
        let machine = rustix::system::uname();
        Some(Trouble {
            campaign,
            worker: coordinator.to_owned(),
            vantage: machine.nodename().to_string_lossy().into_owned(),
            cause,
            at,
        })
    }
}
