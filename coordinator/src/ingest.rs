//! What workers report: checked, stored and judged in one transaction, and only then acknowledged.

use ajar_model::{Ahead, Observation, Timestamp};
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
        let planned = self.plan(shard.campaign).await?;
        let observations: Vec<Observation> = report
            .observations
            .into_iter()
            .map(Observation::try_from)
            .collect::<Result<_, _>>()?;
        let foreign = |seen: &Observation| {
            seen.campaign != shard.campaign || !planned.plan.contains(seen.endpoint)
        };
        if observations.iter().any(foreign) {
            return Err(Status::permission_denied(
                "an observation is outside the campaign's targets",
            ));
        }
        let progress = report.advance.map(|advance| Advance {
            from: advance.from,
            to: advance.to,
            tally: advance.tally.unwrap_or_default().into(),
            closes: advance.closes,
        });
        let closes = progress.is_some_and(|advance| advance.closes);
        let batch = Batch {
            shard,
            token: report.token,
            observations,
            progress,
            ahead: Ahead {
                finished: report.ahead,
                answered: report.ahead_answered,
            },
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
}
