//! What applying an entry yields: an answer for the proposer and effects for the node.

use headwater_batch::{Offset, TopicPartition};
use headwater_proto::StreamOutcome;
use thiserror::Error;

use crate::segments::Segment;

/// The result of one entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    pub outcome: Outcome,
    pub effects: Vec<Effect>,
}

impl Applied {
    pub(crate) fn quiet(outcome: Outcome) -> Self {
        Self {
            outcome,
            effects: Vec::new(),
        }
    }

    pub(crate) fn with(outcome: Outcome, effects: Vec<Effect>) -> Self {
        Self { outcome, effects }
    }
}

/// What the proposer learns.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Done,
    Appended(Appended),
    /// An idempotent producer repeated a batch that is already there, at these offsets.
    Duplicate(Appended),
    /// The uplink's answer for a stream entry.
    Stream(StreamOutcome),
    ProducerId(i64),
    /// The cloud partition an edge partition is pinned to, by this entry or an earlier one.
    Pinned(u32),
    Refused(Refusal),
}

/// Where a batch lies. `base` is where its first record got its offset, `end` the next free one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    pub base: Offset,
    pub end: Offset,
    pub epoch: i32,
    pub log_start: Offset,
}

/// Why an entry changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("the topic exists")]
    TopicExists,
    #[error("no such topic")]
    UnknownTopic,
    #[error("no such partition")]
    UnknownPartition,
    #[error("the partition count is not valid: {0}")]
    InvalidPartitions(u32),
    #[error("the cluster has its {} topics", crate::bounds::TOPICS)]
    TooManyTopics,
    #[error("the batch does not parse: {0}")]
    BadBatch(String),
    #[error("sequence {got} where {expected} was due")]
    OutOfOrderSequence { expected: i32, got: i32 },
    #[error("a duplicate of a batch that is no longer remembered")]
    DuplicateSequence,
    #[error("producer epoch {got} is older than {current}")]
    ProducerFenced { current: i16, got: i16 },
    #[error("generation {got} is older than {current}")]
    StaleGeneration { current: i32, got: i32 },
    #[error("the metadata of an offset is too large")]
    MetadataTooLarge,
    #[error("the shard has its {} groups", crate::bounds::GROUPS)]
    TooManyGroups,
    #[error("the stream entry does not parse: {0}")]
    BadStreamEntry(String),
    #[error("the offset is outside the log")]
    OffsetOutOfRange,
    #[error("the segment does not continue the manifest at {0}")]
    SegmentNotNext(Offset),
    #[error("this edge was revoked; its name is not used again")]
    EdgeRevoked,
    #[error("rules version {0} is not known here")]
    UnknownRules(u32),
}

/// What the node has to do, or may want to know, once an entry is applied.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// The batch of this entry lies at `base`; stamp it with base offset and epoch and index it.
    Append {
        tp: TopicPartition,
        base: Offset,
        end: Offset,
        epoch: i32,
        at_ms: i64,
    },
    PartitionOpened(TopicPartition),
    PartitionClosed(TopicPartition),
    /// The log of a partition now starts here.
    LogStart(TopicPartition, Offset),
    /// Everything below lies in cold segments now.
    Cold(TopicPartition, Offset),
    /// No longer in the manifest: the objects may be deleted.
    SegmentGone(TopicPartition, Offset, Segment),
    /// A stream lost records or forked; the entry stands in the ledger.
    Ledger(u64),
    /// Acknowledged records are gone; they stand in the ledger.
    Lost(TopicPartition, Offset, Offset),
}
