//! A shard's targets in the order in which they are visited.
//!
//! Blocks are permuted by a key that the campaign's id gives; a shard is a range of permuted block
//! indices. The targets of its blocks are interleaved, so that no network sees a burst, and a
//! target's number is its place in that order: a cursor is one integer.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use ipnet::IpNet;

use crate::{
    id::CampaignId,
    permutation::Permutation,
    ports::Ports,
    space::{self, Block, TargetSpace},
};

/// The targets of one shard.
#[derive(Debug, Clone)]
pub struct ShardSpace {
    /// By falling size, so that the blocks that still have a target in a round come first.
    blocks: Vec<(Block, Permutation)>,
    /// Where each prefix is among them.
    places: HashMap<IpNet, usize>,
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
        let seed = seed(campaign);
        let order = order(space, campaign);
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
        let places = blocks.iter().map(|(block, _)| block.prefix).zip(0..);
        Self {
            levels: levels(&sizes),
            places: places.collect(),
            targets: sizes.iter().sum(),
            ports: ports.clone(),
            blocks,
        }
    }

    /// How many (address, port) pairs it has.
    pub fn targets(&self) -> u64 {
        self.targets
    }

    /// The prefixes that it touches, each at its place.
    pub fn prefixes(&self) -> Vec<IpNet> {
        self.blocks.iter().map(|(block, _)| block.prefix).collect()
    }

    /// The target of this number. Panics if `number >= targets()`.
    pub fn target(&self, number: u64) -> SocketAddr {
        self.placed(number).1
    }

    /// The target of this number, and the place of its prefix. Panics if `number >= targets()`.
    pub fn placed(&self, number: u64) -> (usize, SocketAddr) {
        assert!(number < self.targets, "target {number} of {}", self.targets);
        let level = self.levels[self.levels.partition_point(|level| level.start <= number) - 1];
        let at = number - level.start;
        let place = (at % level.width) as usize;
        let (block, order) = &self.blocks[place];
        let pair = order.apply(level.round + at / level.width);
        let ports = self.ports.as_slice();
        let address = block.address(pair / ports.len() as u64);
        let port = ports[(pair % ports.len() as u64) as usize];
        (place, SocketAddr::new(address, port))
    }

    /// The number of a target, worked out without a list: the inverse of [`Self::target`]. None if it is not of this shard.
    pub fn number(&self, target: SocketAddr) -> Option<u64> {
        let place = *self.places.get(&space::prefix_of(target.ip()))?;
        let (block, order) = &self.blocks[place];
        let ports = self.ports.as_slice();
        let port = ports.binary_search(&target.port()).ok()?;
        let pair = block.index(target.ip())? * ports.len() as u64 + port as u64;
        let round = order.invert(pair);
        let level = self.levels[self.levels.partition_point(|level| level.round <= round) - 1];
        Some(level.start + (round - level.round) * level.width + place as u64)
    }
}

/// Returns where the block of a target is among the permuted blocks of a campaign, worked out
/// without a list. Returns none for an address that is not a target.
pub fn permuted_block(space: &TargetSpace, campaign: CampaignId, target: IpAddr) -> Option<u64> {
    let block = space.block_of(target)?;
    Some(order(space, campaign).invert(block))
}

fn order(space: &TargetSpace, campaign: CampaignId) -> Permutation {
    Permutation::new(space.blocks(), seed(campaign))
}

fn seed(campaign: CampaignId) -> u64 {
    campaign.0.0 as u64 ^ (campaign.0.0 >> 64) as u64
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
    fn every_target_is_found_by_its_number_and_its_number_by_the_target() {
        let include = ["10.0.0.3-10.0.2.9", "10.0.4.200", "2001:db8::/121"];
        let include = include.map(|target| target.parse().unwrap());
        let space = TargetSpace::new(&include, &["10.0.1.7".parse().unwrap()]).unwrap();
        let campaign = "01JD3Y5Q9Z8K7W6V5T4S3R2Q1P".parse().unwrap();
        let ports = "25,80-82".parse().unwrap();
        let shard = ShardSpace::new(&space, &ports, campaign, 0..space.blocks());
        for number in 0..shard.targets() {
            assert_eq!(shard.number(shard.target(number)), Some(number));
        }
        for stranger in [
            "10.0.1.7:25",
            "10.0.0.3:26",
            "10.0.3.1:25",
            "[2001:db8::80]:25",
        ] {
            assert_eq!(shard.number(stranger.parse().unwrap()), None, "{stranger}");
        }
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
