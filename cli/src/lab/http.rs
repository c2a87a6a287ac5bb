//! HTTP proxies: those that forward, those that refuse, and those that lie.

use std::{io, sync::Arc};

use ajar_model::{Canary, Nonce, Timestamp, proof::Answer};
use ed25519_dalek::SigningKey;
use futures::future::{BoxFuture, FutureExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const HEAD: usize = 16 * 1024;

/// A request's first line: method, and what it is for.
struct Request {
    method: String,
    target: String,
    head: Vec<u8>,
}

pub(super) fn open(
    mut client: TcpStream,
    canary: Arc<Canary>,
) -> BoxFuture<'static, io::Result<()>> {
    async move {
        let Some(request) = read(&mut client).await? else { return Ok(()) };
        let is_tunnel = request.method == "CONNECT";
        let authority = match is_tunnel {
            true => request.target.as_str(),
            false => request.target.trim_start_matches("http://").split('/').next().unwrap_or_default(),
        };
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
        let upstream = super::reach(&canary, host, port.parse().unwrap_or_default()).await;
        let Some(mut upstream) = upstream else {
            return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
        };
        match is_tunnel {
            true => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
            false => {
                let path = request.target.splitn(4, '/').nth(3).unwrap_or_default();
                let forwarded = format!("GET /{path} HTTP/1.1\r\nHost: {authority}\r\nVia: 1.1 lab\r\nConnection: close\r\n\r\n");
                upstream.write_all(forwarded.as_bytes()).await?;
            }
        }
        super::tunnel(client, upstream).await
    }
    .boxed()
}

pub(super) fn closed(client: TcpStream, _: Arc<Canary>) -> BoxFuture<'static, io::Result<()>> {
    always(client, "403 Forbidden", "Via: 1.1 lab\r\n", "no\n")
}

pub(super) fn login(client: TcpStream, _: Arc<Canary>) -> BoxFuture<'static, io::Result<()>> {
    always(
        client,
        "407 Proxy Authentication Required",
        "Proxy-Authenticate: Basic realm=\"lab\"\r\n",
        "",
    )
}

pub(super) fn portal(client: TcpStream, _: Arc<Canary>) -> BoxFuture<'static, io::Result<()>> {
    always(
        client,
        "200 OK",
        "Content-Type: text/html\r\n",
        "<h1>Welcome! Please accept our terms.</h1>\n",
    )
}

/// Answers in the canary's place, with a key of its own.
pub(super) fn forged_answer(
    mut client: TcpStream,
    _: Arc<Canary>,
) -> BoxFuture<'static, io::Result<()>> {
    async move {
        let key = SigningKey::from_bytes(&[66; 32]);
        while let Some(request) = read(&mut client).await? {
            let head = String::from_utf8_lossy(&request.head).into_owned();
            let mut words = head.split(|c: char| !c.is_ascii_alphanumeric());
            let nonce = words.find_map(|word| word.parse::<Nonce>().ok());
            let body = nonce.map(|nonce| {
                let egress = [192, 0, 2, 1].into();
                format!(
                    "{}\n",
                    Answer::sign(&key, nonce, egress, 80, Timestamp::now())
                )
            });
            let reply = match body {
                Some(body) => format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
                None => "HTTP/1.1 200 Connection established\r\n\r\n".to_owned(),
            };
            client.write_all(reply.as_bytes()).await?;
        }
        Ok(())
    }
    .boxed()
}

fn always(
    mut client: TcpStream,
    status: &'static str,
    header: &'static str,
    body: &'static str,
) -> BoxFuture<'static, io::Result<()>> {
    async move {
        let reply = format!(
            "HTTP/1.1 {status}\r\n{header}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        while read(&mut client).await?.is_some() {
            client.write_all(reply.as_bytes()).await?;
        }
        Ok(())
    }
    .boxed()
}

/// One request; none at the end, or if it is no HTTP.
async fn read(client: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return Ok(None),
        }
        let is_http = head.len() < 8
            || head[..8]
                .iter()
                .all(|byte| byte.is_ascii_graphic() || *byte == b' ');
        if !is_http {
            return Ok(None);
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.split_ascii_whitespace().map(str::to_owned);
    Ok(words
        .next()
        .zip(words.next())
        .map(|(method, target)| Request {
            method,
            target,
            head,
        }))
}
