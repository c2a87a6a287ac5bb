//! One lease, from its grant to its end: verified, run, renewed, reported, given back.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ajar_model::{
    Lease, NonceKey, Permission, Plan, ProbeId, Scope, Spec, Target, Targets, Tier, Timestamp,
    addresses::AddressSet, admission::Refusal, lease::Work,
};
use ajar_proto::{convert, dial::Traced, trace, v1, v1::work_service_client::WorkServiceClient};
use ajar_sweep::syn;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    Worker,
    egress::Egress,
    exclusions::Exclusions,
    fence::{Fence, Now},
    kept::{Kept, MARGIN, News},
    prefix_slots::PrefixSlots,
    reach::{Asking, Unreached},
    report::{Delivery, Reporter},
    session::{ANSWER, no_answer},
    shard::{self, Context, Ran},
    visit::Visitor,
};

/// News of a lease that wait until they are followed.
const HEARD: usize = 4;

/// Why a lease was not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The coordinator could not be asked, or refused.
    #[error("asking the coordinator failed: {}", .0.message())]
    Coordinator(#[from] tonic::Status),
    /// It sent what this worker cannot take.
    #[error("the coordinator sent a lease that cannot be run: {0}")]
    Message(String),
    /// What was asked for is not authorized, or not any more.
    #[error("the lease was refused: {0}")]
    Unauthorized(#[from] Refusal),
    #[error(transparent)]
    Canary(#[from] Unreached),
    #[error("this machine cannot open connections: {0}")]
    Fault(String),
    /// A worker of a later version knows it.
    #[error("this worker does not know the probe {0}: upgrade it")]
    Probe(ProbeId),
    #[error(transparent)]
    Sweep(#[from] Arc<syn::Error>),
    /// The results are not taken, or a visit was lost.
    #[error("the shard could not be run: {0}")]
    Broken(String),
}

impl From<convert::Error> for Error {
    fn from(error: convert::Error) -> Self {
        Self::Message(error.to_string())
    }
}

impl Error {
    /// True if another worker would fare no better.
    fn is_of_the_shard(&self) -> bool {
        matches!(self, Error::Message(_) | Error::Broken(_))
    }
}

impl Worker {
    /// Runs a lease that was asked for at `sent`. `place` is given back once every target was
    /// started.
    pub(crate) async fn run_lease(
        &self,
        lease: Lease,
        sent: Now,
        place: OwnedSemaphorePermit,
        ends: Ends,
    ) -> Result<(), Error> {
        let ran = self.describe_and_run(&lease, sent, place, ends).await;
        if let Ok(Ended::Done) = ran {
            return Ok(());
        }
        let error = ran.err();
        self.give_back(&lease, error.as_ref()).await;
        error.map_or(Ok(()), Err)
    }

    /// Gives back a lease that was not run to its end.
    pub(crate) async fn give_back(&self, lease: &Lease, error: Option<&Error>) {
        let release = v1::ReleaseRequest {
            shard: Some(lease.shard.into()),
            token: lease.token,
            failed: error.is_some_and(Error::is_of_the_shard),
            cause: error.map(ToString::to_string).unwrap_or_default(),
            worker: self.options.name.clone(),
            vantage: self.options.vantage.clone(),
        };
        // Without an answer it ends by time.
        if let Err(status) = in_time(self.control.clone().release(release)).await {
            tracing::debug!(shard = %lease.shard, cause = status.message(), "a lease ends by time");
        }
    }

    async fn describe_and_run(
        &self,
        lease: &Lease,
        sent: Now,
        place: OwnedSemaphorePermit,
        ends: Ends,
    ) -> Result<Ended, Error> {
        let exclusions = self.exclusions(lease.shard.campaign);
        let campaign = describe(&self.control, lease, &exclusions).await?;
        if campaign.revision != lease.revision {
            // It got another authorization a moment ago, and this lease will not be renewed.
            return Ok(Ended::Early);
        }
        let spec: Spec = convert::spec_in(campaign.spec)?;
        let key = convert::nonce_key_in(&campaign.nonce_key)?;
        let canaries = campaign.canaries.iter();
        let mut never = self.options.control_plane.clone();
        never.extend(spec.canary.destinations());
        for canary in canaries {
            never.push(convert::parse("canaries", canary)?);
        }
        let span = tracing::info_span!("shard", shard = %lease.shard, token = lease.token);
        if let Some(parent) = &spec.traceparent {
            trace::follow(&span, parent);
        }
        let terms = Terms {
            spec,
            key,
            never,
            exclusions,
        };
        self.run_shard(lease, sent, place, ends, terms)
            .instrument(span)
            .await
    }

    async fn run_shard(
        &self,
        lease: &Lease,
        sent: Now,
        place: OwnedSemaphorePermit,
        ends: Ends,
        terms: Terms,
    ) -> Result<Ended, Error> {
        let Terms {
            spec,
            key,
            never,
            exclusions,
        } = terms;
        let options = &self.options;
        let permission = {
            let signers = options.signers.borrow();
            Permission::admit(&spec, options.allow_loopback, &signers, Timestamp::now())?
        };
        // Its targets would count as visited, and nobody would have asked them.
        let is_unknown = |probe: &&ProbeId| ajar_probe::probes().all(|known| known.id() != **probe);
        if let Some(unknown) = spec.probes.iter().find(is_unknown) {
            return Err(Error::Probe(unknown.clone()));
        }
        if spec.tier == Tier::Deliver {
            let asking = Asking {
                campaign: lease.shard.campaign,
                key: &key,
                vantage: &lease.vantage,
                public_address: options.public_address,
            };
            self.reach.check(&spec.canary, asking).await?;
        }
        let plan = Plan::of(lease.shard.campaign, &spec)
            .map_err(|cause| Error::Message(cause.to_string()))?;
        let targets = targets(lease, &plan)?;
        let syn = self.syn(&spec)?;
        let scope = Scope::new(
            permission.authorization(),
            plan.space().clone(),
            &spec.exclude,
            &never,
        );
        let fence = Arc::new(Fence::new(sent, lease.ttl.saturating_sub(MARGIN)));
        let pacer = self.pacer(lease.shard.campaign, &spec);
        let budget = pacer.lease(Arc::clone(&fence), lease.rate);
        let prefixes = targets.prefixes().len() as u64;
        let usable = prefixes.saturating_mul(spec.prefix_rate.into());
        let turns = turns(prefixes, &spec);
        let starting = Arc::new(AtomicBool::new(true));
        let started = Arc::clone(&starting);
        let (visit, round) = match &lease.work {
            Work::Sweep(_) => (1, 0),
            Work::Revisit { visit, round, .. } => (*visit, *round),
        };
        let visitor = Arc::new(Visitor {
            campaign: lease.shard.campaign,
            key,
            vantage: lease.vantage.clone(),
            claims: permission
                .authorization()
                .is_none_or(|signed| signed.claims),
            greeting: Arc::clone(&self.greeting),
            visit,
            round,
            egress: Egress::new(
                scope,
                Arc::clone(&exclusions),
                Arc::clone(&fence),
                pacer,
                Arc::clone(&budget),
                Arc::clone(&self.places),
                spec.retries,
            ),
            limits: options.limits,
            swept: syn.is_some(),
            slots: PrefixSlots::new(spec.prefix_rate),
            for_older: self.session.is_with_older(),
            standpoints: Arc::clone(&self.standpoints),
            public_address: options.public_address,
            spec: Arc::new(spec),
        });
        let give_up = self.give_up.clone();
        let results = self.results.clone();
        let mut reporter = Reporter::new(results, lease.shard, lease.token, give_up, ends.moved);
        let stop = ends.stop.child_token();
        let (news, heard) = mpsc::channel(HEARD);
        let keeping = self.session.keep(Kept {
            lease: lease.clone(),
            name: options.name.clone(),
            fence: Arc::clone(&fence),
            budget,
            usable: u32::try_from(usable).unwrap_or(u32::MAX),
            starting,
            permission,
            signers: options.signers.clone(),
            asked: AtomicU64::new(0),
            news,
        });
        let keeper = Keeper {
            client: self.control.clone(),
            lease: lease.clone(),
            fence,
            exclusions,
            heard,
        };
        let kept = tokio::spawn(keeper.keep(stop.clone()));
        let context = Context {
            visitor,
            syn,
            places: Arc::clone(&self.places),
            turns,
            reporter: &mut reporter,
            all_started: Box::new(move || {
                drop(place);
                started.store(false, Ordering::Relaxed);
            }),
        };
        let ran = shard::run(&targets, lease.cursor..lease.end, context, &stop).await;
        // The lease is kept while results are on their way: they move its cursor.
        let delivery = reporter.finish().await;
        drop(keeping);
        let lost = match kept.is_finished() {
            true => kept.await.unwrap_or(Lost::Ended),
            false => {
                kept.abort();
                Lost::Ended
            }
        };
        match (delivery, ran, lost) {
            (Delivery::Refused(cause), ..) => Err(Error::Broken(cause)),
            (_, Ran::Fault(cause), _) => Err(Error::Fault(cause)),
            (_, Ran::Broken(cause), _) => Err(Error::Broken(cause)),
            (_, _, Lost::Unauthorized(cause)) => Err(Error::Unauthorized(cause)),
            (Delivery::Complete, Ran::Done, Lost::Ended) => Ok(Ended::Done),
            (Delivery::Stale | Delivery::Lost, ..) => {
                tracing::warn!(shard = %lease.shard, "the lease was lost before its results were stored");
                Ok(Ended::Early)
            }
            (Delivery::Complete, Ran::Stopped, Lost::Ended) => Ok(Ended::Early),
        }
    }
}

/// What ends a lease, and what it tells.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends {
    /// Ends it early.
    pub stop: CancellationToken,
    /// It cancels this once its cursor has moved.
    pub moved: CancellationToken,
}

/// What the coordinator says of a campaign.
struct Terms {
    spec: Spec,
    key: NonceKey,
    /// Sockets that are never targets.
    never: Vec<SocketAddr>,
    exclusions: Arc<Exclusions>,
}

/// Asks what a lease's campaign is, and learns what is excluded from it.
async fn describe(
    control: &WorkServiceClient<Traced>,
    lease: &Lease,
    exclusions: &Exclusions,
) -> Result<v1::DescribeResponse, Error> {
    let _alone = exclusions.ask().await;
    let request = v1::DescribeRequest {
        campaign: lease.shard.campaign.to_string(),
        revision: lease.revision,
        epoch: exclusions.epoch(),
    };
    let known = request.epoch;
    let campaign = in_time(control.clone().describe(request)).await?;
    if campaign.epoch != known {
        let targets: Vec<Target> = convert::parse_all("excluded", &campaign.excluded)?;
        exclusions.put(campaign.epoch, AddressSet::new(&targets));
    }
    Ok(campaign)
}

/// How a lease ended with which nothing was wrong.
enum Ended {
    /// Its shard is closed.
    Done,
    Early,
}

/// Visits that may wait for their first connection: enough to have one ready for each network that the rate needs, and few
/// enough that the further connections of running conversations, which wait in the same order, do not wait long.
fn turns(prefixes: u64, spec: &Spec) -> usize {
    let by_rate = 2 * u64::from(spec.rate) / u64::from(spec.prefix_rate.max(1)) + 8;
    (2 * prefixes).min(by_rate).clamp(4, 1024) as usize
}

fn targets(lease: &Lease, plan: &Plan) -> Result<Targets, Error> {
    let Some(targets) = plan.targets(&lease.work) else {
        let (work, blocks) = (&lease.work, plan.space().blocks());
        return Err(Error::Message(format!("{work:?} of {blocks} blocks")));
    };
    let Lease { cursor, end, .. } = *lease;
    if cursor > end || end > targets.count() {
        let count = targets.count();
        return Err(Error::Message(format!(
            "targets {cursor} to {end} of {count}"
        )));
    }
    Ok(targets)
}

/// Why a lease was lost.
enum Lost {
    /// It ended, or the coordinator did not keep it.
    Ended,
    /// It is not allowed any more.
    Unauthorized(Refusal),
}

/// Follows what its session hears of a lease.
struct Keeper {
    client: WorkServiceClient<Traced>,
    lease: Lease,
    fence: Arc<Fence>,
    exclusions: Arc<Exclusions>,
    heard: mpsc::Receiver<News>,
}

impl Keeper {
    /// Waits until the lease is lost, at its fence at the latest; then stops its shard.
    async fn keep(mut self, stop: CancellationToken) -> Lost {
        let fence = Arc::clone(&self.fence);
        let lost = tokio::select! {
            biased;
            cause = self.listen() => Lost::Unauthorized(cause),
            () = fence.closed() => Lost::Ended,
        };
        fence.close();
        stop.cancel();
        lost
    }

    /// Follows the exclusions until the authorization no longer allows the lease.
    async fn listen(&mut self) -> Refusal {
        loop {
            match self.heard.recv().await {
                Some(News::Epoch(epoch, sent)) => self.follow(epoch, sent).await,
                Some(News::Unauthorized(cause)) => return cause,
                None => return std::future::pending().await,
            }
        }
    }

    /// Learns what was excluded up to an epoch. Without an answer nothing more is sent in a short
    /// while.
    async fn follow(&self, epoch: u64, sent: Option<Now>) {
        // A coordinator of an older version knows no epochs.
        if epoch != 0 && epoch != self.exclusions.epoch() {
            let described = describe(&self.client, &self.lease, &self.exclusions).await;
            if let Err(error) = described {
                tracing::warn!(%error, "what was excluded is not known yet");
            }
        }
        if let Some(sent) = sent
            && (epoch == 0 || epoch == self.exclusions.epoch())
        {
            self.fence.confirm(sent);
        }
    }
}

/// An answer, or the status of a coordinator that is away.
async fn in_time<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, tonic::Status> {
    match tokio::time::timeout(ANSWER, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(no_answer()),
    }
}
