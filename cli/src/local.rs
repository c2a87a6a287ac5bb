//! A whole cluster in this process: SQLite or PostgreSQL, the memory queue, a coordinator, a worker and a canary, over the
//! same services as between machines.

use std::{path::Path, sync::Arc};

use ajar_canary::Handle;
use ajar_coordinator::Drives;
use ajar_model::{CampaignId, Canary, shares::Weights, signers::AllowedSigners};
use ajar_probe::Limits;
use ajar_proto::{dial, local};
use ajar_store::{Access, Store};
use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    args,
    canary::Reporting,
    exit::{OrRefuse, refuse},
    owner::{Owner, file_of},
    signers,
};

/// Coordinator, queue and store in this process; a canary and a worker if they were started.
pub struct LocalCluster {
    /// How to reach its coordinator.
    pub coordinator: dial::Coordinator,
    store: Arc<dyn Store>,
    shutdown: CancellationToken,
    drain: CancellationToken,
    serving: JoinHandle<()>,
    working: Option<JoinHandle<()>>,
    canary: Option<Handle>,
    _owner: Option<Owner>,
}

impl LocalCluster {
    /// Makes the store ours alone, if it is one file, and starts a coordinator that drives the campaign `id` and no other.
    pub async fn start(
        store_url: &str,
        signers: watch::Receiver<AllowedSigners>,
        id: CampaignId,
        access: Access,
    ) -> anyhow::Result<Self> {
        let owner = Owner::of(store_url)?;
        let options = ajar_store::Options {
            access,
            ..ajar_store::Options::default()
        };
        let store = ajar_store::open(store_url, &options).await.or_refuse()?;
        if owner.is_some() {
            // The workers of an earlier run died with its process.
            store.end_local_leases().await?;
        }
        Self::serve(store, signers, Drives::One(id), owner).await
    }

    /// Opens a store to read what is in it. Nothing in it changes, and none is created.
    pub async fn read(store_url: &str) -> anyhow::Result<Self> {
        if let Some(path) = file_of(store_url).filter(|path| !Path::new(path).exists()) {
            return refuse(format_args!(
                "there is no store {path}: `ajar scan` makes one, and --store names another"
            ));
        }
        let reading = ajar_store::Options {
            access: Access::Read,
            ..ajar_store::Options::default()
        };
        let mut opened = ajar_store::open(store_url, &reading).await;
        let is_older = match &opened {
            Ok(store) => store.has_older().await?,
            Err(error) => matches!(error, ajar_store::Error::Older { .. }),
        };
        if is_older && file_of(store_url).is_some() {
            match judge_older(store_url).await {
                Ok(()) => opened = ajar_store::open(store_url, &reading).await,
                Err(error) => tracing::warn!(
                    %error,
                    "the store is of an older version, and cannot be brought up to date"
                ),
            }
        }
        let store = opened.or_refuse()?;
        Self::serve(store, signers::none(), Drives::Nothing, None).await
    }

    async fn serve(
        store: Arc<dyn Store>,
        signers: watch::Receiver<AllowedSigners>,
        drives: Drives,
        owner: Option<Owner>,
    ) -> anyhow::Result<Self> {
        let options = ajar_coordinator::Options {
            store: Arc::clone(&store),
            connections: ajar_store::Options::default().connections,
            queue: ajar_queue::open("memory:").await?,
            signers,
            drives,
            site_rate: None,
            tenant_weights: Weights::new(),
            keep_evidence: None,
            allow_loopback: true,
            probes: ajar_probe::probes().map(|probe| probe.id()).collect(),
        };
        let (listener, dialer) = local::pair();
        let shutdown = CancellationToken::new();
        let until = shutdown.clone();
        let serving = tokio::spawn(async move {
            if let Err(error) = ajar_coordinator::serve(options, listener, until).await {
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
            canary: None,
            _owner: owner,
        })
    }

    /// Starts a canary, which serves until the end.
    pub async fn receive(&mut self, options: ajar_canary::Options) -> anyhow::Result<&Canary> {
        let recorder = Arc::new(Reporting::new(&self.coordinator));
        let handle = ajar_canary::serve(options, recorder, CancellationToken::new())
            .await
            .or_refuse()?;
        for note in handle.notes() {
            tracing::warn!("{note}");
        }
        Ok(self.canary.insert(handle).canary())
    }

    /// Starts a worker. It never audits the canary's own doors: they would prove themselves.
    pub fn work(
        &mut self,
        signers: watch::Receiver<AllowedSigners>,
        limits: Limits,
        standpoint: args::Standpoint,
    ) {
        let canary = self.canary.as_ref();
        let options = ajar_worker::Options {
            coordinator: self.coordinator.clone(),
            name: worker_name(),
            vantage: "local".to_owned(),
            signers,
            allow_loopback: true,
            public_address: standpoint.public_address,
            helo: standpoint.helo,
            capacity: capacity(),
            limits,
            control_plane: canary.map_or_else(Vec::new, |c| c.canary().destinations().to_vec()),
            // It is in this process.
            connected: watch::channel(true).0,
        };
        self.working = Some(tokio::spawn(ajar_worker::run(options, self.drain.clone())));
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

/// Judges all findings of a store that older rules have judged.
async fn judge_older(store_url: &str) -> anyhow::Result<()> {
    let _owner = Owner::of(store_url)?;
    let store = ajar_store::open(store_url, &ajar_store::Options::default()).await?;
    let mut after = None;
    loop {
        after = store.judge_older(after).await?;
        if after.is_none() {
            return Ok(store.close().await?);
        }
    }
}

/// A name that no other start of a worker has.
pub fn worker_name() -> String {
    format!("worker-{}", ulid::Ulid::new().to_string().to_lowercase())
}

/// Lets this process open as many files as it is allowed to: interactive shells begin with 1,024.
pub fn raise_descriptors() {
    let allowed = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: allowed.maximum,
        ..allowed
    };
    // If it may not, `capacity` says what follows.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Targets that can be visited at the same time: each costs a descriptor, a tunnel's TLS or a second connection another.
pub fn capacity() -> usize {
    const MOST: u64 = 8192;
    const OTHERS: u64 = 128;
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(MOST * 3);
    let places = (descriptors.saturating_sub(OTHERS) / 2).clamp(16, MOST);
    if places < MOST {
        tracing::warn!(
            "at most {places} targets are visited at a time, and not {MOST}: only {descriptors} files may be open (ulimit -n)"
        );
    }
    usize::try_from(places).expect("at most 8192")
}
