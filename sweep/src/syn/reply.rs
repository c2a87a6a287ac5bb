//! What comes back: pure, and strict. A packet that does not repeat the cookie of a SYN is none of ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, TcpHeaderSlice};

use super::cookie::Cookies;

/// What a target, or the network before it, said to a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// SYN-ACK.
    Open,
    /// RST.
    Closed,
    /// ICMP: the address cannot be reached, or a hop limit ended on the way (RFC 792; RFC 4443 sections 3.1 and 3.3).
    Unreachable,
}

/// One reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Whom the SYN was sent to.
    pub target: SocketAddr,
    /// The address of ours that it was sent from.
    pub ours: IpAddr,
    pub said: Said,
}

/// The ends of an IP packet, what it carries, and that.
struct Ip<'a> {
    from: IpAddr,
    to: IpAddr,
    carries: IpNumber,
    payload: &'a [u8],
}

/// Reads an IP packet, which may be cut short: a reply to one of our SYNs, or none.
pub fn read(packet: &[u8], cookies: &Cookies) -> Option<Reply> {
    let ip = ip(packet)?;
    match ip.carries {
        IpNumber::TCP => answer(&ip, cookies),
        IpNumber::ICMP | IpNumber::IPV6_ICMP => error(&ip, cookies),
        _ => None,
    }
}

fn ip(packet: &[u8]) -> Option<Ip<'_>> {
    match packet.first()? >> 4 {
        4 => {
            let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
            let whole = header.fragments_offset().value() == 0;
            whole.then(|| Ip {
                from: Ipv4Addr::from(header.source()).into(),
                to: Ipv4Addr::from(header.destination()).into(),
                carries: header.protocol(),
                payload: &packet[header.slice().len()..],
            })
        }
        6 => {
            let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
            Some(Ip {
                from: Ipv6Addr::from(header.source()).into(),
                to: Ipv6Addr::from(header.destination()).into(),
                carries: header.next_header(),
                payload: &packet[header.slice().len()..],
            })
        }
        _ => None,
    }
}

/// RFC 9293 section 3.10.7.3: whoever answers a SYN acknowledges its sequence number and one more.
fn answer(ip: &Ip<'_>, cookies: &Cookies) -> Option<Reply> {
    let tcp = TcpHeaderSlice::from_slice(ip.payload).ok()?;
    let target = SocketAddr::new(ip.from, tcp.source_port());
    let expected = cookies.sequence(ip.to, target).wrapping_add(1);
    let ours = tcp.destination_port() == cookies.port()
        && tcp.ack()
        && tcp.acknowledgment_number() == expected;
    let said = match (tcp.rst(), tcp.syn()) {
        (true, _) => Said::Closed,
        (false, true) => Said::Open,
        (false, false) => return None,
    };
    ours.then_some(Reply {
        target,
        ours: ip.to,
        said,
    })
}

/// An ICMP error repeats the packet that it is about, of which the first eight bytes after its IP header are certain.
fn error(ip: &Ip<'_>, cookies: &Cookies) -> Option<Reply> {
    const V4: [u8; 2] = [3, 11];
    const V6: [u8; 2] = [1, 3];
    let (head, about) = ip.payload.split_at_checked(8)?;
    let kinds = match ip.carries {
        IpNumber::ICMP => V4,
        _ => V6,
    };
    let about = self::ip(about).filter(|about| about.carries == IpNumber::TCP)?;
    let (source, rest) = about.payload.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let sequence = rest.first_chunk::<4>()?;
    let target = SocketAddr::new(about.to, u16::from_be_bytes(*port));
    let ours = kinds.contains(&head[0])
        && u16::from_be_bytes(*source) == cookies.port()
        && u32::from_be_bytes(*sequence) == cookies.sequence(about.from, target);
    ours.then_some(Reply {
        target,
        ours: about.from,
        said: Said::Unreachable,
    })
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::{
        super::packet::{LONGEST, Syn},
        *,
    };

    const OURS: [u8; 4] = [192, 0, 2, 1];
    const TARGET: [u8; 4] = [198, 51, 100, 7];

    fn cookies() -> Cookies {
        Cookies::new([7; 16], 40_000)
    }

    fn expected(said: Said) -> Option<Reply> {
        Some(Reply {
            target: (TARGET, 25).into(),
            ours: OURS.into(),
            said,
        })
    }

    /// A packet from the target's port 25 to our port, with these flags set.
    fn tcp(acknowledgment: u32, set: impl Fn(&mut etherparse::TcpHeader)) -> Vec<u8> {
        let mut header = etherparse::TcpHeader::new(25, 40_000, 99, 1000);
        header.ack = true;
        header.acknowledgment_number = acknowledgment;
        set(&mut header);
        let mut packet = Vec::new();
        PacketBuilder::ipv4(TARGET, OURS, 60)
            .tcp_header(header)
            .write(&mut packet, b"")
            .unwrap();
        packet
    }

    fn sequence() -> u32 {
        cookies().sequence(OURS.into(), (TARGET, 25).into())
    }

    #[test]
    fn answers_are_told_apart_and_strangers_ignored() {
        let right = sequence().wrapping_add(1);
        let check = |packet: &[u8], expect| assert_eq!(read(packet, &cookies()), expect);
        check(&tcp(right, |tcp| tcp.syn = true), expected(Said::Open));
        check(&tcp(right, |tcp| tcp.rst = true), expected(Said::Closed));
        check(&tcp(right, |_| ()), None);
        check(&tcp(right ^ 1, |tcp| tcp.syn = true), None);
        check(&tcp(right, |tcp| tcp.source_port = 26), None);
        check(
            &tcp(right, |tcp| (tcp.syn, tcp.destination_port) = (true, 1)),
            None,
        );
        check(&tcp(right, |tcp| (tcp.syn, tcp.ack) = (true, false)), None);
        let whole = tcp(right, |tcp| tcp.syn = true);
        for length in 0..whole.len() {
            check(&whole[..length], None);
        }
    }

    /// An ICMP error about a SYN of ours, of which it repeats so many bytes.
    fn icmp(kind: u8, repeated: usize) -> Vec<u8> {
        let mut about = [0; LONGEST];
        let length =
            Syn::new(OURS.into(), 40_000).write(&mut about, &cookies(), (TARGET, 25).into());
        let mut packet = Vec::new();
        PacketBuilder::ipv4([203, 0, 113, 9], OURS, 60)
            .icmpv4_raw(kind, 1, [0; 4])
            .write(&mut packet, &about[..length.min(repeated)])
            .unwrap();
        packet
    }

    #[test]
    fn an_error_counts_if_it_repeats_our_syn() {
        for kind in [3, 11] {
            assert_eq!(
                read(&icmp(kind, 28), &cookies()),
                expected(Said::Unreachable)
            );
        }
        assert_eq!(read(&icmp(0, 28), &cookies()), None);
        assert_eq!(read(&icmp(3, 27), &cookies()), None);
        let mut forged = icmp(3, 28);
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(read(&forged, &cookies()), None);
    }

    #[test]
    fn replies_over_ipv6_are_read() {
        let (ours, target): (Ipv6Addr, Ipv6Addr) = (
            "2001:db8::1".parse().unwrap(),
            "2001:db8::7".parse().unwrap(),
        );
        let endpoint = SocketAddr::new(target.into(), 3128);
        let sequence = cookies().sequence(ours.into(), endpoint);
        let reply = |said| {
            Some(Reply {
                target: endpoint,
                ours: ours.into(),
                said,
            })
        };
        let mut packet = Vec::new();
        PacketBuilder::ipv6(target.octets(), ours.octets(), 60)
            .tcp(3128, 40_000, 5, 1000)
            .syn()
            .ack(sequence.wrapping_add(1))
            .write(&mut packet, b"")
            .unwrap();
        assert_eq!(read(&packet, &cookies()), reply(Said::Open));
        let mut about = [0; LONGEST];
        Syn::new(ours.into(), 40_000).write(&mut about, &cookies(), endpoint);
        for kind in [1, 3] {
            let mut packet = Vec::new();
            PacketBuilder::ipv6(target.octets(), ours.octets(), 60)
                .icmpv6_raw(kind, 0, [0; 4])
                .write(&mut packet, &about)
                .unwrap();
            assert_eq!(read(&packet, &cookies()), reply(Said::Unreachable));
        }
    }
}
