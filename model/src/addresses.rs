//! Sets of addresses as few disjoint ranges, on one number line for both families.

use std::net::{IpAddr, Ipv6Addr};

use crate::target::Target;

/// A set of addresses, looked up in logarithmic time. Memory grows with the number of ranges that were named, not with the
/// number of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSet {
    /// Disjoint, sorted, not adjacent; see [`number`].
    ranges: Vec<(u128, u128)>,
}

impl AddressSet {
    /// The union of ranges.
    pub fn new<'a>(targets: impl IntoIterator<Item = &'a Target>) -> Self {
        let mut ranges: Vec<(u128, u128)> = targets.into_iter().flat_map(pieces).collect();
        ranges.sort_unstable();
        ranges.dedup_by(|next, kept| {
            let touches = next.0 <= kept.1.saturating_add(1) && is_v4(next.0) == is_v4(kept.0);
            if touches {
                kept.1 = kept.1.max(next.1);
            }
            touches
        });
        Self { ranges }
    }

    /// The addresses that are not in `holes`.
    pub fn without(&self, holes: &AddressSet) -> Self {
        let mut left = Vec::new();
        let mut holes = holes.ranges.iter().copied().peekable();
        for &(first, last) in &self.ranges {
            let mut at = first;
            while holes.next_if(|hole| hole.1 < first).is_some() {}
            let mut rest = holes.clone();
            while let Some((from, to)) = rest.next_if(|hole| hole.0 <= last) {
                if at < from {
                    left.push((at, from - 1));
                }
                at = at.max(to.saturating_add(1));
                if at > last {
                    break;
                }
            }
            if at <= last {
                left.push((at, last));
            }
        }
        Self { ranges: left }
    }

    /// True if no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// True if the address is in the set; an IPv4-mapped one counts as the IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let at = number(ip.to_canonical());
        self.has((at, at))
    }

    /// True if all of `target` is in the set.
    pub fn covers(&self, target: &Target) -> bool {
        pieces(target).all(|piece| self.has(piece))
    }

    /// The fewest ranges that are the set, as numbers in rising order.
    pub(crate) fn ranges(&self) -> &[(u128, u128)] {
        &self.ranges
    }

    fn has(&self, (first, last): (u128, u128)) -> bool {
        let after = self.ranges.partition_point(|range| range.0 <= first);
        after > 0 && last <= self.ranges[after - 1].1
    }
}

/// Both families on one line: an IPv4 address stands where IPv6 maps it (::ffff:0:0/96), which no canonical
/// IPv6 target uses.
pub(crate) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The address of a [`number`].
pub(crate) fn address(number: u128) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(number)).to_canonical()
}

/// True for the [`number`] of an IPv4 address.
pub(crate) fn is_v4(number: u128) -> bool {
    number >> 32 == u128::from(u16::MAX)
}

/// A range of IPv6 steps over the place of IPv4: `::/0` names no IPv4 address.
fn pieces(target: &Target) -> impl Iterator<Item = (u128, u128)> + use<> {
    let (first, last) = (number(target.first), number(target.last));
    let (below, above) = match target.first {
        IpAddr::V4(_) => ((first, last), (1, 0)),
        IpAddr::V6(_) => (
            (first, last.min((0xffff << 32) - 1)),
            (first.max(1 << 48), last),
        ),
    };
    [below, above]
        .into_iter()
        .filter(|(first, last)| first <= last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(targets: &[&str]) -> AddressSet {
        let targets: Vec<Target> = targets.iter().map(|t| t.parse().unwrap()).collect();
        AddressSet::new(&targets)
    }

    fn covers(targets: &[&str], asked: &str) -> bool {
        set(targets).covers(&asked.parse().unwrap())
    }

    #[test]
    fn neighbours_are_one_range_and_families_are_two() {
        let listed = |targets: &[&str]| -> Vec<String> {
            let set = set(targets);
            let range = |&(first, last): &(u128, u128)| Target {
                first: address(first),
                last: address(last),
            };
            set.ranges().iter().map(|r| range(r).to_string()).collect()
        };
        assert_eq!(
            listed(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.7"]),
            ["10.0.0.0/23"]
        );
        assert_eq!(
            listed(&[
                "255.255.255.255",
                "::1:0:0:0",
                "0.0.0.0",
                "::fffe:ffff:ffff"
            ]),
            [
                "::fffe:ffff:ffff",
                "0.0.0.0",
                "255.255.255.255",
                "::1:0:0:0"
            ]
        );
    }

    #[test]
    fn a_range_is_covered_only_as_a_whole() {
        assert!(covers(&["10.0.0.0/25", "10.0.0.128/25"], "10.0.0.0/24"));
        assert!(!covers(
            &["10.0.0.0/25", "10.0.0.129-10.0.0.255"],
            "10.0.0.0/24"
        ));
        assert!(!covers(&["::/0"], "10.0.0.1"));
        assert!(!covers(&["0.0.0.0/0"], "::/0"));
        assert!(covers(&["::/0"], "::/0"));
        assert!(!covers(&["::/1"], "::/0"));
        assert!(!covers(&[], "10.0.0.1"));
    }

    proptest! {
        #[test]
        fn a_set_is_its_ranges_less_the_holes(
            ranges in prop::collection::vec((0u32..300, 0u32..40), 1..6),
            holes in prop::collection::vec((0u32..300, 0u32..40), 0..6),
        ) {
            let address = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
            let list = |of: &[(u32, u32)]| -> Vec<Target> {
                of.iter().map(|&(at, size)| Target::range(address(at), address(at + size)).unwrap()).collect()
            };
            let (ranges, holes) = (list(&ranges), list(&holes));
            let left = AddressSet::new(&ranges).without(&AddressSet::new(&holes));
            for n in 0..345 {
                let within = |list: &[Target]| list.iter().any(|range| range.contains(address(n)));
                prop_assert_eq!(left.contains(address(n)), within(&ranges) && !within(&holes));
            }
        }
    }
}
