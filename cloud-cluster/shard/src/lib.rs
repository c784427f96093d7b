//! The state machine of one shard: committed entries in, effects out.
//!
//! # Contract
//! - A shard is a pure function of its entries (rule C1). Nothing in this crate reads a clock, a
//!   random number, a configuration or a disk; times and ids are stamped into entries by whoever
//!   proposes them. Two replicas that applied the same entries have the same [`Shard::state_hash`].
//! - Offsets are assigned at apply. What protects them from repetition (idempotent producers, the
//!   uplink's stream table) lies in the same state and moves in the same step as the data.
//! - The state is a map from small binary keys to small binary values. [`Shard::changes`] yields the
//!   keys that moved since it was last asked, which is what a checkpoint stores; the same pairs, cut
//!   into bounded chunks by [`Shard::snapshot`], are the Raft snapshot. Neither holds records (C4).
//! - Everything that grows is bounded by a constant in [`bounds`], and says there what happens at
//!   the bound.
//!
//! One type serves both kinds of shard: the metadata shard gets entries about topics, edges and
//! producer ids, the data shards get entries about partitions, streams and group offsets.
//!
//! What is absent: tokio, clocks, randomness, files. Record bytes pass through and are not kept.

pub mod bounds;
mod digest;
mod edges;
mod entry;
mod groups;
mod key;
mod ledger;
mod lost;
mod outcome;
mod partition;
mod producers;
mod segments;
mod state;
mod streams;
mod topics;

pub use edges::{Edge, Pin};
pub use entry::{Entry, EntryError, GroupOffset, decode, encode};
pub use groups::{Committed, Group};
pub use key::Key;
pub use ledger::{LedgerEntry, Loss};
pub use lost::{Doubt, LostRange, LostReason};
pub use outcome::{Appended, Applied, Effect, Outcome, Refusal};
pub use partition::Partition;
pub use producers::{Producer, SeenBatch};
pub use segments::Segment;
pub use state::{At, LoadError, ROW_FORMAT, RULES_VERSION, Shard, SnapshotChunk, row_value};
pub use topics::Topic;
