//! Signals: how a run is asked to stop.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled by the first SIGINT, SIGTERM or SIGHUP; a second one ends the process at once. A
/// process that was started with SIGHUP ignored, by `nohup`, goes on ignoring it.
pub fn on_signal() -> CancellationToken {
    let mut signals = Signals::usual();
    if !is_hangup_ignored() {
        signals.add(SignalKind::hangup());
    }
    signals.stop()
}

/// The same for a service, which keeps what it reads from files up to date by itself: SIGHUP does
/// nothing.
pub fn on_signal_of_service() -> CancellationToken {
    tokio::spawn(async {
        let mut hangups = signal(SignalKind::hangup());
        while let Ok(hangups) = &mut hangups
            && hangups.recv().await.is_some()
        {
            tracing::info!("certificates and allowed signers are read again every second");
        }
    });
    Signals::usual().stop()
}

struct Signals(Vec<Signal>);

impl Signals {
    fn usual() -> Self {
        let mut signals = Self(Vec::new());
        signals.add(SignalKind::interrupt());
        signals.add(SignalKind::terminate());
        signals
    }

    fn add(&mut self, kind: SignalKind) {
        // A signal that cannot be listened to has its usual effect, which is to end the process.
        self.0.extend(signal(kind));
    }

    fn stop(mut self) -> CancellationToken {
        let stop = CancellationToken::new();
        let asked = stop.clone();
        tokio::spawn(async move {
            self.next().await;
            asked.cancel();
            self.next().await;
            std::process::exit(130);
        });
        stop
    }

    async fn next(&mut self) {
        if self.0.is_empty() {
            std::future::pending().await
        }
        let signals = self.0.iter_mut().map(|signal| Box::pin(signal.recv()));
        futures::future::select_all(signals).await;
    }
}

/// Reads the mask of ignored signals, in which SIGHUP is the lowest bit (proc(5)).
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 == 1)
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
