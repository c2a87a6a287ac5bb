//! The record of what was said: bounded, and shared by all connections to one endpoint.

use std::{
    fmt::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ajar_model::{
    Untrusted,
    evidence::{Direction, Entry},
};
use tokio::time::Instant;

/// Bytes of one entry that are kept.
const MAX_ENTRY: usize = 512;

/// Entries that are kept at most, however short they are.
const MAX_ENTRIES: usize = 1000;

/// A transcript under way. Clones write to the same one.
#[derive(Debug, Clone)]
pub(crate) struct Transcript(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    limit: usize,
    left: usize,
    entries: Vec<Entry>,
    saw_proxy: bool,
    /// It answered by a gateway's error.
    saw_gateway: bool,
    /// The longest time that it asked us to stay away.
    wait: Option<Duration>,
    /// The longest time that it took for an answer.
    slowest: Duration,
    /// How many entries are the common beginning of all rows, and what they left of the limit.
    opening: (usize, usize),
}

impl Transcript {
    /// An empty one that keeps `limit` bytes of text.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            began: Instant::now(),
            limit,
            left: limit,
            entries: Vec::new(),
            opening: (0, limit),
            saw_proxy: false,
            saw_gateway: false,
            wait: None,
            slowest: Duration::ZERO,
        })))
    }

    /// Notes bytes that were sent or received.
    pub(crate) fn note(&self, direction: Direction, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.inner().push(direction, legible(bytes, MAX_ENTRY));
        }
    }

    /// Notes an event in our own words.
    pub(crate) fn event(&self, what: &str) {
        self.inner().push(Direction::Event, what.to_owned().into());
    }

    /// Notes that the endpoint showed itself to be a proxy.
    pub(crate) fn note_proxy(&self) {
        self.inner().saw_proxy = true;
    }

    /// True if it ever did.
    pub(crate) fn saw_proxy(&self) -> bool {
        self.inner().saw_proxy
    }

    /// Notes that the endpoint answered by a gateway's error.
    pub(crate) fn note_gateway(&self) {
        self.inner().saw_gateway = true;
    }

    /// Returns whether it ever did.
    pub(crate) fn saw_gateway(&self) -> bool {
        self.inner().saw_gateway
    }

    /// Forgets that it asked us to come back.
    pub(crate) fn forget_wait(&self) {
        self.inner().wait = None;
    }

    /// Notes that the endpoint asked us to come back after this time.
    pub(crate) fn note_wait(&self, wait: Duration) {
        let mut inner = self.inner();
        inner.wait = inner.wait.max(Some(wait));
    }

    /// The longest time that it named.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.inner().wait
    }

    /// Notes that an answer took so long.
    pub(crate) fn note_answer(&self, took: Duration) {
        let mut inner = self.inner();
        inner.slowest = inner.slowest.max(took);
    }

    /// The longest time that an answer took.
    pub(crate) fn slowest_answer(&self) -> Duration {
        self.inner().slowest
    }

    /// Declares what was said so far the common beginning of every row.
    pub(crate) fn end_opening(&self) {
        let mut inner = self.inner();
        inner.opening = (inner.entries.len(), inner.left);
    }

    /// The entries of one row. The next row begins with the common beginning again.
    pub(crate) fn take_row(&self) -> Vec<Entry> {
        let mut inner = self.inner();
        let (entries, left) = inner.opening;
        let row = inner.entries.clone();
        inner.entries.truncate(entries);
        inner.left = left;
        row
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, direction: Direction, text: Untrusted) {
        if self.left == 0 {
            return;
        }
        let fits = text.raw().len() <= self.left && self.entries.len() < MAX_ENTRIES;
        let (direction, text) = if fits {
            self.left -= text.raw().len();
            (direction, text)
        } else {
            self.left = 0;
            let full = format!("the transcript is full at {} bytes", self.limit);
            (Direction::Event, full.into())
        };
        let at_ms = self
            .began
            .elapsed()
            .as_millis()
            .try_into()
            .unwrap_or(u32::MAX);
        self.entries.push(Entry {
            at_ms,
            direction,
            text,
        });
    }
}

/// Bytes as text of at most `limit` bytes: those of a binary protocol in hex, all others as they are, but for
/// NUL, which databases refuse in text.
pub(crate) fn legible(bytes: &[u8], limit: usize) -> Untrusted {
    let binary = bytes.first().is_some_and(|&byte| byte < b'\t');
    if binary {
        let mut hex = String::new();
        for byte in bytes.iter().take(limit / 3) {
            let space = if hex.is_empty() { "" } else { " " };
            let _ = write!(hex, "{space}{byte:02x}");
        }
        return hex.into();
    }
    let text = Untrusted::from_bytes(bytes, limit);
    let mut text = text.raw().replace('\0', "\u{fffd}");
    while text.len() > limit {
        text.pop();
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text_and_binary_becomes_hex() {
        let check = |bytes: &[u8], expect: &str| assert_eq!(legible(bytes, 30).raw(), expect);
        check(b"250 ok\r\n", "250 ok\r\n");
        check(b"\x05\x01\x00", "05 01 00");
        check(b"a\0b\xff", "a\u{fffd}b\u{fffd}");
        check(&[b'a'; 100], &"a".repeat(30));
        check(&[0; 100], "00 00 00 00 00 00 00 00 00 00");
        assert!(legible(&[0xff; 100], 30).raw().len() <= 30);
    }

    #[tokio::test]
    async fn a_full_transcript_says_so_once() {
        let transcript = Transcript::new(20);
        for _ in 0..3 {
            transcript.note(Direction::Received, b"0123456789ab");
        }
        let row = transcript.take_row();
        assert_eq!(row.len(), 2);
        assert_eq!(row[1].direction, Direction::Event);
        assert_eq!(row[1].text.raw(), "the transcript is full at 20 bytes");
    }

    #[tokio::test]
    async fn every_row_begins_with_the_common_opening() {
        let transcript = Transcript::new(100);
        transcript.event("opening");
        transcript.end_opening();
        for row in ["first", "second"] {
            transcript.event(row);
            let texts: Vec<_> = transcript
                .take_row()
                .into_iter()
                .map(|e| e.text.raw().to_owned())
                .collect();
            assert_eq!(texts, ["opening", row]);
        }
    }
}
