//! The uplink protocol: what an edge and the cloud say to each other, as two machines without I/O.
//!
//! [`EdgeSession`] and [`CloudSession`] each run one connection. A shell feeds them time, bytes and
//! answers, drains their effects and does the I/O; both are in `uplink/quic`. The rules that keep
//! every record exactly once (DESIGN.md, U1-U7) live in [`stream`], as a pure function that the
//! cloud's state machine calls at apply. `PROTOCOL.md` is normative for what is on the wire.
//!
//! What is absent: no clock, no randomness, no I/O, no timer per idle stream, and nothing that
//! knows what the cloud's sink is. Time is in milliseconds of a monotonic clock ([`Ms`]).
//!
//! ```text
//!   log ──batches──> EdgeSession ──frames──> CloudSession ──Commit{StreamEntry}──> sink
//!    ^                 |    ^                   |    ^                              |
//!    └──Acked, Fork────┘    └──────ACKs─────────┘    └──committed(StreamOutcome)────┘
//! ```

mod backoff;
pub mod bounds;
pub mod cloud;
mod digest;
pub mod edge;
pub mod frame;
mod ids;
mod mapping;
#[cfg(test)]
mod protocol_doc;
mod rng;
pub mod rules;
#[cfg(test)]
mod sim;
pub mod stream;

pub use backoff::Backoff;
pub use cloud::{CloudConfig, CloudEffect, CloudSession};
pub use digest::{Digest, digest_of_record};
pub use edge::{EdgeConfig, EdgeEffect, EdgeSession, StreamInfo};
pub use frame::{Decoder, FrameError};
pub use ids::*;
pub use mapping::{keep_pin, map_partition};
pub use stream::{EdgeStreams, StreamEntry, StreamOutcome, StreamState};
