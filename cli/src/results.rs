//! Findings as results: one of each endpoint, merged, in the order of the coordinator.

use std::net::SocketAddr;

use ajar_model::{CampaignId, Finding, Observation, Verdict};
use ajar_proto::{dial, v1};
use tokio_stream::StreamExt;

use crate::{
    args,
    cluster::Cluster,
    exit::{self, from_status, refuse},
};

/// Which campaigns' findings are read.
#[derive(Debug, Clone, Copy)]
pub enum Which {
    /// One campaign's.
    Of(CampaignId),
    /// Those of the newest campaign that looked at an endpoint.
    Newest,
    /// All.
    All,
    /// The newest ones at an endpoint.
    At(SocketAddr),
}

impl Which {
    fn request(self) -> v1::ListFindingsRequest {
        let mut request = v1::ListFindingsRequest::default();
        match self {
            Which::Of(campaign) => request.campaign = campaign.to_string(),
            Which::Newest => request.newest = true,
            Which::All => {}
            Which::At(endpoint) => request.endpoint = endpoint.to_string(),
        }
        request
    }
}

/// Calls `each` with the merged finding of every endpoint, in the order of results.
pub async fn each_endpoint(
    coordinator: &dial::Coordinator,
    which: Which,
    verdicts: &[Verdict],
    mut each: impl FnMut(Finding) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let request = which.request();
    let mut pages = coordinator
        .findings()
        .list(request)
        .await
        .map_err(from_status)?
        .into_inner();
    let mut last: Option<Finding> = None;
    let mut pass =
        |finding: Finding| match verdicts.is_empty() || verdicts.contains(&finding.verdict) {
            true => each(finding),
            false => Ok(()),
        };
    while let Some(page) = pages.next().await {
        for finding in page.map_err(from_status)?.findings {
            let finding = Finding::try_from(finding)?;
            last = Some(match last.take() {
                Some(before) if same_endpoint(&before, &finding) => before.merge(finding),
                Some(before) => {
                    pass(before)?;
                    finding
                }
                None => finding,
            });
        }
    }
    last.map_or(Ok(()), pass)
}

/// Reads the finding that the options name, and what it rests on.
pub async fn named(
    cluster: &Cluster,
    options: &args::FindingShow,
) -> anyhow::Result<(Finding, Vec<Observation>)> {
    let id = match options.id.parse() {
        Ok(endpoint) => at(cluster, endpoint, options.campaign.as_deref()).await?,
        Err(_) => options.id.clone(),
    };
    let mut client = cluster.coordinator().findings();
    let shown = client.show(v1::ShowRequest { id }).await;
    let shown = shown.map_err(from_status)?.into_inner();
    let Some(finding) = shown.finding else {
        return refuse("the coordinator sent no finding");
    };
    let observations = shown.observations.into_iter().map(Observation::try_from);
    let observations = observations.collect::<Result<Vec<_>, _>>()?;
    Ok((Finding::try_from(finding)?, observations))
}

/// Returns the id of the gravest finding at an endpoint, of the newest look at it.
async fn at(
    cluster: &Cluster,
    endpoint: SocketAddr,
    campaign: Option<&str>,
) -> anyhow::Result<String> {
    let campaign = campaign.map(exit::campaign_id).transpose()?;
    let which = campaign.map_or(Which::At(endpoint), Which::Of);
    let mut found: Option<Finding> = None;
    each_endpoint(cluster.coordinator(), which, &[], |finding| {
        let is_here = SocketAddr::new(finding.ip, finding.port) == endpoint;
        let is_graver = found
            .as_ref()
            .is_none_or(|graver| finding.verdict >= graver.verdict);
        if is_here && is_graver {
            found = Some(finding);
        }
        Ok(())
    })
    .await?;
    match found {
        Some(finding) => Ok(finding.id),
        None => refuse(format_args!(
            "no finding at {endpoint}: it did not answer when it was visited last, or was never visited; \
             `ajar findings list --history` shows all findings"
        )),
    }
}

fn same_endpoint(one: &Finding, other: &Finding) -> bool {
    (one.campaign, one.ip, one.port) == (other.campaign, other.ip, other.port)
}
