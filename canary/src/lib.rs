//! The operator's own end: it receives what open relays and proxies forward, says so by a keyed answer, and forwards
//! nothing itself.
//!
//! Architecture invariant: the canary opens no connection but to its coordinator, and it never sends mail. Whatever arrives
//! is a stranger's: every line, message, connection and session is bounded.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use ajar_model::{
    Canary, Sighting, Timestamp, nonce::Nonce, proof::Answer, proof::CanaryKey, quiet::Quiet,
};
use ed25519_dalek::SigningKey;
use futures::future::BoxFuture;
use peer_limit::{PeerLimit, TurnedAway};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub mod codec;
mod datagrams;
mod echo_page;
pub mod key;
mod peer_limit;
mod ports;
mod raw;
mod smtp;
mod tls;

pub use ports::{PortChoice, Ports};
pub use tls::CertificateFiles;

/// What a canary is told at its start.
pub struct Options {
    /// The address to bind.
    pub address: IpAddr,
    /// The address that targets reach it by, if that is another one: behind a load balancer or a port mapping.
    pub advertise: Option<IpAddr>,
    /// The ports to bind.
    pub ports: Ports,
    /// The mail domain that is delivered here.
    pub domain: String,
    /// Another one, unrelated to it.
    pub other_domain: Option<String>,
    /// The key that signs answers.
    pub key: SigningKey,
    /// Whom an owner can write to, in probing.txt.
    pub contact: Option<String>,
    /// The certificate of the HTTPS port; one that the canary signs itself if not given.
    pub certificate: Option<CertificateFiles>,
}

/// Where mail is reported. A message is accepted only once this has returned `Ok`.
pub trait Recorder: Send + Sync {
    /// Makes a sighting durable, or says why it could not be.
    fn record(&self, sighting: Sighting) -> BoxFuture<'_, Result<(), String>>;
}

/// Why a canary cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one of this machine's, or a port is not free.
    #[error(
        "the canary cannot bind {address}: {cause}; give an address of this machine with --canary, or other ports with --canary-ports"
    )]
    Bind {
        /// What was to be bound.
        address: SocketAddr,
        /// Why it cannot be.
        cause: io::Error,
    },
    /// The key file cannot be used.
    #[error("the canary's key {path} cannot be used: {cause}")]
    Key { path: String, cause: String },
    /// No certificate can be made.
    #[error("the canary's certificate cannot be made: {0}")]
    Certificate(String),
}

pub struct Handle {
    canary: Canary,
    notes: Vec<String>,
    services: JoinSet<()>,
    recordings: TaskTracker,
}

impl Handle {
    /// What probes need to know of it.
    pub fn canary(&self) -> &Canary {
        &self.canary
    }

    /// What will be missed, since a port could not be bound.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Waits until it was shut down, and what it had received is recorded.
    pub async fn join(mut self) {
        while self.services.join_next().await.is_some() {}
        self.recordings.close();
        self.recordings.wait().await;
    }
}

/// What the services have in common.
struct Shared {
    canary: Canary,
    contact: Option<String>,
    key: SigningKey,
    recorder: Arc<dyn Recorder>,
    tls: tokio_rustls::TlsAcceptor,
    recordings: TaskTracker,
    /// Room for mails that wait to be recorded, in bytes.
    waiting: Arc<Semaphore>,
    /// Mails that could not be recorded.
    put_off: Mutex<Quiet>,
}

impl Shared {
    /// The answer to a nonce that came that way.
    fn answer(&self, nonce: Nonce, arrival: Arrival) -> Answer {
        let Arrival { peer, port } = arrival;
        Answer::sign(&self.key, nonce, peer, port, Timestamp::now())
    }

    /// True if an address is of one of our mail domains.
    fn is_ours(&self, path: &str) -> bool {
        let mut domains = self.canary.domains();
        domains.any(|domain| codec::is_for(path, domain))
    }
}

/// How a connection came.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    peer: IpAddr,
    /// Our own port.
    port: u16,
}

/// Starts a canary; it ends with `shutdown`.
pub async fn serve(
    options: Options,
    recorder: Arc<dyn Recorder>,
    shutdown: CancellationToken,
) -> Result<Handle, Error> {
    let mut notes = Vec::new();
    let reached_at = options.advertise.unwrap_or(options.address);
    let bound = ports::bind(options.address, &options.ports, &mut notes).await?;
    let port = |listener: &TcpListener| listener.local_addr().map_or(0, |address| address.port());
    let canary = Canary {
        domain: options.domain,
        other_domain: options.other_domain,
        address: reached_at,
        smtp: port(&bound.smtp),
        http: port(&bound.http),
        https: port(&bound.https),
        raw: port(&bound.raw),
        key: CanaryKey::from(&options.key),
    };
    let shared = Arc::new(Shared {
        tls: tls::acceptor(&canary.domain, options.certificate)?,
        canary: canary.clone(),
        contact: options.contact,
        key: options.key,
        recorder,
        recordings: TaskTracker::new(),
        waiting: Arc::new(Semaphore::new(smtp::WAITING)),
        put_off: Mutex::default(),
    });
    let recordings = shared.recordings.clone();
    let mut services = JoinSet::new();
    let mut spawn = |listener, terms, service: Service| {
        let accepting = accept(listener, terms, service, shared.clone(), shutdown.clone());
        services.spawn(accepting);
    };
    spawn(bound.smtp, MAIL, |s, p, c| Box::pin(smtp::serve(s, p, c)));
    spawn(bound.http, WEB, |s, p, c| {
        Box::pin(echo_page::serve(s, p, c))
    });
    spawn(bound.https, WEB_IN_TLS, |s, p, c| {
        Box::pin(echo_page::serve_tls(s, p, c))
    });
    spawn(bound.raw, RAW, |s, p, c| Box::pin(raw::serve(s, p, c)));
    if let Some(socket) = bound.datagrams {
        services.spawn(datagrams::serve(socket, shared, shutdown));
    }
    Ok(Handle {
        canary,
        notes,
        services,
        recordings,
    })
}

type Service = fn(TcpStream, Arrival, Arc<Shared>) -> BoxFuture<'static, io::Result<()>>;

/// On what terms a service takes connections.
struct Terms {
    /// The longest that anybody may stay.
    stay: Duration,
    /// What is said if there is no place.
    full: &'static [u8],
}

const MAIL: Terms = Terms {
    stay: Duration::from_secs(300),
    full: b"421 4.7.0 too many connections, come back later\r\n",
};
const WEB: Terms = Terms {
    stay: Duration::from_secs(60),
    full: b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
};
/// Inside TLS there is no way to say so before a handshake.
const WEB_IN_TLS: Terms = Terms {
    stay: Duration::from_secs(60),
    full: b"",
};
const RAW: Terms = Terms {
    stay: Duration::from_secs(30),
    full: b"",
};

/// Takes connections until `shutdown`, each to its end or to its deadline.
async fn accept(
    listener: TcpListener,
    terms: Terms,
    service: Service,
    shared: Arc<Shared>,
    shutdown: CancellationToken,
) {
    let mut sessions = JoinSet::new();
    // A limit of its own: clients that fill one port leave the others free.
    let peers = PeerLimit::default();
    let mut turned_away = TurnedAway::default();
    let port = listener.local_addr().map_or(0, |address| address.port());
    loop {
        while sessions.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of descriptors, or the peer is gone: the next one may fare better.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let peer = peer.ip().to_canonical();
        let Some(place) = peers.enter(peer) else {
            let _ = stream.try_write(terms.full);
            turned_away.note(port, peer);
            continue;
        };
        metrics::counter!("ajar_canary_connections_total", "port" => port.to_string()).increment(1);
        let session = service(stream, Arrival { peer, port }, Arc::clone(&shared));
        sessions.spawn(async move {
            let ended = tokio::time::timeout(terms.stay, session).await;
            if let Ok(Err(error)) = ended {
                tracing::debug!(%error, "a session broke");
            }
            drop(place);
        });
    }
}
