//! Reading findings.

use std::collections::BTreeSet;

use ajar_model::{CampaignId, Finding, Verdict, judge::Doubt};
use ajar_proto::{convert, v1, v1::finding_service_server::FindingService};
use ajar_store::FindingQuery;
use futures::stream::{self, BoxStream, StreamExt};
use tonic::{Code, Request, Response, Status};

use crate::{
    Coordinator, caller, error, families, masked,
    newest::{Looks, findings_at},
};

/// Findings of one message.
const PAGE: u32 = 500;

#[tonic::async_trait]
impl FindingService for Coordinator {
    type ListStream = BoxStream<'static, Result<v1::ListFindingsResponse, Status>>;

    async fn list(
        &self,
        request: Request<v1::ListFindingsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let tenants = caller::tenants(&request);
        let is_operator = caller::is_operator(&request);
        let request = request.into_inner();
        let campaign = match request.campaign.as_str() {
            "" => None,
            id => Some(convert::campaign_id(id)?),
        };
        if let Some(id) = campaign {
            self.campaign_of(&tenants, id).await?;
        }
        let looks = match campaign {
            None if request.newest || !request.endpoint.is_empty() => {
                Some(Looks::of(&self.options.store, tenants.names()).await?)
            }
            _ => None,
        };
        if !request.endpoint.is_empty() {
            let endpoint = convert::parse("endpoint", &request.endpoint)?;
            let findings = match (&looks, campaign) {
                (Some(looks), _) => looks.at(endpoint).await?,
                (None, Some(id)) => findings_at(&*self.options.store, id, endpoint).await?,
                (None, None) => Vec::new(),
            };
            let page = self.shown(findings, is_operator).await;
            return Ok(Response::new(stream::iter([page]).boxed()));
        }
        let query = FindingQuery {
            campaign,
            verdicts: request
                .verdicts
                .iter()
                .map(|verdict| convert::parse::<Verdict>("verdicts", verdict))
                .collect::<Result<_, _>>()?,
            tenants: tenants.names(),
            after: None,
            limit: PAGE,
        };
        let list = List {
            coordinator: self.clone(),
            query,
            looks,
            is_operator,
        };
        let pages = stream::unfold(Some(list), |list| async move {
            let mut list = list?;
            match list.next().await {
                Ok((response, true)) => Some((Ok(response), Some(list))),
                Ok((response, false)) => Some((Ok(response), None)),
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(pages.boxed()))
    }

    async fn show(
        &self,
        request: Request<v1::ShowRequest>,
    ) -> Result<Response<v1::ShowResponse>, Status> {
        let tenants = caller::tenants(&request);
        let is_operator = caller::is_operator(&request);
        let id = request.into_inner().id;
        let missing = || Status::not_found(format!("there is no finding {id:?}"));
        let found = self
            .options
            .store
            .finding(&id)
            .await
            .map_err(error::store)?;
        let (mut finding, observations) = found.ok_or_else(missing)?;
        self.campaign_of(&tenants, finding.campaign)
            .await
            .map_err(|status| match status.code() {
                Code::NotFound => missing(),
                _ => status,
            })?;
        self.compare(std::slice::from_mut(&mut finding)).await?;
        let mut observations = observations;
        if !is_operator {
            finding = masked::finding(&finding)?;
            let shown = observations.iter().map(masked::observation);
            observations = shown.collect::<Result<_, _>>()?;
        }
        Ok(Response::new(v1::ShowResponse {
            finding: Some((&finding).into()),
            observations: observations.iter().map(Into::into).collect(),
        }))
    }
}

/// A list under way.
struct List {
    coordinator: Coordinator,
    query: FindingQuery,
    /// What the newest looks are taken by.
    looks: Option<Looks>,
    is_operator: bool,
}

impl List {
    /// Returns the next page, and whether there may be more.
    async fn next(&mut self) -> Result<(v1::ListFindingsResponse, bool), Status> {
        let store = &self.coordinator.options.store;
        let found = store.findings(&self.query).await;
        let mut findings = found.map_err(error::store)?;
        let is_full = findings.len() == self.query.limit as usize;
        let last = findings.last();
        self.query.after = last.map(|last| (last.campaign, last.ip, last.port, last.probe.clone()));
        if let Some(looks) = &self.looks {
            findings = looks.keep_newest(findings).await?;
        }
        let page = self.coordinator.shown(findings, self.is_operator).await?;
        Ok((page, is_full))
    }
}

impl Coordinator {
    /// Returns findings as a caller may see them.
    async fn shown(
        &self,
        mut findings: Vec<Finding>,
        is_operator: bool,
    ) -> Result<v1::ListFindingsResponse, Status> {
        self.compare(&mut findings).await?;
        if !is_operator {
            let shown = findings.iter().map(masked::finding);
            findings = shown.collect::<Result<_, _>>()?;
        }
        let findings = findings.iter().map(Into::into).collect();
        Ok(v1::ListFindingsResponse { findings })
    }

    /// Says of findings what is in no observation of theirs: what other addresses of their hosts
    /// show, and whether a relay could deliver to the canary at all.
    async fn compare(&self, findings: &mut [Finding]) -> Result<(), Status> {
        let concerned = findings
            .iter()
            .filter(|f| is_open(f) || is_without_receipt(f));
        let campaigns: BTreeSet<CampaignId> = concerned.map(|f| f.campaign).collect();
        let store = &self.options.store;
        for id in campaigns {
            let campaign = store.campaign(id).await.map_err(error::store)?;
            let Some(campaign) = campaign else { continue };
            if campaign.spec.canary.smtp != SMTP {
                let here = findings.iter_mut().filter(|f| f.campaign == id);
                for finding in here.filter(|f| is_without_receipt(f)) {
                    finding.doubt = Some(Doubt::CanaryPort);
                }
            }
            if !campaign.spec.hosts.is_empty() {
                families::compare(store.as_ref(), &campaign, findings).await?;
            }
        }
        Ok(())
    }
}

/// The port that relays deliver to (RFC 5321 section 4.5.4.2).
const SMTP: u16 = 25;

fn is_open(finding: &Finding) -> bool {
    finding.verdict == Verdict::Open
}

/// Returns whether a relay took a mail that did not arrive, for no reason that is known.
fn is_without_receipt(finding: &Finding) -> bool {
    let is_unproven = finding.verdict == Verdict::Unproven && finding.doubt.is_none();
    let is_relay = finding
        .service
        .as_ref()
        .is_some_and(|service| service.as_str() == "smtp");
    is_unproven && is_relay
}
