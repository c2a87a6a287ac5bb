//! A keyed order of 0..n that needs no memory.

/// A bijection of `0..n`: a balanced Feistel network over the next even number of bits, with cycle walking
/// (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). It spreads neighbours; it is not
/// meant to keep a secret.
#[derive(Debug, Clone, Copy)]
pub struct Permutation {
    n: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

const ROUNDS: usize = 6;

impl Permutation {
    /// The permutation of `0..n` that `seed` names. `n` is at most 2^62.
    pub fn new(n: u64, seed: u64) -> Self {
        assert!(n <= 1 << 62, "a permutation of more than 2^62 elements");
        let bits = u64::BITS - n.saturating_sub(1).leading_zeros();
        let mut key = seed;
        let keys = [(); ROUNDS].map(|()| {
            key = mix(key);
            key
        });
        Self {
            n,
            half_bits: bits.div_ceil(2).max(1),
            keys,
        }
    }

    /// Where `index` goes. Panics if `index >= n`.
    pub fn apply(&self, index: u64) -> u64 {
        assert!(index < self.n, "index {index} of {}", self.n);
        let mut at = self.encrypt(index);
        // The domain is less than four times n, so this walk is short, and it ends: the cycle holds `index`.
        while at >= self.n {
            at = self.encrypt(at);
        }
        at
    }

    /// What goes to `image`: the inverse of [`Self::apply`]. Panics if `image >= n`.
    pub fn invert(&self, image: u64) -> u64 {
        assert!(image < self.n, "image {image} of {}", self.n);
        let mut at = self.decrypt(image);
        while at >= self.n {
            at = self.decrypt(at);
        }
        at
    }

    fn encrypt(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half_bits | right
    }

    fn decrypt(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys.iter().rev() {
            (left, right) = (right ^ (mix(left ^ key) & mask), left);
        }
        left << self.half_bits | right
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_up_to_5000_is_a_bijection() {
        let mut seen = vec![0u64; 5001];
        for n in 1..=5000 {
            let permutation = Permutation::new(n, n.wrapping_mul(77));
            for index in 0..n {
                let image = permutation.apply(index);
                assert!(image < n);
                assert_ne!(
                    std::mem::replace(&mut seen[image as usize], n),
                    n,
                    "{image} twice in {n}"
                );
                assert_eq!(permutation.invert(image), index);
            }
        }
    }

    #[test]
    fn neighbours_are_spread_and_seeds_differ() {
        let one = Permutation::new(1 << 24, 1);
        let two = Permutation::new(1 << 24, 2);
        let close = (0..1000)
            .filter(|&i| one.apply(i).abs_diff(one.apply(i + 1)) < 1 << 10)
            .count();
        assert!(close < 10, "{close} of 1000 neighbours stayed close");
        assert!((0..1000).filter(|&i| one.apply(i) == two.apply(i)).count() < 5);
    }
}
