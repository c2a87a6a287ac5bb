//! Special-purpose address space, from the IANA registries (RFC 6890, RFC 8190) as they stand in `data/`, in IANA's own
//! layout, so that a newer copy is one download; multicast and site-local blocks, which other registries hold, follow in the
//! same layout.

use std::{net::IpAddr, sync::LazyLock};

use ipnet::IpNet;

const REGISTRIES: [&str; 3] = [
    include_str!("../data/iana-ipv4-special-registry.csv"),
    include_str!("../data/iana-ipv6-special-registry.csv"),
    include_str!("../data/not-unicast.csv"),
];

/// A row of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its addresses.
    pub network: IpNet,
    /// Its name.
    pub name: String,
    /// The RFC that defines it.
    pub reference: String,
    /// False where the registry says so, or does not say: such space is denied unless an authorization names it.
    pub globally_reachable: bool,
}

/// The most specific block that holds an address.
pub fn block_of(ip: IpAddr) -> Option<&'static Block> {
    let ip = ip.to_canonical();
    TABLE
        .iter()
        .filter(|block| block.network.contains(&ip))
        .max_by_key(|block| block.network.prefix_len())
}

/// The block that an address is denied for; none where it is ordinary or globally reachable.
pub fn denied(ip: IpAddr) -> Option<&'static Block> {
    block_of(ip).filter(|block| !block.globally_reachable)
}

/// Every block, in the order of the registries.
pub fn blocks() -> &'static [Block] {
    &TABLE
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

    #[test]
    fn the_registries_are_read_whole() {
        assert_eq!(blocks().len(), 26 + 25 + 3);
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
