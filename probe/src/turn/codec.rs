//! STUN messages (RFC 8489) as TURN uses them (RFC 8656; over TCP, RFC 6062). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::codec::{Parsed, Unreadable};

/// A method (RFC 8489 section 18.2; RFC 8656 section 17; RFC 6062 section 6.1).
pub const BINDING: u16 = 0x001;
pub const ALLOCATE: u16 = 0x003;
pub const SEND: u16 = 0x006;
pub const DATA: u16 = 0x007;
pub const CREATE_PERMISSION: u16 = 0x008;
pub const CONNECT: u16 = 0x00a;
pub const CONNECTION_BIND: u16 = 0x00b;

/// A number in REQUESTED-TRANSPORT: what the server speaks to others.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;
/// What a message may hold: more than a datagram does.
const LONGEST: usize = 2048;

const ERROR_CODE: u16 = 0x0009;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA_ATTRIBUTE: u16 = 0x0013;
const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
const REQUESTED_TRANSPORT: u16 = 0x0019;
const CONNECTION_ID: u16 = 0x002a;

const FAMILY_IPV4: u8 = 1;
const FAMILY_IPV6: u8 = 2;

/// Which of our requests a message belongs to.
pub type Transaction = [u8; 12];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// A message that a server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub method: u16,
    pub class: Class,
    pub transaction: Transaction,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Message {
    /// Reads one message from a stream, where they follow each other without further framing.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        let cookie = bytes.get(4..8.min(bytes.len())).unwrap_or_default();
        let starts = bytes.first().is_none_or(|first| first & 0xc0 == 0);
        if !starts || !COOKIE.starts_with(cookie) {
            return Err(Unreadable::Garbled);
        }
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length % 4 != 0 {
            return Err(Unreadable::Garbled);
        }
        if length > LONGEST {
            return Err(Unreadable::TooLong);
        }
        let Some(body) = bytes.get(HEADER..HEADER + length) else {
            return Ok(None);
        };
        let (method, class) = read_type(u16::from_be_bytes([header[0], header[1]]));
        let mut transaction = [0; 12];
        transaction.copy_from_slice(&header[8..]);
        let message = Self {
            method,
            class,
            transaction,
            attributes: attributes(body).ok_or(Unreadable::Garbled)?,
        };
        Ok(Some((message, HEADER + length)))
    }

    /// The code of an error (RFC 8489 section 14.8), 0 if it has none.
    pub fn error_code(&self) -> u16 {
        match self.attribute(ERROR_CODE) {
            Some([_, _, class, number, ..]) => {
                u16::from(class & 7) * 100 + u16::from(*number) % 100
            }
            _ => 0,
        }
    }

    /// The name of a connection that the server has opened (RFC 6062 section 6.2.1).
    pub fn connection_id(&self) -> Option<&[u8]> {
        self.attribute(CONNECTION_ID).filter(|id| id.len() == 4)
    }

    /// What a peer sent.
    pub fn data(&self) -> Option<&[u8]> {
        self.attribute(DATA_ATTRIBUTE)
    }

    fn attribute(&self, wanted: u16) -> Option<&[u8]> {
        let mut attributes = self.attributes.iter();
        let (_, value) = attributes.find(|(kind, _)| *kind == wanted)?;
        Some(value)
    }
}

/// Is there a STUN server? Any will answer.
pub fn binding(transaction: Transaction) -> Vec<u8> {
    write(BINDING, Class::Request, transaction, &[])
}

/// Asks for a relayed address of the family of `peer`, whose traffic goes over this transport.
pub fn allocate(transaction: Transaction, transport: u8, peer: SocketAddr) -> Vec<u8> {
    let mut attributes = vec![(REQUESTED_TRANSPORT, vec![transport, 0, 0, 0])];
    if peer.is_ipv6() {
        attributes.push((REQUESTED_ADDRESS_FAMILY, vec![FAMILY_IPV6, 0, 0, 0]));
    }
    write(ALLOCATE, Class::Request, transaction, &attributes)
}

/// Lets a peer's datagrams in.
pub fn create_permission(transaction: Transaction, peer: SocketAddr) -> Vec<u8> {
    let peer = xored(peer, transaction);
    let attributes = [(XOR_PEER_ADDRESS, peer)];
    write(CREATE_PERMISSION, Class::Request, transaction, &attributes)
}

/// Sends a peer a datagram.
pub fn send(transaction: Transaction, peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    let peer = xored(peer, transaction);
    let attributes = [(XOR_PEER_ADDRESS, peer), (DATA_ATTRIBUTE, data.to_vec())];
    write(SEND, Class::Indication, transaction, &attributes)
}

/// Asks for a TCP connection to a peer.
pub fn connect(transaction: Transaction, peer: SocketAddr) -> Vec<u8> {
    let peer = xored(peer, transaction);
    let attributes = [(XOR_PEER_ADDRESS, peer)];
    write(CONNECT, Class::Request, transaction, &attributes)
}

/// Makes the connection that this goes over the near end of the one that was opened.
pub fn connection_bind(transaction: Transaction, connection: &[u8]) -> Vec<u8> {
    let attributes = [(CONNECTION_ID, connection.to_vec())];
    write(CONNECTION_BIND, Class::Request, transaction, &attributes)
}

fn write(
    method: u16,
    class: Class,
    transaction: Transaction,
    attributes: &[(u16, Vec<u8>)],
) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, value) in attributes {
        body.extend(kind.to_be_bytes());
        body.extend(length_of(value).to_be_bytes());
        body.extend(value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut message = write_type(method, class).to_be_bytes().to_vec();
    message.extend(length_of(&body).to_be_bytes());
    message.extend(COOKIE);
    message.extend(transaction);
    message.extend(body);
    message
}

fn length_of(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).expect("requests are short")
}

/// Method and class are woven into each other (RFC 8489 section 5, figure 3).
fn write_type(method: u16, class: Class) -> u16 {
    let class = match class {
        Class::Request => 0x000,
        Class::Indication => 0x010,
        Class::Success => 0x100,
        Class::Error => 0x110,
    };
    (method & 0xf80) << 2 | (method & 0x070) << 1 | method & 0x00f | class
}

fn read_type(kind: u16) -> (u16, Class) {
    let method = (kind >> 2 & 0xf80) | (kind >> 1 & 0x070) | (kind & 0x00f);
    let class = match kind & 0x110 {
        0x000 => Class::Request,
        0x010 => Class::Indication,
        0x100 => Class::Success,
        _ => Class::Error,
    };
    (method, class)
}

fn attributes(mut body: &[u8]) -> Option<Vec<(u16, Vec<u8>)>> {
    let mut all = Vec::new();
    while !body.is_empty() {
        let (header, rest) = body.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let value = rest.get(..length)?.to_vec();
        all.push((u16::from_be_bytes([header[0], header[1]]), value));
        body = rest.get(length.next_multiple_of(4)..)?;
    }
    Some(all)
}

/// An address as an attribute that no router rewrites on its way (RFC 8489 section 14.2).
fn xored(address: SocketAddr, transaction: Transaction) -> Vec<u8> {
    let mut mask = COOKIE.to_vec();
    mask.extend(transaction);
    let xor = |bytes: &[u8]| -> Vec<u8> {
        let pairs = bytes.iter().zip(&mask);
        pairs.map(|(byte, mask)| byte ^ mask).collect()
    };
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (FAMILY_IPV4, xor(&Ipv4Addr::octets(&ip))),
        IpAddr::V6(ip) => (FAMILY_IPV6, xor(&Ipv6Addr::octets(&ip))),
    };
    let port = xor(&address.port().to_be_bytes());
    [&[0, family], &port[..], &ip[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Transaction = *b"transaction!";

    #[test]
    fn what_is_written_is_read() {
        let peer: SocketAddr = "192.0.2.1:80".parse().unwrap();
        for (bytes, method, class) in [
            (binding(T), BINDING, Class::Request),
            (allocate(T, TCP, peer), ALLOCATE, Class::Request),
            (
                create_permission(T, peer),
                CREATE_PERMISSION,
                Class::Request,
            ),
            (send(T, peer, b"hello"), SEND, Class::Indication),
            (connect(T, peer), CONNECT, Class::Request),
            (
                connection_bind(T, &[1, 2, 3, 4]),
                CONNECTION_BIND,
                Class::Request,
            ),
        ] {
            let (message, length) = Message::parse(&bytes).unwrap().unwrap();
            assert_eq!((message.method, message.class), (method, class));
            assert_eq!((message.transaction, length), (T, bytes.len()));
            for end in 0..bytes.len() {
                assert_eq!(Message::parse(&bytes[..end]), Ok(None), "{end}");
            }
        }
        let (sent, _) = Message::parse(&send(T, peer, b"hello")).unwrap().unwrap();
        assert_eq!(sent.data(), Some(&b"hello"[..]));
        let (bound, _) = Message::parse(&connection_bind(T, &[1, 2, 3, 4]))
            .unwrap()
            .unwrap();
        assert_eq!(bound.connection_id(), Some(&[1, 2, 3, 4][..]));
    }

    /// RFC 5769 section 2.2: the sample answer over IPv4, for 192.0.2.1:32853.
    #[test]
    fn an_address_is_written_as_the_sample_of_the_rfc_has_it() {
        let transaction = [
            0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae,
        ];
        let address = xored("192.0.2.1:32853".parse().unwrap(), transaction);
        assert_eq!(address, [0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        let address = xored(
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853"
                .parse()
                .unwrap(),
            transaction,
        );
        assert_eq!(address[..8], [0, 2, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa]);
    }

    #[test]
    fn an_error_has_a_code_and_hostile_bytes_are_refused() {
        let error = write(
            ALLOCATE,
            Class::Error,
            T,
            &[(ERROR_CODE, vec![0, 0, 4, 1, b'U'])],
        );
        let (message, _) = Message::parse(&error).unwrap().unwrap();
        assert_eq!((message.class, message.error_code()), (Class::Error, 401));
        assert_eq!(Message::parse(b"SSH-2.0"), Err(Unreadable::Garbled));
        assert_eq!(
            Message::parse(b"\x01\x01\0\0HTTP"),
            Err(Unreadable::Garbled)
        );
        let mut long = binding(T);
        long[2] = 0xff;
        assert_eq!(Message::parse(&long), Err(Unreadable::TooLong));
        let mut cut = error;
        cut[23] = 200;
        assert_eq!(Message::parse(&cut), Err(Unreadable::Garbled));
    }
}
