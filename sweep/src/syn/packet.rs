//! The packets that are sent: SYNs, headers and all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{IpNumber, Ipv4Header, Ipv6Header, TcpHeader, TcpOptionElement};

use super::cookie::Cookies;

/// The longest SYN, in bytes: IPv6, TCP, one option.
pub const LONGEST: usize = Ipv6Header::LEN + TCP;

/// A TCP header with the option for the segment size, without which some hosts do not answer.
const TCP: usize = TcpHeader::MIN_LEN + 4;
/// What systems with a window like this send; nothing is ever received in it.
const WINDOW: u16 = 64_240;
const HOPS: u8 = 64;

/// The SYN from one of our addresses to nobody yet.
#[derive(Debug, Clone)]
pub struct Syn {
    ours: IpAddr,
    packet: [u8; LONGEST],
    length: usize,
}

impl Syn {
    pub fn new(ours: IpAddr, port: u16) -> Self {
        let mut tcp = TcpHeader::new(port, 0, 0, WINDOW);
        tcp.syn = true;
        let mut packet = [0; LONGEST];
        let length = match ours {
            IpAddr::V4(ours) => v4(&mut packet, tcp, ours),
            IpAddr::V6(ours) => v6(&mut packet, tcp, ours),
        };
        Self {
            ours,
            packet,
            length,
        }
    }

    /// Our address.
    pub fn ours(&self) -> IpAddr {
        self.ours
    }

    /// Writes the one to this target as an IP packet, and returns its length. Both must be of one family.
    pub fn write(&self, into: &mut [u8; LONGEST], cookies: &Cookies, target: SocketAddr) -> usize {
        into.copy_from_slice(&self.packet);
        let (ip, tcp) = into.split_at_mut(self.length - TCP);
        let (mut sum, to) = (0, ip.len());
        match (self.ours, target.ip()) {
            (IpAddr::V4(_), IpAddr::V4(target)) => {
                add(&mut sum, &target.octets());
                ip[to - 4..].copy_from_slice(&target.octets());
                update(&mut ip[10..12], sum);
            }
            (IpAddr::V6(_), IpAddr::V6(target)) => {
                add(&mut sum, &target.octets());
                ip[to - 16..].copy_from_slice(&target.octets());
            }
            (ours, target) => panic!("no packet goes from {ours} to {target}"),
        }
        let port = target.port().to_be_bytes();
        let sequence = cookies.sequence(self.ours, target).to_be_bytes();
        tcp[2..4].copy_from_slice(&port);
        tcp[4..8].copy_from_slice(&sequence);
        add(&mut sum, &port);
        add(&mut sum, &sequence);
        update(&mut tcp[16..18], sum);
        self.length
    }
}

/// Adds 16-bit words to a sum.
fn add(sum: &mut u32, words: &[u8]) {
    for word in words.chunks_exact(2) {
        *sum += u32::from(u16::from_be_bytes([word[0], word[1]]));
    }
}

/// A checksum over words that were zero and now add up to `sum` (RFC 1624 section 3).
fn update(checksum: &mut [u8], sum: u32) {
    let mut sum = sum + u32::from(!u16::from_be_bytes([checksum[0], checksum[1]]));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    checksum.copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

fn v4(into: &mut [u8; LONGEST], mut tcp: TcpHeader, ours: Ipv4Addr) -> usize {
    set_segment_size(&mut tcp, 1460);
    let (from, to) = (ours.octets(), [0; 4]);
    let mut ip = Ipv4Header::new(TCP as u16, HOPS, IpNumber::TCP, from, to)
        .expect("a header's length fits into its field");
    ip.dont_fragment = true;
    ip.header_checksum = ip.calc_header_checksum();
    tcp.checksum = tcp
        .calc_checksum_ipv4_raw(from, to, &[])
        .expect("nothing follows the header");
    let (ip, tcp) = (ip.to_bytes(), tcp.to_bytes());
    into[..ip.len()].copy_from_slice(&ip);
    into[ip.len()..ip.len() + TCP].copy_from_slice(&tcp);
    ip.len() + TCP
}

fn v6(into: &mut [u8; LONGEST], mut tcp: TcpHeader, ours: Ipv6Addr) -> usize {
    set_segment_size(&mut tcp, 1440);
    let (source, destination) = (ours.octets(), [0; 16]);
    let ip = Ipv6Header {
        payload_length: TCP as u16,
        next_header: IpNumber::TCP,
        hop_limit: HOPS,
        source,
        destination,
        ..Ipv6Header::default()
    };
    tcp.checksum = tcp
        .calc_checksum_ipv6_raw(source, destination, &[])
        .expect("nothing follows the header");
    into[..Ipv6Header::LEN].copy_from_slice(&ip.to_bytes());
    into[Ipv6Header::LEN..].copy_from_slice(&tcp.to_bytes());
    LONGEST
}

fn set_segment_size(tcp: &mut TcpHeader, size: u16) {
    tcp.set_options(&[TcpOptionElement::MaximumSegmentSize(size)])
        .expect("one option fits into the header");
}

#[cfg(test)]
mod tests {
    use etherparse::{SlicedPacket, TransportSlice};

    use super::*;

    #[test]
    fn a_syn_says_what_it_should_in_both_families() {
        let cookies = Cookies::new([7; 16], 40_000);
        for (ours, target, length) in [
            ("192.0.2.1", "198.51.100.7:25", 44),
            ("2001:db8::1", "[2001:db8::7]:3128", 64),
        ] {
            let (ours, target) = (ours.parse().unwrap(), target.parse().unwrap());
            let mut packet = [0; LONGEST];
            let written = Syn::new(ours, 40_000).write(&mut packet, &cookies, target);
            assert_eq!(written, length);
            let read = SlicedPacket::from_ip(&packet[..length]).unwrap();
            let ip = match read.net.unwrap() {
                etherparse::NetSlice::Ipv4(ip) => {
                    let header = ip.header().to_header();
                    assert_eq!(header.header_checksum, header.calc_header_checksum());
                    assert!(header.dont_fragment);
                    (header.source.into(), header.destination.into())
                }
                etherparse::NetSlice::Ipv6(ip) => {
                    let header = ip.header();
                    (
                        IpAddr::V6(header.source_addr()),
                        IpAddr::V6(header.destination_addr()),
                    )
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(ip, (ours, target.ip()));
            let Some(TransportSlice::Tcp(tcp)) = read.transport else {
                panic!("no TCP");
            };
            assert!(tcp.syn() && !tcp.ack() && !tcp.rst());
            assert_eq!(tcp.destination_port(), target.port());
            assert_eq!(tcp.source_port(), 40_000);
            assert_eq!(tcp.sequence_number(), cookies.sequence(ours, target));
            let expect = match (ours, target.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    tcp.calc_checksum_ipv4(from.octets(), to.octets())
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    tcp.calc_checksum_ipv6(from.octets(), to.octets())
                }
                _ => unreachable!(),
            };
            assert_eq!(Ok(tcp.checksum()), expect);
        }
    }
}
