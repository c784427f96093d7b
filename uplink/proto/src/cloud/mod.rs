//! The cloud's side of one connection.
//!
//! Make one [`CloudSession`] per connection, with the name that the certificate says. It knows only
//! a sink: every step of a stream becomes a [`StreamEntry`](crate::StreamEntry) to commit, and is
//! answered per ticket, in order within a stream. It always reads: what a stalled sink cannot take
//! is dropped and answered with RETRY, so one shard never blocks the connection.

mod effect;

use bytes::Bytes;

pub use effect::{CloudEffect, Rejected, SessionError, Ticket};

use crate::bounds;
use crate::{Channel, EdgeName, Ms, StreamOutcome};

#[derive(Debug, Clone)]
pub struct CloudConfig {
    /// Node addresses for the edge's next try.
    pub addresses: Vec<String>,
    /// Asks the edge to keep no more than this in flight.
    pub window_bytes: usize,
    /// Bytes handed to the sink and not answered; beyond it the answer is RETRY.
    pub pending_bytes_max: usize,
}

impl Default for CloudConfig {
    fn default() -> CloudConfig {
        CloudConfig {
            addresses: Vec::new(),
            window_bytes: bounds::WINDOW_BYTES,
            pending_bytes_max: bounds::PENDING_BYTES_MAX,
        }
    }
}

/// One connection's machine. See the module's docs.
#[derive(Debug)]
pub struct CloudSession {}

impl CloudSession {
    /// `peer` is the name in the certificate. `wall_ms` is the wall clock now (ms since 1970); later
    /// stamps count on from it with `now`.
    pub fn new(_config: CloudConfig, _peer: EdgeName, _now: Ms, _wall_ms: i64) -> CloudSession {
        unimplemented!()
    }

    /// Bytes of a channel: `Control`, or `Data(n)` with any n that is the shell's own for that
    /// uni stream.
    pub fn bytes(&mut self, _now: Ms, _channel: Channel, _bytes: Bytes) {
        unimplemented!()
    }

    /// The ticket's entry is committed and applied, with this outcome.
    pub fn committed(&mut self, _now: Ms, _ticket: Ticket, _outcome: StreamOutcome) {
        unimplemented!()
    }

    /// The ticket's entry is not known to be committed. It may still be, later: that is harmless.
    pub fn retry(&mut self, _now: Ms, _ticket: Ticket) {
        unimplemented!()
    }

    /// Call at the deadline.
    pub fn timer(&mut self, _now: Ms) {
        unimplemented!()
    }

    pub fn deadline(&self) -> Option<Ms> {
        unimplemented!()
    }

    pub fn poll_effect(&mut self) -> Option<CloudEffect> {
        unimplemented!()
    }
}
