//! Findings as results: one of each endpoint, merged, in the order of the coordinator.

use ajar_model::{CampaignId, Finding, Verdict};
use ajar_proto::{dial, v1};
use tokio_stream::StreamExt;

use crate::exit::from_status;

/// Calls `each` with the merged finding of every endpoint, in the order of results.
pub async fn each_endpoint(
    coordinator: &dial::Coordinator,
    campaign: Option<CampaignId>,
    verdicts: &[Verdict],
    mut each: impl FnMut(Finding) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let request = v1::ListFindingsRequest {
        campaign: campaign.map(|id| id.to_string()).unwrap_or_default(),
        verdicts: Vec::new(),
    };
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

fn same_endpoint(one: &Finding, other: &Finding) -> bool {
    (one.campaign, one.ip, one.port) == (other.campaign, other.ip, other.port)
}
