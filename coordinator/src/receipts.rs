//! Sightings on their way into the store. Those that arrive while others are being written are written together next: a
//! commit costs about the same for one mail and for hundreds, and many relays deliver at once.

use std::{sync::Arc, time::Instant};

use ajar_model::Sighting;
use ajar_store::Store;
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Status};

use crate::{error, strays::Strays};

/// Sightings of one transaction, and as many that wait.
const TOGETHER: usize = 256;

/// Where sightings are handed in. Clones share one writer, which ends with the last of them.
#[derive(Clone)]
pub(crate) struct Receipts {
    waiting: mpsc::Sender<Waiting>,
    strays: Strays,
}

struct Waiting {
    sighting: Sighting,
    recorded: oneshot::Sender<Result<(), Status>>,
}

impl Receipts {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let (waiting, queue) = mpsc::channel(TOGETHER);
        let strays = Strays::new();
        tokio::spawn(write(store, queue, strays.clone()));
        Self { waiting, strays }
    }

    /// Returns once the sighting is durable.
    pub(crate) async fn record(&self, sighting: Sighting) -> Result<(), Status> {
        if self.strays.are_too_many(sighting.egress_ip, Instant::now()) {
            return Err(Status::resource_exhausted(
                "too many mails of this network belong to no campaign",
            ));
        }
        let ended = || Status::unavailable("the coordinator is stopping");
        let (recorded, answer) = oneshot::channel();
        let waiting = Waiting { sighting, recorded };
        self.waiting.send(waiting).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

async fn write(store: Arc<dyn Store>, mut queue: mpsc::Receiver<Waiting>, strays: Strays) {
    let mut group = Vec::new();
    while queue.recv_many(&mut group, TOGETHER).await > 0 {
        let (sightings, answers): (Vec<_>, Vec<_>) = group
            .drain(..)
            .map(|waiting| (waiting.sighting, waiting.recorded))
            .unzip();
        let together = record(&*store, &sightings, &strays).await;
        // What is wrong with one of them is not the fault of the others.
        let retries = matches!(&together, Err(status) if status.code() != Code::Unavailable);
        for (sighting, answer) in sightings.iter().zip(answers) {
            let recorded = match retries && sightings.len() > 1 {
                true => record(&*store, std::slice::from_ref(sighting), &strays).await,
                false => together.clone(),
            };
            // Whoever hung up will send the mail again.
            let _ = answer.send(recorded);
        }
    }
}

async fn record(store: &dyn Store, sightings: &[Sighting], strays: &Strays) -> Result<(), Status> {
    let recorded = store.record_sightings(sightings).await;
    let recorded = recorded.map_err(error::store)?;
    let is_stray = |seen: &&Sighting| recorded.strays.binary_search(&seen.nonce).is_ok();
    for stray in sightings.iter().filter(is_stray) {
        strays.count(stray.egress_ip, Instant::now());
    }
    let changed = recorded.changed;
    if !changed.is_empty() {
        tracing::info!(
            mails = sightings.len(),
            findings = changed.len(),
            "mails arrived and changed findings"
        );
    }
    Ok(())
}
