//! Admits campaigns, hands out and fences leases, stores and judges what workers report.
//!
//! Everything durable is in the store; what is on offer is in the queue, which may be lost. A coordinator holds no
//! state that another one would miss.
//!
//! Architecture invariant: no other room talks to the queue or to the store while a cluster runs, and nothing that a
//! worker says is believed beyond its own shard.

use std::{sync::Arc, time::Duration};

use ajar_model::{CampaignId, ShardId, lease::Work, shares::Weights, signers::AllowedSigners};
use ajar_proto::{
    DESCRIPTORS, MAX_MESSAGE, trace,
    v1::{
        campaign_service_server::CampaignServiceServer, canary_service_server::CanaryServiceServer,
        exclusion_service_server::ExclusionServiceServer,
        finding_service_server::FindingServiceServer, fleet_service_server::FleetServiceServer,
        schedule_service_server::ScheduleServiceServer, work_service_server::WorkServiceServer,
    },
};
use ajar_queue::ShardQueue;
use ajar_store::Store;
use futures::Stream;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::watch,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::Connected};
use troubles::{QueueFault, Troubles};
use ulid::Ulid;
use watches::Watches;

mod abilities;
mod admit;
mod audit;
mod caller;
mod campaigns;
mod canaries;
mod clock;
mod error;
mod exclusions;
mod families;
mod findings;
mod fleet;
mod guard;
mod handshakes;
mod holders;
mod housekeeping;
mod ingest;
mod lanes;
mod leases;
mod masked;
mod newcomers;
mod newest;
mod plans;
mod presence;
mod receipts;
mod recent;
mod refused;
mod renewals;
mod retention;
mod roles;
mod schedules;
mod sending;
mod sessions;
mod shares;
mod strays;
mod tenants;
mod troubles;
mod watches;

use canaries::CanaryKeys;
use clock::Clock;
use guard::{Guard, Refusals};
use holders::Holders;
use lanes::Lanes;
pub use newcomers::Newcomers;
use plans::Plans;
use presence::Presence;
use receipts::Receipts;
use recent::Recent;
use refused::Refused;
use renewals::Renewals;
use sending::Looks;
use sessions::Kept;
use shares::Shares;

/// What a coordinator is told at its start.
pub struct Options {
    pub store: Arc<dyn Store>,
    /// How many may use the store at the same time.
    pub connections: u32,
    pub queue: Arc<dyn ShardQueue>,
    /// Whose authorizations are accepted, from one moment to the next.
    pub signers: watch::Receiver<AllowedSigners>,
    /// Which campaigns it offers and ends.
    pub drives: Drives,
    /// Most new connections a second over all campaigns of the store; none if the site has no limit.
    pub site_rate: Option<u32>,
    /// The tenants' weights, by which they share it.
    pub tenant_weights: Weights,
    /// How old campaigns may become that are over; for ever if there is no limit. Whole months (UTC)
    /// are removed.
    pub keep_evidence: Option<Duration>,
    /// True if loopback may be audited without an authorization.
    pub allow_loopback: bool,
    /// The probes that exist, for refusing others.
    pub probes: Vec<ajar_model::ProbeId>,
}

/// Which of a store's campaigns a coordinator offers to workers, and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drives {
    /// All that no single process drives. Several coordinators may do so.
    Shared,
    /// This one, which no other coordinator drives.
    One(CampaignId),
    /// None: it is there for readers, and changes nothing by itself.
    Nothing,
}

impl Drives {
    /// The campaign that it drives alone.
    fn only(self) -> Option<CampaignId> {
        match self {
            Drives::One(id) => Some(id),
            Drives::Shared | Drives::Nothing => None,
        }
    }
}

/// How long a lease is valid without a renewal.
const TTL: Duration = Duration::from_secs(15);
/// How long after its end a lease still counts as live, for workers whose clocks run late.
const MARGIN: Duration = Duration::from_secs(5);

/// What the services share; clones share it too.
#[derive(Clone)]
struct Coordinator {
    options: Arc<Options>,
    /// The number of workers decides how a campaign's rate is divided. Each replica counts those
    /// that ask it; the store keeps the sum of all leases under the cap.
    presence: Presence,
    plans: Plans,
    /// What shards consisted of under the tokens that workers reported with.
    works: Recent<(ShardId, u64), Arc<Work>>,
    shares: Shares,
    receipts: Receipts,
    refusals: Refusals,
    holders: Holders,
    canary_keys: CanaryKeys,
    lanes: Lanes,
    clock: Clock,
    /// Its identity, new at each start.
    name: Arc<str>,
    refused: Refused,
    troubles: Troubles,
    queue_fault: QueueFault,
    watches: Watches,
    renewals: Renewals,
    looks: Looks,
    kept: Kept,
    /// Cancelled when this coordinator is to end.
    shutdown: CancellationToken,
}

/// Serves anybody who connects until `shutdown` is cancelled. Callers cannot be told apart.
pub async fn serve<S, C>(
    options: Options,
    incoming: S,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    S: Stream<Item = std::io::Result<C>>,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let refusals = Refusals::new(Arc::clone(&options.store));
    let guard = Guard::new(false, refusals);
    serve_guarded(options, incoming, guard, shutdown).await
}

/// Serves clients whose certificates `tls` accepts until `shutdown` is cancelled. Each may do what
/// its certificate says.
pub async fn serve_certified(
    options: Options,
    listener: TcpListener,
    tls: watch::Receiver<Arc<ServerConfig>>,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let refusals = Refusals::new(Arc::clone(&options.store));
    let incoming = handshakes::secure(listener, tls, refusals.clone());
    let guard = Guard::new(true, refusals);
    serve_guarded(options, incoming, guard, shutdown).await
}

async fn serve_guarded<S, C>(
    options: Options,
    incoming: S,
    guard: Guard,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    S: Stream<Item = std::io::Result<C>>,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let receipts = Receipts::new(Arc::clone(&options.store));
    let lanes = Lanes::new(options.connections);
    let renewals = Renewals::new(Arc::clone(&options.store));
    let coordinator = Coordinator {
        options: Arc::new(options),
        presence: Presence::default(),
        plans: plans::none(),
        works: Recent::new(ingest::AT_HAND),
        shares: Shares::default(),
        receipts,
        refusals: guard.refusals().clone(),
        holders: holders::none(),
        canary_keys: CanaryKeys::default(),
        lanes,
        clock: Clock::default(),
        name: format!("coordinator-{}", Ulid::new().to_string().to_lowercase()).into(),
        refused: Refused::default(),
        troubles: Troubles::default(),
        queue_fault: QueueFault::default(),
        watches: Watches::default(),
        renewals,
        looks: sending::none(),
        kept: Kept::default(),
        shutdown: shutdown.clone(),
    };
    let housekeeping = tokio::spawn(housekeeping::run(coordinator.clone(), shutdown.clone()));
    let looking = tokio::spawn(coordinator.clone().keep_looking_what_may_send());
    let telling = tokio::spawn(coordinator.clone().keep_telling_presence());
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_serving::<WorkServiceServer<Coordinator>>()
        .await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()
        .expect("the descriptors were generated with the services");
    let serving = Server::builder()
        .trace_fn(trace::serving)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .max_concurrent_streams(256)
        .layer(guard)
        .add_service(health)
        .add_service(reflection)
        .add_service(
            WorkServiceServer::new(coordinator.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(
            CampaignServiceServer::new(coordinator.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(
            FindingServiceServer::new(coordinator.clone()).max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(
            ScheduleServiceServer::new(coordinator.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(
            ExclusionServiceServer::new(coordinator.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(FleetServiceServer::new(coordinator.clone()))
        .add_service(CanaryServiceServer::new(coordinator))
        .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
    let result = tokio::select! {
        result = serving => result,
        // Watchers may hold their streams for hours.
        () = grace(shutdown) => Ok(()),
    };
    housekeeping.abort();
    looking.abort();
    telling.abort();
    result
}

/// How long running calls may take after a stop was asked for.
const GRACE: Duration = Duration::from_secs(3);

async fn grace(shutdown: CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(GRACE).await;
}
