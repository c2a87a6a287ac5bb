//! Orders that operators give for a tenant or for the whole site.

use ajar_model::{CampaignId, Timestamp};
use async_trait::async_trait;

use crate::{AuditEntry, Error};

/// Orders that hold until they are taken back, in every coordinator and through restarts.
#[async_trait]
pub trait Orders {
    /// Stops a tenant or the site, together with an audit entry: from then on nothing is granted or
    /// renewed, and no campaign starts. A stop that is in force already stays as it is. Returns the
    /// campaigns that it holds, which keep their states.
    async fn stop(
        &self,
        tenant: Option<&str>,
        audit: &AuditEntry,
    ) -> Result<Vec<CampaignId>, Error>;

    /// Takes a stop back, together with an audit entry. Returns `false`, and writes nothing, if
    /// there is none.
    async fn start_again(&self, tenant: Option<&str>, audit: &AuditEntry) -> Result<bool, Error>;

    /// Returns the stops in force: the site's first, then those of tenants by name.
    async fn stops(&self) -> Result<Vec<Stop>, Error>;
}

/// A stop in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// `None` for the whole site.
    pub tenant: Option<String>,
    pub at: Timestamp,
    pub by: String,
}

impl Stop {
    /// Whether it holds this tenant's campaigns.
    pub fn holds(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|own| own == tenant)
    }
}
