//! The clocks of a device, set by the world before each call.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use edge_node::clock::{Time, TimeSource};

use crate::now::{Ms, Now};

/// Says what it was last told.
#[derive(Default)]
pub(super) struct HandTime {
    ms: AtomicU64,
    wall_ms: AtomicI64,
}

impl HandTime {
    pub(super) fn source(now: Now) -> (Arc<HandTime>, TimeSource) {
        let time = Arc::new(HandTime::default());
        time.set(now);
        (time.clone(), TimeSource::Given(time))
    }

    pub(super) fn set(&self, now: Now) {
        self.ms.store(now.ms, Relaxed);
        self.wall_ms.store(now.wall_ms, Relaxed);
    }

    pub(super) fn ms(&self) -> Ms {
        self.ms.load(Relaxed)
    }
}

impl Time for HandTime {
    fn elapsed_ms(&self) -> u64 {
        self.ms()
    }

    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Relaxed)
    }
}
