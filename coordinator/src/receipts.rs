//! Sightings on their way into the store. Those that arrive while others are being written are written together next: a
//! commit costs about the same for one mail and for hundreds, and many relays deliver at once.

use std::sync::Arc;

use ajar_model::Sighting;
use ajar_store::Store;
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Status};

use crate::error;

/// Sightings of one transaction, and as many that wait.
const TOGETHER: usize = 256;

/// Where sightings are handed in. Clones share one writer, which ends with the last of them.
#[derive(Clone)]
pub(crate) struct Receipts(mpsc::Sender<Waiting>);

struct Waiting {
    sighting: Sighting,
    recorded: oneshot::Sender<Result<(), Status>>,
}

impl Receipts {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let (waiting, queue) = mpsc::channel(TOGETHER);
        tokio::spawn(write(store, queue));
        Self(waiting)
    }

    /// Returns once the sighting is durable.
    pub(crate) async fn record(&self, sighting: Sighting) -> Result<(), Status> {
        let ended = || Status::unavailable("the coordinator is stopping");
        let (recorded, answer) = oneshot::channel();
        let waiting = Waiting { sighting, recorded };
        self.0.send(waiting).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

async fn write(store: Arc<dyn Store>, mut queue: mpsc::Receiver<Waiting>) {
    let mut group = Vec::new();
    while queue.recv_many(&mut group, TOGETHER).await > 0 {
        let (sightings, answers): (Vec<_>, Vec<_>) = group
            .drain(..)
            .map(|waiting| (waiting.sighting, waiting.recorded))
            .unzip();
        let together = record(&*store, &sightings).await;
        // What is wrong with one of them is not the fault of the others.
        let retries = matches!(&together, Err(status) if status.code() != Code::Unavailable);
        for (sighting, answer) in sightings.iter().zip(answers) {
            let recorded = match retries && sightings.len() > 1 {
                true => record(&*store, std::slice::from_ref(sighting)).await,
                false => together.clone(),
            };
            // Whoever hung up will send the mail again.
            let _ = answer.send(recorded);
        }
    }
}

async fn record(store: &dyn Store, sightings: &[Sighting]) -> Result<(), Status> {
    let changed = store.record_sightings(sightings).await;
    let changed = changed.map_err(error::store)?;
    if !changed.is_empty() {
        tracing::info!(
            mails = sightings.len(),
            findings = changed.len(),
            "mails arrived and changed findings"
        );
    }
    Ok(())
}
