//! Sessions: on one stream a worker's leases are kept, and more are brought to it.
//!
//! A session that breaks ends no lease: its worker goes on with it in the next one, perhaps at
//! another coordinator. Only a lease that was granted and could not be handed over goes back at once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ajar_model::{Lease, ShardId};
use ajar_proto::{convert, v1, v1::lease_news::News};
use futures::stream::{BoxStream, StreamExt};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use crate::{
    Coordinator, caller,
    leases::Asking,
    renewals::{FENCED, Named, STOPPED, ended, news},
    sending::Look,
};

/// A worker that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// Pause after no lease could be looked for.
const AWAY: Duration = Duration::from_secs(1);
/// After so many renewals without an answer from the store, another coordinator may fare better.
const FAILURES: u32 = 3;
/// How soon leases are to be named again, and for each of them that is kept here a part of it more.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(3);
const FOR_EACH: Duration = Duration::from_micros(75);
/// Workers come back over this time for each of them, when they all have to leave.
const COME_BACK: Duration = Duration::from_micros(500);
/// Messages that wait to be sent.
const WAITING: usize = 8;

/// How many leases are kept in all sessions. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<AtomicUsize>);

impl Kept {
    /// When a worker is to name its leases again.
    fn renew_after(&self) -> Duration {
        let leases = self.0.load(Ordering::Relaxed);
        let more = FOR_EACH * u32::try_from(leases).unwrap_or(u32::MAX);
        SOONEST.saturating_add(more).min(LATEST)
    }
}

impl Coordinator {
    /// Begins a session.
    pub(crate) fn begin_session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> BoxStream<'static, Result<v1::SessionResponse, Status>> {
        let certified = caller::worker(&request);
        let (out, answers) = mpsc::channel(WAITING);
        let (coordinator, mut said) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            let ended = async {
                let first = said.message().await?;
                let first = first.ok_or_else(|| Status::invalid_argument("no message"))?;
                let worker = first.worker.clone();
                let worker =
                    worker.ok_or_else(|| Status::invalid_argument("no worker is named"))?;
                let asking = Asking::new(worker, certified.as_deref());
                let mut session = Session {
                    asking: Arc::new(asking),
                    certified,
                    out: out.clone(),
                    heard: 0,
                    room: 0,
                    failures: 0,
                    leases: BTreeMap::new(),
                    counted: 0,
                    coordinator,
                };
                metrics::gauge!("ajar_sessions").increment(1);
                session.hear(first).await?;
                session.run(said).await
            };
            if let Err(status) = ended.await {
                tracing::debug!(cause = status.message(), "a session ends");
                let _ = out.send(Err(status)).await;
            }
        });
        ReceiverStream::new(answers).boxed()
    }
}

struct Session {
    coordinator: Coordinator,
    asking: Arc<Asking>,
    /// The worker, by its certificate.
    certified: Option<String>,
    out: mpsc::Sender<Result<v1::SessionResponse, Status>>,
    /// The number of the message that was read last.
    heard: u64,
    /// Leases that its worker has room for.
    room: u32,
    /// Renewals in a row that the store did not answer.
    failures: u32,
    leases: BTreeMap<ShardId, Known>,
    /// How many of them are in [`Kept`].
    counted: usize,
}

/// What is known of a lease.
#[derive(Debug, Clone, Copy)]
struct Known {
    token: u64,
    revision: u64,
    epoch: u64,
    /// When it was granted or kept last.
    at: Instant,
}

/// A lease, with the number of the message that it was looked for after.
type Sought = JoinHandle<(u64, Option<Lease>)>;

impl Session {
    /// Goes on until one side leaves.
    async fn run(&mut self, said: Streaming<v1::SessionRequest>) -> Result<(), Status> {
        let mut sought = None;
        let ended = self.talk(said, &mut sought).await;
        if let Some(sought) = sought {
            let coordinator = self.coordinator.clone();
            tokio::spawn(async move {
                if let Ok((_, Some(lease))) = sought.await {
                    coordinator.take_back(&lease).await;
                }
            });
        }
        ended
    }

    async fn talk(
        &mut self,
        mut said: Streaming<v1::SessionRequest>,
        sought: &mut Option<Sought>,
    ) -> Result<(), Status> {
        let mut looks = self.coordinator.looks.subscribe();
        let shutdown = self.coordinator.shutdown.clone();
        let mut heard_at = Instant::now();
        loop {
            // A look from before a lease was kept says nothing of it, and the next one may be alike.
            let look_again = self.tell_news(&mut looks).await?;
            if self.room > 0 && sought.is_none() {
                *sought = Some(self.seek());
            }
            let found = async {
                match sought.as_mut() {
                    Some(sought) => sought.await,
                    None => std::future::pending().await,
                }
            };
            let again = look_again.unwrap_or(heard_at + SILENCE);
            tokio::select! {
                message = said.message() => {
                    let Some(message) = message? else { return Ok(()) };
                    heard_at = Instant::now();
                    self.hear(message).await?;
                }
                found = found => {
                    *sought = None;
                    if let Ok((number, Some(lease))) = found {
                        self.hand_over(number, lease).await?;
                    }
                }
                changed = looks.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                () = sleep(until(again)), if look_again.is_some() => {}
                () = sleep(until(heard_at + SILENCE)) => return Ok(()),
                () = shutdown.cancelled() => return self.leave().await,
            }
        }
    }

    /// Takes note of what the worker says, and answers if it names leases.
    async fn hear(&mut self, message: v1::SessionRequest) -> Result<(), Status> {
        self.heard = message.number;
        self.room = message.room;
        self.asking.note(&self.coordinator.presence);
        if message.leases.is_empty() {
            return Ok(());
        }
        let certified = self.certified.as_deref();
        let kept = self.coordinator.keep(message.leases, certified).await;
        let named = match kept {
            Ok(named) => {
                self.failures = 0;
                self.note_kept(&named);
                named
            }
            Err(status) if status.code() == Code::Unavailable => {
                self.failures += 1;
                if self.failures >= FAILURES {
                    return Err(status);
                }
                Vec::new()
            }
            Err(status) => return Err(status),
        };
        let answer = v1::SessionResponse {
            number: message.number,
            leases: named.into_iter().map(Into::into).collect(),
            renew_after: Some(convert::duration_out(self.coordinator.kept.renew_after())),
            ..v1::SessionResponse::default()
        };
        self.say(answer).await
    }

    /// Takes note of which leases were kept: their worker has no others.
    fn note_kept(&mut self, named: &[Named]) {
        let at = Instant::now();
        let kept = named.iter().filter_map(|named| {
            let epoch = named.kept.as_ref().ok()?.epoch;
            let known = Known {
                token: named.token,
                revision: named.revision,
                epoch,
                at,
            };
            Some((named.shard, known))
        });
        self.leases = kept.collect();
        self.count();
    }

    /// Looks for a lease, for as long as one request waits.
    fn seek(&self) -> Sought {
        let (coordinator, asking) = (self.coordinator.clone(), Arc::clone(&self.asking));
        let number = self.heard;
        tokio::spawn(async move {
            match coordinator.seek(&asking).await {
                Ok(lease) => (number, lease),
                Err(status) => {
                    tracing::debug!(cause = status.message(), "no lease can be looked for");
                    sleep(AWAY).await;
                    (number, None)
                }
            }
        })
    }

    async fn hand_over(&mut self, number: u64, lease: Lease) -> Result<(), Status> {
        self.room = self.room.saturating_sub(1);
        let known = Known {
            token: lease.token,
            revision: lease.revision,
            epoch: lease.epoch,
            at: Instant::now(),
        };
        self.leases.insert(lease.shard, known);
        self.count();
        let grant = v1::SessionResponse {
            number,
            grant: Some(lease.clone().into()),
            ..v1::SessionResponse::default()
        };
        let said = self.say(grant).await;
        if said.is_err() {
            self.coordinator.take_back(&lease).await;
        }
        said
    }

    /// Tells of leases that ended, and of changed exclusions. Returns when to look again if the last
    /// look is too old for some leases.
    async fn tell_news(
        &mut self,
        looks: &mut watch::Receiver<Look>,
    ) -> Result<Option<Instant>, Status> {
        const AGAIN: Duration = Duration::from_millis(500);
        let mut told = Vec::new();
        let mut is_old = false;
        {
            let look = looks.borrow_and_update();
            self.leases.retain(|shard, known| {
                let sending = look.campaigns.get(&shard.campaign);
                let cause = match sending {
                    None => STOPPED,
                    Some(sending) if sending.revision > known.revision => FENCED,
                    Some(sending) => {
                        if sending.epoch > known.epoch {
                            known.epoch = sending.epoch;
                            told.push(news(*shard, known.token, News::Epoch(sending.epoch)));
                        }
                        return true;
                    }
                };
                if look.asked <= known.at {
                    is_old = true;
                    return true;
                }
                told.push(ended(*shard, known.token, cause.to_owned()));
                false
            });
        }
        self.count();
        if !told.is_empty() {
            let response = v1::SessionResponse {
                leases: told,
                ..v1::SessionResponse::default()
            };
            self.say(response).await?;
        }
        Ok(is_old.then(|| Instant::now() + AGAIN))
    }

    /// Has the worker open another session: this coordinator ends.
    async fn leave(&mut self) -> Result<(), Status> {
        let workers = u32::try_from(self.coordinator.looks.receiver_count()).unwrap_or(u32::MAX);
        let within = COME_BACK.saturating_mul(workers);
        let farewell = v1::SessionResponse {
            retry_within: Some(convert::duration_out(within)),
            ..v1::SessionResponse::default()
        };
        self.say(farewell).await
    }

    async fn say(&self, response: v1::SessionResponse) -> Result<(), Status> {
        let said = self.out.send(Ok(response)).await;
        said.map_err(|_| Status::cancelled("the worker is gone"))
    }

    /// Counts its leases among all that are kept.
    fn count(&mut self) {
        let Kept(all) = &self.coordinator.kept;
        all.fetch_add(self.leases.len(), Ordering::Relaxed);
        all.fetch_sub(self.counted, Ordering::Relaxed);
        self.counted = self.leases.len();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Kept(all) = &self.coordinator.kept;
        all.fetch_sub(self.counted, Ordering::Relaxed);
        metrics::gauge!("ajar_sessions").decrement(1);
    }
}

/// How long it is until then.
fn until(then: Instant) -> Duration {
    then.saturating_duration_since(Instant::now())
}
