//! The end of an examination.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Time for an answer that is no delay.
const PROMPT: Duration = Duration::from_secs(2);

/// The end of an examination. Clones share it, so time that one connection earns counts for all.
///
/// A server that answers late is asked as much as a quick one, within bounds. Late answers put the
/// end off, by up to as much time as there was at first.
#[derive(Debug, Clone)]
pub(crate) struct Deadline(Arc<Mutex<End>>);

#[derive(Debug)]
struct End {
    at: Instant,
    grace: Duration,
}

impl Deadline {
    /// Ends after this time if every answer is prompt.
    pub(crate) fn after(time: Duration) -> Self {
        let at = Instant::now() + time;
        Self(Arc::new(Mutex::new(End { at, grace: time })))
    }

    pub(crate) fn at(&self) -> Instant {
        self.end().at
    }

    /// Puts the end off by the time that our own pace took.
    pub(crate) fn postpone(&self, by: Duration) {
        self.end().at += by;
    }

    /// Puts the end off if an answer came late.
    pub(crate) fn note_answer(&self, took: Duration) {
        let mut end = self.end();
        let late = took.saturating_sub(PROMPT).min(end.grace);
        end.at += late;
        end.grace -= late;
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
