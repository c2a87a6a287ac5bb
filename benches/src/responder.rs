//! What the open pairs of the rig serve: open proxies that really forward, relays that really deliver, and their closed kin.
//!
//! The port says which protocol, if any, and the address the rest: an even one's door is open, and every other pair of addresses is
//! far away.

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy, copy_bidirectional, sink},
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};

use crate::rig::{MUTE, NEAR, PORTS};

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Smtp,
    Http,
    Socks,
}

impl Protocol {
    pub fn of(port: u16) -> Self {
        match port {
            25 | 587 | 2525 => Protocol::Smtp,
            1080 | 1081 | 9050 => Protocol::Socks,
            _ => Protocol::Http,
        }
    }
}

/// True if whoever asks this server is let through.
pub fn is_open_door(ip: Ipv4Addr) -> bool {
    u32::from(ip).is_multiple_of(2)
}

/// How long what is far away takes to answer.
pub const FAR_AWAY: Duration = Duration::from_millis(50);

/// True if this server takes [`FAR_AWAY`] for each of its answers, as if there were a long wire between.
pub fn is_far_away(ip: Ipv4Addr) -> bool {
    u32::from(ip) & 2 != 0
}

/// Serves until it is killed. Says so on standard output when it does.
pub async fn serve() -> anyhow::Result<()> {
    for port in PORTS.into_iter().chain(MUTE) {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::UNSPECIFIED, port).into())?;
        tokio::spawn(accept(socket.listen(65_535)?));
    }
    io::stdout().write_all(b"ready\n")?;
    std::future::pending().await
}

async fn accept(listener: TcpListener) {
    loop {
        // Whoever went away before it was accepted is no reason to stop.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream));
        }
    }
}

async fn converse(mut stream: TcpStream) -> io::Result<()> {
    let ours = stream.local_addr()?;
    if MUTE.contains(&ours.port()) {
        return copy(&mut stream, &mut sink()).await.map(drop);
    }
    let IpAddr::V4(ip) = ours.ip() else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    stream.set_nodelay(true)?;
    let peer = Peer {
        stream: BufReader::new(stream),
        away: is_far_away(ip),
    };
    let open = is_open_door(ip);
    match Protocol::of(ours.port()) {
        Protocol::Smtp => relay(peer, ours.ip(), open).await,
        Protocol::Http => http(peer, ours.ip(), open).await,
        Protocol::Socks => socks(peer, ours.ip(), open).await,
    }
}

/// Who asks.
struct Peer {
    stream: BufReader<TcpStream>,
    away: bool,
}

impl Peer {
    async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.away {
            sleep(FAR_AWAY).await;
        }
        self.stream.write_all(bytes).await
    }
}

/// A second connection from this address of ours, which leads to the near end only.
async fn forward(ours: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    if to.ip() != IpAddr::V4(NEAR) {
        return Err(io::ErrorKind::HostUnreachable.into());
    }
    let socket = TcpSocket::new_v4()?;
    socket.bind((ours, 0).into())?;
    socket.connect(to).await
}

async fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    match stream.read_line(&mut line).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(line),
    }
}

/// Answers a client's requests over one connection, as proxies do, until it is let through.
async fn http(mut peer: Peer, ours: IpAddr, open: bool) -> io::Result<()> {
    loop {
        let request = line(&mut peer.stream).await?;
        let mut length = 0;
        loop {
            let field = line(&mut peer.stream).await?.to_ascii_lowercase();
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or_default();
            }
            if field.len() <= 2 {
                break;
            }
        }
        peer.stream.read_exact(&mut vec![0; length]).await?;
        let mut words = request.split(' ');
        let (method, uri) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let authority = uri.strip_prefix("http://").unwrap_or(uri);
        let (host, path) = authority.split_once('/').unwrap_or((authority, ""));
        let host = match host.contains(':') {
            true => host.to_owned(),
            false => format!("{host}:80"),
        };
        let to: Option<SocketAddr> = host.parse().ok().filter(|_| open);
        let Some(to) = to else {
            peer.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                .await?;
            continue;
        };
        let Ok(mut far) = forward(ours, to).await else {
            peer.say(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                .await?;
            continue;
        };
        match method {
            "CONNECT" => {
                peer.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    .await?
            }
            _ => {
                let request = format!(
                    "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
                );
                far.write_all(request.as_bytes()).await?;
            }
        }
        return copy_bidirectional(&mut peer.stream, &mut far)
            .await
            .map(drop);
    }
}

async fn socks(mut peer: Peer, ours: IpAddr, open: bool) -> io::Result<()> {
    let mut head = [0; 2];
    peer.stream.read_exact(&mut head).await?;
    if head[0] != 5 {
        return Ok(());
    }
    peer.stream.read_exact(&mut vec![0; head[1].into()]).await?;
    if !open {
        return peer.say(&[5, 0xff]).await;
    }
    peer.say(&[5, 0]).await?;
    let mut request = [0; 10];
    peer.stream.read_exact(&mut request).await?;
    let [5, 1, 0, 1, a, b, c, d, high, low] = request else {
        return peer.say(&[5, 8, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    };
    let to = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
    let Ok(mut far) = forward(ours, to).await else {
        return peer.say(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    };
    peer.say(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    copy_bidirectional(&mut peer.stream, &mut far)
        .await
        .map(drop)
}

async fn relay(mut peer: Peer, ours: IpAddr, open: bool) -> io::Result<()> {
    peer.say(b"220 mail.test ESMTP\r\n").await?;
    let (mut sender, mut recipients) = (String::new(), Vec::new());
    loop {
        let command = line(&mut peer.stream).await?;
        let verb = command.get(..4).unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            "RCPT" if !open => "554 5.7.1 Relay access denied\r\n",
            "RCPT" => {
                recipients.push(command);
                "250 Ok\r\n"
            }
            "MAIL" => {
                (sender, recipients) = (command, Vec::new());
                "250 Ok\r\n"
            }
            "DATA" if recipients.is_empty() => "503 5.5.1 No recipient\r\n",
            "DATA" => {
                peer.say(b"354 Go on\r\n").await?;
                let mut message = String::new();
                while !message.ends_with("\r\n.\r\n") {
                    message.push_str(&line(&mut peer.stream).await?);
                }
                let envelope = (std::mem::take(&mut sender), std::mem::take(&mut recipients));
                tokio::spawn(deliver(ours, envelope, message));
                "250 2.0.0 Queued\r\n"
            }
            "QUIT" => return peer.say(b"221 2.0.0 Bye\r\n").await,
            "STAR" | "AUTH" => "502 5.5.1 Not implemented\r\n",
            _ => "250 Ok\r\n",
        };
        peer.say(answer.as_bytes()).await?;
    }
}

/// Delivers a message to the near end, which is in charge of every domain.
async fn deliver(
    ours: IpAddr,
    (sender, recipients): (String, Vec<String>),
    message: String,
) -> io::Result<()> {
    let mut stream = BufReader::new(forward(ours, (NEAR, 25).into()).await?);
    line(&mut stream).await?;
    let greeting = "EHLO mail.test\r\n".to_owned();
    for command in [greeting, sender].into_iter().chain(recipients) {
        stream.write_all(command.as_bytes()).await?;
        while line(&mut stream).await?.as_bytes().get(3) == Some(&b'-') {}
    }
    for text in ["DATA\r\n", &message, "QUIT\r\n"] {
        stream.write_all(text.as_bytes()).await?;
        line(&mut stream).await?;
    }
    Ok(())
}
