//! Services that waste time, or are something else.

use std::{io, sync::Arc, time::Duration};

use ajar_model::Canary;
use futures::future::{BoxFuture, FutureExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Nobody stays longer than this.
const PATIENCE: u32 = 600;

/// Greets for ever, a byte a second.
pub(super) fn tarpit(mut client: TcpStream, _: Arc<Canary>) -> BoxFuture<'static, io::Result<()>> {
    async move {
        for byte in b"220-"
            .iter()
            .chain(std::iter::repeat(&b'x'))
            .take(PATIENCE as usize)
        {
            client.write_all(&[*byte]).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }
    .boxed()
}

/// Says that it is SSH, and waits.
pub(super) fn ssh(mut client: TcpStream, _: Arc<Canary>) -> BoxFuture<'static, io::Result<()>> {
    async move {
        client.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await?;
        let mut ignored = [0; 256];
        let _ = tokio::time::timeout(Duration::from_secs(30), client.read(&mut ignored)).await;
        Ok(())
    }
    .boxed()
}
