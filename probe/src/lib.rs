//! Conversations with targets.
//!
//! Each protocol is a folder: what recognises it, its pure codecs, its probes. A probe is straight-line async code over a
//! [`Wire`], and what it saw is judged elsewhere ([`ajar_model::judge`]). [`Wire`] owns the byte
//! and line caps, the deadline of the whole examination and the transcript, so that "always ends" holds whatever
//! the peer does.
//!
//! Architecture invariant: this crate opens no socket and never names `tokio::net`; connections come from a
//! [`Dial`], which in a worker is the egress that checks the scope. The only second hops that are ever named to a
//! target are [`ajar_model::Canary::destinations`] and mailboxes of the canary's domain.

mod certificate;
pub mod codec;
mod deadline;
mod destination;
mod direct;
mod examination;
mod examine;
pub mod http;
pub mod http2;
mod offers;
mod old_tls;
mod preface;
mod protocol;
mod recognise;
mod registry;
pub mod smtp;
mod sni;
pub mod socks;
pub mod telnet;
mod tls;
mod transcript;
mod tunnel;
pub mod turn;
mod wire;

use std::{io, net::SocketAddr, time::Duration};

use ajar_model::{CampaignId, Canary, Effort, NonceKey, Tier};
use futures::{FutureExt, future::BoxFuture};
use tokio::io::{AsyncRead, AsyncWrite};

pub use direct::{Answering, ask_canary};
pub use examination::{Examination, MAX_DIALS};
pub use examine::{RECOGNISE, examine};
pub use protocol::{Probe, Protocol};
pub use registry::{PROTOCOLS, probes};
pub use wire::Wire;

/// A connection to the target, TLS or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection whose kind does not matter.
pub type BoxStream = Box<dyn Stream>;

/// Opens further connections to the one endpoint that is examined.
pub trait Dial: Send + Sync {
    /// One more connection, or why not. Scope, pace and time-out are the implementor's.
    fn dial(&self) -> BoxFuture<'_, io::Result<BoxStream>>;

    /// A way to send datagrams to another port of the same target, or why there is none.
    fn datagrams(&self, _port: u16) -> BoxFuture<'_, io::Result<Box<dyn Datagrams + '_>>> {
        async { Err(io::ErrorKind::Unsupported.into()) }.boxed()
    }
}

/// Datagrams to one port of the target, and from there.
pub trait Datagrams: Send + Sync {
    /// Sends one. Scope and pace are the implementor's.
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>>;

    /// The length of the next one, which is cut if the buffer is too short.
    fn receive<'a>(&'a self, buffer: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>>;
}

/// What probes of one endpoint may know.
pub struct Brief<'a> {
    pub endpoint: SocketAddr,
    /// The campaign, for nonces.
    pub campaign: CampaignId,
    /// The key of its nonces.
    pub key: &'a NonceKey,
    pub vantage: &'a str,
    /// See [`ajar_model::Observation::round`].
    pub round: u32,
    pub canary: &'a Canary,
    /// How far we may go.
    pub tier: Tier,
    /// Whether we may claim, in a PROXY header or by XCLIENT, that we connect from loopback.
    pub claims: bool,
    /// What we call ourselves in EHLO and User-Agent.
    pub our_name: &'a str,
    /// The names by which the operator knows the target, best first.
    pub names: &'a [String],
    /// How many ways to relay a mail server is asked for.
    pub effort: Effort,
    pub dial: &'a dyn Dial,
    /// What a peer may cost us.
    pub limits: Limits,
}

/// What a peer may cost us.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Everything with one endpoint, over all connections. An endpoint that takes more than two
    /// seconds for each answer gets that time on top, up to as much time again.
    pub examination: Duration,
    /// How long a client-first service is given to speak first, before something is offered to it.
    pub banner: Duration,
    /// How long a mail server is given for its greeting.
    pub greeting: Duration,
    /// How long to wait for one reply.
    pub reply: Duration,
    /// How long to wait for the reply to an offer that the port does not suggest, and after a
    /// first one that was not answered.
    pub offer: Duration,
    /// Bytes that are read from one connection.
    pub bytes: usize,
    /// Bytes of one line.
    pub line: usize,
    /// Bytes of the transcript.
    pub transcript: usize,
}

impl Limits {
    /// The limits of a further visit to an endpoint that broke off or kept silent. RFC 5321
    /// section 4.5.3.2.1 allows five minutes for a greeting; look-ups that time out take one or
    /// two.
    pub fn patient(self) -> Self {
        Self {
            examination: self.examination * 2 + self.greeting * 3,
            greeting: self.greeting * 4,
            reply: self.reply * 2,
            offer: self.offer * 5,
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            examination: Duration::from_secs(90),
            banner: Duration::from_millis(1500),
            greeting: Duration::from_secs(30),
            reply: Duration::from_secs(15),
            offer: Duration::from_secs(5),
            bytes: 256 * 1024,
            line: 4096,
            transcript: 16 * 1024,
        }
    }
}
