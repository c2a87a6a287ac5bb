//! What operators ask: submit, look, watch, pause, resume, cancel.

use std::{sync::Arc, time::Duration};

use ajar_model::{
    Campaign, CampaignId, NonceKey, ShardId, TargetSpace, Timestamp, campaign::State,
};
use ajar_proto::{convert, trace, v1, v1::campaign_service_server::CampaignService};
use ajar_store::{AuditEntry, Progress};
use futures::stream::{BoxStream, StreamExt};
use tonic::{Request, Response, Status};

use crate::{Coordinator, error};

/// How often a watched campaign is looked at.
const WATCH: Duration = Duration::from_millis(250);
/// Campaigns whose specification is kept at hand.
const REMEMBERED: usize = 64;

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl CampaignService for Coordinator {
    #[tracing::instrument(name = "campaign.submit", skip_all)]
    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitResponse> {
        let request = request.into_inner();
        let id = convert::campaign_id(&request.id)?;
        let mut spec = convert::spec_in(request.spec)?;
        spec.traceparent = trace::current();
        let targets = self.admit(id, spec).await?;
        Ok(Response::new(v1::SubmitResponse { targets }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Reply<v1::GetResponse> {
        let id = convert::campaign_id(&request.into_inner().id)?;
        let campaign = Some(self.described(&self.stored(id).await?).await?);
        Ok(Response::new(v1::GetResponse { campaign }))
    }

    async fn list(&self, _: Request<v1::ListRequest>) -> Reply<v1::ListResponse> {
        let mut campaigns = Vec::new();
        for campaign in self.options.store.campaigns().await.map_err(error::store)? {
            campaigns.push(self.described(&campaign).await?);
        }
        Ok(Response::new(v1::ListResponse { campaigns }))
    }

    type WatchStream = BoxStream<'static, Result<v1::WatchResponse, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Reply<Self::WatchStream> {
        let id = convert::campaign_id(&request.into_inner().id)?;
        self.find_campaign(id).await?;
        let coordinator = self.clone();
        let looks = futures::stream::unfold(Some(coordinator), move |coordinator| async move {
            let coordinator = coordinator?;
            tokio::time::sleep(WATCH).await;
            let seen = coordinator.look(id).await;
            let over = match &seen {
                Ok((_, state)) => state.is_final(),
                Err(_) => true,
            };
            Some((
                seen.map(|(response, _)| response),
                (!over).then_some(coordinator),
            ))
        });
        Ok(Response::new(looks.boxed()))
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Reply<v1::PauseResponse> {
        let id = convert::campaign_id(&request.into_inner().id)?;
        self.steer(id, &[State::Running], State::Paused, "campaign.pause")
            .await?;
        Ok(Response::new(v1::PauseResponse {}))
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Reply<v1::ResumeResponse> {
        let id = convert::campaign_id(&request.into_inner().id)?;
        let from = [State::Running, State::Paused, State::Settling];
        self.steer(id, &from, State::Running, "campaign.resume")
            .await?;
        self.repeat_unproven(id).await?;
        self.offer_unleased(Some(id)).await?;
        Ok(Response::new(v1::ResumeResponse {}))
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Reply<v1::CancelResponse> {
        let id = convert::campaign_id(&request.into_inner().id)?;
        let from = [State::Running, State::Paused, State::Settling];
        self.steer(id, &from, State::Cancelled, "campaign.cancel")
            .await?;
        self.options
            .queue
            .withdraw(id)
            .await
            .map_err(error::queue)?;
        Ok(Response::new(v1::CancelResponse {}))
    }

    async fn stop_all(&self, _: Request<v1::StopAllRequest>) -> Reply<v1::StopAllResponse> {
        let campaigns = self.options.store.campaigns().await.map_err(error::store)?;
        let running = campaigns
            .iter()
            .filter(|campaign| campaign.state == State::Running);
        let mut response = v1::StopAllResponse::default();
        for campaign in running {
            let id = campaign.id;
            let paused = self.steer(id, &[State::Running], State::Paused, "campaign.stop-all");
            match paused.await {
                Ok(()) => response.ids.push(id.to_string()),
                Err(status) => response.failed.push(v1::NotStopped {
                    id: id.to_string(),
                    cause: status.message().to_owned(),
                }),
            }
        }
        Ok(Response::new(response))
    }

    async fn list_canaries(
        &self,
        _: Request<v1::ListCanariesRequest>,
    ) -> Reply<v1::ListCanariesResponse> {
        let canaries = self.options.store.canaries().await.map_err(error::store)?;
        let canaries = canaries.iter().map(Into::into).collect();
        Ok(Response::new(v1::ListCanariesResponse { canaries }))
    }
}

impl Coordinator {
    /// A campaign's specification and key, which never change; its state may be out of date.
    pub(crate) async fn find_campaign(&self, id: CampaignId) -> Result<Arc<Campaign>, Status> {
        if let Some(campaign) = self.campaigns.lock().expect("no holder panics").get(&id) {
            return Ok(Arc::clone(campaign));
        }
        let campaign = Arc::new(self.stored(id).await?);
        let mut campaigns = self.campaigns.lock().expect("no holder panics");
        if campaigns.len() >= REMEMBERED {
            campaigns.clear();
        }
        campaigns.insert(id, Arc::clone(&campaign));
        Ok(campaign)
    }

    /// Offers shards that nobody works on, of one campaign or of all.
    pub(crate) async fn offer_unleased(&self, only: Option<CampaignId>) -> Result<(), Status> {
        let unleased = self
            .options
            .store
            .unleased_shards(Timestamp::now(), crate::MARGIN);
        let mut shards: Vec<ShardId> = unleased.await.map_err(error::store)?;
        shards.retain(|shard| only.is_none_or(|id| shard.campaign == id));
        self.options
            .queue
            .offer(&shards, Duration::ZERO)
            .await
            .map_err(error::queue)
    }

    /// Endpoints whose mail may have been lost with the process that waited for it are visited again.
    async fn repeat_unproven(&self, id: CampaignId) -> Result<(), Status> {
        let store = &self.options.store;
        let endpoints = store.unproven_endpoints(id).await.map_err(error::store)?;
        if !endpoints.is_empty() {
            store
                .add_revisit(id, &endpoints, 1)
                .await
                .map_err(error::store)?;
        }
        Ok(())
    }

    async fn steer(
        &self,
        id: CampaignId,
        from: &[State],
        to: State,
        action: &str,
    ) -> Result<(), Status> {
        let store = &self.options.store;
        let campaign = self.stored(id).await?;
        if !store.transition(id, from, to).await.map_err(error::store)? {
            let state = self.stored(id).await?.state;
            if state == to {
                return Ok(());
            }
            let cause = format!("campaign {id} is {}", state.as_str());
            return Err(Status::failed_precondition(cause));
        }
        let entry = AuditEntry {
            at: Timestamp::now(),
            actor: campaign.spec.tenant,
            action: action.to_owned(),
            authorization: None,
            campaign: Some(id),
            detail: format!("from {} to {}", campaign.state.as_str(), to.as_str()),
        };
        store.audit(&entry).await.map_err(error::store)
    }

    async fn stored(&self, id: CampaignId) -> Result<Campaign, Status> {
        let campaign = self
            .options
            .store
            .campaign(id)
            .await
            .map_err(error::store)?;
        campaign.ok_or_else(|| error::no_campaign(id))
    }

    async fn look(&self, id: CampaignId) -> Result<(v1::WatchResponse, State), Status> {
        let campaign = self.stored(id).await?;
        let described = self.described(&campaign).await?;
        let response = v1::WatchResponse {
            state: described.state,
            progress: described.progress,
        };
        Ok((response, campaign.state))
    }

    async fn described(&self, campaign: &Campaign) -> Result<v1::Campaign, Status> {
        let progress = self.options.store.progress(campaign.id, Timestamp::now());
        let progress = progress.await.map_err(error::store)?;
        let space = TargetSpace::new(&campaign.spec.targets, &campaign.spec.exclude);
        let addresses = space.map(|space| space.addresses()).unwrap_or_default();
        let targets = addresses * campaign.spec.ports.as_slice().len() as u64;
        Ok(v1::Campaign {
            progress: Some(progress_out(targets, progress)),
            ..campaign.into()
        })
    }
}

/// A fresh key for the nonces of a campaign.
pub(crate) fn nonce_key() -> Result<NonceKey, Status> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|cause| Status::internal(cause.to_string()))?;
    Ok(NonceKey(key))
}

fn progress_out(targets: u64, progress: Progress) -> v1::Progress {
    let verdicts = progress
        .verdicts
        .into_iter()
        .map(|(verdict, count)| v1::VerdictCount {
            verdict: verdict.as_str().to_owned(),
            count,
        });
    v1::Progress {
        targets,
        shards: progress.shards,
        closed: progress.closed,
        leased: progress.leased,
        tally: Some(progress.tally.into()),
        verdicts: verdicts.collect(),
        rate: progress.rate,
        workers: progress.workers,
        awaiting_mail: progress.awaiting_mail,
    }
}
