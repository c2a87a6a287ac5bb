//! The only place where a socket to a target is opened, and one to the canary.
//!
//! Every connection waits for the pace and is then checked, at the moment at which it is opened and for the socket
//! address that is dialled: the lease must be valid, and the scope must permit the address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use ajar_model::{
    Canary, Outcome, Scope, Timestamp,
    scope::{self, Denied},
    space,
};
use ajar_probe::{BoxStream, Datagrams, Dial};
use ajar_sweep::{
    connect::{self, Patience},
    syn::Syn,
};
use futures::{FutureExt, future::BoxFuture};
use ipnet::IpNet;
use tokio::{
    net::{TcpStream, UdpSocket},
    time::{Instant, timeout},
};

use crate::{
    exclusions::Exclusions,
    fault,
    fence::{Fence, Now},
    pacer::{Budget, Pacer, Prefixes},
    places::Places,
};

/// Whether a scope permits something to be sent to an address at a time.
type Permits = fn(&Scope, SocketAddr, Timestamp) -> Result<(), Denied>;

/// Opens a connection to the operator's own end, which is no target.
pub async fn to_canary(canary: &Canary, socket: SocketAddr) -> io::Result<TcpStream> {
    if !canary.destinations().contains(&socket) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    #[expect(clippy::disallowed_methods, reason = "this is the egress")]
    TcpStream::connect(socket).await
}

/// What one lease may send, and how fast.
#[derive(Debug)]
pub struct Egress {
    scope: Scope,
    exclusions: Arc<Exclusions>,
    fence: Arc<Fence>,
    pacer: Arc<Pacer>,
    budget: Arc<Budget>,
    places: Arc<Places>,
    patience: Mutex<Patience>,
    /// Connections that are tried again before a target counts as silent. The kernel would send a SYN again after one second,
    /// past the pace: an attempt ends before that, and the next one waits for its turn.
    retries: u32,
}

/// Why no connection was opened.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The visit does not count, and the target is to be visited again.
    #[error(transparent)]
    Unvisited(#[from] Unvisited),
    /// The scope does not permit the address: nothing was sent.
    #[error(transparent)]
    Denied(Denied),
    #[error(transparent)]
    Failed(io::Error),
}

impl Refusal {
    fn of(error: io::Error, endpoint: SocketAddr) -> Self {
        match fault::of_this_machine(&error, endpoint) {
            Some(cause) => Unvisited::Fault(cause).into(),
            None => Refusal::Failed(error),
        }
    }
}

/// Why a target has no outcome although its visit began.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unvisited {
    /// The lease or the authorization ended.
    #[error("the lease has ended")]
    Ended,
    /// Nothing is wrong but that too many are visited at a time. There are fewer by now.
    #[error("there is no socket for one more connection")]
    Crowded,
    #[error("{0}")]
    Fault(String),
}

impl Egress {
    pub fn new(
        scope: Scope,
        exclusions: Arc<Exclusions>,
        fence: Arc<Fence>,
        pacer: Arc<Pacer>,
        budget: Arc<Budget>,
        places: Arc<Places>,
        retries: u32,
    ) -> Self {
        Self {
            scope,
            exclusions,
            fence,
            pacer,
            budget,
            places,
            patience: Mutex::default(),
            retries,
        }
    }

    /// Opens a connection, when pace, lease and scope let it.
    pub async fn connect(&self, endpoint: SocketAddr) -> Result<TcpStream, Refusal> {
        self.admit(endpoint).await;
        self.open(endpoint).await
    }

    /// Waits for the pace. One attempt may follow, at once.
    pub async fn admit(&self, endpoint: SocketAddr) {
        let prefix = space::prefix_of(endpoint.ip());
        loop {
            self.fence.fresh().await;
            self.pacer
                .admit(&self.budget, prefix, fastrand::f64())
                .await;
            // Connections that waited for the pace meanwhile must not leave all at once afterwards.
            if !self.fence.is_stale(Now::read()) {
                return;
            }
        }
    }

    /// Waits for the pace of the whole, for up to `most` SYNs: see [`Pacer::admit_some`].
    pub async fn admit_some(&self, most: u32) -> u32 {
        loop {
            self.fence.fresh().await;
            let admitted = self.pacer.admit_some(&self.budget, most).await;
            if !self.fence.is_stale(Now::read()) {
                return admitted;
            }
            self.used(admitted, 0);
        }
    }

    /// Says how many of those that were admitted went.
    pub fn used(&self, admitted: u32, sent: u32) {
        self.pacer.used(&self.budget, admitted, sent);
    }

    /// Gives up the lease's rate: nothing more is sent.
    pub fn end(&self) {
        self.budget.end();
    }

    /// The limits of these prefixes.
    pub fn prefixes(&self, prefixes: Vec<IpNet>) -> Prefixes {
        self.pacer.prefixes(prefixes)
    }

    /// Sends a SYN to each of these targets that lease and scope permit, now. Returns those that it was not sent to.
    pub fn syn(&self, syn: &Syn, targets: &[SocketAddr]) -> Vec<(SocketAddr, Refusal)> {
        let mut refused = Vec::new();
        let mut failed = Vec::new();
        // So few take less than a millisecond: one look at the clocks is enough for all.
        let permit = self.permit(Scope::permits);
        let permitted = targets.iter().copied().filter(|target| {
            let checked = permit(*target);
            let permitted = checked.is_ok();
            refused.extend(checked.err().map(|refusal| (*target, refusal)));
            permitted
        });
        syn.send(permitted, |target, error| failed.push((target, error)));
        let failed = failed.into_iter();
        refused.extend(failed.map(|(target, error)| (target, Refusal::of(error, target))));
        refused
    }

    /// Opens a connection whose first attempt was admitted, if lease and scope let it.
    pub async fn open(&self, endpoint: SocketAddr) -> Result<TcpStream, Refusal> {
        let mut retries = 0..self.retries;
        loop {
            match self.attempt(endpoint).await {
                Err(Refusal::Failed(error))
                    if connect::outcome(&error) == Outcome::Silent && retries.next().is_some() =>
                {
                    self.admit(endpoint).await;
                }
                result => return result,
            }
        }
    }

    /// Whether lease and scope let anything go to this address now.
    fn check(&self, endpoint: SocketAddr) -> Result<(), Refusal> {
        self.permit(Scope::permits)(endpoint)
    }

    /// Checks the same for datagrams to a port that the target offers.
    fn check_relay(&self, address: SocketAddr) -> Result<(), Refusal> {
        self.permit(Scope::permits_relay)(address)
    }

    /// Whether lease and scope let anything go to an address, at the time of this call.
    fn permit(&self, permits: Permits) -> impl Fn(SocketAddr) -> Result<(), Refusal> {
        let (open, now) = (self.fence.is_open(Now::read()), Timestamp::now());
        let excluded = self.exclusions.addresses();
        move |endpoint| {
            if !open {
                return Err(Unvisited::Ended.into());
            }
            if scope::reaches(endpoint.ip(), &excluded) {
                return Err(Refusal::Denied(Denied::Excluded));
            }
            match permits(&self.scope, endpoint, now) {
                Ok(()) => Ok(()),
                Err(Denied::Window) => Err(Unvisited::Ended.into()),
                Err(denied) => Err(Refusal::Denied(denied)),
            }
        }
    }

    /// Whether an address is in the networks that are audited.
    pub fn covers(&self, ip: IpAddr) -> bool {
        self.scope.covers(ip)
    }

    /// A socket for datagrams to an address. Nothing is sent yet.
    async fn socket(&self, address: SocketAddr) -> Result<UdpSocket, Refusal> {
        self.check_relay(address)?;
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let opened = async {
            let socket = UdpSocket::bind((any, 0)).await?;
            #[expect(clippy::disallowed_methods, reason = "this is the egress")]
            socket.connect(address).await?;
            Ok(socket)
        };
        opened.await.map_err(|error| self.refusal(error, address))
    }

    /// Waits until an operator excludes an address.
    pub async fn until_excluded(&self, ip: IpAddr) {
        self.exclusions.until_excluded(ip).await;
    }

    /// Learns what became of a connection to a target that had answered a SYN.
    pub fn tried(&self, opened: &Result<TcpStream, Refusal>) {
        let timed_out = match opened {
            Err(Refusal::Failed(error)) => connect::outcome(error) == Outcome::Silent,
            _ => false,
        };
        self.places.tried(timed_out);
    }

    /// Why a socket was not to be had. In a crowd, the visit leaves and its place with it, for as long as some are left.
    fn refusal(&self, error: io::Error, endpoint: SocketAddr) -> Refusal {
        match fault::is_a_crowd(&error) && self.places.crowded() {
            true => Unvisited::Crowded.into(),
            false => Refusal::of(error, endpoint),
        }
    }

    async fn attempt(&self, endpoint: SocketAddr) -> Result<TcpStream, Refusal> {
        self.check(endpoint)?;
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
        let stream = result.map_err(|error| self.refusal(error, endpoint))?;
        // Conversations are short lines that wait for each other.
        stream.set_nodelay(true).map_err(Refusal::Failed)?;
        Ok(stream)
    }
}

/// Further connections to one endpoint, for its probes.
pub struct EndpointDial<'a> {
    egress: &'a Egress,
    endpoint: SocketAddr,
    unvisited: Mutex<Option<Unvisited>>,
}

impl<'a> EndpointDial<'a> {
    pub fn new(egress: &'a Egress, endpoint: SocketAddr) -> Self {
        Self {
            egress,
            endpoint,
            unvisited: Mutex::default(),
        }
    }

    /// Keeps the reason if it is not the target's.
    fn noted(&self, refusal: Refusal) -> io::Error {
        match refusal {
            Refusal::Failed(error) => error,
            refusal => {
                let text = refusal.to_string();
                if let Refusal::Unvisited(unvisited) = refusal {
                    *self.unvisited.lock().expect("no holder panics") = Some(unvisited);
                }
                io::Error::new(io::ErrorKind::PermissionDenied, text)
            }
        }
    }

    /// Why the visit does not count, if one of its connections could not be made for a reason that is not the target's.
    pub fn unvisited(self) -> Option<Unvisited> {
        self.unvisited.into_inner().expect("no holder panics")
    }
}

impl Dial for EndpointDial<'_> {
    fn dial(&self) -> BoxFuture<'_, io::Result<BoxStream>> {
        async {
            let opened = self.egress.connect(self.endpoint).await;
            let stream = opened.map_err(|refusal| self.noted(refusal))?;
            Ok(Box::new(stream) as BoxStream)
        }
        .boxed()
    }

    fn datagrams(&self, port: u16) -> BoxFuture<'_, io::Result<Box<dyn Datagrams + '_>>> {
        async move {
            let address = SocketAddr::new(self.endpoint.ip(), port);
            let opened = self.egress.socket(address).await;
            let paced = PacedDatagrams {
                dial: self,
                address,
                socket: opened.map_err(|refusal| self.noted(refusal))?,
            };
            Ok(Box::new(paced) as Box<dyn Datagrams>)
        }
        .boxed()
    }
}

/// Datagrams to a target, each of which waits for the pace and is checked like a connection.
struct PacedDatagrams<'a> {
    dial: &'a EndpointDial<'a>,
    address: SocketAddr,
    socket: UdpSocket,
}

impl Datagrams for PacedDatagrams<'_> {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        async {
            let egress = self.dial.egress;
            egress.admit(self.address).await;
            let checked = egress.check_relay(self.address);
            checked.map_err(|refusal| self.dial.noted(refusal))?;
            self.socket.send(datagram).await.map(drop)
        }
        .boxed()
    }

    fn receive<'a>(&'a self, buffer: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>> {
        self.socket.recv(buffer).boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ajar_model::{Target, TargetSpace};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_visit_whose_dial_was_fenced_did_not_happen() {
        let targets: [Target; 1] = ["127.0.0.1".parse().unwrap()];
        let space = TargetSpace::new(&targets, &[]).unwrap();
        let fence = Arc::new(Fence::new(Now::read(), Duration::from_secs(3600)));
        let pacer = Arc::new(Pacer::new(100));
        let budget = pacer.lease(Arc::clone(&fence), 100);
        let scope = Scope::new(None, space, &[], &[]);
        let exclusions = Arc::new(Exclusions::new());
        let (kept, places) = (Arc::clone(&exclusions), Places::new(1));
        let egress = Egress::new(scope, kept, Arc::clone(&fence), pacer, budget, places, 1);
        let elsewhere = EndpointDial::new(&egress, "127.0.0.2:25".parse().unwrap());
        assert!(elsewhere.dial().await.is_err());
        assert!(elsewhere.datagrams(53).await.is_err());
        assert_eq!(
            elsewhere.unvisited(),
            None,
            "a denied dial is the target's outcome"
        );

        fence.close();
        let renewed = pacer_of(&egress);
        let dial = EndpointDial::new(&egress, "127.0.0.1:25".parse().unwrap());
        assert!(dial.dial().await.is_err());
        assert_eq!(dial.unvisited(), Some(Unvisited::Ended));
        let dial = EndpointDial::new(&egress, "127.0.0.1:25".parse().unwrap());
        assert!(dial.datagrams(53).await.is_err());
        assert_eq!(dial.unvisited(), Some(Unvisited::Ended));
        drop(renewed);
    }

    /// Another lease of the same campaign keeps the pace going.
    fn pacer_of(egress: &Egress) -> Arc<Budget> {
        let open = Arc::new(Fence::new(Now::read(), Duration::from_secs(3600)));
        egress.pacer.lease(open, 100)
    }
}
