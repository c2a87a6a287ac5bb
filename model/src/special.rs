//! Special-purpose address space, from the IANA registries (RFC 6890, RFC 8190) as they stand in `data/`, in IANA's own
//! layout, so that a newer copy is one download; multicast and site-local blocks, which other registries hold, follow in the
//! same layout. Metadata services of clouds are special beyond that: nothing allows them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use ipnet::IpNet;

use crate::addresses::{is_v4, number};

const REGISTRIES: [&str; 3] = [
    include_str!("../data/iana-ipv4-special-registry.csv"),
    include_str!("../data/iana-ipv6-special-registry.csv"),
    include_str!("../data/not-unicast.csv"),
];

/// A row of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub network: IpNet,
    pub name: String,
    /// The RFC that defines it.
    pub reference: String,
    /// False if the registry says so, or does not say: such space is denied unless an authorization names it.
    pub globally_reachable: bool,
}

/// The most specific block that holds an address.
pub fn block_of(ip: IpAddr) -> Option<&'static Block> {
    let at = number(ip.to_canonical());
    let after = SPANS.partition_point(|(first, _)| *first <= at);
    let (_, block) = SPANS[after.checked_sub(1)?];
    block.map(|block| &TABLE[block])
}

/// The block that an address is denied for; none if it is ordinary or globally reachable.
pub fn denied(ip: IpAddr) -> Option<&'static Block> {
    block_of(ip).filter(|block| !block.globally_reachable)
}

/// Every block, in the order of the registries.
pub fn blocks() -> &'static [Block] {
    &TABLE
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16, c: u16, g: u16, h: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, g, h))
}

/// Addresses of cloud metadata services. They hand credentials to whoever asks from inside: never, whatever is signed.
pub(crate) const METADATA: [IpAddr; 15] = [
    v4(169, 254, 169, 254),              // most clouds
    v4(100, 100, 100, 200),              // Alibaba Cloud
    v4(168, 63, 129, 16),                // Azure's platform channel; not in special-purpose space
    v4(169, 254, 0, 23),                 // Tencent Cloud
    v4(169, 254, 42, 42),                // Scaleway
    v4(169, 254, 170, 2),                // Amazon ECS task credentials
    v4(169, 254, 170, 23),               // Amazon EKS pod credentials
    v4(192, 0, 0, 192),                  // Oracle Cloud (Classic)
    v6(0xfd00, 0x42, 0, 0, 0x42),        // Scaleway
    v6(0xfd00, 0xa9fe, 0xa9fe, 0, 1),    // Linode
    v6(0xfd00, 0xc1, 0, 0xa9fe, 0xa9fe), // Oracle Cloud
    v6(0xfd00, 0xec2, 0, 0, 0x23),       // Amazon EKS pod credentials
    v6(0xfd00, 0xec2, 0, 0, 0x254),      // Amazon EC2
    v6(0xfd20, 0xce, 0, 0, 0x254),       // Google Cloud
    v6(0xfe80, 0, 0, 0xa9fe, 0xa9fe),    // OpenStack
];

/// True for an address at which a cloud hands out credentials.
pub fn is_metadata(ip: IpAddr) -> bool {
    METADATA.contains(&ip.to_canonical())
}

static TABLE: LazyLock<Vec<Block>> = LazyLock::new(|| {
    REGISTRIES
        .into_iter()
        .flat_map(|registry| {
            let mut rows = csv::Reader::from_reader(registry.as_bytes());
            let rows: Vec<csv::StringRecord> = rows
                .records()
                .map(|row| row.expect("a registry has ten columns"))
                .collect();
            rows.into_iter().flat_map(|row| blocks_of(&row))
        })
        .collect()
});

/// Where on the line of [`number`] the most specific block changes, in rising order, and to which of [`TABLE`]: every packet
/// is looked up here.
static SPANS: LazyLock<Vec<(u128, Option<usize>)>> = LazyLock::new(|| {
    let ends = |block: &Block| {
        let (first, last) = (block.network.network(), block.network.broadcast());
        (number(first), number(last))
    };
    let mut changes: Vec<u128> = TABLE
        .iter()
        .map(ends)
        .flat_map(|(first, last)| [first, last.saturating_add(1)])
        .collect();
    changes.sort_unstable();
    changes.dedup();
    let most_specific = |at: u128| {
        let holds = |block: &Block| {
            (ends(block).0..=ends(block).1).contains(&at)
                && is_v4(at) == block.network.addr().is_ipv4()
        };
        let holders = (0..TABLE.len()).filter(|block| holds(&TABLE[*block]));
        holders.max_by_key(|block| TABLE[*block].network.prefix_len())
    };
    changes
        .into_iter()
        .map(|at| (at, most_specific(at)))
        .collect()
});

/// A row may name several blocks.
fn blocks_of(row: &csv::StringRecord) -> Vec<Block> {
    row[0]
        .split(',')
        .map(|network| Block {
            network: without_note(network)
                .parse()
                .expect("a registry lists blocks"),
            name: row[1].to_owned(),
            reference: row[2].to_owned(),
            globally_reachable: without_note(&row[8]) == "True",
        })
        .collect()
}

/// IANA marks its notes: `192.0.0.0/24 [2]`.
fn without_note(cell: &str) -> &str {
    cell.split('[').next().unwrap_or(cell).trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addresses::address;

    #[test]
    fn the_registries_are_read_whole() {
        assert_eq!(blocks().len(), 26 + 25 + 3);
    }

    #[test]
    fn the_look_up_is_the_search_of_every_block() {
        let searched = |ip: IpAddr| {
            let holders = blocks().iter().filter(|block| block.network.contains(&ip));
            holders.max_by_key(|block| block.network.prefix_len())
        };
        let edges = blocks().iter().flat_map(|block| {
            let (first, last) = (
                number(block.network.network()),
                number(block.network.broadcast()),
            );
            [first.saturating_sub(1), first, last, last.saturating_add(1)]
        });
        for ip in edges.map(address) {
            assert_eq!(block_of(ip), searched(ip), "{ip}");
        }
    }

    #[test]
    fn space_is_denied_as_the_registries_say() {
        let check = |ip: &str, expect: Option<&str>| {
            let found = denied(ip.parse().unwrap()).map(|block| block.name.as_str());
            assert_eq!(found, expect, "{ip}");
        };
        check("8.8.8.8", None);
        check("10.255.255.255", Some("Private-Use"));
        check("11.0.0.0", None);
        check("100.63.255.255", None);
        check("100.127.255.255", Some("Shared Address Space"));
        check("172.31.255.255", Some("Private-Use"));
        check("172.32.0.0", None);
        check("192.0.0.9", None);
        check("192.0.0.11", Some("IETF Protocol Assignments"));
        check("192.0.0.171", Some("NAT64/DNS64 Discovery"));
        check("192.88.99.1", Some("Deprecated (6to4 Relay Anycast)"));
        check("224.0.0.1", Some("Multicast"));
        check("255.255.255.255", Some("Limited Broadcast"));
        check("::ffff:10.0.0.1", Some("Private-Use"));
        check("2001:db8::1", Some("Documentation"));
        check("2001:20::1", None);
        check("2001:0:1::", Some("TEREDO"));
        check("2606:4700::1", None);
        check("fe80::1", Some("Link-Local Unicast"));
        check("ff02::1", Some("Multicast"));
    }
}
