//! SOCKS 4 (Ying-Da Lee, "SOCKS: A protocol for TCP proxy across firewalls") and its extension 4A for names.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::codec::{Injection, Parsed, Unreadable};

/// The code of a request that was granted.
pub const GRANTED: u8 = 0x5a;

/// Bytes of a name that a request carries at most (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// 0x5a granted, 0x5b refused or failed, 0x5c no identd at the client, 0x5d identd says another user.
    pub code: u8,
    /// The address that the server names; many leave it zero.
    pub bound: SocketAddrV4,
}

impl Reply {
    /// Reads the eight bytes of an answer. Version 4 in place of 0 is taken: some servers send it.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        if bytes
            .first()
            .is_some_and(|version| !matches!(version, 0 | 4))
            || bytes
                .get(1)
                .is_some_and(|code| !(0x5a..=0x5d).contains(code))
        {
            return Err(Unreadable::Garbled);
        }
        let Some(&[_, code, p1, p0, a, b, c, d]) = bytes.first_chunk() else {
            return Ok(None);
        };
        let bound = SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p1, p0]));
        Ok(Some((Self { code, bound }, 8)))
    }
}

/// Our user id. Some servers refuse an empty one and take any other.
const USER: &[u8] = b"ajar\0";

/// Asks for a tunnel to an address.
pub fn connect(to: SocketAddrV4) -> Vec<u8> {
    let mut request = vec![4, 1];
    request.extend(to.port().to_be_bytes());
    request.extend(to.ip().octets());
    request.extend(USER);
    request
}

/// Asks for a tunnel to a name (4A): the address 0.0.0.1 says that a name follows.
pub fn connect_name(name: &str, port: u16) -> Result<Vec<u8>, Injection> {
    let graphic = name.bytes().all(|byte| byte.is_ascii_graphic());
    if !graphic || name.is_empty() || name.len() > MAX_NAME {
        return Err(Injection(name.to_owned()));
    }
    let mut request = connect(SocketAddrV4::new(Ipv4Addr::new(0, 0, 0, 1), port));
    request.extend(name.bytes());
    request.push(0);
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_from_any_split_and_leaves_the_rest() {
        let bytes = b"\x00\x5a\x00\x50\xc0\x00\x02\x01220 tunnel";
        let expect = Reply {
            code: GRANTED,
            bound: "192.0.2.1:80".parse().unwrap(),
        };
        for cut in 0..8 {
            assert_eq!(Reply::parse(&bytes[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(Reply::parse(bytes), Ok(Some((expect, 8))));
    }

    #[test]
    fn only_the_four_codes_are_answers() {
        for code in 0..=u8::MAX {
            let parsed = Reply::parse(&[0, code, 0, 0, 0, 0, 0, 0]);
            assert_eq!(parsed.is_ok(), (0x5a..=0x5d).contains(&code), "{code:#x}");
        }
        assert!(Reply::parse(&[4, 0x5a, 0, 0, 0, 0, 0, 0]).is_ok());
        for other in [&b"\x05"[..], b"H", b"220", b"\x00\x00"] {
            assert_eq!(Reply::parse(other), Err(Unreadable::Garbled), "{other:?}");
        }
    }

    #[test]
    fn requests_have_the_published_layout() {
        assert_eq!(
            connect("192.0.2.1:80".parse().unwrap()),
            b"\x04\x01\x00\x50\xc0\x00\x02\x01ajar\x00"
        );
        assert_eq!(
            connect_name("canary.test", 25).unwrap(),
            b"\x04\x01\x00\x19\x00\x00\x00\x01ajar\x00canary.test\x00"
        );
        for hostile in ["", "a\0b", "a b", "a\r\n", &"a".repeat(256)] {
            assert!(connect_name(hostile, 25).is_err(), "{hostile:?}");
        }
    }
}
