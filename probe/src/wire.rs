//! One bounded connection to a target.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use ajar_model::{
    evidence::{Broken, Direction},
    proof::{Answer, MAX_ANSWER},
};
use bytes::{Buf, BufMut, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, timeout_at},
};

use crate::{
    BoxStream, Limits,
    codec::{Parsed, Unreadable},
    deadline::Deadline,
    old_tls, tls,
    transcript::Transcript,
};

/// Bytes that are asked for at a time: every conversation that waits holds as many.
const CHUNK: usize = 512;

/// Bytes of the peer's first words that are kept.
const MAX_OPENING: usize = 1024;

/// Bytes up to which a frame is looked for whenever some have come. Beyond them it is looked for
/// once an eighth more has come, or nothing more for this time: a peer that sends a byte at a time
/// would have us read the same bytes again and again.
const SMALL: usize = 4096;
const PARSE_AT_LATEST: Duration = Duration::from_millis(50);

fn is_worth_parsing(length: usize, parsed: usize) -> bool {
    length <= SMALL || length - parsed >= parsed / 8
}

/// A connection to the target. Whatever the peer does, each call ends: by the examination's deadline, by the wait it
/// was given, or because the connection has taken all the bytes that it may.
pub struct Wire {
    stream: BoxStream,
    buffer: BytesMut,
    deadline: Deadline,
    limits: Limits,
    transcript: Transcript,
    tls: bool,
    asks_who: bool,
    /// The host names in the peer's certificate.
    certified_as: Vec<String>,
    opening: Vec<u8>,
    greeting: Option<Vec<u8>>,
    /// It has carried a request and its whole answer.
    has_served: bool,
    /// It has carried nothing since.
    is_free: bool,
    /// When something was sent last, unless it was answered since.
    asked_at: Option<Instant>,
}

impl Wire {
    pub(crate) fn new(
        stream: BoxStream,
        deadline: Deadline,
        limits: Limits,
        transcript: Transcript,
    ) -> Self {
        let stream = Capped {
            inner: stream,
            left: limits.bytes,
        };
        Self {
            stream: Box::new(stream),
            buffer: BytesMut::new(),
            deadline,
            limits,
            transcript,
            tls: false,
            asks_who: false,
            certified_as: Vec::new(),
            opening: Vec::new(),
            greeting: None,
            has_served: false,
            is_free: false,
            asked_at: None,
        }
    }

    /// Notes that the endpoint showed itself to be a proxy.
    pub(crate) fn note_proxy(&self) {
        self.transcript.note_proxy();
    }

    /// Notes that the endpoint answered by a gateway's error.
    pub(crate) fn note_gateway(&self) {
        self.transcript.note_gateway();
    }

    /// Notes that the endpoint asked us to come back after this time.
    pub(crate) fn note_wait(&self, wait: Duration) {
        self.transcript.note_wait(wait);
    }

    /// What a peer may cost us.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// True inside TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// True if a TLS handshake asked for a certificate of ours.
    pub(crate) fn asks_who(&self) -> bool {
        self.asks_who
    }

    /// The host names in the peer's certificate, if there was a TLS handshake.
    pub(crate) fn certified_as(&self) -> &[String] {
        &self.certified_as
    }

    /// The peer's first words, bounded.
    pub fn opening(&self) -> &[u8] {
        &self.opening
    }

    /// The same connection with another patience for replies.
    pub(crate) fn patient(mut self, reply: Duration) -> Self {
        self.limits.reply = reply;
        self
    }

    /// Returns whether it has carried a request and its whole answer. The peer may have closed it
    /// since.
    pub(crate) fn has_served(&self) -> bool {
        self.has_served
    }

    /// Notes that a request was answered in full, and that the peer takes another one.
    pub(crate) fn note_free(&mut self) {
        self.has_served = true;
        self.is_free = self.buffer.is_empty();
    }

    /// Returns whether it can carry another request.
    pub(crate) fn is_free(&self) -> bool {
        self.is_free
    }

    /// Sets the patience for replies from now on.
    pub(crate) fn set_patience(&mut self, reply: Duration) {
        self.limits.reply = reply;
    }

    /// The same connection, on which this greeting was heard before its protocol was known.
    pub(crate) fn greeted(mut self, greeting: Vec<u8>) -> Self {
        self.greeting = Some(greeting);
        self
    }

    /// The greeting that was heard before the protocol was known, once.
    pub(crate) fn take_greeting(&mut self) -> Option<Vec<u8>> {
        self.greeting.take()
    }

    /// What was received and is not yet part of a frame.
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Sends all of it.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.transcript.note(Direction::Sent, bytes);
        self.is_free = false;
        let wait = self.limits.reply;
        let sending = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        let sent = within(self.deadline.at(), wait, sending).await;
        self.asked_at = Some(Instant::now());
        sent.inspect_err(|&how| self.transcript.event(describe(how)))
    }

    /// Takes one frame off the connection, waiting at most `wait` for the whole of it. What came after the
    /// frame stays, see [`Wire::unread`]; if no frame comes, so does everything.
    pub async fn frame<T>(
        &mut self,
        wait: Duration,
        parse: impl Fn(&[u8]) -> Parsed<T>,
    ) -> Result<T, Broken> {
        self.frame_or_quiet(wait, |bytes, _| parse(bytes)).await
    }

    /// The same for a frame that may have no end of its own: once the peer has said something, and no more for all of `wait`,
    /// the reader is asked once more and told so.
    pub async fn frame_or_quiet<T>(
        &mut self,
        wait: Duration,
        parse: impl Fn(&[u8], bool) -> Parsed<T>,
    ) -> Result<T, Broken> {
        let until = self.until(wait);
        let (mut quiet, mut parsed, mut is_due) = (None, 0, true);
        let frame = loop {
            if is_due {
                parsed = self.buffer.len();
                match (parse(&self.buffer, quiet.is_some()), quiet) {
                    (Ok(Some(frame)), _) => break Ok(frame),
                    (Ok(None), None) => {}
                    (Ok(None), Some(how)) => break Err(how),
                    (Err(Unreadable::Garbled), _) => break Err(Broken::Garbled),
                    (Err(Unreadable::TooLong), _) => break Err(Broken::Limit),
                }
            }
            let has_more = self.buffer.len() > parsed;
            let until = match has_more {
                true => until.min(Instant::now() + PARSE_AT_LATEST),
                false => until,
            };
            match self.fill(until).await {
                Ok(()) => is_due = is_worth_parsing(self.buffer.len(), parsed),
                Err(Broken::TimedOut) if has_more => is_due = true,
                Err(Broken::TimedOut) if !self.buffer.is_empty() => {
                    (quiet, is_due) = (Some(Broken::TimedOut), true);
                }
                Err(how) if has_more => (quiet, is_due) = (Some(how), true),
                Err(how) => break Err(how),
            }
        };
        let heard = frame
            .as_ref()
            .map_or(self.buffer.len(), |(_, length)| *length);
        if self.opening.is_empty() {
            self.opening
                .extend_from_slice(&self.buffer[..heard.min(MAX_OPENING)]);
        }
        match frame {
            Ok((frame, length)) => {
                if let Some(asked_at) = self.asked_at.take() {
                    let took = asked_at.elapsed();
                    self.transcript.note_answer(took);
                    self.deadline.note_answer(took);
                }
                self.transcript
                    .note(Direction::Received, &self.buffer[..length]);
                self.buffer.advance(length);
                Ok(frame)
            }
            Err(how) => {
                self.transcript.note(Direction::Received, &self.buffer);
                self.transcript.event(describe(how));
                Err(how)
            }
        }
    }

    /// Reads on until a canary's answer is among what is unread, or the peer closes, falls silent or goes on
    /// without end; all that was read is dropped.
    pub async fn answer(&mut self, wait: Duration) -> Option<Answer> {
        let until = self.until(wait);
        let mut searched = 0_usize;
        let answer = loop {
            let from = searched.saturating_sub(MAX_ANSWER);
            if let Some(answer) = Answer::find(&self.buffer[from..]) {
                break Some(answer);
            }
            searched = self.buffer.len();
            if let Err(how) = self.fill(until).await {
                self.transcript.event(describe(how));
                break None;
            }
        };
        self.transcript.note(Direction::Received, &self.buffer);
        self.buffer.clear();
        answer
    }

    /// Speaks TLS from here on. Unread bytes are dropped: a TLS server speaks second, so they are none of its
    /// (RFC 3207 section 4.2).
    pub(crate) async fn tls(mut self, peer: tls::Peer) -> Result<Self, Broken> {
        self.secure(peer).await?;
        Ok(self)
    }

    /// The same in place. After an error the connection is over.
    pub(crate) async fn secure(&mut self, peer: tls::Peer) -> Result<(), Broken> {
        let stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        // In a box of its own: every conversation that may come to speak TLS would carry its room about.
        let handshake = Box::pin(tls::handshake(stream, peer));
        let shaken = within(self.deadline.at(), self.limits.reply, handshake).await;
        let shaken = shaken.inspect_err(|_| self.transcript.event("tls handshake failed"))?;
        self.transcript.event("tls handshake done");
        self.stream = Box::new(shaken.stream);
        self.buffer.clear();
        self.tls = true;
        self.asks_who |= shaken.asks_who;
        self.certified_as = shaken.names;
        Ok(())
    }

    /// Speaks TLS from here on as old servers do: see [`old_tls`]. After an error the connection
    /// is over.
    pub(crate) async fn secure_by_old(&mut self, peer: &tls::Peer) -> Result<(), Broken> {
        let stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let handshake = Box::pin(old_tls::handshake(stream, peer.name()));
        let shaken = within(self.deadline.at(), self.limits.reply, handshake).await;
        let stream = shaken.inspect_err(|_| self.transcript.event("old tls handshake failed"))?;
        self.transcript.event("old tls handshake done");
        self.stream = Box::new(stream);
        self.buffer.clear();
        self.tls = true;
        Ok(())
    }

    /// Goes on inside another protocol: what is unread is handed to its stream.
    pub(crate) fn wrap(&mut self, wrap: impl FnOnce(BoxStream, BytesMut) -> BoxStream) {
        let stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        self.stream = wrap(stream, self.buffer.split());
    }

    fn until(&self, wait: Duration) -> Instant {
        self.deadline.at().min(Instant::now() + wait)
    }

    async fn fill(&mut self, until: Instant) -> Result<(), Broken> {
        self.buffer.reserve(CHUNK);
        let mut room = (&mut self.buffer).limit(CHUNK);
        let reading = self.stream.read_buf(&mut room);
        match timeout_at(until, reading).await {
            Err(_) => Err(Broken::TimedOut),
            Ok(Ok(0)) => Err(Broken::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(broken(&error)),
        }
    }
}

async fn within<T>(
    deadline: Instant,
    wait: Duration,
    future: impl Future<Output = io::Result<T>>,
) -> Result<T, Broken> {
    match timeout_at(deadline.min(Instant::now() + wait), future).await {
        Err(_) => Err(Broken::TimedOut),
        Ok(done) => done.map_err(|error| broken(&error)),
    }
}

fn broken(error: &io::Error) -> Broken {
    match error.kind() {
        io::ErrorKind::QuotaExceeded => Broken::Limit,
        io::ErrorKind::TimedOut => Broken::TimedOut,
        // Both come from rustls.
        io::ErrorKind::InvalidData if tls::is_of_a_tls_peer(error) => Broken::Tls,
        io::ErrorKind::InvalidData => Broken::Garbled,
        _ => Broken::Closed,
    }
}

fn describe(how: Broken) -> &'static str {
    match how {
        Broken::Connect => "no connection",
        Broken::Closed => "closed by the peer",
        Broken::TimedOut => "no more in time",
        Broken::Limit => "more than a conversation may take",
        Broken::Garbled => "not the protocol that was expected",
        Broken::Tls => "tls failed",
    }
}

/// Takes a bounded number of bytes from a stream. It sits below TLS, so that handshakes count too.
struct Capped {
    inner: BoxStream,
    left: usize,
}

impl AsyncRead for Capped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        let room = buf.remaining().min(self.left);
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        let taken = part.filled().len();
        buf.advance(taken);
        self.left -= taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Capped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_sends_a_byte_at_a_time_is_not_read_again_for_each() {
        let (mut parsed, mut read) = (0, 0);
        for length in 0..=256 * 1024 {
            if is_worth_parsing(length, parsed) {
                parsed = length;
                read += length;
            }
        }
        // A small buffer is parsed for every byte, a large one about nine times in all.
        assert!(read <= SMALL * SMALL / 2 + 10 * 256 * 1024, "{read}");
    }
}
