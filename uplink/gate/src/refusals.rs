//! Log lines about peers that were sent away.
//!
//! Each says who and why. A flood of them must not fill a small disk with log: in one second only
//! [`SHOWN_PER_SECOND`] are written, and the next line counts those that were not.

use std::fmt::Display;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// See the module's docs.
pub const SHOWN_PER_SECOND: u32 = 10;

/// The refusals of one listener.
#[derive(Debug)]
pub struct Refusals {
    listener: &'static str,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    second: Instant,
    shown: u32,
    silent: u64,
}

impl Refusals {
    /// `listener` names it in the lines.
    pub fn new(listener: &'static str) -> Refusals {
        let told = Told {
            second: Instant::now(),
            shown: 0,
            silent: 0,
        };
        Refusals {
            listener,
            told: Mutex::new(told),
        }
    }

    /// Says that `who` was sent away, and why.
    pub fn say(&self, who: impl Display, why: impl Display) {
        let listener = self.listener;
        let Some(silent) = self.place() else { return };
        if silent > 0 {
            tracing::warn!(listener, silent, "more were refused than are shown");
        }
        tracing::warn!(listener, %who, %why, "refused");
    }

    /// How many were not shown before this line; `None`: this one is not either.
    fn place(&self) -> Option<u64> {
        let mut told = self.told.lock().expect("no holder panics");
        if told.second.elapsed() >= Duration::from_secs(1) {
            told.second = Instant::now();
            told.shown = 0;
        }
        if told.shown >= SHOWN_PER_SECOND {
            told.silent += 1;
            return None;
        }
        told.shown += 1;
        Some(std::mem::take(&mut told.silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_makes_few_lines() {
        let refusals = Refusals::new("test");
        let shown = (0..1_000).filter(|_| refusals.place().is_some()).count();
        assert!((10..=20).contains(&shown), "{shown}");
    }
}
