//! Handing out shards: the queue proposes, the store grants.

use std::time::{Duration, Instant};

use ajar_model::{
    Campaign, Lease, ShardId, TargetSpace, Timestamp, lease::Work, shard::ShardSpace, space,
};
use ajar_proto::{convert, v1, v1::work_service_server::WorkService};
use ajar_store::{Grant, GrantRequest, Renewal, Renewed};
use futures::stream::BoxStream;
use ipnet::IpNet;
use tonic::{Request, Response, Status, Streaming};

use crate::{Coordinator, MARGIN, TTL, error};

/// How long a request for work waits for a shard to come due; well below [`TTL`], which counts from the request.
const WAIT: Duration = Duration::from_secs(2);
/// How often the queue is asked meanwhile.
const POLL: Duration = Duration::from_millis(100);
/// Shards that may be proposed in vain before a request is answered with nothing.
const TRIES: u32 = 8;
/// When a shard that could not be granted is proposed again.
const LATER: Duration = Duration::from_secs(1);
/// A worker that has not asked for so long is not counted.
const GONE: Duration = Duration::from_secs(30);
/// Leases that a worker runs side by side, and the rate is divided for.
const LEASES_PER_WORKER: u64 = 4;

#[tonic::async_trait]
impl WorkService for Coordinator {
    async fn lease(
        &self,
        request: Request<v1::LeaseRequest>,
    ) -> Result<Response<v1::LeaseResponse>, Status> {
        let request = request.into_inner();
        self.note_worker(&request.worker);
        let now = Timestamp::now();
        let store = &self.options.store;
        store
            .seen_worker(&request.worker, &request.vantage, now)
            .await
            .map_err(error::store)?;
        let deadline = Instant::now() + WAIT;
        let mut tries = 0;
        while Instant::now() < deadline && tries < TRIES {
            let proposed = self
                .options
                .queue
                .take(TTL + MARGIN)
                .await
                .map_err(error::queue)?;
            let Some(shard) = proposed else {
                tokio::time::sleep(POLL).await;
                continue;
            };
            tries += 1;
            if let Some(lease) = self.grant(shard, &request.worker).await? {
                return Ok(Response::new(v1::LeaseResponse {
                    lease: Some(lease.into()),
                }));
            }
        }
        Ok(Response::new(v1::LeaseResponse { lease: None }))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let request = request.into_inner();
        let shard = convert::shard_in(request.shard)?;
        let campaign = self.find_campaign(shard.campaign).await?;
        let renewal = Renewal {
            shard,
            token: request.token,
            want_rate: self.share(&campaign).await?,
            campaign_rate: campaign.spec.rate,
            now: Timestamp::now(),
            ttl: TTL,
            margin: MARGIN,
        };
        let renewed = self
            .options
            .store
            .renew(&renewal)
            .await
            .map_err(error::store)?;
        let rate = match renewed {
            Renewed::Kept { rate } => Some(rate),
            Renewed::Fenced | Renewed::Stopped => None,
        };
        if rate.is_some() {
            // Only a hint: an entry that comes back too early is not granted.
            if let Err(error) = self.options.queue.hold(shard, TTL + MARGIN).await {
                tracing::debug!(%error, "a shard could not be held");
            }
        }
        Ok(Response::new(v1::RenewResponse {
            kept: rate.is_some(),
            ttl: Some(convert::duration_out(TTL)),
            rate: rate.unwrap_or_default(),
        }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let request = request.into_inner();
        let shard = convert::shard_in(request.shard)?;
        self.options
            .store
            .release(shard, request.token)
            .await
            .map_err(error::store)?;
        if let Err(error) = self.options.queue.offer(&[shard], Duration::ZERO).await {
            tracing::debug!(%error, "a released shard comes back later");
        }
        Ok(Response::new(v1::ReleaseResponse {}))
    }

    async fn describe(
        &self,
        request: Request<v1::DescribeRequest>,
    ) -> Result<Response<v1::DescribeResponse>, Status> {
        let id = convert::campaign_id(&request.into_inner().campaign)?;
        let campaign = self.find_campaign(id).await?;
        Ok(Response::new(v1::DescribeResponse {
            spec: Some((&campaign.spec).into()),
            nonce_key: campaign.key.0.to_vec(),
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

impl Coordinator {
    async fn grant(&self, shard: ShardId, owner: &str) -> Result<Option<Lease>, Status> {
        let store = &self.options.store;
        let Some(work) = store.work(shard).await.map_err(error::store)? else {
            self.options.queue.done(shard).await.map_err(error::queue)?;
            return Ok(None);
        };
        let campaign = self.find_campaign(shard.campaign).await?;
        let blocks = prefixes(&campaign, &work)?;
        let most = (blocks.len() as u64).saturating_mul(campaign.spec.prefix_rate.into());
        let share = self.share(&campaign).await?;
        let request = GrantRequest {
            shard,
            owner: owner.to_owned(),
            want_rate: share.min(u32::try_from(most).unwrap_or(u32::MAX)).max(1),
            blocks,
            campaign_rate: campaign.spec.rate,
            now: Timestamp::now(),
            ttl: TTL,
            margin: MARGIN,
        };
        match store.grant(&request).await.map_err(error::store)? {
            Grant::Granted {
                token,
                cursor,
                rate,
                attempt,
            } => Ok(Some(Lease {
                shard,
                token,
                work,
                cursor,
                ttl: TTL,
                rate,
                attempt,
            })),
            Grant::BlocksBusy | Grant::NoRate => {
                let queue = &self.options.queue;
                queue.offer(&[shard], LATER).await.map_err(error::queue)?;
                Ok(None)
            }
            // It was proposed twice, and comes back by itself if its lease ends.
            Grant::Leased => Ok(None),
            Grant::NotOpen => {
                self.options.queue.done(shard).await.map_err(error::queue)?;
                Ok(None)
            }
        }
    }

    /// The part of a campaign's rate that one more lease should have.
    async fn share(&self, campaign: &Campaign) -> Result<u32, Status> {
        let progress = self.options.store.progress(campaign.id, Timestamp::now());
        let progress = progress.await.map_err(error::store)?;
        let open = progress.shards.saturating_sub(progress.closed).max(1);
        let leases = open.min(LEASES_PER_WORKER * self.workers());
        Ok(u64::from(campaign.spec.rate).div_ceil(leases) as u32)
    }

    fn note_worker(&self, worker: &str) {
        let mut workers = self.workers.lock().expect("no holder panics");
        workers.retain(|_, asked| asked.elapsed() < GONE);
        workers.insert(worker.to_owned(), Instant::now());
    }

    fn workers(&self) -> u64 {
        let workers = self.workers.lock().expect("no holder panics");
        workers.len().max(1) as u64
    }
}

fn prefixes(campaign: &Campaign, work: &Work) -> Result<Vec<IpNet>, Status> {
    let spec = &campaign.spec;
    match work {
        Work::Sweep(blocks) => {
            let space = TargetSpace::new(&spec.targets, &spec.exclude)
                .map_err(|cause| Status::internal(cause.to_string()))?;
            let shard = ShardSpace::new(&space, &spec.ports, campaign.id, blocks.clone());
            Ok(shard.prefixes())
        }
        Work::Revisit { endpoints, .. } => {
            let mut prefixes: Vec<IpNet> = endpoints
                .iter()
                .map(|endpoint| space::prefix_of(endpoint.ip()))
                .collect();
            prefixes.sort();
            prefixes.dedup();
            Ok(prefixes)
        }
    }
}
