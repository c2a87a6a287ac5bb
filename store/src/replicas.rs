//! Signs of life of coordinators, and the campaigns that each refuses to run.

use ajar_model::CampaignId;
use async_trait::async_trait;

use crate::{AuditEntry, Error};

/// Coordinators beside each other, one of which may be misconfigured.
#[async_trait]
pub trait Replicas {
    /// Records that a coordinator is alive, and what it refuses to run. What it refused before and
    /// does not name now is not refused any more.
    async fn seen_coordinator(&self, seen: &SeenCoordinator<'_>) -> Result<(), Error>;

    /// Ends a running campaign as incomplete, together with an audit entry, if every coordinator
    /// that might run it has refused to for [`UNANIMOUS`](crate::UNANIMOUS). Returns whether it
    /// did.
    async fn end_refused(
        &self,
        id: CampaignId,
        cause: &str,
        audit: &AuditEntry,
    ) -> Result<bool, Error>;
}

/// A sign of life of a coordinator.
#[derive(Debug, Clone, Copy)]
pub struct SeenCoordinator<'a> {
    /// Its identity, new at each start of its process.
    pub name: &'a str,
    /// The only campaign that it runs; `None` if it runs all that no single process drives.
    pub drives: Option<CampaignId>,
    /// Campaigns that it refuses to run.
    pub refuses: &'a [CampaignId],
}
