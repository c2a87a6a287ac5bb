//! Runs shards: asks for leases, visits their targets at the granted pace, and reports what it saw.
//!
//! A worker is stateless. It trusts nothing but a signed authorization: what a coordinator sends is checked when a
//! lease begins ([`lease`]) and again at every connection ([`egress`]).
//!
//! Architecture invariant: `egress` is the only place that opens a socket to a target, and no other module names
//! `tokio::net`.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, OnceLock, Weak},
    time::Duration,
};

use ajar_model::{CampaignId, Spec, campaign::Sweep, signers::AllowedSigners};
use ajar_probe::Limits;
use ajar_proto::{
    dial::{Coordinator, Traced},
    v1::{self, work_service_client::WorkServiceClient},
};
use ajar_sweep::syn::{self, Syn};
use exclusions::Exclusions;
use greeting::Greeting;
use pacer::Pacer;
use places::Places;
use reach::Reach;
use session::Session;
use standpoint::Standpoints;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

mod calls;
mod egress;
mod exclusions;
mod fault;
pub mod fence;
mod greeting;
mod kept;
mod lease;
pub mod limit;
pub mod pacer;
mod passes;
mod places;
mod prefix_slots;
mod progress;
mod reach;
mod report;
mod session;
mod shard;
mod standpoint;
mod sweep;
mod turn;
mod visit;

/// What a worker is told at its start.
pub struct Options {
    /// Where it gets work.
    pub coordinator: Coordinator,
    /// Its identity, new at each start.
    pub name: String,
    /// Where it stands, in results.
    pub vantage: String,
    /// Whose authorizations it accepts, from one moment to the next.
    pub signers: watch::Receiver<AllowedSigners>,
    /// True if loopback may be audited without an authorization: it is this very machine's operator who asks.
    pub allow_loopback: bool,
    /// The address that targets see, if this machine is behind NAT. The canary must see it too.
    pub public_address: Option<IpAddr>,
    /// The name by which it greets mail servers; by default that of its address, or else the
    /// canary's domain.
    pub helo: Option<String>,
    /// Targets that are visited at the same time at most: see [`places`].
    pub capacity: usize,
    /// What a target may cost.
    pub limits: Limits,
    /// Socket addresses that are never probed: the cluster's own.
    pub control_plane: Vec<SocketAddr>,
    /// Told whether a coordinator answers.
    pub connected: watch::Sender<bool>,
}

/// Leases that a worker holds at the same time and has not started every target of.
const LEASES: usize = 64;
/// Leases that it holds at all: slow conversations may outlast the start of many others.
const ALL_LEASES: usize = 256;
/// The first and the longest pause after leases that this worker could not run.
const PAUSE: Duration = Duration::from_millis(300);
const LONG_PAUSE: Duration = Duration::from_secs(15);
/// How long results may take to be stored after a stop was asked for.
const GRACE: Duration = Duration::from_secs(20);

/// What the leases of one worker share.
struct Worker {
    options: Options,
    /// For the session and short questions. Results have another connection: nothing waits behind
    /// them.
    control: WorkServiceClient<Traced>,
    results: WorkServiceClient<Traced>,
    session: Arc<Session>,
    places: Arc<Places>,
    /// The limits of each campaign that it has a lease of.
    pacers: Mutex<HashMap<CampaignId, Weak<Pacer>>>,
    /// What is excluded from each campaign that it has a lease of.
    exclusions: Mutex<HashMap<CampaignId, Weak<Exclusions>>>,
    /// Whether canaries are reached from here.
    reach: Reach,
    standpoints: Arc<Standpoints>,
    greeting: Arc<Greeting>,
    /// Opened when the first lease asks for it.
    syn: OnceLock<Result<Arc<Syn>, Arc<syn::Error>>>,
    /// No further target is visited.
    drain: CancellationToken,
    /// Results that could not be stored are given up.
    give_up: CancellationToken,
}

type Leases = JoinSet<Result<(), lease::Error>>;

/// Why this process cannot find open targets as it was asked to.
pub fn check(sweep: Sweep) -> Result<(), syn::Error> {
    match sweep {
        Sweep::Syn => Syn::open().map(drop),
        Sweep::Auto | Sweep::Connect | Sweep::None => Ok(()),
    }
}

/// Works until `drain` is cancelled; then visits no further target, reports what was seen and gives its leases back.
pub async fn run(options: Options, drain: CancellationToken) {
    let (session, mut grants) = Session::new(v1::LeaseRequest {
        worker: options.name.clone(),
        vantage: options.vantage.clone(),
        probes: ajar_probe::probes()
            .map(|probe| probe.id().to_string())
            .collect(),
    });
    let worker = Arc::new(Worker {
        control: options.coordinator.work(),
        results: options.coordinator.work(),
        session,
        places: Places::new(options.capacity),
        pacers: Mutex::default(),
        exclusions: Mutex::default(),
        reach: Reach::default(),
        standpoints: Arc::default(),
        greeting: Arc::new(Greeting::new(options.helo.clone())),
        syn: OnceLock::new(),
        give_up: CancellationToken::new(),
        drain,
        options,
    });
    let following = tokio::spawn(Arc::clone(&worker.places).follow());
    let session = Arc::clone(&worker.session);
    let connected = worker.options.connected.clone();
    let talking = tokio::spawn(session.run(worker.control.clone(), connected));
    let places = Arc::new(Semaphore::new(LEASES));
    let mut leases = Leases::new();
    let mut pause = Pause::new();
    let mut stop = worker.drain.child_token();
    while !worker.drain.is_cancelled() {
        let Some(place) = worker.place(&places, &mut leases, &mut pause).await else {
            continue;
        };
        worker.session.want(true);
        let (mut lease, sent) = tokio::select! {
            granted = grants.recv() => granted.expect("its session lives as long as the worker"),
            Some(ended) = leases.join_next() => {
                pause.after(&flat(ended));
                // Until there is room: a lease that waited for it would end meanwhile.
                worker.session.want(false);
                continue;
            }
            () = worker.drain.cancelled() => break,
        };
        // A coordinator of an older version takes our word for it.
        if lease.vantage.is_empty() {
            lease.vantage.clone_from(&worker.options.vantage);
        }
        let alone = lease.alone;
        if alone {
            // The others go back, and are had again afterwards.
            stop.cancel();
            stop = worker.drain.child_token();
            worker.end(&mut leases, &mut pause).await;
        }
        let (running, stop) = (Arc::clone(&worker), stop.clone());
        let moved = CancellationToken::new();
        let ends = lease::Ends {
            stop,
            moved: moved.clone(),
        };
        leases.spawn(async move { running.run_lease(lease, sent, place, ends).await });
        if alone {
            // A shard that moves is no poison: others may run beside it again.
            tokio::select! {
                () = worker.end(&mut leases, &mut pause) => {}
                () = moved.cancelled() => {}
            }
        }
    }
    worker.session.want(false);
    following.abort();
    let ended = async {
        loop {
            tokio::select! {
                biased;
                Some((lease, _)) = grants.recv() => worker.give_back(&lease, None).await,
                ended = leases.join_next() => if ended.is_none() { return },
            }
        }
    };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::warn!("results could not be stored in time; their targets will be visited again");
        worker.give_up.cancel();
        let _ = tokio::time::timeout(GRACE / 4, async {
            while leases.join_next().await.is_some() {}
        })
        .await;
    }
    talking.abort();
}

impl Worker {
    /// Waits for the end of every lease, or until this worker drains.
    async fn end(&self, leases: &mut Leases, pause: &mut Pause) {
        while let Some(ended) = tokio::select! {
            ended = leases.join_next() => ended,
            () = self.drain.cancelled() => None,
        } {
            pause.after(&flat(ended));
        }
    }

    /// A place for one more lease, once this worker can use it. None if it should look again: a lease ended, or it drains.
    async fn place(
        &self,
        places: &Arc<Semaphore>,
        leases: &mut Leases,
        pause: &mut Pause,
    ) -> Option<OwnedSemaphorePermit> {
        let usable = async {
            pause.wait().await;
            let place = Arc::clone(places).acquire_owned().await;
            // Whoever has no room for another visit needs no further target.
            self.places.room().await;
            place.expect("never closed")
        };
        let may_take = leases.len() < ALL_LEASES;
        tokio::select! {
            biased;
            () = self.drain.cancelled() => None,
            Some(ended) = leases.join_next() => {
                pause.after(&flat(ended));
                None
            }
            place = usable, if may_take => Some(place),
        }
    }

    /// What finds open targets by SYNs, if that is how this campaign does it.
    fn syn(&self, spec: &Spec) -> Result<Option<Arc<Syn>>, lease::Error> {
        let open = || match Syn::open() {
            Ok(syn) => Ok(Arc::new(syn)),
            Err(cause) => {
                tracing::info!(%cause, "this worker sweeps by plain connections");
                Err(Arc::new(cause))
            }
        };
        match spec.sweep {
            Sweep::Connect | Sweep::None => Ok(None),
            Sweep::Auto => Ok(self.syn.get_or_init(open).clone().ok()),
            Sweep::Syn => Ok(Some(self.syn.get_or_init(open).clone()?)),
        }
    }

    /// The limits of a campaign, which its leases share.
    fn pacer(&self, campaign: CampaignId, spec: &Spec) -> Arc<Pacer> {
        shared(&self.pacers, campaign, || Pacer::new(spec.prefix_rate))
    }

    /// What is excluded from a campaign, which its leases share.
    fn exclusions(&self, campaign: CampaignId) -> Arc<Exclusions> {
        shared(&self.exclusions, campaign, Exclusions::new)
    }
}

/// Returns what the leases of a campaign share, for as long as there is one.
fn shared<T>(
    all: &Mutex<HashMap<CampaignId, Weak<T>>>,
    campaign: CampaignId,
    new: impl FnOnce() -> T,
) -> Arc<T> {
    let mut all = all.lock().expect("no holder panics");
    if let Some(known) = all.get(&campaign).and_then(Weak::upgrade) {
        return known;
    }
    all.retain(|_, known| known.strong_count() > 0);
    let made = Arc::new(new());
    all.insert(campaign, Arc::downgrade(&made));
    made
}

/// How a lease ended, whose task may have failed.
fn flat(
    ended: Result<Result<(), lease::Error>, tokio::task::JoinError>,
) -> Result<(), lease::Error> {
    ended.unwrap_or_else(|error| Err(lease::Error::Broken(error.to_string())))
}

/// When a worker asks again, and what it says meanwhile: the same trouble is said once.
#[derive(Debug)]
struct Pause {
    until: Instant,
    next: Duration,
    said: Option<String>,
}

impl Pause {
    fn new() -> Self {
        Self {
            until: Instant::now(),
            next: PAUSE,
            said: None,
        }
    }

    async fn wait(&self) {
        tokio::time::sleep_until(self.until).await;
    }

    /// A lease that this worker cannot run is offered to it again: it leaves time for others, more each time.
    fn after(&mut self, ended: &Result<(), lease::Error>) {
        let Err(error) = ended else {
            self.next = PAUSE;
            if self.said.take().is_some() {
                tracing::info!("leases can be run again");
            }
            return;
        };
        let trouble = error.to_string();
        if self.said.as_ref() != Some(&trouble) {
            tracing::error!(cause = trouble, "a lease could not be run");
            self.said = Some(trouble);
        }
        self.until = Instant::now() + self.next;
        self.next = (self.next * 2).min(LONG_PAUSE);
    }
}
