//! Whose lease it is: what is said of a shard counts only if it comes from whom the shard was granted to.
//!
//! Tokens are counted up, so anybody could guess them. Who shows a certificate is held to it; without TLS callers cannot be told
//! apart.

use ajar_model::ShardId;
use ajar_store::Holder;
use tonic::Status;

use crate::{Coordinator, error, recent::Recent};

/// Bytes of holders that are kept at hand.
const REMEMBERED: usize = 8 << 20;

/// The holders of tokens, which never change.
pub(crate) type Holders = Recent<(ShardId, u64), Holder>;

/// An empty cache of holders.
pub(crate) fn none() -> Holders {
    Recent::new(REMEMBERED)
}

/// What the store knows a worker by: its name, and the URI of its certificate if it has one.
pub(crate) fn owner(worker: &str, certified: Option<&str>) -> String {
    match certified {
        Some(uri) => format!("{worker} as {uri}"),
        None => worker.to_owned(),
    }
}

/// Returns the name of an owner's worker.
pub(crate) fn worker_of(owner: &str) -> &str {
    owner.split_once(" as ").map_or(owner, |(worker, _)| worker)
}

impl Coordinator {
    /// Returns the holder of a token. Refuses a worker that speaks of another's lease, by the URI of
    /// its certificate, and leaves a token that was never issued to the store.
    pub(crate) async fn check_holder(
        &self,
        shard: ShardId,
        token: u64,
        certified: Option<&str>,
    ) -> Result<Option<Holder>, Status> {
        let holder = self.holder(shard, token).await?;
        let (Some(uri), Some(known)) = (certified, &holder) else {
            return Ok(holder);
        };
        if known.owner.ends_with(&format!(" as {uri}")) {
            return Ok(holder);
        }
        self.refusals.record(uri, "another worker's lease").await;
        Err(Status::permission_denied(format!(
            "{uri} speaks of another worker's lease, of shard {shard}"
        )))
    }

    /// Returns whom a token was issued to, for this shard.
    pub(crate) async fn holder(
        &self,
        shard: ShardId,
        token: u64,
    ) -> Result<Option<Holder>, Status> {
        let key = (shard, token);
        if let Some(holder) = self.holders.get(&key) {
            return Ok(Some(holder));
        }
        let holder = self.options.store.holder(shard, token).await;
        let holder = holder.map_err(error::store)?;
        if let Some(holder) = &holder {
            let names = holder.owner.len() + holder.vantage.as_ref().map_or(0, String::len);
            let bytes = size_of::<((ShardId, u64), Holder)>() + names;
            self.holders.put(key, holder.clone(), bytes);
        }
        Ok(holder)
    }
}
