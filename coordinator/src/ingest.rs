//! What workers report: checked, stored and judged in one transaction, and only then acknowledged.

use std::{net::SocketAddr, sync::Arc};

use ajar_model::{Ahead, Observation, ShardId, lease::Work};
use ajar_proto::{convert, v1};
use ajar_store::{Advance, Batch};
use futures::stream::{BoxStream, StreamExt};
use tonic::{Code, Request, Status, Streaming};
use tracing::Instrument;

use crate::{Coordinator, MARGIN, caller, error, guard::TOO_LONG};

/// The bytes that the works of reported shards may take in memory.
pub(crate) const AT_HAND: usize = 16 << 20;

/// A stream of reports under way.
struct Reporting {
    coordinator: Coordinator,
    /// The worker, by its certificate.
    certified: Option<String>,
}

impl Coordinator {
    /// Answers each batch once it is stored, in order. The stream ends with the first batch that is not.
    pub(crate) fn ingest(
        &self,
        request: Request<Streaming<v1::ReportRequest>>,
    ) -> BoxStream<'static, Result<v1::ReportResponse, Status>> {
        let span = tracing::info_span!("ingest");
        let reporting = Reporting {
            coordinator: self.clone(),
            certified: caller::worker(&request),
        };
        let begun = Some((reporting, request.into_inner()));
        let batches = futures::stream::unfold(begun, move |under_way| {
            let batch = async move {
                let (mut reporting, mut stream) = under_way?;
                let answer = match stream.message().await {
                    Ok(None) => return None,
                    Ok(Some(batch)) => reporting.store_batch(batch).await,
                    Err(status) => {
                        reporting.note(&status).await;
                        Err(status)
                    }
                };
                let rest = answer.is_ok().then_some((reporting, stream));
                Some((answer, rest))
            };
            batch.instrument(span.clone())
        });
        batches.boxed()
    }
}

impl Reporting {
    fn caller(&self) -> &str {
        let caller = self.certified.as_deref();
        caller.unwrap_or("a worker without a certificate")
    }

    /// Puts on record if it was a message over the limit that ended the stream.
    async fn note(&self, status: &Status) {
        if status.code() == Code::OutOfRange {
            let refusals = &self.coordinator.refusals;
            refusals.record(self.caller(), TOO_LONG).await;
        }
    }

    #[tracing::instrument(name = "ingest.batch", skip_all, fields(observations = report.observations.len()))]
    async fn store_batch(
        &mut self,
        report: v1::ReportRequest,
    ) -> Result<v1::ReportResponse, Status> {
        let coordinator = self.coordinator.clone();
        let _place = coordinator.lanes.batch().await;
        let shard = convert::shard_in(report.shard)?;
        let certified = self.certified.as_deref();
        let holder = self
            .coordinator
            .check_holder(shard, report.token, certified)
            .await?;
        let now = self.coordinator.clock.now();
        let mut observations: Vec<Observation> = report
            .observations
            .into_iter()
            .map(Observation::try_from)
            .collect::<Result<_, _>>()?;
        // The later of two observations stays: one from the future would stay for ever.
        let latest = now.saturating_add(MARGIN).unwrap_or(now);
        for seen in &mut observations {
            seen.started_at = seen.started_at.min(latest);
            seen.finished_at = seen.finished_at.min(latest);
        }
        let was_issued = holder.is_some();
        if let Some(vantage) = holder.and_then(|holder| holder.vantage) {
            for seen in &mut observations {
                seen.vantage.clone_from(&vantage);
            }
        }
        if !observations.is_empty() {
            let planned = self.coordinator.plan(shard.campaign).await?;
            let work = self.work(shard, report.token, was_issued).await?;
            let foreign = |seen: &Observation| {
                seen.campaign != shard.campaign || !planned.plan.includes(&work, seen.endpoint)
            };
            if observations.iter().any(foreign) {
                let what = "an observation of another shard";
                let refusals = &self.coordinator.refusals;
                refusals.record(self.caller(), what).await;
                return Err(Status::permission_denied(format!(
                    "an observation is outside the targets of shard {shard}"
                )));
            }
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
            lost_replies: report.lost_replies,
        };
        let options = &self.coordinator.options;
        let ingested = options.store.ingest(&batch).await.map_err(error::store)?;
        let stale = if ingested.stale { "true" } else { "false" };
        metrics::counter!("ajar_batches_total", "stale" => stale).increment(1);
        let observations = batch.observations.len() as u64;
        metrics::counter!("ajar_observations_total").increment(observations);
        if closes && !ingested.stale {
            // An entry that stays is dropped when it is proposed: the store knows that the shard is closed.
            if let Err(error) = options.queue.done(shard).await {
                tracing::debug!(%error, "a closed shard stays in the queue for a while");
            }
        }
        Ok(v1::ReportResponse {
            sequence: report.sequence,
            stale: ingested.stale,
        })
    }

    /// Returns what a shard consists of. It is kept at hand for tokens that were issued: before the
    /// first lease, and after one that was given back untouched, a revisit may get more endpoints.
    async fn work(
        &self,
        shard: ShardId,
        token: u64,
        was_issued: bool,
    ) -> Result<Arc<Work>, Status> {
        let (works, key) = (&self.coordinator.works, (shard, token));
        if let Some(work) = works.get(&key) {
            return Ok(work);
        }
        let work = self.coordinator.options.store.work(shard).await;
        let work = work.map_err(error::store)?;
        let unknown = || Status::permission_denied(format!("there is no shard {shard}"));
        let work = Arc::new(work.ok_or_else(unknown)?);
        if was_issued {
            works.put(key, Arc::clone(&work), bytes(&work));
        }
        Ok(work)
    }
}

/// About how much memory it takes.
fn bytes(work: &Work) -> usize {
    match work {
        Work::Sweep(_) => size_of::<Work>(),
        Work::Revisit { endpoints, .. } => {
            size_of::<Work>() + endpoints.len() * size_of::<SocketAddr>()
        }
    }
}
