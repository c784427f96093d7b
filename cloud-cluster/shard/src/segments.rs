//! The manifest: which cold segments a partition has.

use headwater_batch::Offset;
use serde::{Deserialize, Serialize};

/// One sealed segment in the object store. Its base offset is part of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The first offset that is not in it.
    pub end: Offset,
    /// Part of the object key, so that a retry or another replica never overwrites it (C4).
    pub uuid: u128,
    pub log_bytes: u64,
    pub index_bytes: u64,
    pub time_index_bytes: u64,
    /// The largest record timestamp, in ms.
    pub max_timestamp: i64,
    /// When its newest batch was appended, in ms: what age-based retention counts from.
    pub appended_ms: i64,
}
