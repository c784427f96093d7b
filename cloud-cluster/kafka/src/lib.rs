//! Serving the Kafka protocol, without I/O: request bytes in, a reply or a plan out.
//!
//! ```text
//!            frame                        Reply                      bytes, in the order of requests
//! socket ──> wire::frame_bytes ──> serve ──────────────────────────────────────────────> socket
//!                                    │                                              ▲
//!                                    └─> Outcome::Produce(plan) ─> shell appends ─> plan.respond(results)
//!                                        Fetch, ListOffsets, ...   reads, asks
//!                                        Group ─> group::Coordinator ─> Effect::Reply
//! ```
//!
//! The shell's loop, per connection: read 4 bytes, [`wire::frame_bytes`]; read that many;
//! [`serve`]; carry out what the [`Outcome`] asks; write the [`Reply`] of request N before that
//! of request N+1. Requests of a connection may be worked on side by side as long as the replies
//! leave in order, and Produce requests reach a partition in the order they came.
//!
//! What a client sends is never trusted: `wire::shape` walks the whole request against the
//! remaining bytes before a decoder reserves memory, and records are looked at only by
//! `headwater-batch` with limits.

pub mod api;
mod codec;
pub mod error;
pub mod group;
pub mod node;
mod serve;
pub mod wire;

pub use api::admin::{AdminDone, AdminPlan, AutoCreatePlan, Proposal};
pub use api::fetch::{FetchPartition, FetchPlan, Fetched};
pub use api::groups::{GroupPending, GroupPlan};
pub use api::offsets::{
    EpochAsk, EpochEnd, EpochPlan, FoundOffset, ListOffsetsPlan, OffsetAsk, OffsetAt,
};
pub use api::produce::{Acks, Append, Appended, BatchInfo, ProducePlan};
pub use api::producer_id::{ProducerIdPlan, ProducerIdentity};
pub use codec::Foreign;
pub use error::{ErrorCode, KafkaError};
pub use node::{Broker, Node, Partition, Peer, Settings, Topic};
pub use serve::{CloseReason, Outcome, serve};
pub use wire::{Call, Reply};
