//! Mail servers: relays that deliver, and those that do not.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ajar_model::Canary;
use futures::future::{BoxFuture, FutureExt};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

const LINE: u64 = 2048;
const LINES: usize = 2000;

/// What a server says to a recipient.
type Policy = fn(&str, &Canary) -> Answer;

enum Answer {
    /// Refuses, or defers.
    No(&'static str),
    /// Accepts, and forgets.
    Swallow,
    /// Accepts, and delivers to this address at the canary.
    Deliver(String),
}

pub(super) fn open(stream: TcpStream, canary: Arc<Canary>) -> BoxFuture<'static, io::Result<()>> {
    serve(stream, canary, |path, canary| match is_at(path, canary) {
        true => Answer::Deliver(path.to_owned()),
        false => Answer::No("554 5.7.1 not a domain of this lab"),
    })
}

pub(super) fn percent_hack(
    stream: TcpStream,
    canary: Arc<Canary>,
) -> BoxFuture<'static, io::Result<()>> {
    serve(stream, canary, |path, canary| {
        let rewritten = path
            .rsplit_once("@[127.")
            .and_then(|(local, _)| local.rsplit_once('%'))
            .map(|(user, domain)| format!("{user}@{domain}"));
        match rewritten.filter(|path| is_at(path, canary) && !path.contains('"')) {
            Some(path) => Answer::Deliver(path),
            None => Answer::No("554 5.7.1 relay access denied"),
        }
    })
}

pub(super) fn closed(stream: TcpStream, canary: Arc<Canary>) -> BoxFuture<'static, io::Result<()>> {
    serve(stream, canary, |_, _| {
        Answer::No("554 5.7.1 relay access denied")
    })
}

pub(super) fn submission(
    stream: TcpStream,
    canary: Arc<Canary>,
) -> BoxFuture<'static, io::Result<()>> {
    serve(stream, canary, |_, _| {
        Answer::No("530 5.7.0 authentication required")
    })
}

pub(super) fn greylister(
    stream: TcpStream,
    canary: Arc<Canary>,
) -> BoxFuture<'static, io::Result<()>> {
    /// When each recipient was first seen.
    static SEEN: LazyLock<Mutex<HashMap<String, Instant>>> = LazyLock::new(Mutex::default);
    const DELAY: Duration = Duration::from_secs(2);
    serve(stream, canary, |path, canary| {
        if !is_at(path, canary) {
            return Answer::No("554 5.7.1 not a domain of this lab");
        }
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        let first = *seen.entry(path.to_owned()).or_insert_with(Instant::now);
        match first.elapsed() < DELAY {
            true => Answer::No("450 4.2.0 greylisted, come back in 2 seconds"),
            false => Answer::Deliver(path.to_owned()),
        }
    })
}

pub(super) fn catch_all(
    stream: TcpStream,
    canary: Arc<Canary>,
) -> BoxFuture<'static, io::Result<()>> {
    serve(stream, canary, |_, _| Answer::Swallow)
}

fn is_at(path: &str, canary: &Canary) -> bool {
    path.rsplit_once('@').is_some_and(|(_, host)| {
        let mut domains = canary.domains();
        domains.any(|domain| host.eq_ignore_ascii_case(domain))
    })
}

fn serve(
    stream: TcpStream,
    canary: Arc<Canary>,
    policy: Policy,
) -> BoxFuture<'static, io::Result<()>> {
    async move {
        let mut peer = Peer(BufReader::new(stream));
        peer.say("220 mx.lab.test ESMTP").await?;
        let mut from = None;
        let mut to: Vec<String> = Vec::new();
        for _ in 0..LINES {
            let Some(line) = peer.line().await? else {
                return Ok(());
            };
            let upper = line.to_ascii_uppercase();
            match upper.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" => peer.say("250-mx.lab.test\r\n250 8BITMIME").await?,
                "HELO" | "NOOP" => peer.say("250 mx.lab.test").await?,
                "MAIL" => {
                    from = Some(path(&line).to_owned());
                    peer.say("250 2.1.0 ok").await?;
                }
                "RCPT" if from.is_none() => peer.say("503 5.5.1 sender first").await?,
                "RCPT" => match policy(path(&line), &canary) {
                    Answer::No(reply) => peer.say(reply).await?,
                    Answer::Swallow => {
                        to.push(String::new());
                        peer.say("250 2.1.5 ok").await?;
                    }
                    Answer::Deliver(path) => {
                        to.push(path);
                        peer.say("250 2.1.5 ok").await?;
                    }
                },
                "DATA" if to.is_empty() => peer.say("503 5.5.1 recipients first").await?,
                "DATA" => {
                    peer.say("354 go on").await?;
                    let message = peer.message().await?;
                    for path in to.drain(..).filter(|path| !path.is_empty()) {
                        let sender = from.clone().unwrap_or_default();
                        tokio::spawn(deliver(Arc::clone(&canary), sender, path, message.clone()));
                    }
                    from = None;
                    peer.say("250 2.0.0 queued").await?;
                }
                "RSET" => {
                    from = None;
                    to.clear();
                    peer.say("250 2.0.0 ok").await?;
                }
                "QUIT" => return peer.say("221 2.0.0 bye").await,
                _ => peer.say("502 5.5.1 not here").await?,
            }
        }
        Ok(())
    }
    .boxed()
}

/// The lab is its own MX: the canary's domain is at the canary.
async fn deliver(
    canary: Arc<Canary>,
    from: String,
    to: String,
    message: Vec<u8>,
) -> io::Result<()> {
    let stream = super::connect(canary.at(canary.smtp)).await?;
    let mut peer = Peer(BufReader::new(stream));
    peer.line().await?;
    let envelope = [
        "EHLO mx.lab.test".to_owned(),
        format!("MAIL FROM:<{from}>"),
        format!("RCPT TO:<{to}>"),
        "DATA".to_owned(),
    ];
    for command in envelope {
        peer.say(&command).await?;
        while peer
            .line()
            .await?
            .is_some_and(|line| line.as_bytes().get(3) == Some(&b'-'))
        {}
    }
    peer.0
        .write_all(b"Received: by mx.lab.test with ESMTP\r\n")
        .await?;
    peer.0.write_all(&message).await?;
    peer.line().await?;
    peer.say("QUIT").await
}

/// What stands between the angle brackets.
fn path(line: &str) -> &str {
    let after = line.split_once(':').map_or("", |(_, path)| path.trim());
    match (after.find('<'), after.rfind('>')) {
        (Some(start), Some(end)) if start < end => &after[start + 1..end],
        _ => after.split(' ').next().unwrap_or_default(),
    }
}

struct Peer(BufReader<TcpStream>);

impl Peer {
    async fn say(&mut self, line: &str) -> io::Result<()> {
        self.0.write_all(format!("{line}\r\n").as_bytes()).await
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        (&mut self.0)
            .take(LINE)
            .read_until(b'\n', &mut line)
            .await?;
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        Ok((!line.is_empty()).then_some(text))
    }

    /// A message with its final dot.
    async fn message(&mut self) -> io::Result<Vec<u8>> {
        let mut message = Vec::new();
        for _ in 0..LINES {
            let start = message.len();
            (&mut self.0)
                .take(LINE)
                .read_until(b'\n', &mut message)
                .await?;
            if message.len() == start {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if &message[start..] == b".\r\n" {
                return Ok(message);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}
