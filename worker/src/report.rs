//! Results on their way to the coordinator: bounded batches, sent in order, kept until they are stored.

use std::time::Duration;

use ajar_model::{Ahead, Observation, ShardId};
use ajar_proto::{
    dial::Traced,
    v1::{self, work_service_client::WorkServiceClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::progress::Run;

/// Batches of one lease that may wait or be unacknowledged: with none left, no target is visited.
const CREDIT: usize = 4;
/// How often a batch is sent that the coordinator refuses without saying that another attempt may
/// help.
const ATTEMPTS: u32 = 5;
/// Pause between attempts to reach the coordinator.
const RETRY: Duration = Duration::from_secs(1);

/// What one lease reports.
pub struct Reporter {
    batches: mpsc::Sender<v1::ReportRequest>,
    shard: ShardId,
    token: u64,
    sequence: u64,
    /// Ends once every batch is stored, or is given up.
    delivery: tokio::task::JoinHandle<Delivery>,
}

/// How the reports of a lease ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    Complete,
    /// The shard belongs to somebody else; what was observed is stored.
    Stale,
    /// The coordinator was away to the end.
    Lost,
    /// The coordinator refused a batch, and would refuse it again.
    Refused(String),
}

impl Reporter {
    /// Reports on a shard, under this token. `give_up` ends the attempts to reach a coordinator
    /// that is away; `moved` is cancelled once the shard's cursor has moved.
    pub fn new(
        client: WorkServiceClient<Traced>,
        shard: ShardId,
        token: u64,
        give_up: CancellationToken,
        moved: CancellationToken,
    ) -> Self {
        let (batches, queue) = mpsc::channel(CREDIT);
        let delivery = async move {
            tokio::select! {
                delivery = deliver(client, queue, moved) => delivery,
                () = give_up.cancelled() => Delivery::Lost,
            }
        };
        Self {
            batches,
            shard,
            token,
            sequence: 0,
            delivery: tokio::spawn(delivery.in_current_span()),
        }
    }

    /// Waits until a batch may be handed over; none once nothing more is taken.
    pub async fn ready(&self) -> Option<mpsc::OwnedPermit<v1::ReportRequest>> {
        self.batches.clone().reserve_owned().await.ok()
    }

    /// A batch: what was observed, how far the cursor moves, and which targets beyond it are finished.
    pub fn batch(
        &mut self,
        observations: &[Observation],
        run: Option<Run>,
        ahead: Ahead,
        closes: bool,
    ) -> v1::ReportRequest {
        self.sequence += 1;
        v1::ReportRequest {
            sequence: self.sequence,
            shard: Some(self.shard.into()),
            token: self.token,
            observations: observations.iter().map(Into::into).collect(),
            advance: run.map(|run| v1::Advance {
                from: run.from,
                to: run.to,
                tally: Some(run.tally.into()),
                closes,
            }),
            ahead: ahead.finished,
            ahead_answered: ahead.answered,
            lost_replies: 0,
        }
    }

    /// Waits until every batch is stored, or given up.
    pub async fn finish(self) -> Delivery {
        drop(self.batches);
        self.delivery.await.unwrap_or(Delivery::Lost)
    }
}

/// Sends each batch until it is acknowledged, over as many streams as that takes.
async fn deliver(
    client: WorkServiceClient<Traced>,
    mut queue: mpsc::Receiver<v1::ReportRequest>,
    moved: CancellationToken,
) -> Delivery {
    let mut delivery = Delivery::Complete;
    let mut pending: Option<v1::ReportRequest> = None;
    let mut refused = (0, 0);
    loop {
        let ended = stream(&client, &mut queue, &mut pending, &mut delivery, &moved).await;
        if ended.as_ref().is_err_and(|status| !may_pass(status)) {
            let batch = pending.as_ref().map_or(0, |batch| batch.sequence);
            refused = (batch, if refused.0 == batch { refused.1 + 1 } else { 1 });
        }
        match ended {
            Ok(()) => return delivery,
            Err(status) if is_final(&status) || refused.1 >= ATTEMPTS => {
                tracing::error!(cause = status.message(), "the coordinator refused results");
                return Delivery::Refused(status.message().to_owned());
            }
            Err(status) => {
                tracing::warn!(cause = status.message(), "results wait for the coordinator");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// One stream, until the queue ends or the stream breaks. The batch that is not acknowledged stays in `pending`.
async fn stream(
    client: &WorkServiceClient<Traced>,
    queue: &mut mpsc::Receiver<v1::ReportRequest>,
    pending: &mut Option<v1::ReportRequest>,
    delivery: &mut Delivery,
    moved: &CancellationToken,
) -> Result<(), tonic::Status> {
    if pending.is_none() {
        *pending = queue.recv().await;
    }
    if pending.is_none() {
        return Ok(());
    }
    let (outgoing, requests) = mpsc::channel(1);
    let mut client = client.clone();
    let opening = client.report(ReceiverStream::new(requests));
    let mut first = pending.clone();
    // The server may answer the call only after the first message.
    let sending = async {
        if let Some(batch) = first.take() {
            let _ = outgoing.send(batch).await;
        }
    };
    let (answer, ()) = futures::future::join(opening, sending).await;
    let mut acknowledgements = answer?.into_inner();
    loop {
        let acknowledged = acknowledgements.message().await?;
        let acknowledged =
            acknowledged.ok_or_else(|| tonic::Status::unavailable("the stream ended"))?;
        let advance = pending.as_ref().and_then(|batch| batch.advance.as_ref());
        if acknowledged.stale {
            *delivery = Delivery::Stale;
        } else if advance.is_some_and(|advance| advance.to > advance.from) {
            moved.cancel();
        }
        *pending = queue.recv().await;
        match pending {
            None => return Ok(()),
            Some(batch) => outgoing
                .send(batch.clone())
                .await
                .map_err(|_| tonic::Status::unavailable("the stream ended"))?,
        }
    }
}

/// Whether the coordinator, or the way to it, may be better soon.
fn may_pass(status: &tonic::Status) -> bool {
    matches!(
        status.code(),
        tonic::Code::Unavailable
            | tonic::Code::DeadlineExceeded
            | tonic::Code::Cancelled
            | tonic::Code::Aborted
            | tonic::Code::ResourceExhausted
    )
}

/// True if sending the same batch again cannot help.
fn is_final(status: &tonic::Status) -> bool {
    matches!(
        status.code(),
        tonic::Code::InvalidArgument
            | tonic::Code::FailedPrecondition
            | tonic::Code::PermissionDenied
            | tonic::Code::Unauthenticated
            | tonic::Code::NotFound
    )
}
