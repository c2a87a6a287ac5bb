//! A real store over SQLite that is away at times, and loses answers: what was asked for is done, and nobody hears of it.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use ajar_model::{
    Campaign, CampaignId, Canary, Finding, Observation, Schedule, ShardId, Sighting, Timestamp,
    campaign::State, lease::Work,
};
use ajar_store::{
    Active, Admission, AuditEntry, AuditLink, Batch, CampaignQuery, Demand, Error, Excluded,
    Exclusion, ExclusionQuery, Exclusions, FindingKey, FindingQuery, Fleet, Grant, GrantRequest,
    Hold, Holder, Ingested, ListedCanary, ListedSchedule, Mute, Orders, Outcome, Progress,
    Quarantined, Recorded, Renewal, Renewed, Replicas, Resumption, Run, ScheduleKey, ScheduleQuery,
    Schedules, SeenCoordinator, SeenWorker, Sending, Stop, Store, Summary, Transition, Trouble,
    Unleased, WorkerLeases,
};
use async_trait::async_trait;
use tokio::runtime::Handle;

use crate::{boundary, log::Log};

/// What happens to calls.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mood {
    /// Nothing is done, and an error is the answer.
    pub away: bool,
    /// One in so many answers is lost after it was done; 0 for none.
    pub loses: u32,
}

/// Somebody was given the right to a shard.
#[derive(Debug, Clone)]
pub struct Granted {
    pub at: Duration,
    pub owner: String,
    pub shard: ShardId,
}

pub struct FlakyStore {
    store: Arc<dyn Store>,
    /// Where the store itself runs: threads that are not simulated.
    outside: Handle,
    mood: Mutex<Mood>,
    chance: Mutex<fastrand::Rng>,
    grants: Mutex<Vec<Granted>>,
    log: Log,
}

impl FlakyStore {
    pub fn new(store: Arc<dyn Store>, outside: Handle, seed: u64, log: Log) -> Self {
        Self {
            store,
            outside,
            mood: Mutex::default(),
            chance: Mutex::new(fastrand::Rng::with_seed(seed)),
            grants: Mutex::default(),
            log,
        }
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Every grant so far, also those of which nobody heard.
    pub fn grants(&self) -> Vec<Granted> {
        self.grants.lock().unwrap().clone()
    }

    /// Does it at once, however long that takes outside: no simulated time passes.
    fn done<T: Send>(
        &self,
        call: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        boundary::outside(|| {
            let _outside = self.outside.enter();
            futures::executor::block_on(call)
        })
    }

    fn call<T: Send>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        let mood = *self.mood.lock().unwrap();
        let unavailable = |cause: &str| Error::Unavailable {
            url: "simulated".to_owned(),
            cause: cause.to_owned(),
        };
        if mood.away {
            return Err(unavailable("it is away"));
        }
        let done = self.done(call);
        if let Err(error) = &done {
            self.log.add(format_args!("store {what}: {error}"));
        }
        if mood.loses > 0 && self.chance.lock().unwrap().u32(..mood.loses) == 0 {
            self.log.add(format_args!("store {what}: answer lost"));
            return Err(unavailable("the answer was lost"));
        }
        done
    }
}

/// Passes calls on.
macro_rules! flaky {
    ($trait:ident { $($own:tt)* } $(async fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> Result<$out:ty, Error>;)*) => {
        #[async_trait]
        impl $trait for FlakyStore {
            $($own)*
            $(async fn $name(&self $(, $arg: $type)*) -> Result<$out, Error> {
                self.call(stringify!($name), self.store.$name($($arg),*))
            })*
        }
    };
}

flaky! {
    Store {
        async fn grant(&self, request: &GrantRequest) -> Result<Grant, Error> {
            self.call("grant", async {
                let grant = self.store.grant(request).await;
                if let Ok(Grant::Granted { .. }) = grant {
                    self.grants.lock().unwrap().push(Granted {
                        at: boundary::elapsed(),
                        owner: request.owner.clone(),
                        shard: request.shard,
                    });
                }
                self.log.add(format_args!("grant {} to {}: {grant:?}", request.shard, request.owner));
                grant
            })
        }

        async fn ingest(&self, batch: &Batch) -> Result<Ingested, Error> {
            self.call("ingest", async {
                let ingested = self.store.ingest(batch).await;
                let stale = ingested.as_ref().map(|ingested| ingested.stale).ok();
                self.log.add(format_args!(
                    "ingest of {} under {}: {} observations, {:?}, stale {stale:?}",
                    batch.shard, batch.token, batch.observations.len(), batch.progress
                ));
                ingested
            })
        }
    }
    async fn create_campaign(&self, admission: &Admission<'_>) -> Result<(), Error>;
    async fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>, Error>;
    async fn summary(&self, id: CampaignId) -> Result<Option<Summary>, Error>;
    async fn summaries(&self, query: &CampaignQuery) -> Result<Vec<Summary>, Error>;
    async fn active_campaigns(&self, only: Option<CampaignId>) -> Result<Vec<Active>, Error>;
    async fn transition(&self, transition: &Transition<'_>) -> Result<bool, Error>;
    async fn resume(&self, resumption: &Resumption<'_>) -> Result<Option<State>, Error>;
    async fn conclude(&self, id: CampaignId, settle: Duration) -> Result<Option<State>, Error>;
    async fn remove_campaign(&self, id: CampaignId, audit: &AuditEntry) -> Result<Option<State>, Error>;
    async fn old_campaigns(&self, before: Timestamp, limit: u32) -> Result<Vec<CampaignId>, Error>;
    async fn clear_removed(&self) -> Result<bool, Error>;
    async fn drop_unused(&self) -> Result<(), Error>;
    async fn progress(&self, id: CampaignId) -> Result<Progress, Error>;
    async fn unleased_shards(&self, only: Option<CampaignId>, margin: Duration) -> Result<Vec<Unleased>, Error>;
    async fn sending(&self) -> Result<Vec<Sending>, Error>;
    async fn demands(&self, only: Option<CampaignId>, most: u32) -> Result<Vec<Demand>, Error>;
    async fn quarantined(&self, id: CampaignId, limit: u32) -> Result<Vec<Quarantined>, Error>;
    async fn mute(&self, id: CampaignId, ports: u32, limit: u32) -> Result<Mute, Error>;
    async fn work(&self, shard: ShardId) -> Result<Option<Work>, Error>;
    async fn plan_revisits(&self, id: CampaignId, lately: Duration) -> Result<Vec<ShardId>, Error>;
    async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Renewed>, Error>;
    async fn end_leases(&self, margin: Duration) -> Result<u64, Error>;
    async fn release(&self, shard: ShardId, token: u64, failed: Option<&str>) -> Result<(), Error>;
    async fn note_trouble(&self, trouble: &Trouble) -> Result<(), Error>;
    async fn troubles(&self, id: CampaignId) -> Result<Vec<Trouble>, Error>;
    async fn end_local_leases(&self) -> Result<(), Error>;
    async fn record_sightings(&self, sightings: &[Sighting]) -> Result<Recorded, Error>;
    async fn judge_sightings(&self) -> Result<Vec<Finding>, Error>;
    async fn judge_older(&self, after: Option<FindingKey>) -> Result<Option<FindingKey>, Error>;
    async fn has_older(&self) -> Result<bool, Error>;
    async fn holder(&self, shard: ShardId, token: u64) -> Result<Option<Holder>, Error>;
    async fn forget_tokens(&self) -> Result<(), Error>;
    async fn unconfirmed(&self) -> Result<Vec<CampaignId>, Error>;
    async fn forget_sightings(&self, horizon: Timestamp, most: u32) -> Result<(), Error>;
    async fn findings(&self, query: &FindingQuery) -> Result<Vec<Finding>, Error>;
    async fn finding(&self, id: &str) -> Result<Option<(Finding, Vec<Observation>)>, Error>;
    async fn audit(&self, entry: &AuditEntry) -> Result<(), Error>;
    async fn audit_log(&self, after: u64, limit: u32) -> Result<Vec<AuditLink>, Error>;
    async fn now(&self) -> Result<Timestamp, Error>;
    async fn close(&self) -> Result<(), Error>;
}

flaky! {
    Orders {}
    async fn stop(&self, tenant: Option<&str>, audit: &AuditEntry) -> Result<Vec<CampaignId>, Error>;
    async fn start_again(&self, tenant: Option<&str>, audit: &AuditEntry) -> Result<bool, Error>;
    async fn stops(&self) -> Result<Vec<Stop>, Error>;
}

flaky! {
    Exclusions {}
    async fn exclude(&self, exclusions: &[Exclusion], audit: &AuditEntry) -> Result<(), Error>;
    async fn include(&self, id: &str, tenants: Option<&[String]>, audit: &AuditEntry) -> Result<bool, Error>;
    async fn exclusions(&self, query: &ExclusionQuery) -> Result<Vec<Exclusion>, Error>;
    async fn excluded(&self, tenant: &str) -> Result<Excluded, Error>;
    async fn end_exclusions(&self) -> Result<u64, Error>;
}

flaky! {
    Fleet {}
    async fn put_canary(&self, canary: &Canary) -> Result<(), Error>;
    async fn canaries(&self) -> Result<Vec<Canary>, Error>;
    async fn listed_canaries(&self) -> Result<Vec<ListedCanary>, Error>;
    async fn leases_by_worker(&self) -> Result<Vec<WorkerLeases>, Error>;
    async fn seen_workers(&self, workers: &BTreeMap<String, String>) -> Result<(), Error>;
    async fn workers(&self, lately: Duration) -> Result<Vec<SeenWorker>, Error>;
}

flaky! {
    Replicas {}
    async fn seen_coordinator(&self, seen: &SeenCoordinator<'_>) -> Result<(), Error>;
    async fn end_refused(&self, id: CampaignId, cause: &str, audit: &AuditEntry) -> Result<bool, Error>;
}

flaky! {
    Schedules {}
    async fn put_schedule(&self, schedule: &Schedule, entry: &AuditEntry) -> Result<(), Error>;
    async fn schedules(&self, query: &ScheduleQuery) -> Result<Vec<ListedSchedule>, Error>;
    async fn look_again(&self, key: &ScheduleKey, handled: Timestamp, next: Timestamp) -> Result<(), Error>;
    async fn hold_schedule(&self, hold: &Hold<'_>) -> Result<bool, Error>;
    async fn remove_schedule(&self, key: &ScheduleKey, entry: &AuditEntry) -> Result<bool, Error>;
    async fn run_scheduled(&self, run: &Run<'_>) -> Result<Option<Outcome>, Error>;
}
