//! Entries: what is proposed, replicated and applied, and their bytes.
//!
//! ```text
//! format u8 = 1 | head length u32 LE | head: postcard of Entry | batch: a RecordBatch v2, or nothing
//! ```
//!
//! The batch stands raw at the end, so that it is neither copied nor walked when an entry is read.
//! Variants and fields of [`Entry`] are part of the format: add variants at the end, never change
//! one; a changed meaning needs a rules version (C1).

use bytes::Bytes;
use headwater_batch::{Offset, TopicName, TopicPartition};
use headwater_proto::StreamKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::bounds::ENTRY_HEAD_BYTES;
use crate::lost::LostRange;
use crate::segments::Segment;

const FORMAT: u8 = 1;
const PREFIX_BYTES: usize = 5;

/// One committed step of a shard. Times are the proposer's, in ms since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// The first entry of a leader's term: until it is applied the leader answers nothing (C3).
    NewTerm,
    /// From here on the rules of this version hold.
    SetRules {
        version: u32,
    },

    // Metadata shard.
    CreateTopic {
        name: TopicName,
        id: u128,
        partitions: u32,
        config: Vec<(String, String)>,
        at_ms: i64,
    },
    DeleteTopic {
        name: TopicName,
    },
    CreatePartitions {
        name: TopicName,
        total: u32,
    },
    /// `None` removes a key, which brings its default back.
    AlterConfig {
        name: TopicName,
        changes: Vec<(String, Option<String>)>,
    },
    InitProducerId,
    AddEdge {
        name: String,
        at_ms: i64,
    },
    RevokeEdge {
        name: String,
        at_ms: i64,
    },
    /// The cloud partition of an edge partition; the first pin stays (U6).
    PinStream {
        edge: String,
        source: TopicPartition,
        partition: u32,
    },

    // Data shards.
    OpenPartition {
        tp: TopicPartition,
        topic_id: u128,
        epoch_base: i32,
    },
    ClosePartition {
        tp: TopicPartition,
        topic_id: u128,
    },
    /// A batch from a Kafka producer; the batch follows the head.
    Produce {
        tp: TopicPartition,
        topic_id: u128,
        at_ms: i64,
    },
    /// A step of an uplink stream that is pinned to `to`: the head of
    /// [`StreamEntry::encode`](headwater_proto::StreamEntry::encode). For data, the batch follows.
    Stream {
        to: TopicPartition,
        key: StreamKey,
        head: Vec<u8>,
        at_ms: i64,
    },
    LogStart {
        tp: TopicPartition,
        start: Offset,
    },
    AddSegment {
        tp: TopicPartition,
        topic_id: u128,
        base: Offset,
        segment: Segment,
    },
    GroupGeneration {
        group: String,
        generation: i32,
        protocol_type: String,
        at_ms: i64,
    },
    CommitOffsets {
        group: String,
        generation: i32,
        offsets: Vec<(TopicPartition, GroupOffset)>,
        at_ms: i64,
    },
    /// The topic is gone; so are the offsets that groups hold in it.
    ForgetTopicOffsets {
        topic: TopicName,
    },
    DeleteGroup {
        group: String,
    },
    /// Acknowledged records from `from` on are gone (see [`LostRange`]).
    Lost {
        tp: TopicPartition,
        topic_id: u128,
        from: Offset,
        range: LostRange,
    },
    /// Rows of a state that was rebuilt; `None` removes one.
    Restore {
        rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    },
    /// In a shard whose state was lost: this stream may go on from where its edge says.
    TrustStream {
        edge: String,
        source: TopicPartition,
    },
    /// In a shard whose state was lost: this edge had no bundle then.
    Newcomer {
        edge: String,
    },
}

/// What a consumer asked to have stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupOffset {
    pub offset: Offset,
    pub leader_epoch: i32,
    pub metadata: String,
}

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EntryError {
    #[error("an entry of {0} bytes is cut short")]
    Truncated(usize),
    #[error("entry format {0} is not known here")]
    Format(u8),
    #[error("the entry's head of {0} bytes is too long")]
    TooLong(usize),
    #[error("the entry's head does not parse: {0}")]
    Head(String),
}

/// The bytes of an entry.
pub fn encode(entry: &Entry, batch: &[u8]) -> Vec<u8> {
    let head = postcard::to_stdvec(entry).expect("an entry holds nothing postcard refuses");
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + head.len() + batch.len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(&(head.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(batch);
    bytes
}

/// Reads an entry; the batch shares the memory of `bytes`.
pub fn decode(bytes: &Bytes) -> Result<(Entry, Bytes), EntryError> {
    let truncated = EntryError::Truncated(bytes.len());
    let prefix = bytes.get(..PREFIX_BYTES).ok_or(truncated.clone())?;
    if prefix[0] != FORMAT {
        return Err(EntryError::Format(prefix[0]));
    }
    let length = u32::from_le_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if length > ENTRY_HEAD_BYTES {
        return Err(EntryError::TooLong(length));
    }
    let head = bytes
        .get(PREFIX_BYTES..PREFIX_BYTES + length)
        .ok_or(truncated)?;
    let (entry, rest) =
        postcard::take_from_bytes(head).map_err(|e| EntryError::Head(e.to_string()))?;
    if !rest.is_empty() {
        return Err(EntryError::Head(format!("{} bytes left over", rest.len())));
    }
    Ok((entry, bytes.slice(PREFIX_BYTES + length..)))
}
