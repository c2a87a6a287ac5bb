//! The PROXY protocol (haproxy.org/download/3.0/doc/proxy-protocol.txt): the header by which a load balancer tells a server behind
//! it who is calling. Pure.
//!
//! A server that waits for one says nothing to whoever sends none, and believes whoever sends one: it takes us for itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preface {
    /// Version 1, section 2.1.
    Text,
    /// Version 2, section 2.2.
    Binary,
}

/// The port that we claim to call from.
const SOURCE_PORT: u16 = 40_000;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

impl Preface {
    /// The header that claims a connection from loopback to this endpoint.
    pub(crate) fn claiming_loopback(self, endpoint: SocketAddr) -> Vec<u8> {
        let source: IpAddr = match endpoint.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        match self {
            Preface::Text => {
                let (family, ip, port) = (family(source), endpoint.ip(), endpoint.port());
                format!("PROXY {family} {source} {ip} {SOURCE_PORT} {port}\r\n").into_bytes()
            }
            Preface::Binary => {
                let (family, addresses) = match (source, endpoint.ip()) {
                    (IpAddr::V4(from), IpAddr::V4(to)) => {
                        (TCP_OVER_IPV4, [from.octets(), to.octets()].concat())
                    }
                    (from, to) => (TCP_OVER_IPV6, [wide(from), wide(to)].concat()),
                };
                let ports = [SOURCE_PORT, endpoint.port()].map(u16::to_be_bytes);
                let rest = [addresses, ports.concat()].concat();
                let length = u16::try_from(rest.len()).expect("36 bytes at most");
                let mut header = SIGNATURE.to_vec();
                header.extend([VERSION_2_PROXY, family]);
                header.extend(length.to_be_bytes());
                header.extend(rest);
                header
            }
        }
    }
}

fn family(ip: IpAddr) -> &'static str {
    match ip {
        IpAddr::V4(_) => "TCP4",
        IpAddr::V6(_) => "TCP6",
    }
}

fn wide(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_claims_loopback_and_names_the_endpoint() {
        let (v4, v6): (SocketAddr, SocketAddr) = (
            "192.0.2.7:25".parse().unwrap(),
            "[2001:db8::7]:25".parse().unwrap(),
        );
        assert_eq!(
            Preface::Text.claiming_loopback(v4),
            b"PROXY TCP4 127.0.0.1 192.0.2.7 40000 25\r\n"
        );
        assert_eq!(
            Preface::Text.claiming_loopback(v6),
            b"PROXY TCP6 ::1 2001:db8::7 40000 25\r\n"
        );
        let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        binary.extend([127, 0, 0, 1, 192, 0, 2, 7, 0x9c, 0x40, 0, 25]);
        assert_eq!(Preface::Binary.claiming_loopback(v4), binary);
        assert_eq!(Preface::Binary.claiming_loopback(v6).len(), 16 + 36);
    }
}
