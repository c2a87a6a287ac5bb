//! Handing out shards: the queue proposes, the store grants.

use std::time::{Duration, Instant};

use ajar_model::{CampaignId, Lease, ProbeId, ShardId, Target, Timestamp, Untrusted, lease::Work};
use ajar_proto::{
    convert, v1,
    v1::{lease_news::News, work_service_server::WorkService},
};
use ajar_queue::{Line, Priority};
use ajar_store::{ATTEMPTS, Caps, Grant, GrantRequest, Trouble};
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    Coordinator, MARGIN, TTL, abilities::Abilities, caller, error, holders, plans::Planned,
    presence::Presence, roles,
};

/// How long a request for work waits for a shard to come due; well below [`TTL`], which counts from the request.
const WAIT: Duration = Duration::from_secs(2);
/// How often the queue is asked meanwhile.
const POLL: Duration = Duration::from_millis(100);
/// Shards that may be proposed in vain before a request is answered with nothing.
const TRIES: u32 = 8;
/// When the queue proposes a taken shard again. Housekeeping offers a shard without a lease much
/// earlier.
const OUT: Duration = Duration::from_secs(600);
/// When a shard that could not be granted is proposed again.
const LATER: Duration = Duration::from_secs(1);
/// How long after its last worker was heard a vantage point is waited for: a server that put it off
/// remembers its address.
pub(crate) const ABANDONED: Duration = Duration::from_secs(300);
/// The same for a confirming round, which another vantage point can make as well.
const REPLACED: Duration = Duration::from_secs(60);

#[tonic::async_trait]
impl WorkService for Coordinator {
    type SessionStream = BoxStream<'static, Result<v1::SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        Ok(Response::new(self.begin_session(request)))
    }

    async fn lease(
        &self,
        request: Request<v1::LeaseRequest>,
    ) -> Result<Response<v1::LeaseResponse>, Status> {
        let certified = caller::worker(&request);
        let asking = Asking::new(request.into_inner(), certified.as_deref());
        asking.note(&self.presence);
        let lease = self.seek(&asking).await?.map(Into::into);
        Ok(Response::new(v1::LeaseResponse { lease }))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let certified = caller::worker(&request);
        let request = request.into_inner();
        // Whoever is busy asks for no other lease, and has its part of the rate all the same.
        if !request.worker.is_empty() {
            self.presence.note(&request.worker, None);
        }
        let named = self.keep(vec![request], certified.as_deref()).await?.pop();
        match named.and_then(|named| v1::LeaseNews::from(named).news) {
            Some(News::Renewed(renewed)) => Ok(Response::new(renewed)),
            _ => Err(Status::internal("a renewal has no answer")),
        }
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let certified = caller::worker(&request);
        let request = request.into_inner();
        let shard = convert::shard_in(request.shard)?;
        self.check_holder(shard, request.token, certified.as_deref())
            .await?;
        let store = &self.options.store;
        let cause = cleaned(&request.cause);
        let failed = request.failed.then_some(cause.as_str());
        let released = store.release(shard, request.token, failed).await;
        released.map_err(error::store)?;
        if !cause.is_empty() {
            let holder = self.holder(shard, request.token).await?;
            let vantage = holder.and_then(|holder| holder.vantage);
            let trouble = Trouble {
                campaign: shard.campaign,
                worker: request.worker,
                vantage: vantage.unwrap_or(request.vantage),
                cause,
                at: Timestamp::now(),
            };
            tracing::warn!(%shard, worker = trouble.worker, cause = trouble.cause, "a worker gave a lease back");
            store.note_trouble(&trouble).await.map_err(error::store)?;
        }
        // Whoever could not run it asks again soon: others come first.
        let delay = match request.cause.as_str() {
            "" => Duration::ZERO,
            _ => LATER,
        };
        self.offer_again(shard, delay).await?;
        Ok(Response::new(v1::ReleaseResponse {}))
    }

    async fn describe(
        &self,
        request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeResponse>, Status> {
        let request = request.into_inner();
        let id = convert::campaign_id(&request.campaign)?;
        self.forget_plan_before(id, request.revision);
        let planned = self.permitted_plan(id).await?;
        let planned = planned.map_err(|cause| Status::permission_denied(cause.to_string()))?;
        let canaries = self.options.store.canaries().await.map_err(error::store)?;
        let excluded = self.options.store.excluded(&planned.campaign.spec.tenant);
        let excluded = excluded.await.map_err(error::store)?;
        let targets = match excluded.epoch == request.epoch {
            true => Vec::new(),
            false => excluded.targets,
        };
        let sockets = canaries.iter().flat_map(|canary| canary.destinations());
        Ok(Response::new(v1::DescribeResponse {
            canaries: sockets.map(|socket| socket.to_string()).collect(),
            spec: Some((&planned.campaign.spec).into()),
            nonce_key: planned.campaign.key.0.to_vec(),
            revision: planned.campaign.revision,
            epoch: excluded.epoch,
            excluded: targets.iter().map(Target::to_string).collect(),
        }))
    }

    type ReportStream = BoxStream<'static, Result<v1::ReportResponse, Status>>;

    async fn report(
        &self,
        request: Request<Streaming<v1::ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        Ok(Response::new(self.ingest(request)))
    }
}

/// A worker that asks for leases.
pub(crate) struct Asking {
    pub worker: String,
    /// The name by which the store knows it.
    owner: String,
    vantage: String,
    abilities: Abilities,
}

impl Asking {
    /// Describes a worker by its own words, and by its certificate where that says more.
    pub(crate) fn new(request: v1::LeaseRequest, certified: Option<&str>) -> Self {
        Self {
            owner: holders::owner(&request.worker, certified),
            worker: request.worker,
            // Otherwise one worker could confirm its own finding from a second place.
            vantage: match certified {
                Some(uri) => roles::vantage_of(uri).to_owned(),
                None => request.vantage,
            },
            abilities: Abilities::named(request.probes),
        }
    }

    /// The worker is there.
    pub(crate) fn note(&self, presence: &Presence) {
        presence.note(&self.worker, Some(&self.vantage));
    }
}

/// The outcome of a proposal.
enum Tried {
    Leased(Box<Lease>),
    /// Nothing else of its line is for this worker just now.
    Pass(Line),
    /// It is for another vantage point.
    Other,
    Next,
}

impl Coordinator {
    /// Looks for a lease, and waits a while if there is none at present.
    pub(crate) async fn seek(&self, asking: &Asking) -> Result<Option<Lease>, Status> {
        if !self.clock.is_right() {
            tokio::time::sleep(WAIT).await;
            return Ok(None);
        }
        let deadline = Instant::now() + WAIT;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut tries = 0;
        // Campaigns that have nothing for this worker just now.
        let mut passed = Vec::new();
        let mut is_for_others = false;
        while !left().is_zero() && tries < TRIES {
            // A worker that takes a shard from the queue must not wait with it.
            let Ok(_place) = tokio::time::timeout(left(), self.lanes.grant()).await else {
                break;
            };
            let wait = match is_for_others {
                true => Duration::ZERO,
                false => left(),
            };
            let Some(shard) = self.proposed(&passed, wait).await? else {
                break;
            };
            tries += 1;
            match self.grant(shard, asking).await? {
                Tried::Leased(lease) => return Ok(Some(*lease)),
                Tried::Pass(line) => passed.push(line),
                Tried::Other => {}
                Tried::Next => continue,
            }
            is_for_others = true;
        }
        // Other workers, which may be able to take what is left, come first.
        if tries > 0 {
            tokio::time::sleep(left().min(LATER)).await;
        }
        Ok(None)
    }

    /// Takes a shard from the queue, or waits for one. All requests behind this one wait with it:
    /// there is nothing for them either.
    async fn proposed(&self, passed: &[Line], wait: Duration) -> Result<Option<ShardId>, Status> {
        let deadline = Instant::now() + wait;
        loop {
            self.divide().await?;
            let mut lines = self.shares.lines();
            lines.retain(|line| !passed.contains(line));
            if !lines.is_empty() {
                let queue = &self.options.queue;
                let proposed = queue.take(&lines, OUT).await.map_err(error::queue)?;
                if proposed.is_some() {
                    return Ok(proposed);
                }
            }
            if Instant::now() + POLL >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Takes back a lease of which its worker never heard.
    pub(crate) async fn take_back(&self, lease: &Lease) {
        let Lease { shard, token, .. } = *lease;
        let released = self.options.store.release(shard, token, None).await;
        let offered = match released.map_err(error::store) {
            Ok(()) => self.offer_again(shard, Duration::ZERO).await,
            Err(status) => Err(status),
        };
        if let Err(status) = offered {
            tracing::debug!(%shard, cause = status.message(), "a lease ends by time");
        }
    }

    /// Offers a shard that was given back.
    async fn offer_again(&self, shard: ShardId, delay: Duration) -> Result<(), Status> {
        let work = self.work(shard).await?;
        let priority = work.map_or(Priority::Normal, |work| priority(&work));
        let queue = &self.options.queue;
        if let Err(error) = queue.offer(&[shard], priority, delay).await {
            tracing::debug!(%error, "a released shard comes back later");
        }
        self.shares.offered();
        Ok(())
    }

    async fn grant(&self, shard: ShardId, asking: &Asking) -> Result<Tried, Status> {
        let vantage = &asking.vantage;
        let (store, queue) = (&self.options.store, &self.options.queue);
        let Some(work) = self.work(shard).await? else {
            queue.done(shard).await.map_err(error::queue)?;
            return Ok(Tried::Next);
        };
        let line = Line {
            campaign: shard.campaign,
            priority: priority(&work),
        };
        let again = async |delay| {
            let offered = queue.offer(&[shard], line.priority, delay).await;
            offered.map_err(error::queue)
        };
        if self.is_for_another(shard.campaign, &work, vantage).await? {
            again(LATER).await?;
            return Ok(Tried::Other);
        }
        let Ok(planned) = self.permitted_plan(shard.campaign).await? else {
            // Another coordinator may grant it, or else housekeeping ends the campaign.
            again(Duration::ZERO).await?;
            self.shares.rest(line);
            return Ok(Tried::Pass(line));
        };
        if let Some(probe) = asking.abilities.lacks(&planned.campaign.spec) {
            self.tell_of_lack(shard.campaign, asking, probe).await?;
            again(Duration::ZERO).await?;
            return Ok(Tried::Pass(line));
        }
        let (spec, revision) = (&planned.campaign.spec, planned.campaign.revision);
        let targets = planned.targets(&work)?;
        let blocks = targets.prefixes();
        let usable = (blocks.len() as u64).saturating_mul(spec.prefix_rate.into());
        let usable = u32::try_from(usable).unwrap_or(u32::MAX);
        let (each, caps) = self.terms(&planned, line.priority);
        let request = GrantRequest {
            shard,
            revision,
            owner: asking.owner.clone(),
            vantage: vantage.clone(),
            targets: targets.count(),
            want_rate: usable.min(each),
            blocks,
            caps,
            ttl: TTL,
            margin: MARGIN,
        };
        let grant = store.grant(&request).await.map_err(error::store)?;
        let answer = match grant {
            Grant::Granted { .. } => "granted",
            Grant::BlocksBusy => "blocks_busy",
            Grant::NoRate => "no_rate",
            Grant::Leased => "leased",
            Grant::NotOpen => "not_open",
            Grant::Outdated => "outdated",
            Grant::Quarantined => "quarantined",
            Grant::FailedOver => "failed_over",
        };
        metrics::counter!("ajar_grants_total", "answer" => answer).increment(1);
        match grant {
            Grant::Granted {
                token,
                cursor,
                end,
                rate,
                attempt,
                epoch,
            } => {
                self.shares.granted(shard.campaign, rate);
                Ok(Tried::Leased(Box::new(Lease {
                    shard,
                    token,
                    work,
                    cursor,
                    end,
                    ttl: TTL,
                    rate,
                    attempt,
                    alone: attempt >= ATTEMPTS,
                    revision,
                    vantage: vantage.clone(),
                    epoch,
                })))
            }
            Grant::NoRate | Grant::FailedOver => {
                again(Duration::ZERO).await?;
                self.shares.rest(line);
                Ok(Tried::Pass(line))
            }
            Grant::BlocksBusy => {
                again(LATER).await?;
                Ok(Tried::Next)
            }
            Grant::Outdated => {
                self.forget_plan(shard.campaign);
                again(Duration::ZERO).await?;
                Ok(Tried::Next)
            }
            // It was proposed twice, and comes back by itself if its lease ends.
            Grant::Leased => Ok(Tried::Next),
            Grant::NotOpen => {
                queue.done(shard).await.map_err(error::queue)?;
                Ok(Tried::Next)
            }
            Grant::Quarantined => {
                tracing::error!(%shard, "a shard never moved, however often it was granted, and was given up");
                queue.done(shard).await.map_err(error::queue)?;
                Ok(Tried::Next)
            }
        }
    }

    /// Returns the rate that a lease of a campaign should have, and the caps over all of its leases.
    pub(crate) fn terms(&self, planned: &Planned, priority: Priority) -> (u32, Caps) {
        let part = self.shares.part(planned.campaign.id);
        let (each, share) = part.map_or((u32::MAX, u32::MAX), |part| {
            (part.each(priority), part.most(priority))
        });
        (each, planned.caps(share, self.options.site_rate))
    }

    /// Returns what a shard consists of, or `None` if there is no such shard.
    async fn work(&self, shard: ShardId) -> Result<Option<Work>, Status> {
        self.options.store.work(shard).await.map_err(error::store)
    }

    /// Shows operators that a worker is too old for a campaign. It has not failed.
    async fn tell_of_lack(
        &self,
        campaign: CampaignId,
        asking: &Asking,
        probe: &ProbeId,
    ) -> Result<(), Status> {
        if !self
            .troubles
            .is_due(&format!("{campaign} {}", asking.worker))
        {
            return Ok(());
        }
        let trouble = Trouble {
            campaign,
            worker: asking.worker.clone(),
            vantage: asking.vantage.clone(),
            cause: format!("it does not know the probe {probe}: upgrade it"),
            at: Timestamp::now(),
        };
        let told = self.options.store.note_trouble(&trouble).await;
        told.map_err(error::store)
    }

    /// True if the work is to be done from another vantage point than this, and a worker was seen there lately that has not
    /// given work of its campaign back: a server remembers whom it put off by the address.
    async fn is_for_another(
        &self,
        campaign: CampaignId,
        work: &Work,
        vantage: &str,
    ) -> Result<bool, Status> {
        let (wanted, patience) = match work {
            Work::Revisit {
                vantage: Some(wanted),
                round,
                ..
            } if wanted != vantage => (wanted, if *round > 0 { REPLACED } else { ABANDONED }),
            _ => return Ok(false),
        };
        let store = &self.options.store;
        let workers = store.workers(patience).await.map_err(error::store)?;
        if workers.iter().all(|worker| worker.vantage != *wanted) {
            return Ok(false);
        }
        let troubles = store.troubles(campaign).await;
        let mut troubles = troubles.map_err(error::store)?.into_iter();
        Ok(!troubles.any(|trouble| trouble.vantage == *wanted))
    }
}

/// Revisits come first: a finding waits for them.
fn priority(work: &Work) -> Priority {
    match work {
        Work::Sweep(_) => Priority::Normal,
        Work::Revisit { .. } => Priority::High,
    }
}

/// What a worker says is shown to operators.
fn cleaned(cause: &str) -> String {
    const MOST: usize = 300;
    Untrusted::from(cause.to_owned())
        .clean()
        .chars()
        .take(MOST)
        .collect()
}
