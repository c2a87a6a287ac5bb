//! Ending what no coordinator runs. One of them alone may have an empty file of signers, or one
//! that is a minute old.

use std::time::Duration;

use ajar_model::{CampaignId, campaign::State};

use crate::{
    AuditEntry, Error, audit,
    replicas::SeenCoordinator,
    rows::{Rows, Standing},
    stored,
};

/// How long all coordinators must have refused a campaign. One that was not heard of for so long is
/// not asked.
pub const UNANIMOUS: Duration = Duration::from_secs(20);

/// See [`crate::Replicas::seen_coordinator`].
pub(crate) async fn seen(mut tx: Box<dyn Rows>, seen: &SeenCoordinator<'_>) -> Result<(), Error> {
    stored::name("a coordinator's identity", seen.name)?;
    let now = tx.now().await?;
    let horizon = stored::cutoff(now, UNANIMOUS);
    tx.put_coordinator(seen, stored::to_micros(now), horizon)
        .await?;
    tx.commit().await
}

/// See [`crate::Replicas::end_refused`].
pub(crate) async fn end_refused(
    mut tx: Box<dyn Rows>,
    id: CampaignId,
    cause: &str,
    entry: &AuditEntry,
) -> Result<bool, Error> {
    let standing = tx.lock_campaign(id).await?;
    if standing.is_none_or(|Standing { state, .. }| state != State::Running) {
        return Ok(false);
    }
    let since = stored::cutoff(tx.now().await?, UNANIMOUS);
    if !tx.is_refused_by_all(id, since).await? {
        return Ok(false);
    }
    tx.put_state(id, State::Incomplete, Some(cause)).await?;
    audit::append(tx.as_mut(), entry).await?;
    tx.commit().await?;
    Ok(true)
}
