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
//!
//! # What Kafka clients trip over, and where it is met
//!
//! - Produce is advertised from v0 and taken from v3: `wire::versions`.
//! - ApiVersions has response header v0 always, and a version from the future gets error 35 in a
//!   v0 body; any other unknown key or version closes: `wire`, `api::cluster`.
//! - Flexible headers keep a plain client id; unknown tagged fields are skipped: `wire::shape`.
//! - No finalized features, so clients stay on the first transaction protocol: `api::cluster`.
//! - Metadata: null is all topics, empty is none (v0: all), `allow_auto_topic_creation` holds,
//!   ids are stable, errors are retriable: `api::metadata`. That the leader epoch never goes back
//!   is the node's to keep: [`Partition::leader_epoch`].
//! - Fetch by topic id gives 100 for an unknown one; session 0 always; at least one whole batch;
//!   zstd before v10 gives 76; records empty, never null: `api::fetch`. When OFFSET_OUT_OF_RANGE
//!   may be said is the shell's to know: [`Fetched::error`].
//! - ListOffsets -1 to -5, each from its version on: `api::offsets`.
//! - JoinGroup with MEMBER_ID_REQUIRED, static members, skipped assignments; opaque protocols;
//!   commits with generation -1 into an empty group: [`group`].
//! - FindCoordinator never says node -1 without an error; transactions get 53, which is fatal at
//!   once, where 15 would have clients ask for ever: `api::cluster`.
//! - acks=0 has no response at all; one batch per partition; 10 for what is too large, 2 for what
//!   was damaged, 87 for what was built wrong: `api::produce`.
//! - CreateTopics takes -1 for the defaults, every known config is stored, an unknown one is 40:
//!   `api::topics`, [`api::config`].
//!
//! Not here yet: transactions, SASL, ACLs, quotas, DeleteRecords, OffsetDelete, AlterConfigs (the
//! old one), KIP-848 groups, fetch sessions, and the expiry of offsets of groups long empty.

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
