//! Produce (key 0): from a request to batches that may be appended as they are.

use bytes::Bytes;
use headwater_batch::TopicPartition;

use crate::wire::Reply;
use crate::{CloseReason, KafkaError};

/// When the client wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Never: `respond` gives nothing to send.
    None,
    /// Answered at apply, as `All` (rule C3).
    Leader,
    All,
}

/// What the shard has to know of a batch, read once from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchInfo {
    /// -1 for a producer that is not idempotent; then epoch and sequence are -1 too.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    /// At least 1; offset deltas are 0..records, with no gaps.
    pub records: u32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub codec: u8,
}

/// One validated batch for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    pub tp: TopicPartition,
    /// Exactly one RecordBatch v2; a slice of the request, not a copy. Its base offset and leader
    /// epoch are the client's and have to be stamped.
    pub batch: Bytes,
    pub info: BatchInfo,
    /// The topic has `message.timestamp.type=LogAppendTime`: the proposer stamps the time.
    pub log_append_time: bool,
}

/// Where an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The first record's offset; of the original batch if this was a duplicate.
    pub base_offset: i64,
    /// -1 unless the topic uses LogAppendTime.
    pub log_append_time_ms: i64,
    pub log_start: i64,
}

/// Batches to append, at most one per partition.
#[derive(Debug)]
pub struct ProducePlan {
    pub acks: Acks,
    /// How long the client waits; after it REQUEST_TIMED_OUT is the answer, which means that the
    /// outcome is not known.
    pub timeout_ms: u32,
    /// May be empty when every partition was refused; call `respond` with no results then.
    pub appends: Vec<Append>,
}

impl ProducePlan {
    /// `results[i]` is for `appends[i]`; one that is missing is answered REQUEST_TIMED_OUT.
    /// Gives None for acks=0, and Err if such a request failed somewhere: close the connection.
    pub fn respond(
        self,
        _results: Vec<Result<Appended, KafkaError>>,
    ) -> Result<Option<Reply>, CloseReason> {
        unimplemented!()
    }
}
