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

/// Writes the SYN from one of our addresses to a target as an IP packet, and returns its length. Both must be of one family.
pub fn syn(into: &mut [u8; LONGEST], cookies: &Cookies, ours: IpAddr, target: SocketAddr) -> usize {
    let sequence = cookies.sequence(ours, target);
    let mut tcp = TcpHeader::new(cookies.port(), target.port(), sequence, WINDOW);
    tcp.syn = true;
    match (ours, target.ip()) {
        (IpAddr::V4(ours), IpAddr::V4(target)) => v4(into, tcp, ours, target),
        (IpAddr::V6(ours), IpAddr::V6(target)) => v6(into, tcp, ours, target),
        (ours, target) => panic!("no packet goes from {ours} to {target}"),
    }
}

fn v4(into: &mut [u8; LONGEST], mut tcp: TcpHeader, ours: Ipv4Addr, target: Ipv4Addr) -> usize {
    set_segment_size(&mut tcp, 1460);
    let (from, to) = (ours.octets(), target.octets());
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

fn v6(into: &mut [u8; LONGEST], mut tcp: TcpHeader, ours: Ipv6Addr, target: Ipv6Addr) -> usize {
    set_segment_size(&mut tcp, 1440);
    let (source, destination) = (ours.octets(), target.octets());
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
            assert_eq!(syn(&mut packet, &cookies, ours, target), length);
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
