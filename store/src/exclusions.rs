//! Addresses that get no packet, whatever campaigns name them: an owner said no, or an operator
//! says not this network.

use ajar_model::{Target, Timestamp};
use async_trait::async_trait;

use crate::{AuditEntry, Error};

/// Exclusions at run time. Each change counts the epoch up, which grants and renewals carry to
/// workers.
#[async_trait]
pub trait Exclusions {
    /// Adds exclusions together with an audit entry, all or nothing.
    async fn exclude(&self, exclusions: &[Exclusion], audit: &AuditEntry) -> Result<(), Error>;

    /// Takes an exclusion back together with an audit entry; it stays listed as removed. Returns
    /// `false`, and writes nothing, if none of this id is in force for these tenants.
    async fn include(
        &self,
        id: &str,
        tenants: Option<&[String]>,
        audit: &AuditEntry,
    ) -> Result<bool, Error>;

    /// Returns exclusions, newest first.
    async fn exclusions(&self, query: &ExclusionQuery) -> Result<Vec<Exclusion>, Error>;

    /// Returns what is excluded for a tenant now, its own and the site's, and the epoch that this
    /// is of.
    async fn excluded(&self, tenant: &str) -> Result<Excluded, Error>;

    /// Ends the exclusions whose time is over. Returns how many.
    async fn end_exclusions(&self) -> Result<u64, Error>;
}

/// A range of addresses that gets no packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    pub id: String,
    /// `None` for every tenant.
    pub tenant: Option<String>,
    pub target: Target,
    pub reason: String,
    /// The operator who ordered it.
    pub by: String,
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back, or ended.
    pub removed_at: Option<Timestamp>,
}

/// Which exclusions are wanted.
#[derive(Debug, Clone, Default)]
pub struct ExclusionQuery {
    /// Those of these tenants and of the site; of all if there is no list.
    pub tenants: Option<Vec<String>>,
    /// Also those that are over.
    pub all: bool,
    /// Those that come after this one in the list, for paging.
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// The addresses that are excluded for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excluded {
    pub epoch: u64,
    pub targets: Vec<Target>,
}
