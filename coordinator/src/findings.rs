//! Reading findings.

use std::collections::BTreeSet;

use ajar_model::{CampaignId, Finding, Verdict};
use ajar_proto::{convert, v1, v1::finding_service_server::FindingService};
use ajar_store::{FindingKey, FindingQuery};
use futures::stream::{BoxStream, StreamExt};
use tonic::{Code, Request, Response, Status};

use crate::{Coordinator, caller, error, families, masked};

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
        let query = FindingQuery {
            campaign: match request.campaign.as_str() {
                "" => None,
                id => Some(convert::campaign_id(id)?),
            },
            verdicts: request
                .verdicts
                .iter()
                .map(|verdict| convert::parse::<Verdict>("verdicts", verdict))
                .collect::<Result<_, _>>()?,
            tenants: tenants.names(),
            after: None,
            limit: PAGE,
        };
        let state = Some((self.clone(), query));
        let pages = futures::stream::unfold(state, move |state| async move {
            let (coordinator, query) = state?;
            match coordinator.page(&query, is_operator).await {
                Ok((response, Some(after))) => {
                    let rest = FindingQuery {
                        after: Some(after),
                        ..query
                    };
                    Some((Ok(response), Some((coordinator, rest))))
                }
                Ok((response, None)) => Some((Ok(response), None)),
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

impl Coordinator {
    /// Returns one page, and the key to go on after where there may be more.
    async fn page(
        &self,
        query: &FindingQuery,
        is_operator: bool,
    ) -> Result<(v1::ListFindingsResponse, Option<FindingKey>), Status> {
        let found = self.options.store.findings(query).await;
        let mut findings = found.map_err(error::store)?;
        let full = findings.len() == query.limit as usize;
        let last = findings.last().filter(|_| full);
        let after = last.map(|last| (last.campaign, last.ip, last.port, last.probe.clone()));
        self.compare(&mut findings).await?;
        if !is_operator {
            let shown = findings.iter().map(masked::finding);
            findings = shown.collect::<Result<_, _>>()?;
        }
        let findings = findings.iter().map(Into::into).collect();
        Ok((v1::ListFindingsResponse { findings }, after))
    }

    /// Compares open findings with those at other addresses of their hosts.
    async fn compare(&self, findings: &mut [Finding]) -> Result<(), Status> {
        let open = findings.iter().filter(|f| f.verdict == Verdict::Open);
        let campaigns: BTreeSet<CampaignId> = open.map(|f| f.campaign).collect();
        let store = &self.options.store;
        for id in campaigns {
            let campaign = store.campaign(id).await.map_err(error::store)?;
            let paired = campaign.filter(|campaign| !campaign.spec.hosts.is_empty());
            if let Some(campaign) = paired {
                families::compare(store.as_ref(), &campaign, findings).await?;
            }
        }
        Ok(())
    }
}
