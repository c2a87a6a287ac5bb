//! The store's rules over whichever database.

use std::{collections::BTreeMap, time::Duration};

use ajar_model::{
    Campaign, CampaignId, Canary, Finding, Observation, Schedule, ShardId, Sighting, Timestamp,
    campaign::State, judge::RULES, lease::Work,
};
use async_trait::async_trait;

use crate::{
    Active, Admission, AuditEntry, AuditLink, Batch, CampaignQuery, Demand, Error, FindingKey,
    FindingQuery, Grant, GrantRequest, Holder, Ingested, ListedCanary, Mute, Progress, Quarantined,
    Recorded, Renewal, Renewed, Resumption, SeenWorker, Sending, Store, Summary, TOKEN_LIFE,
    Transition, Trouble, Unleased, WorkerLeases, audit, campaigns, excluding,
    exclusions::{Excluded, Exclusion, ExclusionQuery, Exclusions},
    fleet::Fleet,
    grant, ingest, mails, older,
    orders::{Orders, Stop},
    release, renew,
    replicas::{Replicas, SeenCoordinator},
    revisits,
    rows::{Backend, Lock},
    runs,
    schedules::{Hold, ListedSchedule, Outcome, Run, ScheduleKey, ScheduleQuery, Schedules},
    stops, stored, summaries, unanimity,
};

/// How long a worker that gives no sign of life is remembered.
const WORKER_MEMORY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A canary that was not heard of for so long came anew.
const CANARY_GONE: Duration = Duration::from_secs(75);

/// A store over a database.
pub(crate) struct Engine<B>(pub B);

#[async_trait]
impl<B: Backend> Store for Engine<B> {
    async fn create_campaign(&self, admission: &Admission<'_>) -> Result<(), Error> {
        campaigns::create(self.0.write().await?, admission).await
    }

    async fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>, Error> {
        self.0.read().await?.campaign(id).await
    }

    async fn summary(&self, id: CampaignId) -> Result<Option<Summary>, Error> {
        self.0.read().await?.summary(id).await
    }

    async fn summaries(&self, query: &CampaignQuery) -> Result<Vec<Summary>, Error> {
        for tenant in query.tenants.iter().flatten() {
            stored::name("a tenant", tenant)?;
        }
        self.0.read().await?.summaries(query).await
    }

    async fn active_campaigns(&self, only: Option<CampaignId>) -> Result<Vec<Active>, Error> {
        let mut tx = self.0.read().await?;
        let now = tx.now().await?;
        let active = tx.active(only).await?.into_iter();
        let active = active.map(|(campaign, is_open, next)| Active {
            campaign,
            is_open,
            is_due: next.is_some_and(|next| revisits::is_due(next, now, is_open)),
        });
        Ok(active.collect())
    }

    async fn transition(&self, transition: &Transition<'_>) -> Result<bool, Error> {
        campaigns::transition(self.0.write().await?, transition).await
    }

    async fn resume(&self, resumption: &Resumption<'_>) -> Result<Option<State>, Error> {
        campaigns::resume(self.0.write().await?, resumption).await
    }

    async fn remove_campaign(
        &self,
        id: CampaignId,
        entry: &AuditEntry,
    ) -> Result<Option<State>, Error> {
        campaigns::remove(self.0.write().await?, id, entry).await
    }

    async fn old_campaigns(&self, before: Timestamp, limit: u32) -> Result<Vec<CampaignId>, Error> {
        self.0.read().await?.old_campaigns(before, limit).await
    }

    async fn clear_removed(&self) -> Result<bool, Error> {
        campaigns::clear(self.0.write().await?).await
    }

    async fn drop_unused(&self) -> Result<(), Error> {
        self.0.drop_unused().await
    }

    async fn conclude(&self, id: CampaignId, settle: Duration) -> Result<Option<State>, Error> {
        campaigns::conclude(self.0.write().await?, id, settle).await
    }

    async fn progress(&self, id: CampaignId) -> Result<Progress, Error> {
        let mut tx = self.0.read().await?;
        let now = tx.now().await?;
        tx.progress(id, now).await
    }

    async fn unleased_shards(
        &self,
        only: Option<CampaignId>,
        margin: Duration,
    ) -> Result<Vec<Unleased>, Error> {
        let mut tx = self.0.read().await?;
        let cutoff = stored::cutoff(tx.now().await?, margin);
        tx.unleased(only, cutoff).await
    }

    async fn demands(&self, only: Option<CampaignId>, most: u32) -> Result<Vec<Demand>, Error> {
        self.0.read().await?.demands(only, most).await
    }

    async fn sending(&self) -> Result<Vec<Sending>, Error> {
        self.0.read().await?.sending().await
    }

    async fn quarantined(&self, id: CampaignId, limit: u32) -> Result<Vec<Quarantined>, Error> {
        self.0.read().await?.quarantined(id, limit).await
    }

    async fn mute(&self, id: CampaignId, ports: u32, limit: u32) -> Result<Mute, Error> {
        summaries::mute(&self.0, id, ports, limit).await
    }

    async fn work(&self, shard: ShardId) -> Result<Option<Work>, Error> {
        self.0.read().await?.work(shard).await
    }

    async fn plan_revisits(&self, id: CampaignId, lately: Duration) -> Result<Vec<ShardId>, Error> {
        revisits::plan(&self.0, id, lately).await
    }

    async fn grant(&self, request: &GrantRequest) -> Result<Grant, Error> {
        grant::grant(&self.0, request).await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Renewed>, Error> {
        renew::renew(self.0.write().await?, renewals).await
    }

    async fn end_leases(&self, margin: Duration) -> Result<u64, Error> {
        release::expired(&self.0, margin).await
    }

    async fn release(&self, shard: ShardId, token: u64, failed: Option<&str>) -> Result<(), Error> {
        release::release(self.0.write().await?, shard, token, failed).await
    }

    async fn troubles(&self, id: CampaignId) -> Result<Vec<Trouble>, Error> {
        let mut tx = self.0.read().await?;
        let now = tx.now().await?;
        tx.troubles(id, now).await
    }

    async fn note_trouble(&self, trouble: &Trouble) -> Result<(), Error> {
        stored::name("a worker's identity", &trouble.worker)?;
        stored::name("a vantage point", &trouble.vantage)?;
        stored::plain("a cause", &trouble.cause)?;
        let trouble = Trouble {
            at: stored::to_micros(trouble.at),
            ..trouble.clone()
        };
        let mut tx = self.0.write().await?;
        let horizon = stored::cutoff(trouble.at, WORKER_MEMORY);
        tx.put_trouble(&trouble, horizon).await?;
        tx.commit().await
    }

    async fn end_local_leases(&self) -> Result<(), Error> {
        let mut tx = self.0.write().await?;
        tx.lock(Lock::Site).await?;
        tx.end_local_leases().await?;
        tx.commit().await
    }

    async fn ingest(&self, batch: &Batch) -> Result<Ingested, Error> {
        ingest::ingest(&self.0, batch).await
    }

    async fn record_sightings(&self, sightings: &[Sighting]) -> Result<Recorded, Error> {
        mails::record_sightings(&self.0, sightings).await
    }

    async fn judge_sightings(&self) -> Result<Vec<Finding>, Error> {
        mails::judge_sightings(&self.0).await
    }

    async fn judge_older(&self, after: Option<FindingKey>) -> Result<Option<FindingKey>, Error> {
        older::judge_older(&self.0, after).await
    }

    async fn has_older(&self) -> Result<bool, Error> {
        let older = self.0.read().await?.judged_by_older(RULES).await?;
        Ok(older.is_some())
    }

    async fn holder(&self, shard: ShardId, token: u64) -> Result<Option<Holder>, Error> {
        self.0.read().await?.holder(shard, token).await
    }

    async fn forget_tokens(&self) -> Result<(), Error> {
        let mut tx = self.0.write().await?;
        let horizon = stored::cutoff(tx.now().await?, TOKEN_LIFE);
        tx.delete_tokens(horizon).await?;
        tx.commit().await
    }

    async fn unconfirmed(&self) -> Result<Vec<CampaignId>, Error> {
        self.0.read().await?.unconfirmed().await
    }

    async fn forget_sightings(&self, horizon: Timestamp, most: u32) -> Result<(), Error> {
        mails::forget_sightings(&self.0, horizon, most).await
    }

    async fn findings(&self, query: &FindingQuery) -> Result<Vec<Finding>, Error> {
        if let Some((.., probe)) = &query.after {
            stored::name("a probe's name", probe.as_str())?;
        }
        self.0.read().await?.findings(query).await
    }

    async fn finding(&self, id: &str) -> Result<Option<(Finding, Vec<Observation>)>, Error> {
        stored::name("a finding's id", id)?;
        self.0.read().await?.finding(id).await
    }

    async fn audit(&self, entry: &AuditEntry) -> Result<(), Error> {
        let mut tx = self.0.write().await?;
        audit::append(tx.as_mut(), entry).await?;
        tx.commit().await
    }

    async fn audit_log(&self, after: u64, limit: u32) -> Result<Vec<AuditLink>, Error> {
        self.0.read().await?.audit_rows(after, limit).await
    }

    async fn now(&self) -> Result<Timestamp, Error> {
        self.0.read().await?.now().await
    }

    async fn close(&self) -> Result<(), Error> {
        self.0.close().await
    }
}

#[async_trait]
impl<B: Backend> Orders for Engine<B> {
    async fn stop(
        &self,
        tenant: Option<&str>,
        entry: &AuditEntry,
    ) -> Result<Vec<CampaignId>, Error> {
        stops::stop(self.0.write().await?, tenant, entry).await
    }

    async fn start_again(&self, tenant: Option<&str>, entry: &AuditEntry) -> Result<bool, Error> {
        stops::start_again(self.0.write().await?, tenant, entry).await
    }

    async fn stops(&self) -> Result<Vec<Stop>, Error> {
        self.0.read().await?.stops().await
    }
}

#[async_trait]
impl<B: Backend> Exclusions for Engine<B> {
    async fn exclude(&self, exclusions: &[Exclusion], entry: &AuditEntry) -> Result<(), Error> {
        excluding::exclude(self.0.write().await?, exclusions, entry).await
    }

    async fn include(
        &self,
        id: &str,
        tenants: Option<&[String]>,
        entry: &AuditEntry,
    ) -> Result<bool, Error> {
        excluding::include(self.0.write().await?, id, tenants, entry).await
    }

    async fn exclusions(&self, query: &ExclusionQuery) -> Result<Vec<Exclusion>, Error> {
        self.0.read().await?.exclusions(query).await
    }

    async fn excluded(&self, tenant: &str) -> Result<Excluded, Error> {
        excluding::excluded(self.0.read().await?, tenant).await
    }

    async fn end_exclusions(&self) -> Result<u64, Error> {
        excluding::end(self.0.write().await?).await
    }
}

#[async_trait]
impl<B: Backend> Fleet for Engine<B> {
    async fn put_canary(&self, canary: &Canary) -> Result<(), Error> {
        let body = stored::to_json("a canary", canary)?;
        let mut tx = self.0.write().await?;
        let now = tx.now().await?;
        let gone = stored::cutoff(now, CANARY_GONE);
        tx.put_canary(canary.address, body, stored::to_micros(now), gone)
            .await?;
        tx.commit().await
    }

    async fn canaries(&self) -> Result<Vec<Canary>, Error> {
        let listed = self.listed_canaries().await?;
        Ok(listed.into_iter().map(|listed| listed.canary).collect())
    }

    async fn listed_canaries(&self) -> Result<Vec<ListedCanary>, Error> {
        self.0.read().await?.canaries().await
    }

    async fn leases_by_worker(&self) -> Result<Vec<WorkerLeases>, Error> {
        let mut tx = self.0.read().await?;
        let now = stored::to_micros(tx.now().await?);
        tx.leases_by_worker(now).await
    }

    async fn seen_workers(&self, workers: &BTreeMap<String, String>) -> Result<(), Error> {
        let mut tx = self.0.write().await?;
        let now = tx.now().await?;
        let seen = workers.iter().filter(|(worker, vantage)| {
            stored::name("a worker's identity", worker).is_ok()
                && stored::name("a vantage point", vantage).is_ok()
        });
        let seen = seen.map(|(worker, vantage)| SeenWorker {
            worker: worker.clone(),
            vantage: vantage.clone(),
            last_seen: stored::to_micros(now),
        });
        let seen: Vec<SeenWorker> = seen.collect();
        tx.forget_workers(stored::cutoff(now, WORKER_MEMORY))
            .await?;
        tx.put_workers(&seen).await?;
        tx.commit().await
    }

    async fn workers(&self, lately: Duration) -> Result<Vec<SeenWorker>, Error> {
        let mut tx = self.0.read().await?;
        let since = stored::cutoff(tx.now().await?, lately);
        tx.workers(since).await
    }
}

#[async_trait]
impl<B: Backend> Replicas for Engine<B> {
    async fn seen_coordinator(&self, seen: &SeenCoordinator<'_>) -> Result<(), Error> {
        unanimity::seen(self.0.write().await?, seen).await
    }

    async fn end_refused(
        &self,
        id: CampaignId,
        cause: &str,
        entry: &AuditEntry,
    ) -> Result<bool, Error> {
        unanimity::end_refused(self.0.write().await?, id, cause, entry).await
    }
}

#[async_trait]
impl<B: Backend> Schedules for Engine<B> {
    async fn put_schedule(&self, schedule: &Schedule, entry: &AuditEntry) -> Result<(), Error> {
        let mut tx = self.0.write().await?;
        tx.put_schedule(schedule).await?;
        audit::append(tx.as_mut(), entry).await?;
        tx.commit().await
    }

    async fn schedules(&self, query: &ScheduleQuery) -> Result<Vec<ListedSchedule>, Error> {
        for tenant in query.tenants.iter().flatten() {
            stored::name("a tenant", tenant)?;
        }
        let mut tx = self.0.read().await?;
        let now = tx.now().await?;
        tx.schedules(query, now).await
    }

    async fn look_again(
        &self,
        key: &ScheduleKey,
        handled: Timestamp,
        next: Timestamp,
    ) -> Result<(), Error> {
        let mut tx = self.0.write().await?;
        let (handled, next) = (stored::to_micros(handled), stored::to_micros(next));
        tx.put_next(key, handled, next).await?;
        tx.commit().await
    }

    async fn hold_schedule(&self, hold: &Hold<'_>) -> Result<bool, Error> {
        let mut tx = self.0.write().await?;
        let now = stored::to_micros(hold.now);
        if !tx.hold_schedule(hold.key, hold.paused, now).await? {
            return Ok(false);
        }
        audit::append(tx.as_mut(), hold.audit).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn remove_schedule(&self, key: &ScheduleKey, entry: &AuditEntry) -> Result<bool, Error> {
        let mut tx = self.0.write().await?;
        if !tx.delete_schedule(key).await? {
            return Ok(false);
        }
        audit::append(tx.as_mut(), entry).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn run_scheduled(&self, run: &Run<'_>) -> Result<Option<Outcome>, Error> {
        runs::run(self.0.write().await?, run).await
    }
}
