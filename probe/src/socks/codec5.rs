//! SOCKS 5 (RFC 1928), without authentication.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ajar_model::Untrusted;

use crate::codec::{Injection, Parsed, Unreadable};

/// The greeting: one method is offered, "no authentication required" (RFC 1928 section 3).
pub const GREETING: &[u8] = &[5, 1, NO_AUTHENTICATION];

/// The same with a password beside, which would not be sent.
pub const GREETING_WITH_PASSWORD: &[u8] = &[5, 2, NO_AUTHENTICATION, PASSWORD];

/// User name and password (RFC 1929).
pub const PASSWORD: u8 = 2;

/// The method that the greeting offers.
pub const NO_AUTHENTICATION: u8 = 0;

/// The code of a request that succeeded.
pub const SUCCEEDED: u8 = 0;

/// Reads which method the server selects: 0 none, 2 user name and password (which some select unasked), 0xff none
/// of those offered. No other is taken: an echo of the greeting would select method 1.
pub fn parse_method(bytes: &[u8]) -> Parsed<u8> {
    match bytes {
        [] | [5] => Ok(None),
        [5, method @ (NO_AUTHENTICATION | PASSWORD | 0xff), ..] => Ok(Some((*method, 2))),
        _ => Err(Unreadable::Garbled),
    }
}

/// A server's answer to a request (RFC 1928 section 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 0 succeeded, 1 general failure, 2 not allowed, 3 network unreachable, 4 host unreachable, 5 refused,
    /// 6 TTL expired, 7 command not supported, 8 address type not supported.
    pub code: u8,
    /// Where the server's own end is; absent from a refusal.
    pub bound: Option<Bound>,
}

/// BND.ADDR and BND.PORT, in each of the three types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// An IPv4 or IPv6 address.
    Address(SocketAddr),
    /// A name, which a stranger chose.
    Name(Untrusted, u16),
}

impl Reply {
    /// Reads an answer. A refusal is whole with its code: some servers close without sending the rest.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        match bytes {
            [] | [5] => return Ok(None),
            [5, SUCCEEDED, ..] => {}
            [5, code, ..] => {
                return Ok(Some((
                    Self {
                        code: *code,
                        bound: None,
                    },
                    2,
                )));
            }
            _ => return Err(Unreadable::Garbled),
        }
        let (Some(&kind), Some(rest)) = (bytes.get(3), bytes.get(4..)) else {
            return Ok(None);
        };
        let Some((bound, length)) = bound(kind, rest)? else {
            return Ok(None);
        };
        let reply = Self {
            code: SUCCEEDED,
            bound: Some(bound),
        };
        Ok(Some((reply, 4 + length)))
    }
}

fn bound(kind: u8, bytes: &[u8]) -> Parsed<Bound> {
    let address = |ip: IpAddr, port| Bound::Address(SocketAddr::new(ip, port));
    let frame = match kind {
        1 => fixed::<4>(bytes).map(|(ip, port)| (address(Ipv4Addr::from(ip).into(), port), 6)),
        4 => fixed::<16>(bytes).map(|(ip, port)| (address(Ipv6Addr::from(ip).into(), port), 18)),
        3 => name(bytes),
        _ => return Err(Unreadable::Garbled),
    };
    Ok(frame)
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<([u8; N], u16)> {
    let (ip, rest) = bytes.split_first_chunk::<N>()?;
    Some((*ip, u16::from_be_bytes(*rest.first_chunk()?)))
}

fn name(bytes: &[u8]) -> Option<(Bound, usize)> {
    let (&length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(length.into())?;
    let port = u16::from_be_bytes(*rest.first_chunk()?);
    let bound = Bound::Name(Untrusted::from_bytes(name, name.len()), port);
    Some((bound, 1 + name.len() + 2))
}

/// Asks for a tunnel to an address.
pub fn connect(to: SocketAddr) -> Vec<u8> {
    [&[5, 1, 0], &address(to)[..]].concat()
}

/// Asks for a relay of datagrams, from whatever port of ours (RFC 1928 section 4).
pub const ASSOCIATE: &[u8] = &[5, 3, 0, 1, 0, 0, 0, 0, 0, 0];

/// A datagram for the relay to send on, whole (RFC 1928 section 7).
pub fn datagram(to: SocketAddr, data: &[u8]) -> Vec<u8> {
    [&[0, 0, 0], &address(to)[..], data].concat()
}

/// What is in a datagram that the relay passed back; none if it is cut, or a fragment.
pub fn payload(datagram: &[u8]) -> Option<&[u8]> {
    let ([0, 0, 0, kind], rest) = datagram.split_first_chunk()? else {
        return None;
    };
    let (_, length) = bound(*kind, rest).ok()??;
    rest.get(length..)
}

fn address(to: SocketAddr) -> Vec<u8> {
    let mut bytes = match to.ip() {
        IpAddr::V4(ip) => [&[1], &ip.octets()[..]].concat(),
        IpAddr::V6(ip) => [&[4], &ip.octets()[..]].concat(),
    };
    bytes.extend(to.port().to_be_bytes());
    bytes
}

/// Asks for a tunnel to a name.
pub fn connect_name(name: &str, port: u16) -> Result<Vec<u8>, Injection> {
    let injection = || Injection(name.to_owned());
    let length = u8::try_from(name.len()).map_err(|_| injection())?;
    if length == 0 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(injection());
    }
    let mut request = vec![5, 1, 0, 3, length];
    request.extend(name.bytes());
    request.extend(port.to_be_bytes());
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_bound_address_is_read_from_any_split() {
        let check = |bytes: &[u8], bound: Bound| {
            let tunnel = [bytes, b"tunnel"].concat();
            let expect = Reply {
                code: SUCCEEDED,
                bound: Some(bound),
            };
            for cut in 0..bytes.len() {
                assert_eq!(
                    Reply::parse(&tunnel[..cut]),
                    Ok(None),
                    "{bytes:?} cut at {cut}"
                );
            }
            assert_eq!(
                Reply::parse(&tunnel),
                Ok(Some((expect, bytes.len()))),
                "{bytes:?}"
            );
        };
        let address = |text: &str| Bound::Address(text.parse().unwrap());
        check(
            b"\x05\x00\x00\x01\xc0\x00\x02\x01\x00\x50",
            address("192.0.2.1:80"),
        );
        check(
            b"\x05\x00\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb",
            address("[2001:db8::1]:443"),
        );
        check(
            b"\x05\x00\x00\x03\x05proxy\x04\x38",
            Bound::Name("proxy".to_owned().into(), 1080),
        );
        check(
            b"\x05\x00\x00\x03\x00\x00\x00",
            Bound::Name(String::new().into(), 0),
        );
    }

    #[test]
    fn a_refusal_is_never_taken_for_success_and_needs_no_address() {
        for code in 1..=u8::MAX {
            let parsed = Reply::parse(&[5, code]);
            assert_eq!(parsed, Ok(Some((Reply { code, bound: None }, 2))));
        }
    }

    #[test]
    fn other_versions_and_address_types_are_refused() {
        for bytes in [
            &b"\x04\x00"[..],
            b"HTTP",
            b"\x00\x5a",
            b"\x05\x00\x00\x02",
            b"\x05\x00\x00\x00",
        ] {
            assert_eq!(Reply::parse(bytes), Err(Unreadable::Garbled), "{bytes:?}");
        }
    }

    #[test]
    fn a_datagram_is_written_and_read_and_a_cut_one_is_none() {
        for to in ["192.0.2.1:7401", "[2001:db8::1]:7401"] {
            let datagram = datagram(to.parse().unwrap(), b"hello");
            assert_eq!(payload(&datagram), Some(&b"hello"[..]));
            for end in 0..datagram.len() - 5 {
                assert_eq!(payload(&datagram[..end]), None, "{end}");
            }
        }
        assert_eq!(
            payload(b"\0\0\x01\x01\xc0\0\x02\x01\x1c\xe9a fragment"),
            None
        );
        assert_eq!(payload(b"\0\0\0\x02nonsense"), None);
    }

    #[test]
    fn the_method_is_read_alone() {
        let check =
            |bytes: &[u8], expect: Parsed<u8>| assert_eq!(parse_method(bytes), expect, "{bytes:?}");
        check(b"", Ok(None));
        check(b"\x05", Ok(None));
        check(b"\x05\x00", Ok(Some((0, 2))));
        check(b"\x05\xffx", Ok(Some((0xff, 2))));
        check(b"\x05\x02", Ok(Some((2, 2))));
        check(GREETING, Err(Unreadable::Garbled));
        check(b"\x04", Err(Unreadable::Garbled));
        check(b"HTTP/1.1 400", Err(Unreadable::Garbled));
    }

    #[test]
    fn requests_have_the_published_layout() {
        assert_eq!(
            connect("192.0.2.1:80".parse().unwrap()),
            b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"
        );
        assert_eq!(connect("[::1]:443".parse().unwrap()).len(), 22);
        assert_eq!(
            connect_name("canary.test", 25).unwrap(),
            b"\x05\x01\x00\x03\x0bcanary.test\x00\x19"
        );
        for hostile in ["", "a b", "a\0", &"a".repeat(256)] {
            assert!(connect_name(hostile, 25).is_err(), "{hostile:?}");
        }
    }
}
