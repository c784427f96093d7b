//! The words of the store's interface.

use bytes::Bytes;
use headwater_batch::{NewRecord, Offset, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::store::Durability;

/// Milliseconds on the caller's monotonic clock. Only differences count.
pub type Ms = u64;

/// One unit of durability: records and the owner's state change that belongs to them, in one
/// journal frame. Either all of it survives or none.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    pub records: Vec<(TopicPartition, NewRecord)>,
    /// Opaque to the store; handed back by [`Recovered::ops`] until a checkpoint covers it.
    pub op: Vec<u8>,
    pub durability: Durability,
}

/// Orders entries: an entry is durable when the store's durable token has reached its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// An accepted entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    pub token: Token,
    /// The offset of each record, in the entry's order.
    pub offsets: Vec<Offset>,
    /// The publisher may be answered at once (durability `interval`); otherwise when `token` is
    /// durable.
    pub ack_now: bool,
}

/// Why an entry was not taken. Nothing of it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The budget, or the disk, is used up. Try again when something was acked and freed.
    #[error("the log is full: {used} of {limit} bytes are used")]
    Full { used: u64, limit: u64 },
    /// Too much waits for its sync. Try again after the commit in flight.
    #[error("{waiting} bytes wait for the disk")]
    Busy { waiting: usize },
    /// It can never be taken: one record is larger than a batch may be.
    #[error("an entry of {bytes} bytes, at most {max}")]
    TooLarge { bytes: usize, max: usize },
    /// An fsync failed (rule J6); the process must restart.
    #[error("the store has stopped after a failed sync")]
    Stopped,
}

/// Why a range of offsets holds no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum GapReason {
    /// The operator chose drop-oldest and the budget was used up.
    Dropped,
    /// A checksum failed: the medium rotted.
    Corrupt,
    /// The cloud rejected the batch for good; it lies in the dead-letter file (U5).
    Rejected,
}

/// Offsets `from..to` are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gap {
    pub from: Offset,
    pub to: Offset,
    pub reason: GapReason,
}

/// The digest of one record: position, timestamp, key, value and headers.
pub type Digest = u64;

/// What the uplink needs to know about a partition's past (rule U1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    pub incarnation: u128,
    /// Where this incarnation began.
    pub since: Offset,
    /// Starts of this edge: (boot, first offset it could write), oldest first, bounded by
    /// [`BOOTS_MAX`]. The last is the running one.
    pub boots: Vec<(u64, Offset)>,
}

/// Boots remembered per partition. Beyond it the empty ones go first, then the oldest.
pub const BOOTS_MAX: usize = 256;

/// What [`Store::open`](crate::store::Store::open) found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The owner's checkpointed state.
    pub kv: Vec<(Vec<u8>, Vec<u8>)>,
    /// The owner's ops after that checkpoint, in order.
    pub ops: Vec<Vec<u8>>,
    /// What was cut, quarantined or rebuilt, one line each, for the log.
    pub notes: Vec<String>,
}

/// What a read at an offset gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// Whole batches in order. `from` may lie inside the first. CRCs have been checked.
    Batches(Vec<Bytes>),
    /// No records from here up to `gap.to`.
    Gap(Gap),
    /// Nothing at or after `from` is sealed yet.
    End,
}

/// Bytes on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub journal_bytes: u64,
    pub segment_bytes: u64,
    pub checkpoint_bytes: u64,
    /// New records are refused, or old ones dropped, above this.
    pub limit_bytes: u64,
    /// Records staged or waiting in the packer.
    pub memory_bytes: u64,
    /// A record of 2 kB would be refused now: nothing may go for it, or the medium has no room.
    pub is_full: bool,
}

impl Usage {
    pub fn used_bytes(&self) -> u64 {
        self.journal_bytes + self.segment_bytes + self.checkpoint_bytes
    }
}
