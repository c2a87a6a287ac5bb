//! Runs shards: asks for leases, visits their targets at the granted pace, and reports what it saw.
//!
//! A worker is stateless. It trusts nothing but a signed authorization: what a coordinator sends is checked when a
//! lease begins ([`lease`]) and again at every connection ([`egress`]).
//!
//! Architecture invariant: `egress` is the only place that opens a socket to a target, and no other module names
//! `tokio::net`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ajar_model::{Lease, signers::AllowedSigners};
use ajar_proto::{
    dial::{Coordinator, Traced},
    v1::{self, work_service_client::WorkServiceClient},
};
use fence::Now;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

mod crowd;
mod egress;
mod fence;
mod lease;
mod pacer;
mod progress;
mod report;
mod shard;
mod visit;

/// What a worker is told at its start.
pub struct Options {
    /// Where it gets work.
    pub coordinator: Coordinator,
    /// Its identity, new at each start.
    pub name: String,
    /// Where it stands, in results.
    pub vantage: String,
    /// Whose authorizations it accepts.
    pub signers: AllowedSigners,
    /// True where loopback may be audited without an authorization: it is this very machine's operator who asks.
    pub allow_loopback: bool,
    /// Targets that are visited at the same time.
    pub capacity: usize,
    /// Socket addresses that are never probed: the cluster's own.
    pub control_plane: Vec<SocketAddr>,
}

/// Leases that a worker holds at the same time: the end of one overlaps with the middle of others.
const LEASES: usize = 4;
/// Pause after the coordinator had nothing, or did not answer.
const PAUSE: Duration = Duration::from_millis(300);
/// How long results may take to be stored after a stop was asked for.
const GRACE: Duration = Duration::from_secs(20);

/// What the leases of one worker share.
struct Worker {
    options: Options,
    /// For leases and renewals; results have connections of their own.
    control: WorkServiceClient<Traced>,
    /// Places for visits.
    capacity: Arc<Semaphore>,
    /// No further target is visited.
    drain: CancellationToken,
    /// Results that could not be stored are given up.
    give_up: CancellationToken,
}

/// Works until `drain` is cancelled; then visits no further target, reports what was seen and gives its leases back.
pub async fn run(options: Options, drain: CancellationToken) {
    let worker = Arc::new(Worker {
        control: options.coordinator.work(),
        capacity: Arc::new(Semaphore::new(options.capacity)),
        give_up: CancellationToken::new(),
        drain,
        options,
    });
    let mut leases = JoinSet::new();
    while !worker.drain.is_cancelled() {
        while leases.try_join_next().is_some() {}
        if leases.len() >= LEASES {
            tokio::select! {
                _ = leases.join_next() => {}
                () = worker.drain.cancelled() => {}
            }
            continue;
        }
        let sent = Now::read();
        let asked = tokio::select! {
            asked = worker.ask() => asked,
            () = worker.drain.cancelled() => break,
        };
        match asked {
            Ok(Some(lease)) => {
                let worker = Arc::clone(&worker);
                leases.spawn(async move {
                    if let Err(error) = worker.run_lease(lease, sent).await {
                        tracing::error!(%error, "a lease ended early");
                        worker.pause().await;
                    }
                });
            }
            Ok(None) => worker.pause().await,
            Err(error) => {
                tracing::warn!(%error, "no lease");
                worker.pause().await;
            }
        }
    }
    let ended = async { while leases.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::warn!("results could not be stored in time; their targets will be visited again");
        worker.give_up.cancel();
    }
}

impl Worker {
    async fn ask(&self) -> Result<Option<Lease>, lease::Error> {
        let request = v1::LeaseRequest {
            worker: self.options.name.clone(),
            vantage: self.options.vantage.clone(),
        };
        let response = self.control.clone().lease(request).await?.into_inner();
        let lease = response.lease.map(Lease::try_from);
        lease.transpose().map_err(lease::Error::Message)
    }

    async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = self.drain.cancelled() => {}
        }
    }
}
