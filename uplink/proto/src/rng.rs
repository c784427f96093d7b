//! Numbers drawn from the shell's seed: this crate has no randomness of its own.

/// Two SplitMix64 sequences (Steele, Lea, Flood 2014), so that no bit of a 128-bit seed is lost.
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    low: u64,
    high: u64,
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    pub(crate) fn new(seed: u128) -> Rng {
        Rng {
            low: seed as u64,
            high: (seed >> 64) as u64,
        }
    }

    pub(crate) fn u128(&mut self) -> u128 {
        u128::from(split_mix(&mut self.low)) | u128::from(split_mix(&mut self.high)) << 64
    }

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        split_mix(&mut self.low) % bound
    }

    /// Between half of `ms` and `ms`.
    pub(crate) fn jitter(&mut self, ms: u64) -> u64 {
        ms / 2 + self.below(ms / 2 + 1)
    }
}
