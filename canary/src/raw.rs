//! The raw greeting: for tunnels to a port that belongs to no protocol.

use std::{io, sync::Arc};

use ajar_model::Nonce;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{Arrival, Shared};

const LINE: u64 = 256;

/// Greets, reads one line, and answers it if it is a nonce.
pub(crate) async fn serve(
    mut stream: TcpStream,
    arrival: Arrival,
    shared: Arc<Shared>,
) -> io::Result<()> {
    stream
        .write_all(format!("ajar-canary {}\r\n", shared.canary.domain).as_bytes())
        .await?;
    let mut line = String::new();
    BufReader::new(&mut stream)
        .take(LINE)
        .read_line(&mut line)
        .await?;
    if let Ok(nonce) = line.trim().parse::<Nonce>() {
        let answer = shared.answer(nonce, arrival);
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    stream.shutdown().await
}
