//! The stream between a worker and its coordinator: it keeps every lease and brings more.
//!
//! A session that breaks ends no lease. The next one goes on with them, at whichever coordinator
//! answers, for as long as their fences are open.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ajar_model::{Lease, ShardId};
use ajar_proto::{
    convert,
    dial::Traced,
    v1::{self, lease_news, work_service_client::WorkServiceClient},
};
use futures::{Stream, StreamExt};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    calls,
    fence::Now,
    kept::{Kept, News},
};

/// How often something is said in a session in which no lease is to be kept.
const BEAT: Duration = Duration::from_secs(3);
/// When the first lease is named, after it was granted.
const FIRST: Duration = Duration::from_secs(1);
/// When a coordinator is given up that does not answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);
/// The first pause before another session, and the longest: a part of it by chance, so that workers
/// do not come back together.
const SOON: Duration = Duration::from_millis(300);
const LATE: Duration = Duration::from_secs(10);
/// What is remembered of messages: when each was sent.
const REMEMBERED: usize = 64;
/// Messages that wait on the way to the coordinator, or back.
const WAITING: usize = 8;

/// The leases of a worker and its wish for more, whatever becomes of the sessions.
pub(crate) struct Session {
    worker: v1::LeaseRequest,
    held: Mutex<BTreeMap<(ShardId, u64), Kept>>,
    /// It has room for one lease more.
    wants: AtomicBool,
    /// The coordinator is of a version that knows no sessions.
    older: AtomicBool,
    /// Something is to be said at once.
    prompt: Notify,
    grants: mpsc::Sender<(Lease, Now)>,
}

/// Leases that arrive, each with the time from which it counts.
pub(crate) type Grants = mpsc::Receiver<(Lease, Now)>;

impl Session {
    /// For a worker that introduces itself so.
    pub fn new(worker: v1::LeaseRequest) -> (Arc<Self>, Grants) {
        let (grants, granted) = mpsc::channel(1);
        let session = Self {
            worker,
            held: Mutex::default(),
            wants: AtomicBool::new(false),
            older: AtomicBool::new(false),
            prompt: Notify::new(),
            grants,
        };
        (Arc::new(session), granted)
    }

    /// Returns whether the coordinator is of a version that knows no sessions.
    pub fn is_with_older(&self) -> bool {
        self.older.load(Ordering::Relaxed)
    }

    /// Says whether there is room for one lease more.
    pub fn want(&self, more: bool) {
        if self.wants.swap(more, Ordering::Relaxed) != more {
            self.prompt.notify_one();
        }
    }

    /// Keeps a lease until what is returned is dropped.
    pub fn keep(self: &Arc<Self>, kept: Kept) -> Keeping {
        let key = kept.key();
        self.held().insert(key, kept);
        Keeping {
            session: Arc::clone(self),
            key,
        }
    }

    /// Has one session after the other, for ever.
    pub async fn run(
        self: Arc<Self>,
        client: WorkServiceClient<Traced>,
        connected: watch::Sender<bool>,
    ) {
        let mut pause = SOON;
        let mut is_away = false;
        loop {
            let mut talk = Talk::new(&self, &connected);
            let ended = talk.run(client.clone()).await;
            if talk.was_answered {
                pause = SOON;
                is_away = false;
            }
            let within = match ended {
                Ended::Asked(within) => within,
                Ended::Broken(status) => {
                    connected.send_replace(false);
                    if !std::mem::replace(&mut is_away, true) {
                        let cause = status.message();
                        match status.code() {
                            Code::PermissionDenied => tracing::error!(
                                cause,
                                "the coordinator refuses this worker; asking until it does not"
                            ),
                            _ => tracing::warn!(
                                cause,
                                "the coordinator does not answer; asking until it does"
                            ),
                        }
                    }
                    pause = (pause * 2).min(LATE);
                    pause
                }
            };
            sleep(within.mul_f64(fastrand::f64())).await;
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<(ShardId, u64), Kept>> {
        self.held.lock().expect("no holder panics")
    }
}

/// A lease is kept until this is dropped.
pub(crate) struct Keeping {
    session: Arc<Session>,
    key: (ShardId, u64),
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.session.held().remove(&self.key);
    }
}

/// How a session ended.
enum Ended {
    /// The coordinator asked for another one within this time.
    Asked(Duration),
    Broken(Status),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Broken(status)
    }
}

/// One session.
struct Talk<'a> {
    session: &'a Arc<Session>,
    number: u64,
    /// When the last messages were sent.
    sent: VecDeque<(u64, Now)>,
    /// Until when the one that names leases is to be answered.
    answer_by: Option<Instant>,
    /// When leases are to be named again.
    renew_at: Instant,
    was_answered: bool,
    connected: &'a watch::Sender<bool>,
}

impl<'a> Talk<'a> {
    fn new(session: &'a Arc<Session>, connected: &'a watch::Sender<bool>) -> Self {
        Self {
            session,
            number: 0,
            sent: VecDeque::new(),
            answer_by: None,
            renew_at: Instant::now(),
            was_answered: false,
            connected,
        }
    }

    async fn run(&mut self, mut client: WorkServiceClient<Traced>) -> Ended {
        let (out, requests) = mpsc::channel(WAITING);
        let mut first = self.message(true);
        first.worker = Some(self.session.worker.clone());
        let _ = out.try_send(first);
        let opened = client.session(ReceiverStream::new(requests));
        let opened = timeout_at(Instant::now() + ANSWER, opened).await;
        let is_unknown = |status: &Status| status.code() == Code::Unimplemented;
        if let Ok(answered) = &opened {
            let is_older = answered.as_ref().is_err_and(is_unknown);
            self.connected.send_replace(is_older || answered.is_ok());
            self.session.older.store(is_older, Ordering::Relaxed);
        }
        match opened {
            Err(_) => no_answer().into(),
            Ok(Err(status)) if is_unknown(&status) => {
                let (answers, heard) = mpsc::channel(WAITING);
                let (out, requests) = mpsc::channel(WAITING);
                let worker = self.session.worker.clone();
                // Nobody read the first message: it is said again.
                self.answer_by = None;
                self.session.prompt.notify_one();
                let calling = tokio::spawn(calls::answer(client, worker, requests, answers));
                self.renew_at = Instant::now();
                let ended = self.talk(&out, ReceiverStream::new(heard)).await;
                calling.abort();
                ended
            }
            Ok(Err(status)) => status.into(),
            Ok(Ok(answers)) => self.talk(&out, answers.into_inner()).await,
        }
    }

    /// Speaks and listens until it breaks.
    async fn talk(
        &mut self,
        out: &mpsc::Sender<v1::SessionRequest>,
        mut heard: impl Stream<Item = Result<v1::SessionResponse, Status>> + Unpin,
    ) -> Ended {
        let mut beat_at = Instant::now() + BEAT;
        loop {
            let renew_at = match self.answer_by {
                // No more is asked before the last one was answered.
                Some(by) => by,
                None if self.session.held().is_empty() => beat_at,
                None => self.renew_at.min(beat_at),
            };
            let due = tokio::select! {
                answer = heard.next() => match answer {
                    Some(Ok(answer)) => {
                        if let Some(within) = self.hear(answer) {
                            return Ended::Asked(within);
                        }
                        continue;
                    }
                    Some(Err(status)) => return status.into(),
                    None => return Status::unavailable("the coordinator left").into(),
                },
                () = self.session.prompt.notified() => false,
                () = sleep_until(renew_at) => true,
            };
            if due && self.answer_by.is_some() {
                return no_answer().into();
            }
            let message = self.message(due);
            beat_at = Instant::now() + BEAT;
            if out.send(message).await.is_err() {
                return Status::unavailable("the coordinator left").into();
            }
        }
    }

    /// Makes the next message, which names the leases if they are due.
    fn message(&mut self, due: bool) -> v1::SessionRequest {
        self.number += 1;
        self.sent.push_back((self.number, Now::read()));
        if self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
        let mut leases = Vec::new();
        if due {
            leases = self
                .session
                .held()
                .values()
                .filter_map(Kept::renewal)
                .collect();
            self.renew_at = Instant::now() + BEAT;
        }
        if !leases.is_empty() {
            self.answer_by = Some(Instant::now() + ANSWER);
        }
        v1::SessionRequest {
            number: self.number,
            worker: None,
            leases,
            room: self.session.wants.load(Ordering::Relaxed).into(),
        }
    }

    /// Takes note of an answer. Returns within which time to open another session, if this one is
    /// to end.
    fn hear(&mut self, answer: v1::SessionResponse) -> Option<Duration> {
        self.was_answered = true;
        let within = answer.retry_within;
        if let Some(within) = within {
            return Some(convert::duration_in("retry_within", Some(within)).unwrap_or(SOON));
        }
        let sent = self
            .sent
            .iter()
            .find(|(number, _)| *number == answer.number);
        let sent = sent.map(|(_, sent)| *sent);
        if let Some(after) = answer.renew_after {
            let after = convert::duration_in("renew_after", Some(after)).unwrap_or(BEAT);
            self.answer_by = None;
            self.renew_at = Instant::now() + after.min(BEAT);
        }
        for news in answer.leases {
            self.tell(news, sent);
        }
        if let (Some(lease), Some(sent)) = (answer.grant, sent) {
            match Lease::try_from(lease) {
                Ok(lease) => {
                    if self.session.held().is_empty() {
                        self.renew_at = Instant::now() + FIRST;
                    }
                    self.session.wants.store(false, Ordering::Relaxed);
                    // The worker asks for one at a time.
                    let _ = self.session.grants.try_send((lease, sent));
                }
                Err(error) => {
                    tracing::error!(%error, "the coordinator sent a lease that cannot be read")
                }
            }
        }
        None
    }

    fn tell(&self, news: v1::LeaseNews, sent: Option<Now>) {
        let Ok(shard) = convert::shard_in(news.shard) else {
            return;
        };
        let held = self.session.held();
        let Some(kept) = held.get(&(shard, news.token)) else {
            return;
        };
        match news.news {
            Some(lease_news::News::Renewed(renewed)) => kept.renewed(&renewed, sent),
            Some(lease_news::News::Epoch(epoch)) => kept.tell(News::Epoch(epoch, None)),
            None => {}
        }
    }
}

/// What is said of a coordinator that does not answer.
pub(crate) fn no_answer() -> Status {
    Status::unavailable("no answer in time")
}
