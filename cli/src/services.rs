//! `ajar coordinator`, `ajar worker` and `ajar canary`: the services of a cluster.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ajar_probe::Limits;
use ajar_proto::{dial, v1};
use anyhow::Context;
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};

use crate::{
    args,
    canary::{self, Reporting},
    connect,
    exit::{self, Ended, OrRefuse, from_status},
    local, monitoring,
    owner::Owner,
    signers, stop,
};

/// Between two attempts to announce a canary.
const RETRY: Duration = Duration::from_secs(2);
/// How often a canary is announced.
const AGAIN: Duration = Duration::from_secs(30);

/// Serves campaigns, leases and results until a signal.
pub async fn coordinator(options: args::Coordinator) -> anyhow::Result<Ended> {
    let (ready, is_ready) = watch::channel(false);
    monitoring::serve(options.metrics.metrics, is_ready).await?;
    let tls = connect::server_tls(options.listen.ip(), &options.tls)?;
    let signers = signers::follow(options.allowed_signers.as_deref())?;
    let stop = stop::on_signal_of_service();
    let _owner = Owner::of(&options.store)?;
    let opening = async {
        let opened_by = ajar_store::Options {
            connections: options.store_connections,
            ..ajar_store::Options::default()
        };
        let store = ajar_store::open(&options.store, &opened_by).await;
        let store = store.map_err(|error| unusable(error.is_transient(), error))?;
        let queue = ajar_queue::open(&options.redis).await;
        let queue = queue.map_err(|error| unusable(error.is_transient(), error))?;
        anyhow::Ok((store, queue))
    };
    let (store, queue) = tokio::select! {
        opened = opening => opened?,
        () = stop.cancelled() => return Ok(Ended::Finished),
    };
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| format!("{} cannot be listened on: {error}", options.listen))
        .or_refuse()?;
    tracing::info!(listen = %listener.local_addr()?, tls = tls.is_some(), "the coordinator is ready");
    let options = ajar_coordinator::Options {
        store: Arc::clone(&store),
        connections: options.store_connections,
        queue,
        signers,
        drives: ajar_coordinator::Drives::Shared,
        site_rate: options.site_rate,
        tenant_weights: options.tenant_weight.iter().cloned().collect(),
        keep_evidence: options.keep_evidence,
        allow_loopback: options.listen.ip().is_loopback(),
        probes: ajar_probe::probes().map(|probe| probe.id()).collect(),
    };
    ready.send_replace(true);
    match tls {
        Some(tls) => ajar_coordinator::serve_certified(options, listener, tls, stop).await?,
        None => {
            let incoming = TcpListenerStream::new(listener).map(|accepted| {
                accepted.inspect(|stream| {
                    // Calls are short, and each waits for its answer.
                    let _ = stream.set_nodelay(true);
                })
            });
            ajar_coordinator::serve(options, incoming, stop).await?;
        }
    }
    store.close().await?;
    Ok(Ended::Finished)
}

/// What is away may come back, and what is of the wrong kind was a mistake of the command.
fn unusable(is_away: bool, error: impl std::error::Error + Send + Sync + 'static) -> anyhow::Error {
    match is_away {
        true => error.into(),
        false => exit::Refused(error.to_string()).into(),
    }
}

/// Runs shards until a signal.
pub async fn worker(options: args::Worker) -> anyhow::Result<Ended> {
    let (connected, is_connected) = watch::channel(false);
    monitoring::serve(options.metrics.metrics, is_connected).await?;
    let coordinator = connect::to(&options.remote)?;
    let signers = signers::follow(options.allowed_signers.as_deref())?;
    let stop = stop::on_signal_of_service();
    let capacity = match options.capacity {
        Some(capacity) => capacity as usize,
        None => local::capacity(),
    };
    let name = local::worker_name();
    tracing::info!(
        name,
        vantage = options.vantage,
        capacity,
        coordinator = options.remote.coordinator,
        "the worker is ready"
    );
    let options = ajar_worker::Options {
        limits: Limits::default(),
        name,
        vantage: options.vantage,
        signers,
        allow_loopback: coordinator.is_local(),
        public_address: options.standpoint.public_address,
        helo: options.standpoint.helo,
        capacity,
        control_plane: resolved(&coordinator).await?,
        coordinator,
        connected,
    };
    ajar_worker::run(options, stop).await;
    Ok(Ended::Finished)
}

/// Receives what open relays and proxies forward, and reports it, until a signal.
pub async fn canary(options: args::CanaryService) -> anyhow::Result<Ended> {
    let (ready, is_ready) = watch::channel(false);
    monitoring::serve(options.metrics.metrics, is_ready).await?;
    let coordinator = connect::to(&options.remote)?;
    let stop = stop::on_signal_of_service();
    let service = ajar_canary::Options {
        advertise: options.advertise,
        ..canary::options(
            &options.ports,
            None,
            options.listen,
            &options
                .domain
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
            options.contact.clone(),
        )?
    };
    if options.contact.is_none() {
        tracing::warn!(
            "no --contact: whoever finds the canary in a log is not told whom to write to"
        );
    }
    let recorder = Arc::new(Reporting::new(&coordinator));
    let handle = ajar_canary::serve(service, recorder, stop.clone())
        .await
        .or_refuse()?;
    for note in handle.notes() {
        tracing::warn!("{note}");
    }
    let canary = handle.canary().clone();
    tracing::info!(domain = canary.domain, address = %canary.address, smtp = canary.smtp, http = canary.http, https = canary.https, raw = canary.raw, "the canary is ready");
    tokio::select! {
        refused = keep_registered(&coordinator, &canary, &ready) => return Err(refused),
        () = stop.cancelled() => {}
    }
    handle.join().await;
    Ok(Ended::Finished)
}

/// Announces a canary again and again, so that everybody knows that it is there. Returns why it was
/// refused.
async fn keep_registered(
    coordinator: &dial::Coordinator,
    canary: &ajar_model::Canary,
    ready: &watch::Sender<bool>,
) -> anyhow::Error {
    let mut is_away = false;
    loop {
        let request = v1::RegisterRequest {
            canary: Some(canary.into()),
        };
        match coordinator.canary().register(request).await {
            Ok(_) => {
                is_away = false;
                ready.send_replace(true);
                tokio::time::sleep(AGAIN).await;
            }
            // One that was registered goes on receiving, whatever its coordinator says meanwhile.
            Err(status) if exit::is_away(&status) || *ready.borrow() => {
                if !std::mem::replace(&mut is_away, true) {
                    let cause = status.message();
                    tracing::warn!(
                        cause,
                        "the coordinator does not register this canary; asking until it does"
                    );
                }
                tokio::time::sleep(RETRY).await;
            }
            Err(status) => {
                return from_status(status).context("the coordinator refused this canary");
            }
        }
    }
}

/// The coordinators' own addresses, which are never probed: a worker that does not know them must not start.
async fn resolved(coordinator: &dial::Coordinator) -> anyhow::Result<Vec<SocketAddr>> {
    let dial::Coordinator::Remote(remote) = coordinator else {
        return Ok(Vec::new());
    };
    let mut addresses = Vec::new();
    for (host, port) in remote.addresses() {
        let found = tokio::net::lookup_host((host, port)).await;
        addresses.extend(found.with_context(|| format!("{host} cannot be looked up"))?);
    }
    Ok(addresses)
}
