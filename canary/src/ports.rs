//! Which ports the canary gets.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::net::{TcpListener, TcpSocket, UdpSocket};

use crate::Error;

/// A port that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortChoice {
    /// This one if it can be had, else any.
    Wish(u16),
    Exact(u16),
    Any,
}

/// The ports that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The SMTP sink.
    pub smtp: PortChoice,
    /// The echo page over HTTP.
    pub http: PortChoice,
    /// The echo page over TLS.
    pub https: PortChoice,
    /// The raw greeting, and the same port over UDP.
    pub raw: PortChoice,
}

impl Default for Ports {
    /// The ports that proxies are most likely to let through, and to which relays deliver.
    fn default() -> Self {
        Self {
            smtp: PortChoice::Wish(25),
            http: PortChoice::Wish(80),
            https: PortChoice::Wish(443),
            raw: PortChoice::Wish(7401),
        }
    }
}

impl Ports {
    /// Whatever is free.
    pub fn any() -> Self {
        let any = PortChoice::Any;
        Self {
            smtp: any,
            http: any,
            https: any,
            raw: any,
        }
    }
}

/// Sockets that are bound.
pub(crate) struct Bound {
    pub smtp: TcpListener,
    pub http: TcpListener,
    pub https: TcpListener,
    pub raw: TcpListener,
    pub datagrams: Option<UdpSocket>,
}

/// Binds them; `notes` says what will be missed if a wish was not met.
pub(crate) async fn bind(
    address: IpAddr,
    ports: &Ports,
    notes: &mut Vec<String>,
) -> Result<Bound, Error> {
    let raw = one(
        address,
        ports.raw,
        "another high port is tried instead",
        notes,
    )?;
    let datagrams = datagrams(&raw, notes).await;
    Ok(Bound {
        smtp: one(
            address,
            ports.smtp,
            "relays deliver mail to port 25 only",
            notes,
        )?,
        http: one(
            address,
            ports.http,
            "proxies that pass port 80 only will be missed",
            notes,
        )?,
        https: one(
            address,
            ports.https,
            "proxies that pass port 443 only will be missed",
            notes,
        )?,
        raw,
        datagrams,
    })
}

async fn datagrams(raw: &TcpListener, notes: &mut Vec<String>) -> Option<UdpSocket> {
    let bound = match raw.local_addr() {
        Ok(address) => UdpSocket::bind(address).await,
        Err(cause) => Err(cause),
    };
    let note = |cause| {
        notes.push(format!(
            "the canary cannot have its raw port over UDP ({cause}): relays of datagrams will be missed"
        ));
    };
    bound.map_err(note).ok()
}

fn one(
    address: IpAddr,
    choice: PortChoice,
    consequence: &str,
    notes: &mut Vec<String>,
) -> Result<TcpListener, Error> {
    let port = match choice {
        PortChoice::Wish(port) | PortChoice::Exact(port) => port,
        PortChoice::Any => 0,
    };
    match listen(address, port) {
        Err(Error::Bind { cause, .. })
            if matches!(choice, PortChoice::Wish(_))
                && matches!(
                    cause.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::AddrInUse
                ) =>
        {
            let listener = listen(address, 0)?;
            let instead = listener.local_addr().map_or(0, |address| address.port());
            notes.push(format!(
                "the canary has port {instead} instead of {port} ({cause}): {consequence}"
            ));
            Ok(listener)
        }
        result => result,
    }
}

fn listen(address: IpAddr, port: u16) -> Result<TcpListener, Error> {
    /// As many as the kernel lets wait (net.core.somaxconn). Whoever finds the queue full, and SYN cookies on, waits for a
    /// greeting for ever: the kernel forgot him, and servers speak first.
    const BACKLOG: u32 = i32::MAX as u32;
    let address = SocketAddr::new(address, port);
    let bound = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|cause| Error::Bind { address, cause })
}
