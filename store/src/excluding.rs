//! Adding exclusions and taking them back. Whatever changes what is excluded counts the epoch up in
//! its transaction.

use ajar_model::addresses::AddressSet;

use crate::{
    AuditEntry, Error, audit,
    exclusions::{Excluded, Exclusion},
    rows::Rows,
    stored,
};

/// See [`crate::Exclusions::exclude`].
pub(crate) async fn exclude(
    mut tx: Box<dyn Rows>,
    exclusions: &[Exclusion],
    entry: &AuditEntry,
) -> Result<(), Error> {
    for exclusion in exclusions {
        stored::name("an exclusion's id", &exclusion.id)?;
        if let Some(tenant) = &exclusion.tenant {
            stored::name("a tenant", tenant)?;
        }
        stored::plain("a reason", &exclusion.reason)?;
        tx.insert_exclusion(exclusion).await?;
    }
    tx.count_epoch_up().await?;
    audit::append(tx.as_mut(), entry).await?;
    tx.commit().await
}

/// See [`crate::Exclusions::include`].
pub(crate) async fn include(
    mut tx: Box<dyn Rows>,
    id: &str,
    tenants: Option<&[String]>,
    entry: &AuditEntry,
) -> Result<bool, Error> {
    stored::name("an exclusion's id", id)?;
    let now = tx.now().await?;
    if !tx
        .end_exclusion(id, tenants, stored::to_micros(now))
        .await?
    {
        return Ok(false);
    }
    tx.count_epoch_up().await?;
    audit::append(tx.as_mut(), entry).await?;
    tx.commit().await?;
    Ok(true)
}

/// See [`crate::Exclusions::excluded`].
pub(crate) async fn excluded(mut tx: Box<dyn Rows>, tenant: &str) -> Result<Excluded, Error> {
    let now = tx.now().await?;
    Ok(Excluded {
        epoch: tx.epoch().await?,
        targets: tx.excluded(tenant, now).await?,
    })
}

/// Returns the addresses that are excluded for a tenant.
pub(crate) async fn addresses(tx: &mut dyn Rows, tenant: &str) -> Result<AddressSet, Error> {
    let now = tx.now().await?;
    Ok(AddressSet::new(&tx.excluded(tenant, now).await?))
}

/// See [`crate::Exclusions::end_exclusions`].
pub(crate) async fn end(mut tx: Box<dyn Rows>) -> Result<u64, Error> {
    let now = tx.now().await?;
    let ended = tx.end_expired_exclusions(now).await?;
    if ended == 0 {
        return Ok(0);
    }
    tx.count_epoch_up().await?;
    let entry = AuditEntry {
        at: now,
        actor: "coordinator".to_owned(),
        action: "exclusion.end".to_owned(),
        authorization: None,
        campaign: None,
        detail: format!("{ended} whose time was over"),
    };
    audit::append(tx.as_mut(), &entry).await?;
    tx.commit().await?;
    Ok(ended)
}
