//! What operators ask: submit, look, watch, pause, resume, cancel.

use std::{net::IpAddr, time::Duration};

use ajar_model::{
    Campaign, CampaignId, ShardId, SignedAuthorization, Spec, Timestamp, campaign::State,
};
use ajar_proto::{convert, trace, v1, v1::campaign_service_server::CampaignService};
use ajar_queue::Priority;
use ajar_store::{
    AuditEntry, CampaignQuery, Mute, Progress, Resumption, Stop, Summary, Transition,
};
use futures::stream::{BoxStream, StreamExt};
use ipnet::IpNet;
use tonic::{Code, Request, Response, Status};

use crate::{
    Coordinator, Drives,
    admit::{self, NotAdmitted},
    audit, caller, error,
};

/// Shards that were given up which are listed, and networks of each.
const LISTED: u32 = 20;
const NETWORKS: usize = 8;
/// Campaigns of one answer.
const PAGE: u32 = 500;

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl CampaignService for Coordinator {
    #[tracing::instrument(name = "campaign.submit", skip_all)]
    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Reply<v1::SubmitResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let request = request.into_inner();
        let id = convert::campaign_id(&request.id)?;
        let mut spec = convert::spec_in(request.spec)?;
        self.check_tenant(&tenants, &spec.tenant, &caller).await?;
        spec.traceparent = trace::current();
        let admitted = self.admit(id, spec, &caller).await;
        if let Err(status) = &admitted
            && status.code() == Code::PermissionDenied
        {
            let what = "a campaign that no authorization covers";
            self.refusals.record(&caller, what).await;
        }
        let targets = admitted?;
        Ok(Response::new(v1::SubmitResponse { targets }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Reply<v1::GetResponse> {
        let tenants = caller::tenants(&request);
        let id = convert::campaign_id(&request.into_inner().id)?;
        self.campaign_of(&tenants, id).await?;
        let stored = self.stored(id).await?;
        let campaign = self.described(&stored).await?;
        let mute = self.mute(&stored).await?;
        let quarantined = match campaign.progress.as_ref().map_or(0, |p| p.quarantined) {
            0 => Vec::new(),
            _ => self.quarantined(id).await?,
        };
        Ok(Response::new(v1::GetResponse {
            campaign: Some(campaign),
            quarantined,
            mute: mute.count,
            mute_addresses: mute.first.iter().map(IpAddr::to_string).collect(),
        }))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Reply<v1::ListResponse> {
        let tenants = caller::tenants(&request);
        let after = match request.into_inner().after.as_str() {
            "" => None,
            id => Some(convert::campaign_id(id)?),
        };
        let query = CampaignQuery {
            tenants: tenants.names(),
            after,
            limit: PAGE,
        };
        let listed = self.options.store.summaries(&query).await;
        let campaigns = listed.map_err(error::store)?.into_iter().map(summary_out);
        Ok(Response::new(v1::ListResponse {
            campaigns: campaigns.collect(),
        }))
    }

    type WatchStream = BoxStream<'static, Result<v1::WatchResponse, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Reply<Self::WatchStream> {
        let tenants = caller::tenants(&request);
        let id = convert::campaign_id(&request.into_inner().id)?;
        self.campaign_of(&tenants, id).await?;
        Ok(Response::new(self.looks(id).boxed()))
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Reply<v1::PauseResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let id = convert::campaign_id(&request.into_inner().id)?;
        self.campaign_of(&tenants, id).await?;
        let from = [State::Running, State::Settling];
        self.steer(id, &from, State::Paused, "campaign.pause", &caller)
            .await?;
        Ok(Response::new(v1::PauseResponse {}))
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Reply<v1::ResumeResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let request = request.into_inner();
        let id = convert::campaign_id(&request.id)?;
        self.campaign_of(&tenants, id).await?;
        self.go_on(id, request.authorization.map(Into::into), &caller)
            .await?;
        Ok(Response::new(v1::ResumeResponse {}))
    }

    async fn cancel(&self, request: Request<v1::CancelRequest>) -> Reply<v1::CancelResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let id = convert::campaign_id(&request.into_inner().id)?;
        self.campaign_of(&tenants, id).await?;
        let from = [
            State::Running,
            State::Paused,
            State::Settling,
            State::Incomplete,
        ];
        self.steer(id, &from, State::Cancelled, "campaign.cancel", &caller)
            .await?;
        self.withdraw(id).await;
        Ok(Response::new(v1::CancelResponse {}))
    }

    async fn remove(&self, request: Request<v1::RemoveRequest>) -> Reply<v1::RemoveResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let id = convert::campaign_id(&request.into_inner().id)?;
        self.campaign_of(&tenants, id).await?;
        let detail = "with everything that it found".to_owned();
        let entry = audit::of(id, &caller, "campaign.remove", detail);
        let state = self.options.store.remove_campaign(id, &entry).await;
        self.forget_plan(id);
        match state.map_err(error::store)? {
            None => Err(error::no_campaign(id)),
            Some(state) if state.is_final() => Ok(Response::new(v1::RemoveResponse {})),
            Some(state) => Err(Status::failed_precondition(format!(
                "campaign {id} is {}: cancel it first",
                state.as_str()
            ))),
        }
    }

    async fn stop_all(&self, request: Request<v1::StopAllRequest>) -> Reply<v1::StopAllResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let mut ids = Vec::new();
        for tenant in tenants.named() {
            let entry = order_entry(&caller, "campaign.stop-all", tenant);
            let held = self.options.store.stop(tenant, &entry).await;
            ids.extend(held.map_err(error::store)?);
        }
        let ids = ids.iter().map(CampaignId::to_string).collect();
        Ok(Response::new(v1::StopAllResponse { ids }))
    }

    async fn start_again(
        &self,
        request: Request<v1::StartAgainRequest>,
    ) -> Reply<v1::StartAgainResponse> {
        let (caller, tenants) = (caller::name(&request), caller::tenants(&request));
        let mut was_stopped = false;
        for tenant in tenants.named() {
            let entry = order_entry(&caller, "campaign.start-again", tenant);
            let started = self.options.store.start_again(tenant, &entry).await;
            was_stopped |= started.map_err(error::store)?;
        }
        if !was_stopped {
            return Err(Status::failed_precondition("nothing is stopped"));
        }
        if let Err(status) = self.offer_unleased(None).await {
            let cause = status.message();
            tracing::debug!(cause, "housekeeping will offer the shards that may go on");
        }
        Ok(Response::new(v1::StartAgainResponse {}))
    }

    type AuditStream = BoxStream<'static, Result<v1::AuditResponse, Status>>;

    async fn audit(&self, _: Request<v1::AuditRequest>) -> Reply<Self::AuditStream> {
        Ok(Response::new(self.audit_pages()))
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
    /// Offers the shards that it drives and nobody works on, of one campaign or of all.
    pub(crate) async fn offer_unleased(&self, only: Option<CampaignId>) -> Result<(), Status> {
        let (store, drives) = (&self.options.store, self.options.drives);
        let unleased = store.unleased_shards(drives.only(), crate::MARGIN);
        let mut unleased = unleased.await.map_err(error::store)?;
        unleased.retain(|unleased| only.is_none_or(|id| unleased.shard.campaign == id));
        for (priority, is_revisit) in [(Priority::High, true), (Priority::Normal, false)] {
            let of_kind = unleased.iter().filter(|u| u.is_revisit == is_revisit);
            let shards: Vec<ShardId> = of_kind.map(|unleased| unleased.shard).collect();
            self.offer(&shards, priority).await?;
        }
        Ok(())
    }

    /// Takes the shards of a campaign that is over out of the queue.
    pub(crate) async fn withdraw(&self, id: CampaignId) {
        // Nobody asks for those that stay, and the queue forgets them after a while.
        if let Err(error) = self.options.queue.withdraw(id).await {
            tracing::debug!(%error, "a campaign's shards stay in the queue for a while");
        }
    }

    /// Offers shards at once.
    pub(crate) async fn offer(&self, shards: &[ShardId], priority: Priority) -> Result<(), Status> {
        let queue = &self.options.queue;
        let offered = queue.offer(shards, priority, Duration::ZERO).await;
        self.shares.offered();
        offered.map_err(error::queue)
    }

    /// Lets a campaign go on, under a new authorization if there is one.
    async fn go_on(
        &self,
        id: CampaignId,
        authorization: Option<SignedAuthorization>,
        caller: &str,
    ) -> Result<(), Status> {
        let campaign = self.stored(id).await?;
        self.check_drives(&campaign)?;
        if campaign.state == State::Running && self.options.drives.only() == Some(id) {
            // The process that ran it died without a word.
            let (from, to) = ([State::Running], State::Paused);
            self.steer(id, &from, to, "campaign.pause", caller).await?;
        }
        let is_new = authorization.is_some();
        let spec = Spec {
            authorization: authorization.or(campaign.spec.authorization),
            ..campaign.spec
        };
        let permission = self.permit(&spec).map_err(NotAdmitted::from)?;
        let registered = admit::registered(&spec, &permission);
        let detail = format!("from {}", campaign.state.as_str());
        let resumption = Resumption {
            id,
            authorization: spec
                .authorization
                .as_ref()
                .zip(registered.as_ref())
                .filter(|_| is_new),
            audit: &AuditEntry {
                authorization: registered.as_ref().map(|registered| registered.id.clone()),
                ..audit::of(id, caller, "campaign.resume", detail)
            },
        };
        let before = self.options.store.resume(&resumption).await;
        self.forget_plan(id);
        match before.map_err(error::store)? {
            Some(state @ (State::Finished | State::Cancelled)) => {
                let cause = format!("campaign {id} is {}", state.as_str());
                Err(Status::failed_precondition(cause))
            }
            // The queue may be away: housekeeping offers them again.
            Some(_) => self.offer_unleased(Some(id)).await.or(Ok(())),
            None => Err(error::no_campaign(id)),
        }
    }

    /// A campaign that somebody else drives would go on for nobody.
    fn check_drives(&self, campaign: &Campaign) -> Result<(), Status> {
        let id = campaign.id;
        let cause = match (self.options.drives, campaign.local) {
            (Drives::Shared, true) => {
                format!(
                    "campaign {id} belongs to a local run: go on with `ajar scan --resume {id}`"
                )
            }
            (Drives::One(_) | Drives::Nothing, false) => format!(
                "campaign {id} belongs to a cluster: go on with `ajar campaign resume {id} --coordinator URL`"
            ),
            _ => return Ok(()),
        };
        Err(Status::failed_precondition(cause))
    }

    async fn steer(
        &self,
        id: CampaignId,
        from: &[State],
        to: State,
        action: &str,
        caller: &str,
    ) -> Result<(), Status> {
        let store = &self.options.store;
        let campaign = self.summary(id).await?;
        let detail = format!("from {} to {}", campaign.state.as_str(), to.as_str());
        let transition = Transition {
            id,
            from,
            to,
            cause: None,
            not_before: None,
            audit: &audit::of(id, caller, action, detail),
        };
        if store.transition(&transition).await.map_err(error::store)? {
            return Ok(());
        }
        let state = self.summary(id).await?.state;
        if state == to {
            return Ok(());
        }
        let cause = format!("campaign {id} is {}", state.as_str());
        Err(Status::failed_precondition(cause))
    }

    pub(crate) async fn stored(&self, id: CampaignId) -> Result<Campaign, Status> {
        let campaign = self
            .options
            .store
            .campaign(id)
            .await
            .map_err(error::store)?;
        campaign.ok_or_else(|| error::no_campaign(id))
    }

    /// Returns a campaign as lists show it, which needs no spec.
    pub(crate) async fn summary(&self, id: CampaignId) -> Result<Summary, Status> {
        let summary = self.options.store.summary(id).await;
        let summary = summary.map_err(error::store)?;
        summary.ok_or_else(|| error::no_campaign(id))
    }

    async fn progress(&self, id: CampaignId) -> Result<Progress, Status> {
        let progress = self.options.store.progress(id).await;
        let mut progress = progress.map_err(error::store)?;
        progress
            .troubles
            .extend(self.queue_fault.of(id, &self.name));
        Ok(progress)
    }

    pub(crate) async fn look(&self, id: CampaignId) -> Result<(v1::WatchResponse, State), Status> {
        let state = self.summary(id).await?.state;
        let progress = self.progress(id).await?;
        let planned = self.plan(id).await?;
        let (targets, rate) = (planned.plan.pairs(), planned.campaign.spec.rate);
        let response = v1::WatchResponse {
            state: v1::CampaignState::from(state).into(),
            progress: Some(progress_out(targets, rate, progress)),
        };
        Ok((response, state))
    }

    async fn mute(&self, campaign: &Campaign) -> Result<Mute, Status> {
        match campaign.state.is_final() {
            true => self.mute_at_end(campaign.id, &campaign.spec).await,
            false => Ok(Mute::default()),
        }
    }

    /// Finds the mute addresses of a campaign that is over. With few ports they mean nothing.
    pub(crate) async fn mute_at_end(&self, id: CampaignId, spec: &Spec) -> Result<Mute, Status> {
        const FEWEST: usize = 4;
        let ports = spec.ports.as_slice().len();
        if ports < FEWEST {
            return Ok(Mute::default());
        }
        let mute = self.options.store.mute(id, ports as u32, NETWORKS as u32);
        mute.await.map_err(error::store)
    }

    async fn quarantined(&self, id: CampaignId) -> Result<Vec<v1::Quarantined>, Status> {
        let planned = self.plan(id).await?;
        let shards = self.options.store.quarantined(id, LISTED).await;
        let mut listed = Vec::new();
        for shard in shards.map_err(error::store)? {
            let targets = planned.targets(&shard.work)?;
            let networks = targets.prefixes_of(shard.targets.clone());
            listed.push(v1::Quarantined {
                number: shard.shard.number,
                targets: shard.targets.end - shard.targets.start,
                networks: networks
                    .iter()
                    .take(NETWORKS)
                    .map(IpNet::to_string)
                    .collect(),
                cause: shard.cause.unwrap_or_default(),
            });
        }
        Ok(listed)
    }

    async fn described(&self, campaign: &Campaign) -> Result<v1::Campaign, Status> {
        let progress = self.progress(campaign.id).await?;
        let targets = self.plan(campaign.id).await?.plan.pairs();
        Ok(v1::Campaign {
            progress: Some(progress_out(targets, campaign.spec.rate, progress)),
            ..campaign.into()
        })
    }
}

/// The audit entry of an order for a tenant, or for the whole site.
fn order_entry(actor: &str, action: &str, tenant: Option<&str>) -> AuditEntry {
    let whose = tenant.map_or("the whole site".to_owned(), |tenant| {
        format!("tenant {tenant}")
    });
    audit::entry(actor, action, whose)
}

fn summary_out(summary: Summary) -> v1::CampaignSummary {
    v1::CampaignSummary {
        id: summary.id.to_string(),
        tenant: summary.tenant,
        state: v1::CampaignState::from(summary.state).into(),
        created_at: Some(convert::time_out(summary.created_at)),
        local: summary.local,
        targets: summary.pairs,
        finished: summary.finished,
        open_endpoints: summary.open_endpoints,
        stopped: summary.stopped.as_ref().map_or_else(String::new, stop_out),
    }
}

fn stop_out(stop: &Stop) -> String {
    format!("stopped by {} at {:.0}", stop.by, stop.at)
}

fn progress_out(targets: u64, most_rate: u32, progress: Progress) -> v1::Progress {
    let verdicts = progress
        .verdicts
        .into_iter()
        .map(|(verdict, count)| v1::VerdictCount {
            verdict: verdict.as_str().to_owned(),
            count,
        });
    let troubles = progress.troubles.into_iter().map(|trouble| v1::Trouble {
        worker: trouble.worker,
        vantage: trouble.vantage,
        cause: trouble.cause,
        at: Some(convert::time_out(trouble.at)),
    });
    v1::Progress {
        targets,
        quarantined: progress.quarantined,
        lost_replies: progress.lost_replies,
        finished: progress.tally.total() + progress.ahead.finished,
        answered: progress.tally.answered + progress.ahead.answered,
        open_endpoints: progress.open_endpoints,
        cause: progress.cause.unwrap_or_default(),
        stopped: progress.stopped.as_ref().map_or_else(String::new, stop_out),
        troubles: troubles.collect(),
        since_report: progress.last_report_at.map(|at| {
            let since = Timestamp::now().duration_since(at);
            convert::duration_out(since.try_into().unwrap_or_default())
        }),
        most_rate: most_rate.into(),
        last_report_at: progress.last_report_at.map(convert::time_out),
        shards: progress.shards,
        closed: progress.closed,
        leased: progress.leased,
        tally: Some(progress.tally.into()),
        verdicts: verdicts.collect(),
        rate: progress.rate,
        workers: progress.workers,
        awaiting_mail: progress.awaiting_mail,
        awaiting_revisit: progress.awaiting_revisit,
        next_revisit: progress.next_revisit_at.map(|at| {
            let wait = at.duration_since(Timestamp::now());
            convert::duration_out(wait.try_into().unwrap_or_default())
        }),
    }
}
