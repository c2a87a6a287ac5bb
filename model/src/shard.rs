//! A campaign cut into shards, and a shard's targets in the order in which they are visited.
//!
//! Blocks are permuted by a key that the campaign's id gives; a shard is a range of permuted block indices. Within a
//! shard the targets of its blocks are interleaved, so that no network sees a burst, and a target's number is
//! its place in that order: a cursor is one integer.

use std::{net::SocketAddr, ops::Range};

use ipnet::IpNet;

use crate::{
    id::CampaignId,
    permutation::Permutation,
    ports::Ports,
    space::{Block, TargetSpace},
};

/// Shards of a campaign that is neither tiny nor vast. Enough to share among workers, few enough to list.
const SHARDS: u64 = 256;
/// Most blocks of one shard: what one lease holds, and what is lost in time when its worker dies.
const MAX_BLOCKS: u64 = 4096;
/// Shards that reach a campaign's rate together: each block adds no more than the rate of a prefix.
const SIDE_BY_SIDE: u64 = 8;
/// Targets that are worth a lease.
const WORTHWHILE: u64 = 128;

/// How fast a campaign may be, and how much there is to do.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// New connections a second, whole campaign.
    pub rate: u32,
    /// New connections a second to each prefix.
    pub prefix_rate: u32,
    /// (address, port) pairs.
    pub targets: u64,
}

/// Cuts `blocks` blocks into shards of equal size, the last one smaller. A shard has enough blocks to use its part of the
/// rate, and enough targets to be worth a lease.
pub fn plan(blocks: u64, pace: Pace) -> Vec<Range<u64>> {
    let by_rate = u64::from(pace.rate).div_ceil(u64::from(pace.prefix_rate.max(1)) * SIDE_BY_SIDE);
    let by_targets = (WORTHWHILE.saturating_mul(blocks)).div_ceil(pace.targets.max(1));
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

/// The targets of one shard.
#[derive(Debug, Clone)]
pub struct ShardSpace {
    /// By falling size, so that the blocks that still have a target in a round come first.
    blocks: Vec<(Block, Permutation)>,
    ports: Ports,
    levels: Vec<Level>,
    targets: u64,
}

/// Rounds in which the same number of blocks still has a target.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// Number of the first target.
    start: u64,
    /// Number of the first round.
    round: u64,
    /// Blocks that take part.
    width: u64,
}

impl ShardSpace {
    /// The shard of a range of permuted block indices.
    pub fn new(
        space: &TargetSpace,
        ports: &Ports,
        campaign: CampaignId,
        range: Range<u64>,
    ) -> Self {
        let seed = campaign.0.0 as u64 ^ (campaign.0.0 >> 64) as u64;
        let order = Permutation::new(space.blocks(), seed);
        let mut blocks: Vec<(Block, Permutation)> = range
            .map(|index| {
                let index = order.apply(index);
                let block = space.block(index);
                let size = block.addresses * ports.as_slice().len() as u64;
                (block, Permutation::new(size, seed ^ index))
            })
            .collect();
        blocks.sort_by_key(|(block, _)| std::cmp::Reverse(block.addresses));
        let sizes: Vec<u64> = blocks
            .iter()
            .map(|(block, _)| block.addresses * ports.as_slice().len() as u64)
            .collect();
        Self {
            levels: levels(&sizes),
            targets: sizes.iter().sum(),
            ports: ports.clone(),
            blocks,
        }
    }

    /// How many (address, port) pairs it has.
    pub fn targets(&self) -> u64 {
        self.targets
    }

    /// The prefixes that it touches.
    pub fn prefixes(&self) -> Vec<IpNet> {
        self.blocks.iter().map(|(block, _)| block.prefix).collect()
    }

    /// The target of this number. Panics if `number >= targets()`.
    pub fn target(&self, number: u64) -> SocketAddr {
        assert!(number < self.targets, "target {number} of {}", self.targets);
        let level = self.levels[self.levels.partition_point(|level| level.start <= number) - 1];
        let at = number - level.start;
        let (block, order) = &self.blocks[(at % level.width) as usize];
        let pair = order.apply(level.round + at / level.width);
        let ports = self.ports.as_slice();
        let address = block.address(pair / ports.len() as u64);
        SocketAddr::new(address, ports[(pair % ports.len() as u64) as usize])
    }
}

/// `sizes` is falling.
fn levels(sizes: &[u64]) -> Vec<Level> {
    let mut levels = Vec::new();
    let (mut start, mut round) = (0, 0);
    for (i, &size) in sizes.iter().enumerate().rev() {
        let width = i as u64 + 1;
        if size > round {
            levels.push(Level {
                start,
                round,
                width,
            });
            start += (size - round) * width;
            round = size;
        }
    }
    levels
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
        let shards = plan(space.blocks(), pace);
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
    fn every_number_of_blocks_is_covered_by_its_shards() {
        for blocks in (1..=5000).chain([65_536, 1 << 24]) {
            let pace = |rate, targets| Pace {
                rate,
                prefix_rate: 20,
                targets,
            };
            let (slow, fast) = (pace(1, blocks << 8), pace(5000, blocks));
            for shards in [plan(blocks, slow), plan(blocks, fast)] {
                check(blocks, shards);
            }
        }
        let slow = Pace {
            rate: 1,
            prefix_rate: 1,
            targets: 1 << 32,
        };
        assert_eq!(plan(1 << 24, slow).len(), 4096);
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
            assert_eq!(plan(blocks, pace)[0], 0..size);
        };
        check(256, 500, 20, 65_536, 4);
        check(256, 20, 20, 65_536, 1);
        check(256, 5000, 20, 65_536, 32);
        check(255, 100_000, 50_000, 1297, 26);
        check(1, 500, 20, 16, 1);
        check(1 << 16, 500, 20, 1 << 24, 256);
    }

    #[test]
    fn consecutive_targets_are_in_different_networks() {
        let space = TargetSpace::new(&["10.0.0.0/14".parse().unwrap()], &[]).unwrap();
        let campaign = "01JD3Y5Q9Z8K7W6V5T4S3R2Q1P".parse().unwrap();
        let shard = ShardSpace::new(&space, &"25".parse().unwrap(), campaign, 0..64);
        let networks: HashSet<IpNet> = (0..64)
            .map(|n| crate::space::prefix_of(shard.target(n).ip()))
            .collect();
        assert_eq!(networks.len(), 64);
    }
}
