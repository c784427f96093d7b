//! Finding a place in a log through its indexes.

use headwater_batch::Offset;

use super::{INDEX_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry};

/// A position in the log at or before the batch that holds `offset`, where a batch begins.
///
/// The entry of the batch that ends exactly at `offset`, or the nearest before it; scanning on
/// from there finds the batch. `0` when the index is empty or starts later.
pub fn position_for(index: &[u8], base: Offset, offset: Offset) -> u64 {
    let entries = index.len() / INDEX_ENTRY_BYTES;
    let entry = |i: usize| OffsetEntry::decode(&index[i * INDEX_ENTRY_BYTES..]);
    let wanted = offset.0.saturating_sub(base.0);
    let found = partition_point(entries, |i| i64::from(entry(i).relative_offset) <= wanted);
    match found {
        0 => 0,
        n => entry(n - 1).position.max(0) as u64,
    }
}

/// The last time entry with a timestamp below `timestamp`: every earlier batch is older, so the
/// first record at or after `timestamp` lies behind it. `None`: search from the start.
pub fn time_floor(timeindex: &[u8], timestamp: i64) -> Option<TimeEntry> {
    let entries = timeindex.len() / TIME_ENTRY_BYTES;
    let entry = |i: usize| TimeEntry::decode(&timeindex[i * TIME_ENTRY_BYTES..]);
    match partition_point(entries, |i| entry(i).timestamp < timestamp) {
        0 => None,
        n => Some(entry(n - 1)),
    }
}

/// How many of `0..len` satisfy `below`, which holds for a prefix.
fn partition_point(len: usize, below: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if below(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
