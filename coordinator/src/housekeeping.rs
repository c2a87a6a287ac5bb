//! What has to happen without anybody asking: offering shards that nobody works on, and ending campaigns.

use std::time::{Duration, Instant};

use ajar_model::{Campaign, Timestamp, campaign::State};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{Coordinator, error};

/// How often campaigns are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often every open shard without a lease is offered. The queue may forget any of them at any time: it was flushed,
/// failed over to an older state, or was away when they were offered first.
const OFFER: Duration = Duration::from_secs(5);
/// Pause after the store or the queue was away.
const AWAY: Duration = Duration::from_secs(2);

/// Runs until `shutdown`.
pub(crate) async fn run(coordinator: Coordinator, shutdown: CancellationToken) {
    let mut offer_at = Instant::now();
    while !shutdown.is_cancelled() {
        let offered = coordinator.offer_if_due(&mut offer_at).await;
        let concluded = coordinator.conclude_campaigns().await;
        let mut pause = TICK;
        for status in [offered, concluded].into_iter().filter_map(Result::err) {
            tracing::warn!(
                cause = status.message(),
                "housekeeping failed; it is tried again"
            );
            pause = AWAY;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

impl Coordinator {
    async fn offer_if_due(&self, due: &mut Instant) -> Result<(), Status> {
        let lost = self.options.queue.lost().await.map_err(error::queue)?;
        if lost {
            tracing::info!("the queue is new or was lost: offering every open shard");
        }
        if lost || Instant::now() >= *due {
            self.offer_unleased(None).await?;
            *due = Instant::now() + OFFER;
        }
        Ok(())
    }

    async fn conclude_campaigns(&self) -> Result<(), Status> {
        for campaign in self.options.store.campaigns().await.map_err(error::store)? {
            if matches!(campaign.state, State::Running | State::Settling) {
                self.conclude(&campaign).await?;
            }
        }
        Ok(())
    }

    async fn conclude(&self, campaign: &Campaign) -> Result<(), Status> {
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
