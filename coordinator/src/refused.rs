//! Campaigns that this coordinator does not run, since it does not accept their authorization.
//!
//! It may be wrong: its file of signers may be empty, or a minute old. So it grants nothing, says
//! so, and the campaign ends only once every coordinator has refused it for a while.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ajar_model::{CampaignId, Timestamp};
use ajar_store::{SeenCoordinator, Trouble};
use tonic::Status;

use crate::{Coordinator, audit, error};

/// How often the other coordinators hear of this one.
const EVERY: Duration = Duration::from_secs(5);

/// The campaigns, each with the cause. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Refused(Arc<Mutex<BTreeMap<CampaignId, String>>>);

impl Refused {
    /// Records that a campaign is run here.
    pub(crate) fn accept(&self, id: CampaignId) {
        let mut refused = self.0.lock().expect("no holder panics");
        if refused.remove(&id).is_some() {
            tracing::info!(campaign = %id, "the authorization of a campaign is accepted again");
        }
    }

    /// Records that a campaign is not run here.
    pub(crate) fn refuse(&self, id: CampaignId, cause: &str) {
        let mut refused = self.0.lock().expect("no holder panics");
        if refused.insert(id, cause.to_owned()).is_none() {
            tracing::error!(campaign = %id, cause, "a campaign gets no leases here");
        }
    }

    fn all(&self) -> BTreeMap<CampaignId, String> {
        self.0.lock().expect("no holder panics").clone()
    }
}

impl Coordinator {
    /// Tells the others that this coordinator is here and what it refuses, and ends what all of
    /// them refuse.
    pub(crate) async fn tell_replicas(&self, due: &mut Instant) -> Result<(), Status> {
        if Instant::now() < *due {
            return Ok(());
        }
        let refused = self.refused.all();
        let refuses: Vec<CampaignId> = refused.keys().copied().collect();
        let seen = SeenCoordinator {
            name: &self.name,
            drives: self.options.drives.only(),
            refuses: &refuses,
        };
        let told = self.options.store.seen_coordinator(&seen).await;
        told.map_err(error::store)?;
        for (id, cause) in refused {
            self.end_if_all_refuse(id, &cause).await?;
        }
        *due = Instant::now() + EVERY;
        Ok(())
    }

    async fn end_if_all_refuse(&self, id: CampaignId, cause: &str) -> Result<(), Status> {
        let store = &self.options.store;
        let entry = audit::of(id, "coordinator", "campaign.end", cause.to_owned());
        let ended = store.end_refused(id, cause, &entry).await;
        if ended.map_err(error::store)? {
            tracing::error!(campaign = %id, cause, "no coordinator runs a campaign any more: it is incomplete");
            self.refused.accept(id);
            return Ok(());
        }
        let machine = rustix::system::uname();
        let trouble = Trouble {
            campaign: id,
            worker: self.name.to_string(),
            vantage: machine.nodename().to_string_lossy().into_owned(),
            cause: format!("it grants no leases: {cause}"),
            at: Timestamp::now(),
        };
        store.note_trouble(&trouble).await.map_err(error::store)
    }
}
