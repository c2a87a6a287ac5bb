//! The bytes of a tunnel inside HTTP/2, as a stream.
//!
//! No window is ever enlarged: what a peer may send is bounded by the initial ones (RFC 9113 section 6.9.2), and we send less.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::codec::{self, Frame};
use crate::BoxStream;

/// Bytes that wait to be sent, beyond which no more are taken.
const MAX_WAITING: usize = 4 * codec::MAX_PAYLOAD;

/// Bytes that are read at a time.
const CHUNK: usize = 4096;

/// A tunnel that is open.
pub(super) struct Tunnel {
    inner: BoxStream,
    /// Frames that have not been read.
    received: BytesMut,
    /// What came through the tunnel.
    data: BytesMut,
    /// Frames that are not sent.
    waiting: BytesMut,
    ended: bool,
}

impl Tunnel {
    /// A tunnel over a connection on which these bytes were received already.
    pub(super) fn new(inner: BoxStream, received: BytesMut) -> Self {
        Self {
            inner,
            received,
            data: BytesMut::new(),
            waiting: BytesMut::new(),
            ended: false,
        }
    }

    /// Reads all frames that are there.
    fn take_frames(&mut self) -> io::Result<()> {
        let unreadable = |error| io::Error::other(error);
        while let Some((frame, length)) = Frame::parse(&self.received).map_err(unreadable)? {
            self.received.advance(length);
            match frame {
                Frame::Data { payload, ends } => {
                    self.data.extend_from_slice(&payload);
                    self.ended |= ends;
                }
                Frame::Reset(_) => self.ended = true,
                Frame::Settings => self.waiting.extend_from_slice(&codec::SETTINGS_ACK),
                Frame::Ping(payload) => self.waiting.extend_from_slice(&codec::pong(payload)),
                Frame::Headers { .. } | Frame::GoAway(_) | Frame::Other => {}
            }
            if self.waiting.len() > MAX_WAITING {
                return Err(io::Error::other("it asks more than it listens"));
            }
        }
        Ok(())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.waiting))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            self.take_frames()?;
            // Acknowledgements go out as far as they can; whoever does not read them is not waited for.
            if let Poll::Ready(sent) = self.poll_send(cx) {
                sent?;
            }
            if !self.data.is_empty() {
                let length = self.data.len().min(buf.remaining());
                buf.put_slice(&self.data.split_to(length));
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            let mut chunk = [0; CHUNK];
            let mut part = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
            self.ended = part.filled().is_empty();
            self.received.extend_from_slice(part.filled());
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.waiting.len() > MAX_WAITING {
            ready!(self.poll_send(cx))?;
        }
        let length = bytes.len().min(codec::MAX_PAYLOAD);
        self.waiting
            .extend_from_slice(&codec::data(&bytes[..length]));
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_pass_both_ways_and_pings_are_answered() {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let early = [codec::data(b"22"), b"\0\0\x04\0".to_vec()].concat();
        let mut tunnel = Tunnel::new(Box::new(near), BytesMut::from(&early[..]));
        // The rest of the second frame, a ping, and a third frame that ends it.
        far.write_all(b"\0\0\0\0\x010 ok").await.unwrap();
        far.write_all(b"\0\0\x08\x06\0\0\0\0\0abcdefgh")
            .await
            .unwrap();
        far.write_all(b"\0\0\x02\0\x01\0\0\0\x01\r\n")
            .await
            .unwrap();
        let mut heard = String::new();
        tunnel.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "220 ok\r\n");
        tunnel.write_all(b"QUIT").await.unwrap();
        tunnel.shutdown().await.unwrap();
        let mut said = Vec::new();
        far.read_to_end(&mut said).await.unwrap();
        let expect = [codec::pong(*b"abcdefgh"), codec::data(b"QUIT")].concat();
        assert_eq!(said, expect);
    }

    #[tokio::test]
    async fn a_peer_that_only_asks_is_given_up() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut tunnel = Tunnel::new(Box::new(near), BytesMut::new());
        let asking = async {
            let ping = b"\0\0\x08\x06\0\0\0\0\0abcdefgh".repeat(1 << 14);
            let _ = far.write_all(&ping).await;
            far
        };
        let mut heard = Vec::new();
        let (read, _far) = futures::future::join(tunnel.read_to_end(&mut heard), async {
            tokio::time::timeout(std::time::Duration::from_secs(1), asking).await
        })
        .await;
        assert!(read.is_err());
    }
}
