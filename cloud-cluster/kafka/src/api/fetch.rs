//! Fetch (key 1): which partitions to read, when there is enough, and the reply around the bytes.

use bytes::Bytes;
use headwater_batch::TopicPartition;

use crate::wire::Reply;
use crate::{ErrorCode, KafkaError};

/// One partition to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPartition {
    pub tp: TopicPartition,
    pub offset: i64,
    /// The most bytes from this partition, save that the first batch of a reply always goes.
    pub max_bytes: u32,
}

/// What was read of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Set for OFFSET_OUT_OF_RANGE, NOT_LEADER_OR_FOLLOWER, OFFSET_NOT_AVAILABLE and the like.
    /// Answer OFFSET_OUT_OF_RANGE only with a valid lease (rule C3): it resets consumers.
    pub error: Option<ErrorCode>,
    /// Offset of the next record to be committed; -1 with an error.
    pub high_watermark: i64,
    /// -1 when not known.
    pub log_start: i64,
    /// Whole batches, stamped; the first one may start below the asked offset. A chunk may hold
    /// several batches. They are written as they are, without another copy.
    pub records: Vec<Bytes>,
}

impl Fetched {
    pub fn failed(error: ErrorCode) -> Self {
        Self {
            error: Some(error),
            high_watermark: -1,
            log_start: -1,
            records: Vec::new(),
        }
    }

    pub fn byte_len(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

/// Partitions to read, in this order.
#[derive(Debug)]
pub struct FetchPlan {
    /// Those that this node leads; what is wrong with the others is already known.
    pub partitions: Vec<FetchPartition>,
    /// How long to wait for `min_bytes`; 0 if the reply is due at once.
    pub max_wait_ms: u32,
    pub min_bytes: u32,
    /// The most bytes of the whole reply, save that its first batch always goes.
    pub max_bytes: u32,
    pub read_committed: bool,
}

impl FetchPlan {
    /// How many bytes partition number `i` may give when the ones before it gave `so_far`:
    /// (most bytes, whether one whole batch goes even if it is larger). (0, false): skip it, but
    /// do report its watermarks.
    pub fn allowance(&self, i: usize, so_far: usize) -> (usize, bool) {
        let left = (self.max_bytes as usize).saturating_sub(so_far);
        (left.min(self.partitions[i].max_bytes as usize), so_far == 0)
    }

    /// Whether to answer now: enough bytes, or an error that the client should see at once.
    pub fn is_satisfied(&self, _fetched: &[Fetched]) -> bool {
        unimplemented!()
    }

    /// `fetched[i]` is for `partitions[i]`; one that is missing is answered with no records and
    /// OFFSET_NOT_AVAILABLE.
    pub fn respond(self, _fetched: Vec<Fetched>) -> Reply {
        unimplemented!()
    }

    /// Answers every partition with the same error.
    pub fn fail(self, error: KafkaError) -> Reply {
        let all = self
            .partitions
            .iter()
            .map(|_| Fetched::failed(error.code))
            .collect();
        self.respond(all)
    }
}
