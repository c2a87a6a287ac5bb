//! Signals: how a run is asked to stop.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// Cancelled by the first SIGINT or SIGTERM; a second one ends the process at once.
pub fn on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        signal().await;
        asked.cancel();
        signal().await;
        std::process::exit(130);
    });
    stop
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

/// A signal came before there was anything to resume.
#[derive(Debug, thiserror::Error)]
#[error("interrupted before anything was begun")]
pub struct Interrupted;

/// What comes before a campaign: given up at a signal.
pub async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        () = stop.cancelled() => Err(Interrupted.into()),
    }
}
