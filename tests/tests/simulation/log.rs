//! What happened in a simulation, line by line: the same seed gives the same lines.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use crate::boundary;

/// Clones write the same log.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Adds a line at the present time of this thread's simulation.
    pub fn add(&self, what: fmt::Arguments<'_>) {
        let at = boundary::elapsed().as_secs_f64();
        self.0.lock().unwrap().push(format!("{at:8.3} {what}"));
    }

    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
