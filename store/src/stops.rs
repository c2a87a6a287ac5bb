//! Stopping a tenant or the whole site, and starting it again.

use ajar_model::CampaignId;

use crate::{AuditEntry, Error, audit, orders::Stop, rows::Rows, stored};

/// See [`crate::Orders::stop`].
pub(crate) async fn stop(
    mut tx: Box<dyn Rows>,
    tenant: Option<&str>,
    entry: &AuditEntry,
) -> Result<Vec<CampaignId>, Error> {
    if let Some(tenant) = tenant {
        stored::name("a tenant", tenant)?;
    }
    let stop = Stop {
        tenant: tenant.map(str::to_owned),
        at: stored::to_micros(tx.now().await?),
        by: entry.actor.clone(),
    };
    let is_new = tx.insert_stop(&stop).await?;
    let held = tx.held_campaigns(tenant).await?;
    if is_new {
        audit::append(tx.as_mut(), entry).await?;
        tx.commit().await?;
    }
    Ok(held)
}

/// See [`crate::Orders::start_again`].
pub(crate) async fn start_again(
    mut tx: Box<dyn Rows>,
    tenant: Option<&str>,
    entry: &AuditEntry,
) -> Result<bool, Error> {
    if !tx.delete_stop(tenant).await? {
        return Ok(false);
    }
    audit::append(tx.as_mut(), entry).await?;
    tx.commit().await?;
    Ok(true)
}

/// Returns the stop that holds a tenant, by itself or with the whole site.
pub(crate) async fn in_force(tx: &mut dyn Rows, tenant: &str) -> Result<Option<Stop>, Error> {
    let stops = tx.stops().await?;
    Ok(stops.into_iter().find(|stop| stop.holds(tenant)))
}

/// Fails if a tenant is stopped.
pub(crate) async fn check(tx: &mut dyn Rows, tenant: &str) -> Result<(), Error> {
    match in_force(tx, tenant).await? {
        Some(stop) => Err(Error::Stopped(stop)),
        None => Ok(()),
    }
}
