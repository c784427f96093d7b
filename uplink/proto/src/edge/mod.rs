//! The edge's side of one connection.
//!
//! Make one [`EdgeSession`] per connection, once the handshake is confirmed; call
//! [`add_stream`](EdgeSession::add_stream) for every partition found in the data directory (U5), also
//! later when a new one appears. After every call drain [`poll_effect`](EdgeSession::poll_effect) and
//! look at [`deadline`](EdgeSession::deadline).

mod effect;

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};

pub use effect::{CloseReason, EdgeEffect, LogGap, StreamInfo};

use crate::bounds;
use crate::{Channel, EdgeName, Ms};

/// Bounds that a site may change.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    pub edge: EdgeName,
    /// Software version, for the cloud's logs.
    pub software: String,
    /// Bytes in flight over all streams, and per stream. The cloud may ask for less.
    pub window_bytes: usize,
    pub stream_window_bytes: usize,
    pub read_bytes: usize,
    /// zstd level for sliced batches.
    pub level: i32,
}

impl EdgeConfig {
    pub fn new(edge: EdgeName) -> EdgeConfig {
        EdgeConfig {
            edge,
            software: env!("CARGO_PKG_VERSION").into(),
            window_bytes: bounds::WINDOW_BYTES,
            stream_window_bytes: bounds::STREAM_WINDOW_BYTES,
            read_bytes: bounds::READ_BYTES,
            level: 3,
        }
    }
}

/// One connection's machine. See the module's docs.
#[derive(Debug)]
pub struct EdgeSession {}

impl EdgeSession {
    /// `seed` is fresh randomness from the shell: new incarnations and jitter are drawn from it.
    /// Sends HELLO.
    pub fn new(_config: EdgeConfig, _seed: u128, _now: Ms) -> EdgeSession {
        unimplemented!()
    }

    /// Announces a partition. Of a partition that is announced already, nothing.
    pub fn add_stream(&mut self, _now: Ms, _info: StreamInfo) {
        unimplemented!()
    }

    /// Bytes of a channel (the edge only ever receives on `Control`).
    pub fn bytes(&mut self, _now: Ms, _channel: Channel, _bytes: Bytes) {
        unimplemented!()
    }

    /// The log moved: `[start, end)` is what can be read now. Call after sealing and after retention.
    pub fn log_changed(&mut self, _now: Ms, _tp: &TopicPartition, _start: Offset, _end: Offset) {
        unimplemented!()
    }

    /// Answers `Read`: whole batches in order. None means that there is nothing (yet).
    pub fn batches(&mut self, _now: Ms, _tp: &TopicPartition, _batches: Vec<Bytes>) {
        unimplemented!()
    }

    /// Answers `Read`: `[from, to)` is lost, for a reason that the log knows.
    pub fn log_gap(&mut self, _now: Ms, _gap: LogGap) {
        unimplemented!()
    }

    /// Answers `Read`: EIO or the like. The stream waits and asks again (U4: no GAP).
    pub fn read_failed(&mut self, _now: Ms, _tp: &TopicPartition) {
        unimplemented!()
    }

    /// Answers `PersistFork`: `info` is the log's new state, read back.
    pub fn fork_durable(&mut self, _now: Ms, _info: StreamInfo) {
        unimplemented!()
    }

    /// Answers `DeadLetter`.
    pub fn dead_lettered(&mut self, _now: Ms, _tp: &TopicPartition) {
        unimplemented!()
    }

    /// The operator gives up records that the cloud acknowledged and lost: lets their GAP go.
    pub fn give_up_lost(&mut self, _now: Ms, _tp: &TopicPartition) {
        unimplemented!()
    }

    /// Call at the deadline.
    pub fn timer(&mut self, _now: Ms) {
        unimplemented!()
    }

    pub fn deadline(&self) -> Option<Ms> {
        unimplemented!()
    }

    pub fn poll_effect(&mut self) -> Option<EdgeEffect> {
        unimplemented!()
    }

    /// For the status page: bytes sent and not acknowledged.
    pub fn in_flight_bytes(&self) -> usize {
        unimplemented!()
    }
}
