//! The only place where a socket to a target is opened.
//!
//! Every connection waits for the pace and is then checked, at the moment at which it is opened and for the socket
//! address that is dialled: the lease must be valid, and the scope must permit the address.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use ajar_model::{Outcome, Scope, Timestamp, scope::Denied, space};
use ajar_probe::{BoxStream, Dial};
use ajar_sweep::connect::{self, Patience};
use futures::{FutureExt, future::BoxFuture};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    fence::{Fence, Now},
    pacer::Pacer,
};

/// What one lease may send, and how fast.
#[derive(Debug)]
pub struct Egress {
    scope: Scope,
    fence: Arc<Fence>,
    pacer: Arc<Pacer>,
    patience: Mutex<Patience>,
}

/// Why no connection was opened.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The lease ended: nothing was sent, and somebody else will visit the target.
    #[error("the lease has ended")]
    Fenced,
    /// The scope does not permit the address: nothing was sent.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The connection failed.
    #[error(transparent)]
    Failed(#[from] io::Error),
}

impl Refusal {
    /// What it means for the target; none where the target is still to be visited.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Refusal::Fenced => None,
            Refusal::Denied(_) => Some(Outcome::Denied),
            Refusal::Failed(error) => Some(connect::outcome(error)),
        }
    }
}

impl Egress {
    /// For one lease.
    pub fn new(scope: Scope, fence: Arc<Fence>, pacer: Arc<Pacer>) -> Self {
        Self {
            scope,
            fence,
            pacer,
            patience: Mutex::default(),
        }
    }

    /// Opens a connection, when pace, lease and scope let it.
    pub async fn connect(&self, endpoint: SocketAddr) -> Result<TcpStream, Refusal> {
        self.admit(endpoint).await;
        self.open(endpoint).await
    }

    /// Waits for the pace. One connection may follow, at once.
    pub async fn admit(&self, endpoint: SocketAddr) {
        let prefix = space::prefix_of(endpoint.ip());
        self.pacer.admit(prefix, fastrand::f64()).await;
    }

    /// Opens a connection that was admitted, if lease and scope let it.
    pub async fn open(&self, endpoint: SocketAddr) -> Result<TcpStream, Refusal> {
        if !self.fence.is_open(Now::read()) {
            return Err(Refusal::Fenced);
        }
        self.scope.permits(endpoint, Timestamp::now())?;
        let wait = self.patience.lock().expect("no holder panics").timeout();
        let started = Instant::now();
        #[expect(clippy::disallowed_methods, reason = "this is the egress")]
        let result = timeout(wait, TcpStream::connect(endpoint)).await;
        let result = result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let answered = match &result {
            Ok(_) => true,
            Err(error) => connect::outcome(error) == Outcome::Refused,
        };
        if answered {
            let mut patience = self.patience.lock().expect("no holder panics");
            patience.answered_after(started.elapsed());
        }
        let stream = result?;
        // Conversations are short lines that wait for each other.
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Further connections to one endpoint, for its probes.
pub struct EndpointDial<'a> {
    /// Where they go out.
    pub egress: &'a Egress,
    /// The endpoint.
    pub endpoint: SocketAddr,
}

impl Dial for EndpointDial<'_> {
    fn dial(&self) -> BoxFuture<'_, io::Result<BoxStream>> {
        async {
            match self.egress.connect(self.endpoint).await {
                Ok(stream) => Ok(Box::new(stream) as BoxStream),
                Err(Refusal::Failed(error)) => Err(error),
                Err(refusal) => Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    refusal.to_string(),
                )),
            }
        }
        .boxed()
    }
}
