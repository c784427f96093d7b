//! ListOffsets (key 2) and OffsetForLeaderEpoch (key 23).

use headwater_batch::TopicPartition;

use crate::ErrorCode;
use crate::wire::Reply;

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// -1: the high watermark. Timestamp -1.
    Latest,
    /// -2 (and -4): the log start. Timestamp -1.
    Earliest,
    /// -3: the record with the largest timestamp, with that timestamp; None for an empty log.
    MaxTimestamp,
    /// The first record at or after this time in ms, with its own timestamp. Per record: find the
    /// batch by the time index, then look into that one batch. None if there is none.
    Time(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAsk {
    pub tp: TopicPartition,
    pub at: OffsetAt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    pub offset: i64,
    /// -1 for Latest and Earliest.
    pub timestamp: i64,
    /// Leader epoch of the record (of the leader for Latest); -1 if not known.
    pub leader_epoch: i32,
}

/// Offsets to look up.
#[derive(Debug)]
pub struct ListOffsetsPlan {
    pub asks: Vec<OffsetAsk>,
}

impl ListOffsetsPlan {
    /// `found[i]` is for `asks[i]`; Ok(None): no such record, answered as offset -1.
    pub fn respond(self, _found: Vec<Result<Option<FoundOffset>, ErrorCode>>) -> Reply {
        unimplemented!()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochAsk {
    pub tp: TopicPartition,
    pub leader_epoch: i32,
}

/// The largest known epoch at or below the one asked for, and where it ends: the start of the
/// next, or the high watermark for the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    pub leader_epoch: i32,
    pub end_offset: i64,
}

/// Leader epochs to look up in the partitions' epoch tables.
#[derive(Debug)]
pub struct EpochPlan {
    pub asks: Vec<EpochAsk>,
}

impl EpochPlan {
    /// `ends[i]` is for `asks[i]`; Ok(None): not known, answered as -1, which turns the client's
    /// validation off. A wrong answer makes clients report truncation.
    pub fn respond(self, _ends: Vec<Result<Option<EpochEnd>, ErrorCode>>) -> Reply {
        unimplemented!()
    }
}
