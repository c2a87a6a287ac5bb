//! For whom a caller acts. A certificate may confine its holder to a tenant: that tenant's campaigns, schedules and findings are then
//! all that there is for them.

use std::collections::BTreeSet;

use ajar_model::CampaignId;
use ajar_store::Summary;
use tonic::Status;

use crate::{Coordinator, error};

/// The tenants that a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tenants {
    All,
    These(BTreeSet<String>),
}

impl Tenants {
    pub(crate) fn include(&self, tenant: &str) -> bool {
        match self {
            Tenants::All => true,
            Tenants::These(tenants) => tenants.contains(tenant),
        }
    }
}

impl Tenants {
    /// Returns their names, or `None` for all.
    pub(crate) fn names(&self) -> Option<Vec<String>> {
        match self {
            Tenants::All => None,
            Tenants::These(tenants) => Some(tenants.iter().cloned().collect()),
        }
    }

    /// Each tenant by name, or `None` for all of them at once.
    pub(crate) fn named(&self) -> Vec<Option<&str>> {
        match self {
            Tenants::All => vec![None],
            Tenants::These(tenants) => tenants.iter().map(|tenant| Some(tenant.as_str())).collect(),
        }
    }
}

impl Coordinator {
    /// Returns a campaign as lists show it, if it is of these tenants. To others it does not exist.
    pub(crate) async fn campaign_of(
        &self,
        tenants: &Tenants,
        id: CampaignId,
    ) -> Result<Summary, Status> {
        let campaign = self.summary(id).await?;
        match tenants.include(&campaign.tenant) {
            true => Ok(campaign),
            false => Err(error::no_campaign(id)),
        }
    }

    /// Refuses, on record, to begin something for another tenant.
    pub(crate) async fn check_tenant(
        &self,
        tenants: &Tenants,
        tenant: &str,
        caller: &str,
    ) -> Result<(), Status> {
        if tenants.include(tenant) {
            return Ok(());
        }
        self.refusals.record(caller, "another tenant").await;
        Err(Status::permission_denied(format!(
            "{caller} does not act for tenant {tenant:?}"
        )))
    }
}
