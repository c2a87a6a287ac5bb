//! Bodies of responses (RFC 9112 section 6), decoded to find the canary's answer in them. Pure.

use std::{borrow::Cow, io::Read};

use ajar_model::proof::Answer;
use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::codec::Head;
use crate::codec::Parsed;

/// Bytes of a body that are searched, compressed or not.
const MAX_BODY: usize = 64 * 1024;

/// The framing and the coding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    framing: Framing,
    coding: Coding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClosed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
}

/// The content of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The canary's answer, if the body has one. Not verified.
    pub answer: Option<Answer>,
    /// The body came to its end, so the connection may serve again.
    pub is_whole: bool,
}

impl Body {
    /// Returns the body after this head, which must answer neither HEAD nor CONNECT.
    pub fn after(head: &Head) -> Self {
        let says = |name: &str, word: &str| {
            let mut fields = head.fields(name);
            fields.any(|value| value.to_ascii_lowercase().contains(word))
        };
        let length = || head.fields("content-length").next()?.trim().parse().ok();
        let framing = match head.status {
            100..=199 | 204 | 304 => Framing::Length(0),
            _ if says("transfer-encoding", "chunked") => Framing::Chunked,
            _ => length().map_or(Framing::UntilClosed, Framing::Length),
        };
        let coding = match () {
            () if says("content-encoding", "gzip") => Coding::Gzip,
            () if says("content-encoding", "deflate") => Coding::Deflate,
            () => Coding::Identity,
        };
        Self { framing, coding }
    }

    /// Reads a body once it is complete, holds an answer, is too long, or has `ended` early.
    pub fn parse(&self, bytes: &[u8], ended: bool) -> Parsed<Content> {
        let (packed, whole) = match self.framing {
            Framing::Length(length) => {
                let here = bytes.len().min(length);
                (
                    Cow::Borrowed(&bytes[..here]),
                    (here == length).then_some(length),
                )
            }
            Framing::Chunked => {
                // Some servers announce chunks and send none.
                match join_chunks(bytes) {
                    Some((joined, whole)) => (Cow::Owned(joined), whole),
                    None => (Cow::Borrowed(bytes), None),
                }
            }
            Framing::UntilClosed => (Cow::Borrowed(bytes), None),
        };
        let answer = Answer::find(&self.unpack(&packed));
        let is_enough = answer.is_some() || ended || bytes.len() >= MAX_BODY;
        let is_whole = whole.is_some();
        let content = Content { answer, is_whole };
        Ok((is_whole || is_enough).then(|| (content, whole.unwrap_or(bytes.len()))))
    }

    /// Decompresses as much as there is.
    fn unpack<'b>(&self, packed: &'b [u8]) -> Cow<'b, [u8]> {
        let limit = MAX_BODY as u64;
        match self.coding {
            Coding::Identity => Cow::Borrowed(packed),
            Coding::Gzip => Cow::Owned(read(GzDecoder::new(packed).take(limit))),
            // RFC 9110 section 8.4.1.2 means the zlib format, and some servers send it without
            // its frame.
            Coding::Deflate => match read(ZlibDecoder::new(packed).take(limit)) {
                none if none.is_empty() => {
                    Cow::Owned(read(DeflateDecoder::new(packed).take(limit)))
                }
                some => Cow::Owned(some),
            },
        }
    }
}

/// Reads up to the end or an error.
fn read(mut from: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // An error leaves the bytes before it.
    let _ = from.read_to_end(&mut bytes);
    bytes
}

/// Joins the chunks so far (RFC 9112 section 7.1). The length is that of all chunks and trailers,
/// once the last has come. Returns `None` for bytes that are no chunks.
fn join_chunks(bytes: &[u8]) -> Option<(Vec<u8>, Option<usize>)> {
    let (mut joined, mut at) = (Vec::new(), 0);
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let (head, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(chunk)) => chunk,
            Ok(httparse::Status::Partial) => return Some((joined, None)),
            Err(_) => return None,
        };
        at += head;
        if size == 0 {
            return Some((
                joined,
                end_of_trailers(&bytes[at..]).map(|length| at + length),
            ));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let end = at.saturating_add(size);
        joined.extend_from_slice(&bytes[at..bytes.len().min(end)]);
        if bytes.len() < end.saturating_add(2) {
            return Some((joined, None));
        }
        at = end + 2;
    }
}

/// Returns the length of the trailer fields and the empty line after them, once that has come.
fn end_of_trailers(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = bytes[at..].iter().position(|&byte| byte == b'\n')? + 1;
        let is_empty = bytes[at..at + line]
            .iter()
            .all(|byte| b"\r\n".contains(byte));
        at += line;
        if is_empty {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ajar_model::{Nonce, Timestamp};
    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };

    use super::*;

    fn body(fields: &str) -> Body {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        Body::after(&Head::parse(text.as_bytes()).unwrap().unwrap().0)
    }

    fn answer() -> Answer {
        let key = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let nonce: Nonce = "00112233445566778899aabbccddeeff".parse().unwrap();
        let egress = "192.0.2.7".parse().unwrap();
        Answer::sign(&key, nonce, egress, 80, Timestamp::UNIX_EPOCH)
    }

    fn chunked(page: &[u8], size: usize) -> Vec<u8> {
        let chunks = page.chunks(size);
        let mut bytes: Vec<u8> = chunks
            .flat_map(|chunk| {
                [
                    format!("{:x};x=y\r\n", chunk.len()).as_bytes(),
                    chunk,
                    b"\r\n",
                ]
                .concat()
            })
            .collect();
        bytes.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
        bytes
    }

    fn packed<W: Write>(mut encoder: W, finish: fn(W) -> std::io::Result<Vec<u8>>) -> Vec<u8> {
        encoder.write_all(page().as_bytes()).unwrap();
        finish(encoder).unwrap()
    }

    fn page() -> String {
        format!("<p>what was fetched:</p>\n{}\n</html>", answer())
    }

    #[test]
    fn an_answer_is_found_however_the_body_is_framed_and_packed() {
        let check = |fields: &str, bytes: &[u8]| {
            let (content, _) = body(fields).parse(bytes, true).unwrap().unwrap();
            assert_eq!(content.answer, Some(answer()), "{fields}");
        };
        let page = page();
        let gzip = packed(
            GzEncoder::new(Vec::new(), Compression::best()),
            GzEncoder::finish,
        );
        let zlib = packed(
            ZlibEncoder::new(Vec::new(), Compression::best()),
            ZlibEncoder::finish,
        );
        let bare = packed(
            DeflateEncoder::new(Vec::new(), Compression::best()),
            DeflateEncoder::finish,
        );
        check("", page.as_bytes());
        check("Transfer-Encoding: chunked\r\n", page.as_bytes());
        check("Content-Length: 10000\r\n", page.as_bytes());
        check(
            "Transfer-Encoding: chunked\r\n",
            &chunked(page.as_bytes(), 7),
        );
        check("Content-Encoding: gzip\r\n", &gzip);
        check("Content-Encoding: deflate\r\n", &zlib);
        check("Content-Encoding: deflate\r\n", &bare);
        check(
            "Transfer-Encoding: Chunked\r\nContent-Encoding: x-gzip\r\n",
            &chunked(&gzip, 11),
        );
    }

    #[test]
    fn a_body_ends_where_it_says() {
        let check = |fields: &str, bytes: &[u8], expect: Option<usize>| {
            let rest = [bytes, b"HTTP/1.1 200 OK"].concat();
            let parsed = body(fields).parse(&rest, false).unwrap();
            let whole = parsed.filter(|(content, _)| content.is_whole);
            assert_eq!(whole.map(|(_, length)| length), expect, "{fields}");
        };
        check("Content-Length: 5\r\n", b"hello", Some(5));
        check("Content-Length: 0\r\n", b"", Some(0));
        let chunks = chunked(b"hello world", 4);
        check(
            "Transfer-Encoding: chunked\r\n",
            &chunks,
            Some(chunks.len()),
        );
        check("", b"hello", None);
        check("Content-Length: x\r\n", b"hello", None);
        for cut in 0..chunks.len() {
            let parsed = body("Transfer-Encoding: chunked\r\n").parse(&chunks[..cut], false);
            assert_eq!(parsed, Ok(None), "{cut}");
        }
    }

    #[test]
    fn hostile_bodies_end_within_bounds() {
        let endless = vec![b'x'; MAX_BODY];
        let (content, _) = body("Content-Length: 99999999999\r\n")
            .parse(&endless, false)
            .unwrap()
            .unwrap();
        assert!(!content.is_whole);
        // A kilobyte that unpacks to a megabyte.
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        bomb.write_all(&vec![0; 1 << 20]).unwrap();
        let bomb = bomb.finish().unwrap();
        let gzip = body("Content-Encoding: gzip\r\n");
        assert_eq!(gzip.unpack(&bomb).len(), MAX_BODY);
        let chunked = body("Transfer-Encoding: chunked\r\n");
        for bytes in [&b"zz\r\n"[..], b"ffffffffffffffffff\r\n", b"-1\r\n"] {
            assert_eq!(chunked.parse(bytes, false), Ok(None), "{bytes:?}");
            assert!(chunked.parse(bytes, true).unwrap().is_some(), "{bytes:?}");
        }
        assert_eq!(chunked.parse(b"ffffffffffffffff\r\nx", false), Ok(None));
        assert!(chunked.parse(b"5\r\nhel", true).unwrap().is_some());
    }
}
