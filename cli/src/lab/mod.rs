//! The lab of `ajar demo`: honest and lying services on loopback, each a small real one.
//!
//! The open ones forward to the canary and to nobody else: even on loopback this starts no open relay and no open proxy.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use ajar_model::{Canary, Verdict};
use anyhow::Context;
use futures::future::BoxFuture;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

mod http;
mod liars;
mod smtp;
mod socks;

/// One service of the lab.
pub struct Service {
    /// What it is called.
    pub name: &'static str,
    pub summary: &'static str,
    pub endpoint: SocketAddr,
    /// What an audit must find.
    pub expect: Verdict,
}

/// Services that run until the lab is shut down.
pub struct Lab(Vec<Service>);

/// What a service does with one connection.
type Serve = fn(TcpStream, Arc<Canary>) -> BoxFuture<'static, io::Result<()>>;

/// Name, summary, port, what is true of it, and the service.
const SERVICES: &[(&str, &str, u16, Verdict, Serve)] = &[
    (
        "open relay",
        "delivers anybody's mail",
        2525,
        Verdict::Open,
        smtp::open,
    ),
    (
        "percent-hack relay",
        "refuses strangers, but delivers user%domain@[address]",
        2525,
        Verdict::Open,
        smtp::percent_hack,
    ),
    (
        "closed relay",
        "554 to every stranger",
        2525,
        Verdict::Closed,
        smtp::closed,
    ),
    (
        "submission",
        "asks for a login",
        2525,
        Verdict::Protected,
        smtp::submission,
    ),
    (
        "greylister",
        "450, come back in 2 seconds, and then delivers",
        2525,
        Verdict::Open,
        smtp::greylister,
    ),
    (
        "catch-all",
        "accepts every mail and forwards none",
        2525,
        Verdict::Unproven,
        smtp::catch_all,
    ),
    (
        "tarpit",
        "one byte of a greeting a second",
        2525,
        Verdict::Inconclusive,
        liars::tarpit,
    ),
    (
        "open HTTP proxy",
        "CONNECT and GET for anybody",
        3128,
        Verdict::Open,
        http::open,
    ),
    (
        "closed HTTP proxy",
        "403 to every stranger",
        3128,
        Verdict::Closed,
        http::closed,
    ),
    (
        "HTTP proxy with login",
        "407",
        3128,
        Verdict::Protected,
        http::login,
    ),
    (
        "portal",
        "200 and its own page, whatever is asked",
        8080,
        Verdict::Unproven,
        http::portal,
    ),
    (
        "forged answer",
        "200, and an answer that it made up",
        8080,
        Verdict::Unproven,
        http::forged_answer,
    ),
    (
        "open SOCKS proxy",
        "4, 4a and 5 for anybody",
        1080,
        Verdict::Open,
        socks::open,
    ),
    (
        "closed SOCKS proxy",
        "not allowed by the rules",
        1080,
        Verdict::Closed,
        socks::closed,
    ),
    (
        "SOCKS proxy with login",
        "no method without a password",
        1080,
        Verdict::Protected,
        socks::login,
    ),
    (
        "ssh",
        "something else altogether",
        2222,
        Verdict::NotAService,
        liars::ssh,
    ),
];

impl Lab {
    /// Starts every service, on an address of its own where loopback has several.
    pub async fn start(canary: &Canary, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let canary = Arc::new(canary.clone());
        let mut services = Vec::new();
        for (number, &(name, summary, port, expect, serve)) in SERVICES.iter().enumerate() {
            let listener = bind(number as u8 + 2, port)
                .await
                .context("the lab cannot listen on loopback")?;
            services.push(Service {
                name,
                summary,
                endpoint: listener.local_addr()?,
                expect,
            });
            tokio::spawn(run(listener, serve, Arc::clone(&canary), shutdown.clone()));
        }
        Ok(Self(services))
    }

    /// The services, in the order of their addresses.
    pub fn services(&self) -> &[Service] {
        &self.0
    }
}

/// An own address with the usual port; the usual port of 127.0.0.1; any port of it.
async fn bind(last: u8, port: u16) -> io::Result<TcpListener> {
    let own = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    let only = IpAddr::V4(Ipv4Addr::LOCALHOST);
    for address in [(own, port), (only, port)] {
        if let Ok(listener) = TcpListener::bind(address).await {
            return Ok(listener);
        }
    }
    TcpListener::bind((only, 0)).await
}

async fn run(
    listener: TcpListener,
    serve: Serve,
    canary: Arc<Canary>,
    shutdown: CancellationToken,
) {
    /// Connections of one service at a time.
    const MOST: usize = 256;
    let mut sessions = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if sessions.len() < MOST => accepted,
            Some(_) = sessions.join_next() => continue,
            () = shutdown.cancelled() => return,
        };
        if let Ok((stream, _)) = accepted {
            // How a session ends is the auditor's business.
            let session = serve(stream, Arc::clone(&canary));
            sessions.spawn(async move { session.await.is_ok() });
        }
    }
}

/// The one place that the lab connects to: the canary, by address or by its domain.
async fn reach(canary: &Canary, host: &str, port: u16) -> Option<TcpStream> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_canary = host.eq_ignore_ascii_case(&canary.domain) || host.parse() == Ok(canary.address);
    let destination = canary.at(port);
    if !is_canary || !canary.destinations().contains(&destination) {
        return None;
    }
    connect(destination).await.ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the lab's own services reach the canary, which is no target"
)]
async fn connect(canary: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(canary).await
}

/// Passes bytes both ways until both ends are done.
async fn tunnel(mut client: TcpStream, mut upstream: TcpStream) -> io::Result<()> {
    tokio::io::copy_bidirectional(&mut client, &mut upstream)
        .await
        .map(|_| ())
}
