//! A campaign as arithmetic: what follows from its specification, worked out once.

use std::{collections::BTreeSet, net::SocketAddr, ops::Range};

use ipnet::IpNet;

use crate::{
    campaign::Spec,
    id::CampaignId,
    lease::Work,
    ports::Ports,
    shard::{self, ShardSpace},
    space::{self, TargetSpace},
};

/// Shards of a campaign that is neither tiny nor vast. Enough to share among workers, few enough to list.
const SHARDS: u64 = 256;
/// Most blocks of one shard: what one lease holds, and what is lost in time when its worker dies.
const MAX_BLOCKS: u64 = 4096;
/// Shards that reach a campaign's rate together: each block adds no more than the rate of a prefix.
const SIDE_BY_SIDE: u64 = 8;
/// Targets that are worth a lease, at any rate.
const WORTHWHILE: u64 = 128;
/// At a high rate a lease is worth its trouble if it uses up the rate of the whole for 1/16 s, or is this large.
const WORTHWHILE_OF_RATE: u64 = 16;
const LARGE: u64 = 1 << 16;

/// The endpoints of a campaign, and how they are cut into shards.
#[derive(Debug, Clone)]
pub struct Plan {
    campaign: CampaignId,
    space: TargetSpace,
    ports: Ports,
    pace: Pace,
}

impl Plan {
    /// Fails if nothing is left to visit, or more than anybody can.
    pub fn of(campaign: CampaignId, spec: &Spec) -> Result<Self, space::Error> {
        let space = TargetSpace::new(&spec.targets, &spec.exclude)?;
        let pace = Pace {
            rate: spec.rate,
            prefix_rate: spec.prefix_rate,
            targets: space.addresses() * spec.ports.as_slice().len() as u64,
        };
        Ok(Self {
            campaign,
            space,
            ports: spec.ports.clone(),
            pace,
        })
    }

    /// How many (address, port) pairs there are.
    pub fn pairs(&self) -> u64 {
        self.pace.targets
    }

    pub fn space(&self) -> &TargetSpace {
        &self.space
    }

    /// True if the endpoint is one of the campaign's.
    pub fn contains(&self, endpoint: SocketAddr) -> bool {
        self.space.contains(endpoint.ip()) && self.ports.contains(endpoint.port())
    }

    /// The shards, as ranges of permuted block indices.
    pub fn shards(&self) -> Vec<Range<u64>> {
        cut(self.space.blocks(), self.pace)
    }

    /// True if the endpoint is a target of a shard of this work. It needs no memory, however large
    /// the shard is.
    pub fn includes(&self, work: &Work, endpoint: SocketAddr) -> bool {
        match work {
            Work::Sweep(blocks) => {
                let block = || shard::permuted_block(&self.space, self.campaign, endpoint.ip());
                self.ports.contains(endpoint.port())
                    && block().is_some_and(|block| blocks.contains(&block))
            }
            Work::Revisit { endpoints, .. } => endpoints.contains(&endpoint),
        }
    }

    /// The targets of a shard of this work; none if it names blocks that the campaign does not have.
    pub fn targets(&self, work: &Work) -> Option<Targets> {
        match work {
            Work::Sweep(blocks) if blocks.end > self.space.blocks() => None,
            Work::Sweep(blocks) => Some(Targets::Space(ShardSpace::new(
                &self.space,
                &self.ports,
                self.campaign,
                blocks.clone(),
            ))),
            Work::Revisit { endpoints, .. } => Some(Targets::List(endpoints.clone())),
        }
    }
}

/// The targets of one shard, by number.
#[derive(Debug, Clone)]
pub enum Targets {
    /// Those of a range of blocks.
    Space(ShardSpace),
    /// Endpoints that are visited once more.
    List(Vec<SocketAddr>),
}

impl Targets {
    /// How many there are.
    pub fn count(&self) -> u64 {
        match self {
            Targets::Space(space) => space.targets(),
            Targets::List(list) => list.len() as u64,
        }
    }

    /// The target of this number. Panics if `number >= count()`.
    pub fn get(&self, number: u64) -> SocketAddr {
        match self {
            Targets::Space(space) => space.target(number),
            Targets::List(list) => list[number as usize],
        }
    }

    /// The /24 or /64 prefixes that they are in, each once.
    pub fn prefixes(&self) -> Vec<IpNet> {
        match self {
            Targets::Space(space) => space.prefixes(),
            Targets::List(_) => self.prefixes_of(0..self.count()),
        }
    }

    /// The prefixes that some of them are in, each once, in rising order.
    pub fn prefixes_of(&self, numbers: Range<u64>) -> Vec<IpNet> {
        let prefixes: BTreeSet<IpNet> = numbers
            .map(|number| space::prefix_of(self.get(number).ip()))
            .collect();
        prefixes.into_iter().collect()
    }
}

/// How fast a campaign may be, and how much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    rate: u32,
    prefix_rate: u32,
    targets: u64,
}

/// Cuts `blocks` blocks into shards of equal size, the last one smaller. A shard has enough blocks to use its part of the
/// rate, and enough targets to be worth a lease.
fn cut(blocks: u64, pace: Pace) -> Vec<Range<u64>> {
    let by_rate = u64::from(pace.rate).div_ceil(u64::from(pace.prefix_rate.max(1)) * SIDE_BY_SIDE);
    let worthwhile = (u64::from(pace.rate) / WORTHWHILE_OF_RATE).clamp(WORTHWHILE, LARGE);
    let by_targets = (worthwhile.saturating_mul(blocks)).div_ceil(pace.targets.max(1));
    let size = blocks
        .div_ceil(SHARDS)
        .max(by_rate)
        .max(by_targets)
        .min(blocks)
        .clamp(1, MAX_BLOCKS);
    (0..blocks.div_ceil(size))
        .map(|i| i * size..((i + 1) * size).min(blocks))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::target::Target;

    fn all(include: &[&str], ports: &str) -> (Vec<SocketAddr>, u64) {
        let include: Vec<Target> = include.iter().map(|t| t.parse().unwrap()).collect();
        let space = TargetSpace::new(&include, &[]).unwrap();
        let ports: Ports = ports.parse().unwrap();
        let campaign = "01JD3Y5Q9Z8K7W6V5T4S3R2Q1P".parse().unwrap();
        let pace = Pace {
            rate: 500,
            prefix_rate: 20,
            targets: space.addresses() * 5,
        };
        let shards = cut(space.blocks(), pace);
        let targets = shards.into_iter().flat_map(|range| {
            let shard = ShardSpace::new(&space, &ports, campaign, range);
            (0..shard.targets())
                .map(move |n| shard.target(n))
                .collect::<Vec<_>>()
        });
        (
            targets.collect(),
            space.addresses() * ports.as_slice().len() as u64,
        )
    }

    #[test]
    fn all_shards_together_are_the_space_once() {
        for targets in [
            &["10.0.0.0/30"][..],
            &["10.0.0.0/20", "10.1.0.7", "2001:db8::/122", "2001:db8:1::9"],
            &["10.0.0.255-10.0.1.0"],
        ] {
            let (visited, expect) = all(targets, "25,80-82");
            assert_eq!(visited.len() as u64, expect);
            assert_eq!(visited.iter().collect::<HashSet<_>>().len() as u64, expect);
        }
    }

    #[test]
    fn a_shard_includes_its_own_targets_and_no_others() {
        let include = ["10.0.0.9-10.0.3.7", "10.0.9.1", "2001:db8::/122"];
        let include = include.map(|target| target.parse().unwrap());
        let plan = Plan {
            campaign: "01JD3Y5Q9Z8K7W6V5T4S3R2Q1P".parse().unwrap(),
            space: TargetSpace::new(&include, &["10.0.1.7".parse().unwrap()]).unwrap(),
            ports: "25,80-82".parse().unwrap(),
            pace: Pace {
                rate: 1,
                prefix_rate: 1,
                targets: 0,
            },
        };
        let works: Vec<Work> = (0..plan.space().blocks())
            .map(|at| Work::Sweep(at..at + 1))
            .collect();
        let targets = |work: &Work| {
            let targets = plan.targets(work).unwrap();
            (0..targets.count()).map(move |n| targets.get(n))
        };
        let all: Vec<SocketAddr> = works.iter().flat_map(targets).collect();
        for work in &works {
            let own: HashSet<SocketAddr> = targets(work).collect();
            for &target in &all {
                assert_eq!(plan.includes(work, target), own.contains(&target));
            }
            for stranger in [
                "10.0.1.7:25",
                "10.0.0.9:26",
                "10.0.4.0:25",
                "[2001:db8::40]:25",
            ] {
                assert!(
                    !plan.includes(work, stranger.parse().unwrap()),
                    "{stranger}"
                );
            }
        }
    }

    #[test]
    fn every_number_of_blocks_is_covered_by_its_shards() {
        for blocks in (1..=5000).chain([65_536, 1 << 24]) {
            let pace = |rate, targets| Pace {
                rate,
                prefix_rate: 20,
                targets,
            };
            let (slow, fast) = (pace(1, blocks << 8), pace(5000, blocks));
            for shards in [cut(blocks, slow), cut(blocks, fast)] {
                check(blocks, shards);
            }
        }
        let slow = Pace {
            rate: 1,
            prefix_rate: 1,
            targets: 1 << 32,
        };
        assert_eq!(cut(1 << 24, slow).len(), 4096);
    }

    fn check(blocks: u64, shards: Vec<Range<u64>>) {
        assert_eq!(shards.first().map(|s| s.start), Some(0));
        assert_eq!(shards.last().map(|s| s.end), Some(blocks));
        assert!(
            shards
                .windows(2)
                .all(|pair| pair[0].end == pair[1].start && !pair[0].is_empty())
        );
    }

    #[test]
    fn a_shard_has_the_blocks_for_its_part_of_the_rate_and_the_targets_for_a_lease() {
        let check = |blocks: u64, rate, prefix_rate, targets, size: u64| {
            let pace = Pace {
                rate,
                prefix_rate,
                targets,
            };
            assert_eq!(cut(blocks, pace)[0], 0..size);
        };
        check(256, 500, 20, 65_536, 4);
        check(256, 20, 20, 65_536, 1);
        check(256, 5000, 20, 65_536, 32);
        check(255, 2000, 50_000, 1297, 26);
        check(255, 100_000, 50_000, 250 * 255, 25);
        check(1 << 8, u32::MAX, u32::MAX, 1 << 18, 64);
        check(1, 500, 20, 16, 1);
        check(1 << 16, 500, 20, 1 << 24, 256);
    }
}
