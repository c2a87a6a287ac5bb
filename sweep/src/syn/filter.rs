//! What the kernel hands over of all packets that arrive: those that may be replies. Anything more costs a copy each.

use socket2::SockFilter;

/// Bytes of a packet that are worth a look: two IPv6 headers and what follows them.
pub const SNAPPED: usize = 256;

// Operations of classic BPF, see the kernel's Documentation/networking/filter.rst.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE_AT_X: u16 = 0x50;
const LOAD_HALF_AT_X: u16 = 0x48;
const IP_HEADER_LENGTH_TO_X: u16 = 0xb1;
const EQUALS: u16 = 0x15;
const ANY_BIT_OF: u16 = 0x45;
const RETURN: u16 = 0x06;

const SYN_OR_RST: u32 = 0x06;
const ACK: u32 = 0x10;

/// For IPv4 packets without their link's header: SYN-ACK or RST to this port, and ICMP errors.
pub fn v4(port: u16) -> [SockFilter; 16] {
    let op = SockFilter::new;
    [
        op(LOAD_HALF, 0, 0, 6),
        // A fragment that is not the first.
        op(ANY_BIT_OF, 13, 0, 0x1fff),
        op(IP_HEADER_LENGTH_TO_X, 0, 0, 0),
        op(LOAD_BYTE, 0, 0, 9),
        op(EQUALS, 0, 5, 6),
        op(LOAD_HALF_AT_X, 0, 0, 2),
        op(EQUALS, 0, 8, port as u32),
        op(LOAD_BYTE_AT_X, 0, 0, 13),
        op(ANY_BIT_OF, 0, 6, ACK),
        op(ANY_BIT_OF, 4, 5, SYN_OR_RST),
        op(EQUALS, 0, 4, 1),
        op(LOAD_BYTE_AT_X, 0, 0, 0),
        op(EQUALS, 1, 0, 3),
        op(EQUALS, 0, 1, 11),
        op(RETURN, 0, 0, SNAPPED as u32),
        op(RETURN, 0, 0, 0),
    ]
}

/// For IPv6 packets, as [`v4`]. Replies have no extension headers.
pub fn v6(port: u16) -> [SockFilter; 13] {
    let op = SockFilter::new;
    [
        op(LOAD_BYTE, 0, 0, 6),
        op(EQUALS, 0, 5, 6),
        op(LOAD_HALF, 0, 0, 42),
        op(EQUALS, 0, 8, port as u32),
        op(LOAD_BYTE, 0, 0, 53),
        op(ANY_BIT_OF, 0, 6, ACK),
        op(ANY_BIT_OF, 4, 5, SYN_OR_RST),
        op(EQUALS, 0, 4, 58),
        op(LOAD_BYTE, 0, 0, 40),
        op(EQUALS, 1, 0, 1),
        op(EQUALS, 0, 1, 3),
        op(RETURN, 0, 0, SNAPPED as u32),
        op(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use etherparse::{Icmpv4Type, PacketBuilder, PacketBuilderStep};
    use socket2::SockRef;

    use super::*;

    /// Whether the kernel lets a packet pass, on a socket that needs no privilege.
    fn passes(filter: &[SockFilter], packet: &[u8]) -> bool {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        SockRef::from(&ours).attach_filter(filter).unwrap();
        theirs.send(packet).unwrap();
        ours.set_nonblocking(true).unwrap();
        ours.recv(&mut [0; 2048]).is_ok()
    }

    fn tcp(ip: PacketBuilderStep<etherparse::IpHeaders>, port: u16, flags: &str) -> Vec<u8> {
        let mut header = etherparse::TcpHeader::new(25, port, 9, 1000);
        header.syn = flags.contains('S');
        header.ack = flags.contains('A');
        header.rst = flags.contains('R');
        let mut packet = Vec::new();
        ip.tcp_header(header).write(&mut packet, b"").unwrap();
        packet
    }

    fn ip4() -> PacketBuilderStep<etherparse::IpHeaders> {
        PacketBuilder::ipv4([198, 51, 100, 7], [192, 0, 2, 1], 60)
    }

    fn ip6() -> PacketBuilderStep<etherparse::IpHeaders> {
        PacketBuilder::ipv6([7; 16], [1; 16], 60)
    }

    #[test]
    fn only_what_may_be_a_reply_passes() {
        let cases = [
            (40_000, "SA", true),
            (40_000, "RA", true),
            (40_000, "A", false),
            (40_000, "S", false),
            (40_001, "SA", false),
        ];
        for (port, flags, expect) in cases {
            assert_eq!(
                passes(&v4(40_000), &tcp(ip4(), port, flags)),
                expect,
                "{flags}"
            );
            assert_eq!(
                passes(&v6(40_000), &tcp(ip6(), port, flags)),
                expect,
                "{flags}"
            );
        }
        let mut fragment = tcp(ip4(), 40_000, "SA");
        fragment[7] = 1;
        assert!(!passes(&v4(40_000), &fragment));
    }

    #[test]
    fn errors_pass_and_other_messages_do_not() {
        for kind in 0..=255 {
            let unknown = Icmpv4Type::Unknown {
                type_u8: kind,
                code_u8: 0,
                bytes5to8: [0; 4],
            };
            let mut packet = Vec::new();
            ip4().icmpv4(unknown).write(&mut packet, b"").unwrap();
            assert_eq!(
                passes(&v4(40_000), &packet),
                [3, 11].contains(&kind),
                "{kind}"
            );
            let mut packet = Vec::new();
            ip6()
                .icmpv6_raw(kind, 0, [0; 4])
                .write(&mut packet, b"")
                .unwrap();
            assert_eq!(
                passes(&v6(40_000), &packet),
                [1, 3].contains(&kind),
                "{kind}"
            );
        }
    }
}
