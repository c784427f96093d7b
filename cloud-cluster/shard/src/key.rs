//! The keys under which a shard's state is stored in checkpoints and snapshots.

use headwater_batch::{Offset, TopicName, TopicPartition};
use headwater_proto::EdgeName;
use serde::{Deserialize, Serialize};

/// Names one row of a shard's state. The order of the variants is the order of a snapshot and part
/// of the format: add at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Key {
    /// Applied position, term, rules version, counters.
    Head,
    Topic(TopicName),
    Edge(String),
    Pin(String, TopicPartition),
    Partition(TopicPartition),
    Segment(TopicPartition, Offset),
    Producer(TopicPartition, i64),
    /// All incarnations of one edge partition.
    Streams(EdgeName, TopicPartition),
    Group(String),
    GroupOffset(String, TopicPartition),
    Ledger(u64),
    /// Records that are gone, from this offset on.
    Lost(TopicPartition, Offset),
    Doubt,
}

impl Key {
    /// The stored form. Not order-preserving: it names a row, it does not sort it.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a key holds only strings and integers")
    }

    /// Reads a stored key; `None` when the bytes are not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}
