//! One segment: a run of batches of one partition in Kafka's own three files.
//!
//! ```text
//! <base offset, 20 digits>.log         RecordBatch v2, one after another, nothing between
//! <base offset, 20 digits>.index       8 bytes an entry: relative offset i32 | position i32
//! <base offset, 20 digits>.timeindex  12 bytes an entry: timestamp i64 | relative offset i32
//! ```
//! All integers are big-endian. Relative offsets count from the base offset in the name.
//!
//! The entries mean what Kafka's `OffsetIndex` and `TimeIndex` mean, so its DumpLogSegments finds
//! nothing to complain about:
//! - an offset entry holds the *last* offset of a batch and the position of that batch; one is
//!   made when more than [`INDEX_INTERVAL_BYTES`] lie between this batch and the one indexed before;
//! - a time entry holds the greatest timestamp so far and the last offset of the batch that had
//!   it; one is made beside each offset entry if the timestamp grew, and one at the seal.
//!
//! Nothing is preallocated: a file's length is its contents. Indexes are hints. They can be
//! rebuilt from the log, and a wrong one is ([`scan`](crate::segment::scan)).
//!
//! Bounds: a segment stays below 2^31 bytes and 2^31 offsets.

mod builder;
mod index;
mod lookup;
mod meta;
mod scan;

pub use builder::{IndexBuilder, NewEntries, SegmentBuilder, SegmentBytes};
pub use index::{
    INDEX_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry, index_problem, timeindex_problem,
};
pub use lookup::{position_for, time_floor};
pub use meta::BatchMeta;
pub use scan::{Scanned, Window, resync, scan};

use headwater_batch::Offset;

/// Kafka's `index.interval.bytes` default.
pub const INDEX_INTERVAL_BYTES: u64 = 4096;
/// Positions and relative offsets are i32.
pub const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;
/// The most bytes of an index file: one entry, of the larger kind, for each interval.
pub const INDEX_BYTES_MAX: u64 = SEGMENT_BYTES_MAX / INDEX_INTERVAL_BYTES * TIME_ENTRY_BYTES as u64;

/// `00000000000000000042.log` and its neighbours.
pub fn file_name(base: Offset, suffix: &str) -> String {
    format!("{:020}.{suffix}", base.0)
}

/// The base offset in the name of a `.log` file; `None` for every other name.
pub fn base_of(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(Offset)
}
