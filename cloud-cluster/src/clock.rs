//! What a node takes from outside besides files and peers: the time and random numbers.
//!
//! Both are handed in, so that a simulated node does the same again from the same seed. Apply sees
//! neither: proposers stamp times into entries (C1). The monotonic clock is tokio's, which a test can
//! pause.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Where a node's times and random numbers come from. Clones share it.
#[derive(Clone)]
pub struct Clock {
    source: Arc<dyn Source>,
    started: Instant,
}

/// The system, or a simulation.
pub trait Source: Send + Sync + 'static {
    /// Milliseconds since 1970; may jump.
    fn wall_ms(&self) -> i64;
    fn random(&self) -> u64;
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").finish_non_exhaustive()
    }
}

impl Clock {
    /// The operating system's.
    pub fn system() -> Clock {
        Clock::new(Arc::new(System))
    }

    pub fn new(source: Arc<dyn Source>) -> Clock {
        Clock {
            source,
            started: Instant::now(),
        }
    }

    /// Milliseconds since 1970.
    pub fn wall_ms(&self) -> i64 {
        self.source.wall_ms()
    }

    /// Milliseconds since this clock was made; never goes back.
    pub fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub fn random(&self) -> u64 {
        self.source.random()
    }

    /// A random name for something that is made once (UUID version 4).
    pub fn uuid(&self) -> uuid::Uuid {
        let bits = (u128::from(self.random()) << 64) | u128::from(self.random());
        uuid::Builder::from_u128(bits)
            .with_version(uuid::Version::Random)
            .with_variant(uuid::Variant::RFC4122)
            .into_uuid()
    }
}

struct System;

impl Source for System {
    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn random(&self) -> u64 {
        getrandom::u64().expect("the system has random numbers")
    }
}

/// For simulations: random numbers from a seed, and a wall clock that follows tokio's clock from
/// where it was set.
#[derive(Debug)]
pub struct Simulated {
    state: AtomicU64,
    /// Wall clock minus time since `started`.
    offset_ms: AtomicI64,
    started: Mutex<Instant>,
}

impl Simulated {
    /// Call it inside a runtime, paused if the run is to be the same again.
    pub fn new(seed: u64, wall_ms: i64) -> Simulated {
        Simulated {
            state: AtomicU64::new(seed),
            offset_ms: AtomicI64::new(wall_ms),
            started: Mutex::new(Instant::now()),
        }
    }

    /// Sets the wall clock, forward or back.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        *self.started.lock().expect("no holder panics") = Instant::now();
        self.offset_ms.store(wall_ms, Ordering::Relaxed);
    }
}

impl Source for Simulated {
    fn wall_ms(&self) -> i64 {
        let since = self.started.lock().expect("no holder panics").elapsed();
        self.offset_ms.load(Ordering::Relaxed) + since.as_millis() as i64
    }

    fn random(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        let state = self.state.fetch_add(step, Ordering::Relaxed);
        let mut z = state.wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_clock_does_the_same_again() {
        let run = || {
            let clock = Clock::new(Arc::new(Simulated::new(7, 1000)));
            (clock.random(), clock.uuid())
        };
        assert_eq!(run(), run());
        assert_eq!(run().1.get_version_num(), 4);
        let source = Simulated::new(1, 5_000);
        source.set_wall_ms(-3);
        assert!((-3..1000).contains(&source.wall_ms()));
    }
}
