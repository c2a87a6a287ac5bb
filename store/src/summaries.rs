//! What is told of a campaign that is over and takes long to find out: it is kept.

use ajar_model::CampaignId;

use crate::{Error, Mute, rows::Backend, stored};

/// See [`crate::Store::mute`].
pub(crate) async fn mute(
    backend: &dyn Backend,
    id: CampaignId,
    ports: u32,
    limit: u32,
) -> Result<Mute, Error> {
    let mut tx = backend.read().await?;
    if let Some(kept) = tx.kept_mute(id).await? {
        return stored::from_json("mute addresses", &kept);
    }
    let mute = tx.mute(id, ports, limit).await?;
    drop(tx);
    let text = stored::to_json("mute addresses", &mute)?;
    let keep = async {
        let mut tx = backend.write().await?;
        tx.keep_mute(id, text).await?;
        tx.commit().await
    };
    // A store that is only read keeps nothing, and has the answer all the same.
    if let Err(error) = keep.await {
        tracing::debug!(%error, "mute addresses are found again when they are asked for");
    }
    Ok(mute)
}
