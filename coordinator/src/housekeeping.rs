//! What has to happen without anybody asking: offering shards that nobody works on, ending campaigns, and starting those whose
//! time has come.

use std::time::{Duration, Instant};

use ajar_model::{CampaignId, Timestamp, authorization, campaign::State};
use ajar_queue::Priority;
use ajar_store::{Active, FindingKey, Transition};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{Coordinator, Drives, MARGIN, audit, error, leases::ABANDONED, strays};

/// How often campaigns are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often every open shard without a lease is offered, and stray mails are looked at. The queue may forget any of them at any time: it was flushed,
/// failed over to an older state, or was away when they were offered first.
const OFFER: Duration = Duration::from_secs(5);
/// How often old rows are forgotten.
const CLEAN: Duration = Duration::from_secs(60);
/// How often expired leases are ended.
const END: Duration = Duration::from_secs(1);
/// How often schedules are looked at.
const START: Duration = Duration::from_secs(1);
/// Pause after the store or the queue was away.
const AWAY: Duration = Duration::from_secs(2);

pub(crate) async fn run(coordinator: Coordinator, shutdown: CancellationToken) {
    if coordinator.options.drives == Drives::Nothing {
        return;
    }
    let (mut offer_at, mut start_at) = (Instant::now(), Instant::now());
    let (mut tell_at, mut clean_at) = (Instant::now(), Instant::now());
    let mut end_at = Instant::now();
    let mut older = Older::default();
    while !shutdown.is_cancelled() {
        let compared = coordinator.compare_clocks().await;
        let ended = coordinator.end_leases(&mut end_at).await;
        let divided = coordinator.divide().await;
        let offered = coordinator.every_few_seconds(&mut offer_at).await;
        let concluded = coordinator.conclude_campaigns().await;
        let told = coordinator.tell_replicas(&mut tell_at).await;
        let started = match Instant::now() >= start_at {
            true => {
                start_at = Instant::now() + START;
                coordinator.start_due().await
            }
            false => Ok(()),
        };
        let cleaned = coordinator.clean(&mut clean_at).await;
        let judged = coordinator.judge_older(&mut older).await;
        let mut pause = TICK;
        let done = [
            compared, ended, divided, offered, concluded, told, started, cleaned, judged,
        ];
        for status in done.into_iter().filter_map(Result::err) {
            tracing::warn!(
                cause = status.message(),
                "housekeeping failed; it is tried again"
            );
            pause = AWAY;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// How far findings are judged by the rules of today.
#[derive(Debug, Default)]
struct Older {
    after: Option<FindingKey>,
    is_done: bool,
}

impl Coordinator {
    /// Judges some findings of an older version again.
    async fn judge_older(&self, older: &mut Older) -> Result<(), Status> {
        if older.is_done {
            return Ok(());
        }
        let store = &self.options.store;
        let after = store.judge_older(older.after.take()).await;
        older.after = after.map_err(error::store)?;
        older.is_done = older.after.is_none();
        Ok(())
    }

    /// Ends the leases of workers that were not heard of, and offers their shards.
    async fn end_leases(&self, due: &mut Instant) -> Result<(), Status> {
        if Instant::now() < *due {
            return Ok(());
        }
        *due = Instant::now() + END;
        let ended = self.options.store.end_leases(MARGIN).await;
        match ended.map_err(error::store)? {
            0 => Ok(()),
            _ => self.offer_unleased(None).await,
        }
    }

    async fn every_few_seconds(&self, due: &mut Instant) -> Result<(), Status> {
        let looked = self.options.queue.lost().await;
        self.queue_fault.note(&looked);
        let lost = looked.map_err(error::queue)?;
        if lost {
            tracing::info!("the queue is new or was lost: offering every open shard");
        }
        if lost || Instant::now() >= *due {
            self.offer_unleased(None).await?;
            self.care_for_sightings().await?;
            let store = &self.options.store;
            store.end_exclusions().await.map_err(error::store)?;
            self.reopen_unconfirmed().await?;
            self.clear_removed().await?;
            let depth = self.options.queue.depth().await.map_err(error::queue)?;
            for (state, shards) in [("waiting", depth.waiting), ("taken", depth.taken)] {
                metrics::gauge!("ajar_queue_shards", "state" => state).set(shards as f64);
            }
            *due = Instant::now() + OFFER;
        }
        Ok(())
    }

    /// A process may die between storing a mail and judging by it, and anybody may send mails that are of no finding.
    async fn care_for_sightings(&self) -> Result<(), Status> {
        let store = &self.options.store;
        for finding in store.judge_sightings().await.map_err(error::store)? {
            tracing::info!(
                finding = finding.id,
                "a mail that was overlooked changed a finding"
            );
        }
        Ok(())
    }

    /// Forgets what nobody will ask for, and puts on record what was refused too often to be
    /// listed.
    async fn clean(&self, due: &mut Instant) -> Result<(), Status> {
        if Instant::now() < *due {
            return Ok(());
        }
        *due = Instant::now() + CLEAN;
        let store = &self.options.store;
        let now = self.clock.now();
        let horizon = now.saturating_sub(strays::LIFE).unwrap_or(Timestamp::MIN);
        let forgotten = store.forget_sightings(horizon, strays::MOST).await;
        forgotten.map_err(error::store)?;
        store.forget_tokens().await.map_err(error::store)?;
        self.remove_old().await?;
        self.refusals.record_others(now).await.map_err(error::store)
    }

    /// Lets finished campaigns go on that have something to confirm: a late mail has proved it.
    async fn reopen_unconfirmed(&self) -> Result<(), Status> {
        if self.options.drives != Drives::Shared {
            return Ok(());
        }
        let store = &self.options.store;
        for id in store.unconfirmed().await.map_err(error::store)? {
            let permitted = matches!(self.permitted_plan(id).await, Ok(Ok(_)));
            if !permitted {
                continue;
            }
            let detail = "a late mail proved a finding, which is to be confirmed".to_owned();
            let transition = Transition {
                id,
                from: &[State::Finished],
                to: State::Settling,
                cause: None,
                not_before: None,
                audit: &audit::of(id, "coordinator", "campaign.reopen", detail),
            };
            store.transition(&transition).await.map_err(error::store)?;
        }
        Ok(())
    }

    async fn conclude_campaigns(&self) -> Result<(), Status> {
        let store = &self.options.store;
        let active = store.active_campaigns(self.options.drives.only()).await;
        for active in active.map_err(error::store)? {
            let id = active.campaign;
            match self.care_for(active).await {
                Err(status) if status.code() == Code::Unavailable => return Err(status),
                // A fault of one campaign must not stop the others.
                Err(status) => self.troubles.log(&id.to_string(), status.message()),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Lets a campaign visit again what is due for that, and ends one that is done, or may not go on.
    async fn care_for(&self, active: Active) -> Result<(), Status> {
        let Active { campaign: id, .. } = active;
        if active.is_due {
            let due = self.options.store.plan_revisits(id, ABANDONED).await;
            let due = due.map_err(error::store)?;
            if !due.is_empty() {
                self.offer(&due, Priority::High).await?;
            }
        }
        match active.is_open {
            true => self.end_if_expired(id).await,
            false => self.conclude(id).await,
        }
    }

    async fn conclude(&self, id: CampaignId) -> Result<(), Status> {
        let planned = self.plan(id).await?;
        let settle = Duration::from_secs(planned.campaign.spec.settle_secs.into());
        let state = self.options.store.conclude(id, settle).await;
        match state.map_err(error::store)? {
            Some(State::Running) => self.end_if_expired(id).await,
            Some(state) if state.is_final() => {
                self.refused.accept(id);
                self.withdraw(id).await;
                // The store keeps the answer for `campaign show`.
                let ended = self.clone();
                tokio::spawn(async move {
                    let found = ended.mute_at_end(id, &planned.campaign.spec).await;
                    if let Err(status) = found {
                        tracing::debug!(cause = status.message(), "mute addresses were not found");
                    }
                });
                metrics::counter!("ajar_campaigns_ended_total", "state" => state.as_str())
                    .increment(1);
                tracing::info!(campaign = %id, state = state.as_str(), "a campaign ended");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends a campaign whose authorization is over by the database's clock. What was not visited
    /// stays so, and a new authorization lets it go on. Whatever else is wrong with the
    /// authorization may be wrong here alone.
    async fn end_if_expired(&self, id: CampaignId) -> Result<(), Status> {
        let (cause, not_after) = match self.permitted_plan(id).await? {
            Ok(_) => {
                self.refused.accept(id);
                return Ok(());
            }
            Err(cause @ authorization::Error::Expired(not_after)) => (cause.to_string(), not_after),
            // A clock that went back is waited for.
            Err(authorization::Error::NotYetValid(_)) => return Ok(()),
            Err(cause) => {
                self.refused.refuse(id, &cause.to_string());
                return Ok(());
            }
        };
        let transition = Transition {
            id,
            from: &[State::Running],
            to: State::Incomplete,
            cause: Some(&cause),
            not_before: Some(not_after),
            audit: &audit::of(id, "coordinator", "campaign.end", cause.clone()),
        };
        let moved = self.options.store.transition(&transition).await;
        if moved.map_err(error::store)? {
            tracing::error!(campaign = %id, cause, "a campaign ended before its time");
            self.withdraw(id).await;
        }
        Ok(())
    }
}
