//! A peer that says what is on a tape, whatever it hears.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use ajar_probe::{BoxStream, Dial};
use futures::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Ends a connection; the next one goes on behind it.
const CLOSE: u8 = 0xfe;

/// Says nothing for five seconds.
const WAIT: u8 = 0xfd;

/// Ends a piece that is read alone.
const CUT: u8 = 0xfc;

enum Cue {
    Say(Vec<u8>),
    Wait,
    Close,
}

/// Connections that share one tape.
pub struct Tapes {
    cues: Arc<Mutex<VecDeque<Cue>>>,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Tapes {
    /// A tape of bytes, three values of which are cues.
    pub fn new(script: &[u8]) -> Self {
        let mut cues = VecDeque::new();
        for piece in script.split_inclusive(|byte| (CUT..=CLOSE).contains(byte)) {
            let (words, cue) = match piece {
                [words @ .., CLOSE] => (words, Some(Cue::Close)),
                [words @ .., WAIT] => (words, Some(Cue::Wait)),
                [words @ .., CUT] => (words, None),
                words => (words, None),
            };
            if !words.is_empty() {
                cues.push_back(Cue::Say(words.to_vec()));
            }
            cues.extend(cue);
        }
        Self {
            cues: Arc::new(Mutex::new(cues)),
            said: Arc::default(),
        }
    }

    pub fn open(&self) -> BoxStream {
        Box::new(Tape {
            cues: Arc::clone(&self.cues),
            said: Arc::clone(&self.said),
            waiting: None,
            closed: false,
        })
    }

    /// Everything that was said to the peer.
    pub fn said(&self) -> Vec<u8> {
        self.said.lock().expect("no holder panics").clone()
    }
}

impl Dial for Tapes {
    fn dial(&self) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async { Ok(self.open()) })
    }
}

struct Tape {
    cues: Arc<Mutex<VecDeque<Cue>>>,
    said: Arc<Mutex<Vec<u8>>>,
    waiting: Option<Pin<Box<Sleep>>>,
    closed: bool,
}

impl AsyncRead for Tape {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            let cue = self.cues.lock().expect("no holder panics").pop_front();
            match cue {
                Some(Cue::Say(mut words)) => {
                    let rest = words.split_off(words.len().min(buf.remaining()));
                    buf.put_slice(&words);
                    if !rest.is_empty() {
                        self.cues
                            .lock()
                            .expect("no holder panics")
                            .push_front(Cue::Say(rest));
                    }
                    return Poll::Ready(Ok(()));
                }
                Some(Cue::Wait) => self.waiting = Some(Box::pin(sleep(Duration::from_secs(5)))),
                Some(Cue::Close) => self.closed = true,
                // The tape is over: the peer stays connected and silent.
                None => self.waiting = Some(Box::pin(sleep(Duration::from_secs(3600)))),
            }
        }
    }
}

impl AsyncWrite for Tape {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.said
            .lock()
            .expect("no holder panics")
            .extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
