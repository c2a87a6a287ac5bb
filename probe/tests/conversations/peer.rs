//! The scripted end of a connection, and the dial that opens such connections.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use ajar_probe::{BoxStream, Dial, Stream};
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

/// A peer's end of one connection.
pub struct Conn {
    stream: Box<dyn Stream>,
    /// Which connection it is; the sweep's is 0.
    pub nth: usize,
    /// Whom the handshake asked for.
    pub server_name: Option<String>,
    /// Whether the client showed a certificate in the handshake.
    pub showed_certificate: bool,
    /// Whether the handshake agreed on what is spoken inside.
    pub agreed: bool,
}

impl Conn {
    /// The raw stream, for TLS.
    pub fn into_stream(self) -> Box<dyn Stream> {
        self.stream
    }

    /// The same peer over another stream.
    pub fn over(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            nth: 0,
            server_name: None,
            showed_certificate: false,
            agreed: false,
        }
    }

    /// Sends; that the other end is gone does not matter to a script.
    pub async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    /// Sends one byte at a time, so that each may be read alone.
    pub async fn drip(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.say([*byte]).await;
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// The next line without its end; none if the connection has ended.
    pub async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            match self.stream.read_u8().await.ok()? {
                b'\n' => return Some(String::from_utf8_lossy(&line).trim_end().to_owned()),
                byte => line.push(byte),
            }
        }
    }

    /// A request head: its first line; the rest is skipped.
    pub async fn head(&mut self) -> Option<String> {
        let first = self.line().await?;
        while !self.line().await?.is_empty() {}
        Some(first)
    }

    /// A request head: its first line and its Host field; the rest is skipped.
    pub async fn request(&mut self) -> Option<(String, String)> {
        let (first, mut host) = (self.line().await?, String::new());
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some((first, host));
            }
            if let Some(named) = line.strip_prefix("Host: ") {
                host = named.to_owned();
            }
        }
    }

    /// Exactly that many bytes.
    pub async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).await.ok()?;
        Some(bytes)
    }

    /// Waits until the other end closes, and says nothing.
    pub async fn idle(mut self) {
        let _ = self.stream.read_to_end(&mut Vec::new()).await;
    }

    pub async fn echo(self) {
        let (mut read, mut write) = tokio::io::split(self.stream);
        let _ = tokio::io::copy(&mut read, &mut write).await;
    }
}

type Script = dyn Fn(Conn) -> BoxFuture<'static, ()> + Send + Sync;

/// Opens connections to a script, and records both directions of each.
pub struct Peers {
    script: Arc<Script>,
    records: Mutex<Vec<Record>>,
    /// Connections that may be opened, the sweep's included.
    limit: usize,
}

/// What went over one connection.
#[derive(Clone, Default)]
pub struct Record {
    /// What the probe sent.
    pub sent: Arc<Mutex<Vec<u8>>>,
    /// How many bytes the probe took.
    pub taken: Arc<Mutex<usize>>,
}

impl Peers {
    pub fn new<F>(script: impl Fn(Conn) -> F + Send + Sync + 'static, limit: usize) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let script: Arc<Script> = Arc::new(move |conn| Box::pin(script(conn)));
        Self {
            script,
            records: Mutex::default(),
            limit,
        }
    }

    pub fn open(&self) -> io::Result<BoxStream> {
        let mut records = self.records.lock().unwrap();
        let nth = records.len();
        if nth == self.limit {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let record = Record::default();
        records.push(record.clone());
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::spawn((self.script)(Conn {
            stream: Box::new(theirs),
            nth,
            server_name: None,
            showed_certificate: false,
            agreed: false,
        }));
        Ok(Box::new(Recorded {
            inner: ours,
            record,
        }))
    }

    pub fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap().clone()
    }
}

impl Dial for Peers {
    fn dial(&self) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async { self.open() })
    }
}

struct Recorded {
    inner: DuplexStream,
    record: Record,
}

impl AsyncRead for Recorded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        *self.record.taken.lock().unwrap() += buf.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.record
            .sent
            .lock()
            .unwrap()
            .extend_from_slice(&bytes[..sent]);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
