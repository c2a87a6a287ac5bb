//! A whole cluster in this process: SQLite or PostgreSQL, the memory queue, a coordinator, a worker and a canary,
//! over the same services as between machines.

use std::{fs::File, net::SocketAddr, path::Path, sync::Arc};

use ajar_canary::Recorder;
use ajar_model::{CampaignId, Sighting, campaign::State, signers::AllowedSigners};
use ajar_probe::PROBES;
use ajar_proto::{dial, local, v1};
use ajar_store::Store;
use anyhow::Context;
use futures::future::{BoxFuture, FutureExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    args, connect,
    exit::{OrRefuse, refuse},
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
    /// Held as long as the store is ours alone.
    _lock: Option<File>,
}

impl Cluster {
    /// Makes the store ours alone, if it is one file, and starts a coordinator. No campaign but `only` goes on by that.
    pub async fn start(
        store_url: &str,
        signers: AllowedSigners,
        only: Option<CampaignId>,
    ) -> anyhow::Result<Self> {
        let lock = lock(store_url)?;
        let store = ajar_store::open(store_url, &ajar_store::Options::default())
            .await
            .or_refuse()?;
        if lock.is_some() {
            // Whoever held these leases died with the lock.
            store.end_all_leases().await?;
        }
        pause_others(store.as_ref(), only).await?;
        Self::serve(store, signers, lock).await
    }

    async fn serve(
        store: Arc<dyn Store>,
        signers: AllowedSigners,
        lock: Option<File>,
    ) -> anyhow::Result<Self> {
        let options = ajar_coordinator::Options {
            store: Arc::clone(&store),
            queue: ajar_queue::open("memory:").await?,
            signers,
            allow_loopback: true,
            probes: PROBES.iter().map(|probe| probe.id()).collect(),
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
            _lock: lock,
        })
    }

    /// Starts a worker.
    pub fn work(&mut self, signers: AllowedSigners, control_plane: Vec<SocketAddr>) {
        let options = ajar_worker::Options {
            coordinator: self.coordinator.clone(),
            name: worker_name(),
            vantage: "local".to_owned(),
            signers,
            allow_loopback: true,
            capacity: capacity(),
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
        self.serving.await.context("the coordinator failed")
    }
}

/// Results to read, in a store or on a cluster.
pub struct Reader {
    /// Who answers.
    pub coordinator: dial::Coordinator,
    here: Option<Cluster>,
}

impl Reader {
    /// Opens what the options name. A store is not created by that.
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
        let store = ajar_store::open(&source.store, &ajar_store::Options::default())
            .await
            .or_refuse()?;
        let here = Cluster::serve(store, AllowedSigners::default(), None).await?;
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

/// A canary's reports, on their way to a coordinator.
pub struct Reporting(pub dial::Coordinator);

impl Recorder for Reporting {
    fn record(&self, sighting: Sighting) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let request = v1::RecordRequest {
                sighting: Some((&sighting).into()),
            };
            let recorded = self.0.canary().record(request).await;
            recorded
                .map(|_| ())
                .map_err(|status| status.message().to_owned())
        }
        .boxed()
    }
}

/// Campaigns that an earlier process left running are not taken up unasked.
async fn pause_others(store: &dyn Store, only: Option<CampaignId>) -> anyhow::Result<()> {
    for campaign in store.campaigns().await? {
        if campaign.state == State::Running && Some(campaign.id) != only {
            store
                .transition(campaign.id, &[State::Running], State::Paused)
                .await?;
            tracing::info!(campaign = %campaign.id, "an interrupted campaign stays paused; `ajar scan --resume` goes on with it");
        }
    }
    Ok(())
}

/// Makes a SQLite store ours alone; other stores are shared, and their leases end by time.
fn lock(store_url: &str) -> anyhow::Result<Option<File>> {
    let Some(path) = file_of(store_url) else {
        return Ok(None);
    };
    let lock_path = format!("{path}.lock");
    let opened = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path);
    let file = opened
        .map_err(|error| format!("the store {path} cannot be used: {lock_path}: {error}"))
        .or_refuse()?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => refuse(format_args!(
            "another ajar runs on {path}: wait for it, or give another file with --store"
        )),
        Err(std::fs::TryLockError::Error(error)) => {
            refuse(format_args!("{lock_path} cannot be locked: {error}"))
        }
    }
}

/// The file of a SQLite store.
fn file_of(store_url: &str) -> Option<&str> {
    match store_url.strip_prefix("sqlite:") {
        Some(path) => Some(path),
        None => (!store_url.contains("://")).then_some(store_url),
    }
}
