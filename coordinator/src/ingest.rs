//! What workers report: checked, stored and judged in one transaction, and only then acknowledged.

use ajar_model::{
    Campaign, Observation, ShardId, TargetSpace, Timestamp, lease::Work, shard::ShardSpace,
};
use ajar_proto::{convert, v1};
use ajar_store::{Advance, Batch};
use futures::stream::{BoxStream, StreamExt};
use tonic::{Request, Status, Streaming};
use tracing::Instrument;

use crate::{Coordinator, error};

impl Coordinator {
    /// Answers each batch once it is stored, in order. The stream ends with the first batch that is not.
    pub(crate) fn ingest(
        &self,
        request: Request<Streaming<v1::ReportRequest>>,
    ) -> BoxStream<'static, Result<v1::ReportResponse, Status>> {
        let span = tracing::info_span!("ingest");
        let coordinator = self.clone();
        let batches = futures::stream::unfold(Some(request.into_inner()), move |stream| {
            let coordinator = coordinator.clone();
            let batch = async move {
                let mut stream = stream?;
                let answer = match stream.message().await {
                    Ok(None) => return None,
                    Ok(Some(batch)) => coordinator.store_batch(batch).await,
                    Err(status) => Err(status),
                };
                let rest = answer.is_ok().then_some(stream);
                Some((answer, rest))
            };
            batch.instrument(span.clone())
        });
        batches.boxed()
    }

    #[tracing::instrument(name = "ingest.batch", skip_all, fields(observations = report.observations.len()))]
    async fn store_batch(&self, report: v1::ReportRequest) -> Result<v1::ReportResponse, Status> {
        let shard = convert::shard_in(report.shard)?;
        let campaign = self.find_campaign(shard.campaign).await?;
        let observations: Vec<Observation> = report
            .observations
            .into_iter()
            .map(Observation::try_from)
            .collect::<Result<_, _>>()?;
        let space = TargetSpace::new(&campaign.spec.targets, &campaign.spec.exclude)
            .map_err(|cause| Status::internal(cause.to_string()))?;
        let foreign = |seen: &&Observation| {
            seen.campaign != campaign.id
                || !space.contains(seen.endpoint.ip())
                || !campaign.spec.ports.contains(seen.endpoint.port())
        };
        if observations.iter().any(|seen| foreign(&seen)) {
            return Err(Status::permission_denied(
                "an observation is outside the campaign's targets",
            ));
        }
        let progress = match report.advance {
            Some(advance) => Some(self.advance(shard, &campaign, &space, advance).await?),
            None => None,
        };
        let closes = progress.is_some_and(|advance| advance.closes.is_some());
        let batch = Batch {
            shard,
            token: report.token,
            observations,
            progress,
            now: Timestamp::now(),
        };
        let ingested = self
            .options
            .store
            .ingest(&batch)
            .await
            .map_err(error::store)?;
        if closes && !ingested.stale {
            // An entry that stays is dropped when it is proposed: the store knows that the shard is closed.
            if let Err(error) = self.options.queue.done(shard).await {
                tracing::debug!(%error, "a closed shard stays in the queue for a while");
            }
        }
        Ok(v1::ReportResponse {
            sequence: report.sequence,
            stale: ingested.stale,
        })
    }

    async fn advance(
        &self,
        shard: ShardId,
        campaign: &Campaign,
        space: &TargetSpace,
        advance: v1::Advance,
    ) -> Result<Advance, Status> {
        let closes = match advance.closes {
            true => Some(self.targets_of(shard, campaign, space).await?),
            false => None,
        };
        Ok(Advance {
            from: advance.from,
            to: advance.to,
            tally: advance.tally.unwrap_or_default().into(),
            closes,
        })
    }

    /// How many targets a shard has, by the coordinator's own arithmetic.
    async fn targets_of(
        &self,
        shard: ShardId,
        campaign: &Campaign,
        space: &TargetSpace,
    ) -> Result<u64, Status> {
        let work = self.options.store.work(shard).await.map_err(error::store)?;
        Ok(match work.ok_or_else(|| error::no_shard(shard))? {
            Work::Sweep(blocks) => {
                ShardSpace::new(space, &campaign.spec.ports, campaign.id, blocks).targets()
            }
            Work::Revisit { endpoints, .. } => endpoints.len() as u64,
        })
    }
}
