//! Whether this machine reaches the canary, or somebody in its place.
//!
//! Some networks lead the mail or the web traffic of their users to servers of their own. Seen from there all targets are alike,
//! and what they are asked for never arrives. So before a lease is run, the canary is asked with nobody in between: by its
//! answer it shows that the way there is free, and that there is somebody to prove a finding.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use ajar_model::{
    CampaignId, Canary, NonceKey, ProbeId, Timestamp,
    disclosed::Disclosed,
    nonce::{Occasion, Role},
    proof::Answer,
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
    greeting: Duration::from_secs(2),
    reply: Duration::from_secs(2),
    offer: Duration::from_secs(2),
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
    #[error(
        "a proxy stands between this machine and the canary at {socket} ({what}): behind it every address would look open, let this machine connect directly"
    )]
    Passed { socket: SocketAddr, what: String },
    #[error(
        "the canary at {socket} sees this machine as {seen}, and not as {public}: correct or leave out --public-address, or use a canary outside this network"
    )]
    OtherAddress {
        socket: SocketAddr,
        seen: IpAddr,
        public: IpAddr,
    },
}

/// Who asks, and with what.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    pub campaign: CampaignId,
    pub key: &'a NonceKey,
    pub vantage: &'a str,
    /// The address that the canary is to see.
    pub public_address: Option<IpAddr>,
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

/// A port of the canary, and its answer.
type Way = (SocketAddr, Answer);

/// Asks every port. A network that lets no mail out is no reason to find nothing at all.
async fn ask(canary: &Canary, asking: Asking<'_>) -> Result<(), Unreached> {
    let sockets = canary.destinations();
    let ask_all = || join_all(sockets.map(|socket| ask_at(canary, socket, asking)));
    let heard = ask_all().await;
    let at = |wanted: Answering| {
        let mut places = sockets.iter().zip(&heard);
        let found = places.find(|(_, answering)| **answering == wanted);
        found.map(|(socket, _)| *socket)
    };
    if let Some(socket) = at(Answering::Another) {
        return Err(Unreached::Replaced(socket));
    }
    let ways = ways(&sockets, &heard);
    if let Some(proxy) = disclosed(&ways) {
        return Err(proxy);
    }
    if let Some(proxy) = detour(&ways) {
        // A network with several addresses may use them in turn.
        let again = self::ways(&sockets, &ask_all().await);
        let seen = |ways: &[Way]| {
            ways.iter()
                .map(|(_, said)| said.egress_ip)
                .collect::<Vec<_>>()
        };
        if seen(&again) == seen(&ways) {
            return Err(proxy);
        }
    }
    if let Some(mistaken) = asking
        .public_address
        .and_then(|public| mistaken(&ways, public))
    {
        return Err(mistaken);
    }
    let Some(silent) = at(Answering::Nobody) else {
        return Ok(());
    };
    if ways.is_empty() {
        return Err(Unreached::Silent(silent));
    }
    tracing::warn!(%silent, "the canary answers here on some of its ports only: this network may hold back what targets on such ports say too");
    Ok(())
}

fn ways(sockets: &[SocketAddr], heard: &[Answering]) -> Vec<Way> {
    let ways = sockets.iter().zip(heard);
    let ways = ways.filter_map(|(socket, answering)| match answering {
        Answering::Canary(answer) => Some((*socket, answer.clone())),
        Answering::Another | Answering::Nobody => None,
    });
    ways.collect()
}

/// Returns a proxy that has added fields to our request.
fn disclosed(ways: &[Way]) -> Option<Unreached> {
    ways.iter().find_map(|(socket, said)| {
        let what = match said.disclosed? {
            Disclosed::Nothing => return None,
            Disclosed::Gateway => "it has marked our request".to_owned(),
            Disclosed::Client(client) => format!("it names {client} as its client"),
        };
        let socket = *socket;
        Some(Unreached::Passed { socket, what })
    })
}

/// Returns a proxy that connects from an address of its own: the canary sees different addresses at
/// two of its ports.
fn detour(ways: &[Way]) -> Option<Unreached> {
    let (_, first) = ways.first()?;
    let mut others = ways.iter();
    let (socket, other) = others.find(|(_, said)| said.egress_ip != first.egress_ip)?;
    let (socket, others, here) = (*socket, first.egress_ip, other.egress_ip);
    let what = format!("our address is {here} there, and {others} at another port");
    Some(Unreached::Passed { socket, what })
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

/// Returns that the canary sees another address of ours than the operator has named.
fn mistaken(ways: &[Way], public: IpAddr) -> Option<Unreached> {
    let mut ways = ways.iter();
    let (socket, said) = ways.find(|(_, said)| said.egress_ip != public)?;
    Some(Unreached::OtherAddress {
        socket: *socket,
        seen: said.egress_ip,
        public,
    })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn way(port: u16, egress: &str, disclosed: Option<Disclosed>) -> Way {
        let key = SigningKey::from_bytes(&[3; 32]);
        let nonce = "00112233445566778899aabbccddeeff".parse().unwrap();
        let egress = egress.parse().unwrap();
        let answer = Answer::sign(&key, nonce, egress, port, Timestamp::UNIX_EPOCH);
        let answer = match disclosed {
            Some(disclosed) => answer.disclosing(&key, disclosed),
            None => answer,
        };
        (SocketAddr::from(([192, 0, 2, 9], port)), answer)
    }

    #[test]
    fn a_proxy_on_the_way_shows_by_its_address_or_by_what_it_adds() {
        let nothing = Some(Disclosed::Nothing);
        let straight = [way(25, "192.0.2.1", None), way(80, "192.0.2.1", nothing)];
        assert_eq!(detour(&straight), None);
        assert_eq!(disclosed(&straight), None);
        let elsewhere = [way(25, "192.0.2.1", None), way(80, "192.0.2.7", nothing)];
        let text = detour(&elsewhere).unwrap().to_string();
        assert!(
            text.contains("at 192.0.2.9:80 (our address is 192.0.2.7 there"),
            "{text}"
        );
        let public = "192.0.2.7".parse().unwrap();
        let text = mistaken(&straight, public).unwrap().to_string();
        assert!(
            text.contains("sees this machine as 192.0.2.1, and not as 192.0.2.7"),
            "{text}"
        );
        assert_eq!(mistaken(&straight, "192.0.2.1".parse().unwrap()), None);
        let marked = [way(80, "192.0.2.1", Some(Disclosed::Gateway))];
        let text = disclosed(&marked).unwrap().to_string();
        assert!(text.contains("it has marked our request"), "{text}");
    }
}
