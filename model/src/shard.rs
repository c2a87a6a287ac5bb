//! A shard's targets in the order in which they are visited.
//!
//! Blocks are permuted by a key that the campaign's id gives; a shard is a range of permuted block indices. The targets of its blocks are interleaved, so that no network sees a burst, and a target's number is
//! its place in that order: a cursor is one integer.

use std::{net::SocketAddr, ops::Range};

use ipnet::IpNet;

use crate::{
    id::CampaignId,
    permutation::Permutation,
    ports::Ports,
    space::{Block, TargetSpace},
};

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
