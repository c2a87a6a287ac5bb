//! HTTP/2 frames (RFC 9113), and as much of header compression (RFC 7541) as the status of a first answer takes. Pure.

use crate::codec::{Injection, Parsed, Unreadable};

/// What a client begins with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The stream of our only request.
const STREAM: u32 = 1;

/// Bytes of a frame's header.
const HEADER: usize = 9;

/// Bytes of a frame's payload at most, which both sides keep to unless they agree otherwise (RFC 9113 section 4.2).
pub const MAX_PAYLOAD: usize = 1 << 14;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// One frame, if it is of the connection or of our stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Wants to be acknowledged: see [`SETTINGS_ACK`].
    Settings,
    /// Wants to be sent back: see [`pong`].
    Ping([u8; 8]),
    /// An answer.
    Headers {
        /// None if it cannot be read.
        status: Option<u16>,
        /// It has a field that only proxies write: `via`, or one of those by which they ask for credentials.
        shows_proxy: bool,
    },
    Data {
        payload: Vec<u8>,
        /// Nothing more will come.
        ends: bool,
    },
    /// Our request was dropped, with this error code (RFC 9113 section 7).
    Reset(u32),
    /// The connection takes no more requests.
    GoAway(u32),
    /// Nothing that matters here.
    Other,
}

impl Frame {
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        if length > MAX_PAYLOAD {
            return Err(Unreadable::TooLong);
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let stream = number(&header[5..]).ok_or(Unreadable::Garbled)? & (u32::MAX >> 1);
        let frame = read(header[3], header[4], stream, payload)?;
        Ok(Some((frame, HEADER + length)))
    }

    /// Reads the first frame of a server, which is SETTINGS.
    pub fn parse_first(bytes: &[u8]) -> Parsed<Self> {
        match may_be_settings(bytes) {
            true => Self::parse(bytes),
            false => Err(Unreadable::Garbled),
        }
    }
}

/// True if the bytes begin as a server does.
pub fn may_be_settings(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .take(HEADER)
        .enumerate()
        .all(|(at, &byte)| match at {
            0 => byte == 0,
            3 => byte == SETTINGS,
            2 => byte % 6 == 0 || bytes.get(1).is_some_and(|&high| high > 0),
            4..HEADER => byte == 0,
            _ => byte <= 1,
        })
}

fn read(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<Frame, Unreadable> {
    let frame = match (kind, stream) {
        (SETTINGS, 0) if flags & ACK == 0 => Frame::Settings,
        (PING, 0) if flags & ACK == 0 => {
            Frame::Ping(payload.try_into().map_err(|_| Unreadable::Garbled)?)
        }
        (GOAWAY, 0) => {
            let code = payload.get(4..).and_then(number);
            Frame::GoAway(code.ok_or(Unreadable::Garbled)?)
        }
        (RST_STREAM, STREAM) => Frame::Reset(number(payload).ok_or(Unreadable::Garbled)?),
        (HEADERS, STREAM) => {
            let block = unpadded(flags, payload)?;
            let skip = if flags & PRIORITY != 0 { 5 } else { 0 };
            let block = block.get(skip..).ok_or(Unreadable::Garbled)?;
            Frame::Headers {
                status: status(block),
                shows_proxy: shows_proxy(block),
            }
        }
        (DATA, STREAM) => Frame::Data {
            payload: unpadded(flags, payload)?.to_vec(),
            ends: flags & END_STREAM != 0,
        },
        _ => Frame::Other,
    };
    Ok(frame)
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}

fn unpadded(flags: u8, payload: &[u8]) -> Result<&[u8], Unreadable> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or(Unreadable::Garbled)?;
    let end = rest.len().checked_sub(padding.into());
    Ok(&rest[..end.ok_or(Unreadable::Garbled)?])
}

/// A header field as far as it needs no table but the static one (RFC 7541 section 6).
enum Field<'a> {
    /// Name and value by their place in the table.
    Known(usize),
    /// The name by its place in the table; the value.
    Named(usize, Text<'a>),
    Spelled(Text<'a>, Text<'a>),
}

/// A string as it was written, and whether in Huffman's code (RFC 7541 section 5.2).
type Text<'a> = (&'a [u8], bool);

/// The next field of a block; none at its end, or if it cannot be read.
fn next_field<'a>(block: &mut &'a [u8]) -> Option<Field<'a>> {
    loop {
        let prefix = match block.first()? {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let index = integer(block, prefix)?;
        return Some(match (prefix, index) {
            (7, _) => Field::Known(index),
            // A change of the table's size.
            (5, _) => continue,
            (_, 0) => Field::Spelled(string(block)?, string(block)?),
            _ => Field::Named(index, string(block)?),
        });
    }
}

/// The value of `:status`, which comes first (RFC 9113 section 8.3.2). Nothing was said before that its encoding could refer
/// to.
fn status(mut block: &[u8]) -> Option<u16> {
    /// Entries 8 to 14 of the static table (RFC 7541 appendix A).
    const KNOWN: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match next_field(&mut block)? {
        Field::Known(index) => KNOWN.get(index.checked_sub(8)?).copied(),
        Field::Named(8..15, value) | Field::Spelled((b":status", false), value) => digits(value),
        _ => None,
    }
}

fn shows_proxy(mut block: &[u8]) -> bool {
    /// `proxy-authenticate`, `proxy-authorization` and `via` in the static table.
    const PROXYS: [usize; 3] = [48, 49, 60];
    let mut fields = std::iter::from_fn(|| next_field(&mut block));
    fields.any(|field| matches!(field, Field::Named(name, _) if PROXYS.contains(&name)))
}

/// An integer after the high bits of its first byte (RFC 7541 section 5.1).
fn integer(block: &mut &[u8], prefix: u8) -> Option<usize> {
    let (&first, mut rest) = block.split_first()?;
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(first) & most;
    if value == most {
        for shift in [0, 7, 14] {
            let (&byte, after) = rest.split_first()?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *block = rest;
                return Some(value);
            }
        }
        return None;
    }
    *block = rest;
    Some(value)
}

fn string<'a>(block: &mut &'a [u8]) -> Option<Text<'a>> {
    let huffman = block.first()? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    Some((text, huffman))
}

/// Three digits, in either code.
fn digits((text, huffman): Text<'_>) -> Option<u16> {
    let digits = match huffman {
        true => huffman_digits(text)?,
        false => *text.first_chunk::<3>().filter(|_| text.len() == 3)?,
    };
    let number = digits.iter().try_fold(0, |number, digit| {
        let value = digit.is_ascii_digit().then(|| u16::from(digit - b'0'));
        Some(number * 10 + value?)
    });
    number.filter(|status| *status >= 100)
}

/// Three digits of Huffman's code (RFC 7541 appendix B): 0 to 2 have five bits, the others six.
fn huffman_digits(text: &[u8]) -> Option<[u8; 3]> {
    let bytes: [u8; 2] = *text.first_chunk()?;
    let third = text.get(2).copied().unwrap_or(0xff);
    let mut bits = u32::from_be_bytes([bytes[0], bytes[1], third, 0xff]);
    let mut digits = [0; 3];
    for digit in &mut digits {
        let (five, six) = (bits >> 27, bits >> 26);
        let length;
        (*digit, length) = match (five, six) {
            (0..=2, _) => (b'0' + five as u8, 5),
            (_, 0b01_1001..=0b01_1111) => (b'3' + (six - 0b01_1001) as u8, 6),
            _ => return None,
        };
        bits = bits << length | ((1 << length) - 1);
    }
    // What follows is padding of ones, shorter than a byte.
    (bits == u32::MAX && text.len() <= 3).then_some(digits)
}

/// Says that the peer's settings are taken.
pub const SETTINGS_ACK: [u8; HEADER] = [0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0];

/// The beginning of a conversation: the preface, and settings that change nothing.
pub fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// Asks for a tunnel to `authority`, which is `host:port` (RFC 9113 section 8.5).
pub fn connect(authority: &str, agent: &str) -> Result<Vec<u8>, Injection> {
    let is_graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if authority.is_empty() || !is_graphic(authority) {
        return Err(Injection(authority.to_owned()));
    }
    if !is_graphic(&agent.replace(' ', "")) {
        return Err(Injection(agent.to_owned()));
    }
    let mut block = Vec::new();
    // By their place in the static table, and never to be added to a table.
    field(&mut block, 2, "CONNECT")?;
    field(&mut block, 1, authority)?;
    field(&mut block, 58, agent)?;
    Ok(frame(HEADERS, END_HEADERS, STREAM, &block))
}

/// Bytes through the tunnel; at most [`MAX_PAYLOAD`].
pub fn data(payload: &[u8]) -> Vec<u8> {
    frame(DATA, 0, STREAM, &payload[..payload.len().min(MAX_PAYLOAD)])
}

/// The answer to a ping.
pub fn pong(payload: [u8; 8]) -> Vec<u8> {
    frame(PING, ACK, 0, &payload)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = (payload.len() as u32).to_be_bytes();
    let mut frame = length.to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header field whose name is in the static table (RFC 7541 section 6.2.2).
fn field(block: &mut Vec<u8>, name: u8, value: &str) -> Result<(), Injection> {
    /// Lengths of one byte, and of the second byte of a longer one, at most.
    const MOST: usize = 0x7f;
    match name.checked_sub(0x0f) {
        None => block.push(name),
        Some(rest) => block.extend([0x0f, rest]),
    }
    match value.len() {
        short if short < MOST => block.push(short as u8),
        long if long < MOST + MOST => block.extend([MOST as u8, (long - MOST) as u8]),
        _ => return Err(Injection(value.to_owned())),
    }
    block.extend(value.bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(block: &[u8]) -> Option<u16> {
        let bytes = frame(HEADERS, END_HEADERS, STREAM, block);
        match Frame::parse(&bytes) {
            Ok(Some((Frame::Headers { status, .. }, length))) if length == bytes.len() => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_status_is_read_in_every_encoding() {
        // RFC 7541 appendix C.5 and C.6 have 302 and 307 in both codes.
        assert_eq!(headers(&[0x88]), Some(200));
        assert_eq!(headers(&[0x8c, 0x40]), Some(400));
        assert_eq!(headers(b"\x48\x03302"), Some(302));
        assert_eq!(headers(&[0x48, 0x82, 0x64, 0x02]), Some(302));
        assert_eq!(headers(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
        assert_eq!(headers(b"\x08\x03407"), Some(407));
        assert_eq!(headers(b"\x00\x07:status\x03502"), Some(502));
        assert_eq!(headers(b"\x3f\xe1\x1f\x88"), Some(200));
        for block in [
            &b""[..],
            b"\x82",
            b"\xbe",
            b"\xff",
            b"\x48",
            b"\x48\x7f",
            b"\x48\x02ab",
            b"\x48\x03+20",
            b"\x48\x82\xff\xff",
            b"\x00\x01a\x03200",
            b"\x3f\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(headers(block), None, "{block:?}");
        }
    }

    #[test]
    fn a_proxy_is_told_by_its_fields() {
        let check = |block: &[u8], expect: bool| assert_eq!(shows_proxy(block), expect);
        // 403 from nghttpx 1.52 in front of Squid: `server`, then `via`.
        check(b"\x48\x03403\x76\x07nghttpx\x7c\x09 2 nghttpx", true);
        check(b"\x48\x03407\x0f\x21\x05Basic", true);
        check(b"\x48\x03403\x76\x05nginx", false);
        check(b"\x88\x40\x03via\x01a", false);
        check(b"\x88\x7c", false);
    }

    #[test]
    fn a_frame_is_read_whole_or_not_at_all() {
        let bytes = data(b"220 canary.test\r\n");
        for cut in 0..bytes.len() {
            assert_eq!(Frame::parse(&bytes[..cut]), Ok(None), "{cut}");
        }
        let payload = b"220 canary.test\r\n".to_vec();
        let expect = Frame::Data {
            payload,
            ends: false,
        };
        assert_eq!(Frame::parse(&bytes), Ok(Some((expect, bytes.len()))));
    }

    #[test]
    fn padding_is_no_payload() {
        let padded = |payload: &[u8]| frame(DATA, PADDED | END_STREAM, STREAM, payload);
        let read = |bytes: &[u8]| Frame::parse(bytes).map(|frame| frame.unwrap().0);
        let payload = b"ab".to_vec();
        let expect = Frame::Data {
            payload,
            ends: true,
        };
        assert_eq!(read(&padded(b"\x03abxyz")), Ok(expect));
        assert_eq!(read(&padded(b"\x06abxyz")), Err(Unreadable::Garbled));
        assert_eq!(read(&padded(b"")), Err(Unreadable::Garbled));
    }

    #[test]
    fn a_server_begins_with_settings() {
        let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        let length = settings.len();
        assert_eq!(
            Frame::parse_first(&settings),
            Ok(Some((Frame::Settings, length)))
        );
        assert_eq!(Frame::parse_first(&settings[..5]), Ok(None));
        for bytes in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"220 mail\r\n",
            b"\x05\xff",
            b"\x15\x03\x01\x00\x02\x02\x46",
            b"\x00\x5b\x00\x00\x00\x00\x00\x00",
        ] {
            assert_eq!(
                Frame::parse_first(bytes),
                Err(Unreadable::Garbled),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn what_is_of_another_stream_is_passed_over() {
        let read = |bytes: &[u8]| Frame::parse(bytes).unwrap().unwrap().0;
        assert_eq!(read(&frame(DATA, 0, 3, b"x")), Frame::Other);
        assert_eq!(read(&frame(HEADERS, 0, 3, b"\x88")), Frame::Other);
        assert_eq!(read(&SETTINGS_ACK), Frame::Other);
        assert_eq!(read(&pong([1; 8])), Frame::Other);
        let reset = frame(RST_STREAM, 0, STREAM, &[0, 0, 0, 10]);
        assert_eq!(read(&reset), Frame::Reset(10));
        let away = frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 13]);
        assert_eq!(read(&away), Frame::GoAway(13));
        let long = [0, 0x40, 1, DATA, 0, 0, 0, 0, 1];
        assert_eq!(Frame::parse(&long), Err(Unreadable::TooLong));
    }

    #[test]
    fn a_request_names_its_target_and_its_author() {
        let request = connect("192.0.2.9:80", "ajar (canary.test)").unwrap();
        let mut expect = vec![0, 0, 44, HEADERS, END_HEADERS, 0, 0, 0, 1];
        expect.extend(b"\x02\x07CONNECT\x01\x0c192.0.2.9:80\x0f\x2b\x12ajar (canary.test)");
        assert_eq!(request, expect);
        let long = "a".repeat(200);
        let request = connect("c:1", &long).unwrap();
        assert!(request.windows(3).any(|w| w == [0x2b, 0x7f, 200 - 0x7f]));
        for hostile in ["", "a b", "a\r\nb", "\u{e4}"] {
            assert!(connect(hostile, "ajar").is_err(), "{hostile:?}");
        }
        assert!(connect("c:1", "a\nb").is_err());
        assert!(connect(&"a".repeat(300), "ajar").is_err());
    }
}
