//! Which workers are there: those that this coordinator heard of, which it tells all others.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{Coordinator, error};

/// A worker that was not heard of for so long is not counted.
const GONE: Duration = Duration::from_secs(30);
/// How soon other coordinators hear of a new worker, and how often of one that stays.
const TELL: Duration = Duration::from_millis(250);
const AGAIN: Duration = Duration::from_secs(30);

/// The workers that spoke to this coordinator lately. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Presence(Arc<Mutex<HashMap<String, Heard>>>);

struct Heard {
    at: Instant,
    /// Where it is, if it said so.
    vantage: Option<String>,
    told_at: Option<Instant>,
}

impl Presence {
    fn heard(&self) -> MutexGuard<'_, HashMap<String, Heard>> {
        self.0.lock().expect("no holder panics")
    }

    /// Takes note of a worker that asks for leases at a vantage point, or that renews one.
    pub(crate) fn note(&self, worker: &str, vantage: Option<&str>) {
        let at = Instant::now();
        let mut heard = self.heard();
        match heard.get_mut(worker) {
            Some(known) => {
                known.at = at;
                if vantage.is_some_and(|vantage| known.vantage.as_deref() != Some(vantage)) {
                    known.vantage = vantage.map(str::to_owned);
                    known.told_at = None;
                }
            }
            None => {
                let vantage = vantage.map(str::to_owned);
                let told_at = None;
                heard.insert(
                    worker.to_owned(),
                    Heard {
                        at,
                        vantage,
                        told_at,
                    },
                );
            }
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        let heard = self.heard();
        let there = heard.values().filter(|known| known.at.elapsed() < GONE);
        u32::try_from(there.count()).unwrap_or(u32::MAX)
    }

    /// Returns whom to tell of, each with its vantage point. Forgets those that are gone.
    fn due(&self) -> BTreeMap<String, String> {
        let mut heard = self.heard();
        heard.retain(|_, known| known.at.elapsed() < GONE);
        let due = heard.iter_mut().filter_map(|(worker, known)| {
            // A worker that fell silent is not told of as if it were there.
            let is_told = known
                .told_at
                .is_some_and(|at| at.elapsed() < AGAIN || at > known.at);
            let vantage = known.vantage.clone().filter(|_| !is_told)?;
            known.told_at = Some(Instant::now());
            Some((worker.clone(), vantage))
        });
        due.collect()
    }

    /// These were not told of after all.
    fn keep_due(&self, workers: &BTreeMap<String, String>) {
        let mut heard = self.heard();
        for worker in workers.keys() {
            if let Some(known) = heard.get_mut(worker) {
                known.told_at = None;
            }
        }
    }
}

impl Coordinator {
    /// Tells all coordinators which workers are here, those of a moment in one statement.
    pub(crate) async fn keep_telling_presence(self) {
        loop {
            sleep(TELL).await;
            let due = self.presence.due();
            if due.is_empty() {
                continue;
            }
            if let Err(cause) = self.options.store.seen_workers(&due).await {
                let cause = error::store(cause);
                tracing::debug!(
                    cause = cause.message(),
                    "nobody is told which workers are here"
                );
                self.presence.keep_due(&due);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_of_once_in_a_while() {
        let presence = Presence::default();
        presence.note("a", Some("north"));
        presence.note("b", None);
        let a = |vantage: &str| BTreeMap::from([("a".to_owned(), vantage.to_owned())]);
        let due = presence.due();
        assert_eq!(due, a("north"));
        presence.note("a", Some("north"));
        assert_eq!(presence.due(), BTreeMap::new());
        presence.keep_due(&due);
        assert_eq!(presence.due(), a("north"));
        presence.note("a", None);
        assert_eq!(presence.due(), BTreeMap::new());
        presence.note("a", Some("south"));
        assert_eq!(presence.due(), a("south"));
        assert_eq!(presence.count(), 2);
    }
}
