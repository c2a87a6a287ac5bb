//! What a probe is.

use ajar_model::{Canary, Evidence, ProbeId, Tier};
use futures::future::BoxFuture;

use crate::{protocol::Protocol, visit::Visit};

/// One way in which a service may be open, and the conversation that shows it.
pub trait Probe: Send + Sync {
    /// Its name in options, authorizations and results.
    fn id(&self) -> ProbeId;

    /// The protocol that an endpoint must speak for it to run.
    fn protocol(&self) -> &'static dyn Protocol;

    /// The least tier at which it learns anything. Above it, it goes as far as the session's tier permits.
    fn tier(&self) -> Tier;

    /// What it shows, in a line.
    fn summary(&self) -> &'static str;

    /// What it needs of the canary beside a free port for each service; none if that is all.
    fn needs(&self) -> Option<&'static str> {
        None
    }

    /// True if the canary has what it needs. Otherwise it is not run.
    fn can_use(&self, _canary: &Canary) -> bool {
        true
    }

    /// Has the conversation. It ends within the session's deadline, whatever the target does.
    fn run<'a>(&'a self, visit: &'a mut Visit<'_>) -> BoxFuture<'a, Evidence>;
}
