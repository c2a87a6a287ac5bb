//! Whose lease it is: what is said of a shard counts only if it comes from whom the shard was granted to.
//!
//! Tokens are counted up, so anybody could guess them. Who shows a certificate is held to it; without TLS callers cannot be told
//! apart.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use ajar_model::ShardId;
use ajar_store::Holder;
use tonic::Status;

use crate::{Coordinator, error};

/// Holders that are remembered; all are forgotten then, and read again.
const REMEMBERED: usize = 1 << 14;

/// Who holds which token, as far as it was asked: it never changes. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Holders(Arc<Mutex<HashMap<(ShardId, u64), Holder>>>);

/// What the store knows a worker by: its name, and the URI of its certificate if it has one.
pub(crate) fn owner(worker: &str, certified: Option<&str>) -> String {
    match certified {
        Some(uri) => format!("{worker} as {uri}"),
        None => worker.to_owned(),
    }
}

impl Coordinator {
    /// Refuses a worker, by its certificate's URI, that speaks of another's lease. A token that was never issued is
    /// left to the store.
    pub(crate) async fn check_holder(
        &self,
        shard: ShardId,
        token: u64,
        certified: Option<&str>,
    ) -> Result<(), Status> {
        let Some(uri) = certified else {
            return Ok(());
        };
        let Some(holder) = self.holder(shard, token).await? else {
            return Ok(());
        };
        if holder.owner.ends_with(&format!(" as {uri}")) {
            return Ok(());
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
        let Holders(known) = &self.holders;
        let key = (shard, token);
        if let Some(holder) = known.lock().expect("no holder panics").get(&key) {
            return Ok(Some(holder.clone()));
        }
        let holder = self.options.store.holder(shard, token).await;
        let holder = holder.map_err(error::store)?;
        if let Some(holder) = &holder {
            let mut known = known.lock().expect("no holder panics");
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(key, holder.clone());
        }
        Ok(holder)
    }
}
