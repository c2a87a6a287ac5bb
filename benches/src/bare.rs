//! The bare loop: the fewest words that tell an open endpoint from a closed one, without scope, pace, receipt or store.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};

use crate::peers::{Kind, Peers};

/// Endpoints that are asked at the same time.
const AT_ONCE: usize = 256;

/// Asks every endpoint of a kind once; seconds.
pub async fn round(peers: &Peers, kind: Kind) -> anyhow::Result<f64> {
    let started = Instant::now();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for endpoint in peers.endpoints(kind) {
        let place = Arc::clone(&places).acquire_owned().await?;
        let echo = peers.echo;
        asked.spawn(async move {
            let answered = match kind {
                Kind::OpenProxy => tunnel(endpoint, echo).await,
                Kind::ClosedRelay => envelope(endpoint).await,
            };
            drop(place);
            answered
        });
    }
    while let Some(answered) = asked.join_next().await {
        anyhow::ensure!(answered??, "a peer did not answer as it should");
    }
    Ok(started.elapsed().as_secs_f64())
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is what the benchmark compares with"
)]
async fn connect(endpoint: SocketAddr) -> std::io::Result<BufReader<TcpStream>> {
    Ok(BufReader::new(TcpStream::connect(endpoint).await?))
}

async fn line(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    Ok(line)
}

async fn tunnel(endpoint: SocketAddr, far: SocketAddr) -> std::io::Result<bool> {
    let mut stream = connect(endpoint).await?;
    let request = format!("CONNECT {far} HTTP/1.1\r\nHost: {far}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    while line(&mut stream).await?.len() > 2 {}
    stream
        .write_all(b"00112233445566778899aabbccddeeff\r\n")
        .await?;
    Ok(line(&mut stream).await?.starts_with("0011"))
}

async fn envelope(endpoint: SocketAddr) -> std::io::Result<bool> {
    let mut stream = connect(endpoint).await?;
    line(&mut stream).await?;
    for command in ["EHLO a.test", "MAIL FROM:<>"] {
        stream
            .write_all(format!("{command}\r\n").as_bytes())
            .await?;
        line(&mut stream).await?;
    }
    stream.write_all(b"RCPT TO:<a@b.test>\r\n").await?;
    let refused = line(&mut stream).await?.starts_with('5');
    stream.write_all(b"QUIT\r\n").await?;
    line(&mut stream).await?;
    Ok(refused)
}
