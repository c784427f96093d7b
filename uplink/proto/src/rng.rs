//! Numbers drawn from the shell's seed: this crate has no randomness of its own.

use headwater_batch::SplitMix64;

/// Two sequences, so that no bit of a 128-bit seed is lost.
#[derive(Debug, Clone)]
pub(crate) struct Rng {
    low: SplitMix64,
    high: SplitMix64,
}

impl Rng {
    pub(crate) fn new(seed: u128) -> Rng {
        Rng {
            low: SplitMix64(seed as u64),
            high: SplitMix64((seed >> 64) as u64),
        }
    }

    pub(crate) fn u128(&mut self) -> u128 {
        u128::from(self.low.draw()) | u128::from(self.high.draw()) << 64
    }

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.low.below(bound)
    }

    /// Between half of `ms` and `ms`.
    pub(crate) fn jitter(&mut self, ms: u64) -> u64 {
        ms / 2 + self.below(ms / 2 + 1)
    }
}
