//! Instruments for tests that run the real binaries: processes that can be killed, an MQTT client
//! that knows of every packet id what became of it, a Kafka consumer that checks each CRC, a link
//! that can be cut, and an oracle. All blocking, all bounded in time.

pub mod http;
pub mod judge;
pub mod kafka;
pub mod link;
pub mod mqtt;
pub mod nodes;
pub mod payload;
pub mod pipeline;
pub mod process;
pub mod publisher;
pub mod tail;

use std::time::{Duration, Instant};

/// Runs `probe` until it gives a value; panics with `what` after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(started.elapsed() < limit, "waited {limit:?} for {what}");
        // Polling outside state of other processes: there is nothing to be woken by.
        std::thread::sleep(Duration::from_millis(20));
    }
}
