//! What has to happen without anybody asking: refilling a queue that was lost, and ending campaigns.

use std::time::Duration;

use ajar_model::{Campaign, Timestamp, campaign::State};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{Coordinator, error};

/// How often.
const TICK: Duration = Duration::from_millis(250);
/// How often where the store or the queue is away.
const AWAY: Duration = Duration::from_secs(2);

/// Tends the campaigns until `shutdown`.
pub(crate) async fn run(coordinator: Coordinator, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        let pause = match coordinator.tend().await {
            Ok(()) => TICK,
            Err(status) => {
                tracing::warn!(cause = status.message(), "campaigns could not be tended");
                AWAY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

impl Coordinator {
    async fn tend(&self) -> Result<(), Status> {
        if self.options.queue.lost().await.map_err(error::queue)? {
            tracing::info!("the queue is new or was lost: offering every unfinished shard");
            self.offer_unleased(None).await?;
        }
        for campaign in self.options.store.campaigns().await.map_err(error::store)? {
            if matches!(campaign.state, State::Running | State::Settling) {
                self.tend_campaign(&campaign).await?;
            }
        }
        Ok(())
    }

    async fn tend_campaign(&self, campaign: &Campaign) -> Result<(), Status> {
        let store = &self.options.store;
        let now = Timestamp::now();
        let progress = store
            .progress(campaign.id, now)
            .await
            .map_err(error::store)?;
        if progress.closed < progress.shards {
            return Ok(());
        }
        store
            .rejudge_sighted(campaign.id)
            .await
            .map_err(error::store)?;
        let settle = Duration::from_secs(campaign.spec.settle_secs.into());
        let last = progress.last_report_at.unwrap_or(campaign.created_at);
        let waited =
            now.duration_since(last) >= settle.try_into().unwrap_or(jiff::SignedDuration::MAX);
        let to = match progress.awaiting_mail > 0 && !waited {
            true => State::Settling,
            false => State::Finished,
        };
        let moved = store.transition(campaign.id, &[State::Running, State::Settling], to);
        if moved.await.map_err(error::store)? && to == State::Finished {
            tracing::info!(campaign = %campaign.id, "finished");
        }
        Ok(())
    }
}
