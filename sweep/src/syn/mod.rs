//! Discovery by stateless SYNs: a SYN carries a cookie as its sequence number, a reply must repeat it, and nothing is kept of
//! a target in between.
//!
//! A SYN goes out by [`transmit`], past the kernel's own TCP, from a port that is reserved so that none of its connections
//! has it; when an answer comes, the kernel resets what was half open. [`receive`] hears the same answer.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use ajar_model::space;
use ipnet::IpNet;
use socket2::{Domain, Socket, Type};

use cookie::Cookies;
#[cfg(not(target_os = "linux"))]
use elsewhere::{Receiver, Transmitter};
#[cfg(target_os = "linux")]
use receive::Receiver;
use reply::Reply;
#[cfg(target_os = "linux")]
use transmit::Transmitter;

pub mod cookie;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
pub mod filter;
pub mod packet;
#[cfg(target_os = "linux")]
mod raw;
#[cfg(target_os = "linux")]
mod receive;
pub mod reply;
#[cfg(target_os = "linux")]
mod route;
#[cfg(target_os = "linux")]
pub mod transmit;
#[cfg(target_os = "linux")]
mod trial;
#[cfg(target_os = "linux")]
mod xdp;

/// Why this process cannot sweep by SYNs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "a SYN sweep needs the capability CAP_NET_RAW: run as root or with it, or sweep by plain connections (--sweep connect)"
    )]
    Unprivileged,
    #[error("a SYN sweep works on Linux only: sweep by plain connections (--sweep connect)")]
    Elsewhere,
    #[error("a SYN sweep cannot be set up: {0}")]
    Failed(#[from] io::Error),
}

/// Sends SYNs and hands replies to whoever asked for their networks.
pub struct Syn {
    transmitter: Mutex<Transmitter>,
    listeners: Arc<Listeners>,
    /// Never used: while it is bound, no connection of this machine has its port.
    _reserved: Socket,
}

type Heard = Box<dyn FnMut(Reply) + Send>;

/// Who hears of replies, by /24 or /64.
#[derive(Default)]
struct Listeners {
    by_prefix: Mutex<HashMap<IpNet, Arc<Mutex<Heard>>>>,
    closed: AtomicBool,
    /// Why nothing is heard any more.
    fault: OnceLock<String>,
}

impl Syn {
    /// Fails without CAP_NET_RAW.
    pub fn open() -> Result<Self, Error> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(io::Error::from)?;
        let reserved = reserve()?;
        let port = reserved
            .local_addr()?
            .as_socket()
            .map_or(0, |ours| ours.port());
        let cookies = Cookies::new(key, port);
        let receiver = Receiver::open(cookies.clone()).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => Error::Unprivileged,
            _ if cfg!(not(target_os = "linux")) => Error::Elsewhere,
            _ => Error::Failed(error),
        })?;
        let transmitter = Transmitter::open(cookies)?;
        let listeners = Arc::<Listeners>::default();
        let hearing = Arc::clone(&listeners);
        thread::Builder::new()
            .name("replies".to_owned())
            .spawn(move || hearing.hear(&receiver))?;
        Ok(Self {
            transmitter: Mutex::new(transmitter),
            listeners,
            _reserved: reserved,
        })
    }

    /// Why nothing is heard any more, if so: to go on sending would make every target silent.
    pub fn fault(&self) -> Option<String> {
        self.listeners.fault.get().cloned()
    }

    /// Calls `heard` for each reply from these networks, until what is returned is dropped. It must not wait.
    pub fn listen(
        &self,
        prefixes: Vec<IpNet>,
        heard: impl FnMut(Reply) + Send + 'static,
    ) -> Listening {
        let heard: Arc<Mutex<Heard>> = Arc::new(Mutex::new(Box::new(heard)));
        let mut by_prefix = self.listeners.by_prefix.lock().expect("no holder panics");
        for prefix in &prefixes {
            by_prefix.insert(*prefix, Arc::clone(&heard));
        }
        Listening {
            prefixes,
            heard,
            listeners: Arc::downgrade(&self.listeners),
        }
    }

    /// Sends one SYN to each of these targets, at once. `failed` hears of those that could not be sent to, and why.
    pub fn send(
        &self,
        targets: impl IntoIterator<Item = SocketAddr>,
        failed: impl FnMut(SocketAddr, io::Error),
    ) {
        let mut transmitter = self.transmitter.lock().expect("no holder panics");
        transmitter.send(targets, failed);
    }
}

impl Drop for Syn {
    fn drop(&mut self) {
        self.listeners.closed.store(true, Ordering::Relaxed);
    }
}

impl Listeners {
    fn hear(&self, receiver: &Receiver) {
        while !self.closed.load(Ordering::Relaxed) {
            let received = receiver.receive(|reply| {
                let prefix = space::prefix_of(reply.target.ip());
                let by_prefix = self.by_prefix.lock().expect("no holder panics");
                let heard = by_prefix.get(&prefix).cloned();
                drop(by_prefix);
                if let Some(heard) = heard {
                    heard.lock().expect("no holder panics")(reply);
                }
            });
            if let Err(error) = received {
                let _ = self
                    .fault
                    .set(format!("replies to SYNs cannot be received: {error}"));
                return;
            }
        }
    }
}

/// Hears of replies until it is dropped.
pub struct Listening {
    prefixes: Vec<IpNet>,
    heard: Arc<Mutex<Heard>>,
    listeners: Weak<Listeners>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some(listeners) = self.listeners.upgrade() else {
            return;
        };
        let mut by_prefix = listeners.by_prefix.lock().expect("no holder panics");
        for prefix in &self.prefixes {
            // A later lease of the same network may listen already.
            if by_prefix
                .get(prefix)
                .is_some_and(|heard| Arc::ptr_eq(heard, &self.heard))
            {
                by_prefix.remove(prefix);
            }
        }
    }
}

/// A bound socket, whose port is no connection's of this machine in either family.
fn reserve() -> io::Result<Socket> {
    let both = || {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0).into())?;
        Ok(socket)
    };
    both().or_else(|_: io::Error| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).into())?;
        Ok(socket)
    })
}
