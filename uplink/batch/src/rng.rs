//! One small seeded generator for all that must run the same again: simulated disks and links, random
//! histories, jitter. Seeds are passed in; nothing here asks the system.

/// SplitMix64 (Steele, Lea, Flood 2014): the same seed gives the same sequence for ever. Good enough
/// for tests and jitter, not for secrets.
#[derive(Debug, Clone)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// True `n` times out of `of`.
    pub fn chance(&mut self, n: u64, of: u64) -> bool {
        self.below(of) < n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::SplitMix64;

    /// Seeds are written down in reports and commits: they must mean the same for ever.
    #[test]
    fn the_sequence_never_changes() {
        let mut rng = SplitMix64(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| rng.draw()).collect();
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(drawn, published);
        assert_eq!(rng.below(0), 0);
    }
}
