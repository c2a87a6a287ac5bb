//! The peers that are probed: open proxies that really forward, and relays that refuse.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An HTTP proxy that connects anybody to anything on loopback.
    OpenProxy,
    /// A mail server that refuses to relay.
    ClosedRelay,
}

impl Kind {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Kind::OpenProxy => "open proxies",
            Kind::ClosedRelay => "closed relays",
        }
    }
}

/// Peers of each kind at every address of a range.
pub struct Peers {
    addresses: Vec<Ipv4Addr>,
    ports: [u16; 2],
    /// Where the bare loop's tunnels lead: it answers each line with the same line.
    pub echo: SocketAddr,
}

impl Peers {
    /// The range, as a target.
    pub fn range(&self) -> String {
        format!(
            "{}-{}",
            self.addresses[0],
            self.addresses[self.addresses.len() - 1]
        )
    }

    /// The port of every peer of a kind.
    pub fn port(&self, kind: Kind) -> u16 {
        self.ports[kind as usize]
    }

    /// The endpoints of a kind.
    pub fn endpoints(&self, kind: Kind) -> impl Iterator<Item = SocketAddr> {
        let port = self.port(kind);
        self.addresses
            .iter()
            .map(move |ip| SocketAddr::new(IpAddr::V4(*ip), port))
    }
}

/// Starts as many peers of each kind.
pub async fn start(number: u16) -> anyhow::Result<Peers> {
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 1));
    let addresses = (0..u32::from(number)).map(|n| Ipv4Addr::from(first + n));
    let ports = [free(first).await?, free(first).await?];
    let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let peers = Peers {
        addresses: addresses.collect(),
        ports,
        echo: echo.local_addr()?,
    };
    tokio::spawn(serve(echo, echo_lines));
    for ip in &peers.addresses {
        tokio::spawn(serve(TcpListener::bind((*ip, ports[0])).await?, proxy));
        tokio::spawn(serve(TcpListener::bind((*ip, ports[1])).await?, relay));
    }
    Ok(peers)
}

async fn free(ip: u32) -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::from(ip), 0))
        .await?
        .local_addr()?
        .port())
}

async fn serve<F>(listener: TcpListener, service: fn(TcpStream) -> F)
where
    F: Future<Output = std::io::Result<()>> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(service(stream));
    }
}

async fn echo_lines(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        stream.write_all(line.as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the proxy, and leads to loopback only"
)]
async fn proxy(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 4096 || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head);
    let target = head
        .strip_prefix("CONNECT ")
        .and_then(|rest| rest.split(' ').next());
    let target: Option<SocketAddr> = target.and_then(|target| target.parse().ok());
    let Some(target) = target.filter(|target| target.ip().is_loopback()) else {
        let answer = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        return stream.write_all(answer).await;
    };
    let mut far = TcpStream::connect(target).await?;
    stream
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    copy_bidirectional(&mut stream, &mut far).await.map(drop)
}

async fn relay(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 mail.test ESMTP\r\n").await?;
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let answer = match line.get(..4).unwrap_or_default() {
            "RCPT" => "554 5.7.1 Relay access denied\r\n",
            "QUIT" => return stream.write_all(b"221 2.0.0 Bye\r\n").await,
            _ => "250 Ok\r\n",
        };
        stream.write_all(answer.as_bytes()).await?;
        line.clear();
    }
    Ok(())
}
