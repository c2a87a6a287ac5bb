//! A coordinator of an older version, which knows no sessions: what is said in one becomes calls.

use std::time::Duration;

use ajar_proto::{
    convert,
    dial::Traced,
    v1::{self, lease_news::News, work_service_client::WorkServiceClient},
};
use futures::future::join_all;
use tokio::sync::mpsc;
use tonic::Status;

/// How often leases are renewed.
const RENEWAL: Duration = Duration::from_secs(1);

/// Answers what a worker says as a session would, until it says nothing more.
pub(crate) async fn answer(
    client: WorkServiceClient<Traced>,
    worker: v1::LeaseRequest,
    mut said: mpsc::Receiver<v1::SessionRequest>,
    answers: mpsc::Sender<Result<v1::SessionResponse, Status>>,
) {
    let mut asking: Option<tokio::task::JoinHandle<()>> = None;
    while let Some(message) = said.recv().await {
        let is_asking = asking.as_ref().is_some_and(|asking| !asking.is_finished());
        if message.room > 0 && !is_asking {
            let asked = ask(
                client.clone(),
                worker.clone(),
                message.number,
                answers.clone(),
            );
            asking = Some(tokio::spawn(asked));
        }
        if !message.leases.is_empty() {
            let answer = renew(&client, message).await;
            if answers.send(Ok(answer)).await.is_err() {
                return;
            }
        }
    }
}

async fn ask(
    mut client: WorkServiceClient<Traced>,
    worker: v1::LeaseRequest,
    number: u64,
    answers: mpsc::Sender<Result<v1::SessionResponse, Status>>,
) {
    let answer = match client.lease(worker).await {
        Ok(answer) => Ok(v1::SessionResponse {
            number,
            grant: answer.into_inner().lease,
            ..v1::SessionResponse::default()
        }),
        Err(status) => Err(status),
    };
    // Whoever asked may be gone.
    let _ = answers.send(answer).await;
}

async fn renew(
    client: &WorkServiceClient<Traced>,
    message: v1::SessionRequest,
) -> v1::SessionResponse {
    let calls = message.leases.into_iter().map(|lease| async move {
        let (shard, token) = (lease.shard.clone(), lease.token);
        let renewed = client.clone().renew(lease).await;
        let renewed = renewed.inspect_err(|status| {
            tracing::debug!(cause = status.message(), "a lease could not be renewed");
        });
        Some(v1::LeaseNews {
            shard,
            token,
            news: Some(News::Renewed(renewed.ok()?.into_inner())),
        })
    });
    let leases = join_all(calls).await.into_iter().flatten().collect();
    v1::SessionResponse {
        number: message.number,
        leases,
        renew_after: Some(convert::duration_out(RENEWAL)),
        ..v1::SessionResponse::default()
    }
}
