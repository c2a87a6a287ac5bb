//! The addresses of a campaign as arithmetic: which one is the n-th, without a list of them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    addresses::{AddressSet, address, is_v4, number},
    target::Target,
};

/// Addresses, less exclusions, cut into blocks: /24 for IPv4, /64 for IPv6. A block is the unit that rate
/// limits and leases are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSpace {
    set: AddressSet,
    runs: Vec<Run>,
    blocks: u64,
    addresses: u64,
}

/// Consecutive blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// Bits below the block's prefix: 8 or 64.
    shift: u32,
    first: u128,
    last: u128,
    /// Blocks in the runs before.
    start: u64,
}

/// One block of a space: the addresses of one /24 or /64 that are targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The whole /24 or /64.
    pub prefix: IpNet,
    ranges: Vec<(u128, u128)>,
    /// How many of its addresses are targets.
    pub addresses: u64,
}

/// Why a space cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no target is left: give at least one address that is not excluded")]
    Empty,
    /// Nobody can visit so many addresses.
    #[error(
        "{0} holds more than 2^32 addresses, which no scan can visit: list IPv6 prefixes of /96 or longer, or the addresses that are in use"
    )]
    TooLarge(Target),
}

const MAX_RANGE: u128 = 1 << 32;

impl TargetSpace {
    /// The addresses of `include` that are not in `exclude`.
    pub fn new(include: &[Target], exclude: &[Target]) -> Result<Self, Error> {
        let too_large = |t: &&Target| number(t.last) - number(t.first) >= MAX_RANGE;
        if let Some(target) = include.iter().find(too_large) {
            return Err(Error::TooLarge(*target));
        }
        let set = AddressSet::new(include).without(&AddressSet::new(exclude));
        if set.is_empty() {
            return Err(Error::Empty);
        }
        let runs = runs(set.ranges());
        let blocks = runs
            .last()
            .map_or(0, |run| run.start + (run.last - run.first) as u64 + 1);
        let addresses = set.ranges().iter().map(|(a, b)| (b - a) as u64 + 1).sum();
        Ok(Self {
            set,
            runs,
            blocks,
            addresses,
        })
    }

    /// How many blocks hold a target.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// How many addresses there are.
    pub fn addresses(&self) -> u64 {
        self.addresses
    }

    /// True if the address is a target.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.set.contains(ip)
    }

    /// Returns the index of the block that a target is in. Returns none for any other address.
    pub fn block_of(&self, target: IpAddr) -> Option<u64> {
        if !self.contains(target) {
            return None;
        }
        let at = number(target);
        let begun = |run: &Run| run.first << run.shift <= at;
        let run = self.runs[self.runs.partition_point(begun) - 1];
        Some(run.start + ((at >> run.shift) - run.first) as u64)
    }

    /// The block of this index. Panics if `index >= blocks()`.
    pub fn block(&self, index: u64) -> Block {
        assert!(index < self.blocks, "block {index} of {}", self.blocks);
        let run = self.runs[self.runs.partition_point(|run| run.start <= index) - 1];
        let key = run.first + u128::from(index - run.start);
        let first = key << run.shift;
        let last = first | ((1 << run.shift) - 1);
        let all = self.set.ranges();
        let from = all.partition_point(|&(_, end)| end < first);
        let ranges: Vec<(u128, u128)> = all[from..]
            .iter()
            .take_while(|&&(start, _)| start <= last)
            .map(|&(start, end)| (start.max(first), end.min(last)))
            .collect();
        Block {
            prefix: prefix_of(address(first)),
            addresses: ranges.iter().map(|(a, b)| (b - a) as u64 + 1).sum(),
            ranges,
        }
    }
}

impl Block {
    /// The n-th target of the block. Panics if `index >= addresses`.
    pub fn address(&self, index: u64) -> IpAddr {
        let mut left = u128::from(index);
        for &(first, last) in &self.ranges {
            if left <= last - first {
                return address(first + left);
            }
            left -= last - first + 1;
        }
        panic!("address {index} of {}", self.addresses)
    }

    /// The number of an address, if it is a target of the block.
    pub fn index(&self, ip: IpAddr) -> Option<u64> {
        let ip = number(ip);
        let mut before = 0;
        for &(first, last) in &self.ranges {
            if (first..=last).contains(&ip) {
                return Some((before + (ip - first)) as u64);
            }
            before += last - first + 1;
        }
        None
    }
}

/// The /24 or /64 that an address is in.
pub fn prefix_of(ip: IpAddr) -> IpNet {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpNet::V4(Ipv4Net::new_assert(ip, 24).trunc()),
        IpAddr::V6(ip) => IpNet::V6(Ipv6Net::new_assert(ip, 64).trunc()),
    }
}

/// Returns the addresses that one peer may have: a single one of IPv4, a whole /64 of IPv6.
pub fn peer_of(ip: IpAddr) -> IpNet {
    match ip.to_canonical() {
        ip @ IpAddr::V4(_) => ip.into(),
        ip @ IpAddr::V6(_) => prefix_of(ip),
    }
}

fn runs(ranges: &[(u128, u128)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut blocks = 0;
    for &(from, to) in ranges {
        let shift = if is_v4(from) { 8 } else { 64 };
        let (mut first, last) = (from >> shift, to >> shift);
        match runs.last_mut() {
            Some(run) if run.shift == shift && first <= run.last + 1 => {
                first = run.last + 1;
                run.last = run.last.max(last);
            }
            _ => runs.push(Run {
                shift,
                first,
                last,
                start: blocks,
            }),
        }
        if first <= last {
            blocks += (last - first) as u64 + 1;
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(include: &[&str], exclude: &[&str]) -> Result<TargetSpace, Error> {
        let parse = |list: &[&str]| list.iter().map(|t| t.parse().unwrap()).collect::<Vec<_>>();
        TargetSpace::new(&parse(include), &parse(exclude))
    }

    fn listed(space: &TargetSpace) -> Vec<String> {
        (0..space.blocks())
            .map(|i| space.block(i))
            .flat_map(|block| (0..block.addresses).map(move |i| block.address(i).to_string()))
            .collect()
    }

    #[test]
    fn blocks_hold_every_address_once_and_nothing_else() {
        let space = space(
            &[
                "10.0.0.254-10.0.2.1",
                "10.0.2.5",
                "10.0.0.255",
                "2001:db8::fffe/127",
                "2001:db8:0:1::1",
            ],
            &["10.0.1.1-10.0.1.254", "10.0.0.0/25"],
        )
        .unwrap();
        assert_eq!(
            listed(&space),
            [
                "10.0.0.254",
                "10.0.0.255",
                "10.0.1.0",
                "10.0.1.255",
                "10.0.2.0",
                "10.0.2.1",
                "10.0.2.5",
                "2001:db8::fffe",
                "2001:db8::ffff",
                "2001:db8:0:1::1"
            ]
        );
        assert_eq!((space.blocks(), space.addresses()), (5, 10));
        assert_eq!(space.block(2).prefix.to_string(), "10.0.2.0/24");
        assert_eq!(space.block(4).prefix.to_string(), "2001:db8:0:1::/64");
        for index in 0..space.blocks() {
            let block = space.block(index);
            for n in 0..block.addresses {
                assert_eq!(space.block_of(block.address(n)), Some(index));
            }
        }
        assert_eq!(space.block_of("10.0.1.9".parse().unwrap()), None);
        assert!(space.contains("10.0.2.5".parse().unwrap()));
        assert!(!space.contains("10.0.1.9".parse().unwrap()));
    }

    #[test]
    fn all_of_ipv4_is_a_few_words() {
        let space = space(&["0.0.0.0/0"], &[]).unwrap();
        assert_eq!((space.blocks(), space.addresses()), (1 << 24, 1 << 32));
        assert_eq!(space.block(1 << 23).address(9).to_string(), "128.0.0.9");
        assert_eq!(space.set.ranges().len(), 1);
    }

    #[test]
    fn an_empty_or_boundless_space_is_refused() {
        assert_eq!(space(&[], &[]), Err(Error::Empty));
        assert_eq!(space(&["10.0.0.0/24"], &["10.0.0.0/8"]), Err(Error::Empty));
        assert!(matches!(
            space(&["2001:db8::/64"], &[]),
            Err(Error::TooLarge(_))
        ));
        assert!(matches!(space(&["::/0"], &[]), Err(Error::TooLarge(_))));
    }

    #[test]
    fn one_hole_may_span_several_ranges() {
        let space = space(
            &["10.0.0.1", "10.0.0.3", "10.0.0.5", "10.0.0.9"],
            &["10.0.0.2-10.0.0.6"],
        )
        .unwrap();
        assert_eq!(listed(&space), ["10.0.0.1", "10.0.0.9"]);
    }

    #[test]
    fn all_of_ipv6_holds_no_ipv4_address() {
        let listed = |exclude: &str| {
            space(&["192.0.2.1", "::fffe:ffff:ffff", "::1:0:0:0"], &[exclude]).map(|s| listed(&s))
        };
        assert_eq!(listed("::/0"), Ok(vec!["192.0.2.1".to_owned()]));
        assert_eq!(listed("192.0.2.1").map(|left| left.len()), Ok(2));
    }
}
