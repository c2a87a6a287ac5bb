//! Whether this machine reaches the canary, or somebody in its place.
//!
//! Some networks lead the mail or the web traffic of their users to servers of their own. Seen from there all targets are alike,
//! and what they are asked for never arrives. So before a lease is run, the canary is asked with nobody in between: by its
//! answer it shows that the way there is free, and that there is somebody to prove a finding.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use ajar_model::{
    CampaignId, Canary, NonceKey, ProbeId, Timestamp,
    nonce::{Occasion, Role},
};
use ajar_probe::{Answering, Limits, ask_canary};
use futures::future::join_all;
use tokio::sync::Mutex;

use crate::egress;

/// How long a way that was free counts as free, and one that was not as not.
const FREE: Duration = Duration::from_secs(60);
const NOT_FREE: Duration = Duration::from_secs(3);

/// What the canary may cost: less than a lease is valid for, since that is not renewed meanwhile.
const LIMITS: Limits = Limits {
    examination: Duration::from_secs(5),
    banner: Duration::from_secs(1),
    reply: Duration::from_secs(2),
    bytes: 16 * 1024,
    line: 4096,
    transcript: 1024,
};

/// The name that nonces for the canary itself are made with.
const DIRECT: ProbeId = ProbeId::from_static("direct");

/// Why leases with a canary cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    #[error(
        "something else answers in place of the canary at {0}: what is found behind it would be wrong, let this machine connect to the canary directly"
    )]
    Replaced(SocketAddr),
    #[error(
        "the canary at {0} does not answer: nothing that is found could be proved, start it or let this machine connect to it"
    )]
    Silent(SocketAddr),
}

/// Who asks, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    pub campaign: CampaignId,
    pub key: &'a NonceKey,
    pub vantage: &'a str,
}

/// What was heard of canaries lately.
#[derive(Debug, Default)]
pub struct Reach(Mutex<Vec<Heard>>);

#[derive(Debug)]
struct Heard {
    canary: Canary,
    until: Instant,
    result: Result<(), Unreached>,
}

impl Reach {
    /// Fails if the canary is not reached. Leases that begin together wait for one answer.
    pub async fn check(&self, canary: &Canary, asking: Asking<'_>) -> Result<(), Unreached> {
        let mut heard = self.0.lock().await;
        heard.retain(|heard| heard.until > Instant::now());
        if let Some(known) = heard.iter().find(|heard| heard.canary == *canary) {
            return known.result.clone();
        }
        let result = ask(canary, asking).await;
        let fresh = if result.is_ok() { FREE } else { NOT_FREE };
        heard.push(Heard {
            canary: canary.clone(),
            until: Instant::now() + fresh,
            result: result.clone(),
        });
        result
    }
}

/// Asks every port. A network that lets no mail out is no reason to find nothing at all.
async fn ask(canary: &Canary, asking: Asking<'_>) -> Result<(), Unreached> {
    let sockets = canary.destinations();
    let heard = join_all(sockets.map(|socket| ask_at(canary, socket, asking))).await;
    let at = |wanted: Answering| {
        let mut places = sockets.iter().zip(&heard);
        let found = places.find(|(_, answering)| **answering == wanted);
        found.map(|(socket, _)| *socket)
    };
    if let Some(socket) = at(Answering::Another) {
        return Err(Unreached::Replaced(socket));
    }
    let Some(silent) = at(Answering::Nobody) else {
        return Ok(());
    };
    if at(Answering::Canary).is_none() {
        return Err(Unreached::Silent(silent));
    }
    tracing::warn!(%silent, "the canary answers here on some of its ports only: this network may hold back what targets on such ports say too");
    Ok(())
}

async fn ask_at(canary: &Canary, socket: SocketAddr, asking: Asking<'_>) -> Answering {
    let occasion = Occasion {
        campaign: asking.campaign,
        endpoint: socket,
        vantage: asking.vantage,
        round: 0,
    };
    // Another one each time, so that no answer can have been kept for it.
    let variant = Timestamp::now().to_string();
    let nonce = asking
        .key
        .nonce(&occasion, &DIRECT, &variant, Role::Destination);
    let opened = tokio::time::timeout(LIMITS.reply, egress::to_canary(canary, socket)).await;
    match opened {
        Ok(Ok(stream)) => ask_canary(canary, socket.port(), nonce, Box::new(stream), LIMITS).await,
        _ => Answering::Nobody,
    }
}
