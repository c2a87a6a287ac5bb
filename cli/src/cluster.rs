//! A whole cluster in this process: SQLite or PostgreSQL, the memory queue, a coordinator, a worker and a canary,
//! over the same services as between machines.

use std::{net::SocketAddr, path::Path, sync::Arc};

use ajar_canary::Recorder;
use ajar_coordinator::Drives;
use ajar_model::{CampaignId, Sighting, signers::AllowedSigners};
use ajar_probe::Limits;
use ajar_proto::{
    dial, local,
    v1::{self, canary_service_client::CanaryServiceClient},
};
use ajar_store::Store;
use anyhow::Context;
use futures::future::{BoxFuture, FutureExt};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    args, connect,
    exit::{OrRefuse, refuse},
    owner::{Owner, file_of},
    signers,
};

/// Coordinator, queue and store in this process.
pub struct Cluster {
    /// How to reach its coordinator.
    pub coordinator: dial::Coordinator,
    store: Arc<dyn Store>,
    shutdown: CancellationToken,
    drain: CancellationToken,
    serving: JoinHandle<()>,
    working: Option<JoinHandle<()>>,
    _owner: Option<Owner>,
}

impl Cluster {
    /// Makes the store ours alone, if it is one file, and starts a coordinator that drives the campaign `id` and no other.
    pub async fn start(
        store_url: &str,
        signers: watch::Receiver<AllowedSigners>,
        id: CampaignId,
    ) -> anyhow::Result<Self> {
        let owner = Owner::of(store_url)?;
        let store = ajar_store::open(store_url, &ajar_store::Options::default())
            .await
            .or_refuse()?;
        if owner.is_some() {
            // The workers of an earlier run died with its process.
            store.end_local_leases().await?;
        }
        Self::serve(store, signers, Drives::One(id), owner).await
    }

    async fn serve(
        store: Arc<dyn Store>,
        signers: watch::Receiver<AllowedSigners>,
        drives: Drives,
        owner: Option<Owner>,
    ) -> anyhow::Result<Self> {
        let options = ajar_coordinator::Options {
            store: Arc::clone(&store),
            queue: ajar_queue::open("memory:").await?,
            signers,
            drives,
            site_rate: None,
            allow_loopback: true,
            probes: ajar_probe::probes().map(|probe| probe.id()).collect(),
        };
        let (listener, dialer) = local::pair();
        let shutdown = CancellationToken::new();
        let until = shutdown.clone();
        let serving = tokio::spawn(async move {
            if let Err(error) = ajar_coordinator::serve(options, listener, None, until).await {
                tracing::error!(%error, "the coordinator failed");
            }
        });
        Ok(Self {
            coordinator: dial::Coordinator::Local(dialer),
            store,
            shutdown,
            drain: CancellationToken::new(),
            serving,
            working: None,
            _owner: owner,
        })
    }

    /// Starts a worker.
    pub fn work(
        &mut self,
        signers: watch::Receiver<AllowedSigners>,
        control_plane: Vec<SocketAddr>,
        limits: Limits,
    ) {
        let options = ajar_worker::Options {
            coordinator: self.coordinator.clone(),
            name: worker_name(),
            vantage: "local".to_owned(),
            signers,
            allow_loopback: true,
            capacity: capacity(),
            limits,
            control_plane,
        };
        self.working = Some(tokio::spawn(ajar_worker::run(options, self.drain.clone())));
    }

    /// The store, for reading what the services do not show.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Ends the worker, then the coordinator; everything that was seen is stored.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.drain.cancel();
        if let Some(working) = self.working {
            working.await.context("the worker failed")?;
        }
        self.shutdown.cancel();
        self.serving.await.context("the coordinator failed")?;
        Ok(self.store.close().await?)
    }
}

/// Results to read, in a store or on a cluster.
pub struct Reader {
    /// Who answers.
    pub coordinator: dial::Coordinator,
    here: Option<Cluster>,
}

impl Reader {
    /// Opens what the options name. Nothing in a store changes, and none is created.
    pub async fn open(source: &args::Source) -> anyhow::Result<Self> {
        if let Some(url) = &source.cluster.coordinator {
            let coordinator = connect::dial(url, &source.cluster.tls)?;
            return Ok(Self {
                coordinator,
                here: None,
            });
        }
        if let Some(path) = file_of(&source.store).filter(|path| !Path::new(path).exists()) {
            return refuse(format_args!(
                "there is no store {path}: `ajar scan` makes one, and --store names another"
            ));
        }
        let reading = ajar_store::Options {
            access: ajar_store::Access::Read,
            ..ajar_store::Options::default()
        };
        let store = ajar_store::open(&source.store, &reading)
            .await
            .or_refuse()?;
        let here = Cluster::serve(store, signers::none(), Drives::Nothing, None).await?;
        Ok(Self {
            coordinator: here.coordinator.clone(),
            here: Some(here),
        })
    }

    /// Closes the store.
    pub async fn close(self) -> anyhow::Result<()> {
        match self.here {
            Some(here) => here.stop().await,
            None => Ok(()),
        }
    }
}

/// A name that no other start of a worker has.
pub fn worker_name() -> String {
    format!("worker-{}", ulid::Ulid::new().to_string().to_lowercase())
}

/// Targets that can be visited at the same time: each costs a descriptor, a tunnel's TLS or a second connection another.
pub fn capacity() -> usize {
    const MOST: u64 = 8192;
    const OTHERS: u64 = 128;
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let places = (descriptors.unwrap_or(MOST * 3).saturating_sub(OTHERS) / 2).clamp(16, MOST);
    usize::try_from(places).expect("at most 8192")
}

/// A canary's reports, on their way to a coordinator over one connection.
pub struct Reporting(CanaryServiceClient<dial::Traced>);

impl Reporting {
    /// To this coordinator.
    pub fn new(coordinator: &dial::Coordinator) -> Self {
        Self(coordinator.canary())
    }
}

impl Recorder for Reporting {
    fn record(&self, sighting: Sighting) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let request = v1::RecordRequest {
                sighting: Some((&sighting).into()),
            };
            let recorded = self.0.clone().record(request).await;
            recorded
                .map(|_| ())
                .map_err(|status| status.message().to_owned())
        }
        .boxed()
    }
}
