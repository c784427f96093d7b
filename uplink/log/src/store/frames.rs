//! What the store's journal frames and checkpoint entries hold. `FORMAT.md` lists them.
//!
//! Everything is postcard. Frames are idempotent: replaying one that a checkpoint already covers
//! changes nothing, because offsets are explicit (J2), cursors only grow and ranges unite.

use headwater_batch::{Limits, NewRecord, Offset, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::store::Gap;

/// Kafka knows -1 for "no timestamp" and nothing below.
pub(super) const TIMESTAMP_MIN: i64 = -1;

pub(super) const ENTRY: u8 = 1;
pub(super) const BOOT: u8 = 2;
pub(super) const PARTITION: u8 = 3;
pub(super) const FORK: u8 = 4;
pub(super) const ACKED: u8 = 5;
pub(super) const GAP: u8 = 6;
pub(super) const LOG_START: u8 = 7;

/// ENTRY. The owner's op follows to the end of the payload.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EntryFrame {
    /// Records staged before this frame, over all partitions and all time: after rot it tells how
    /// many are lost.
    pub(super) total: u64,
    pub(super) records: Vec<RecordFrame>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecordFrame {
    pub(super) tp: TopicPartition,
    pub(super) offset: Offset,
    pub(super) record: NewRecord,
}

/// The same bytes as [`RecordFrame`], without copying.
#[derive(Serialize)]
pub(super) struct RecordFrameRef<'a> {
    pub(super) tp: &'a TopicPartition,
    pub(super) offset: Offset,
    pub(super) record: &'a NewRecord,
}

/// BOOT: this edge started (U1). One frame for up to [`BOOT_PARTITIONS_MAX`] partitions.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BootFrame {
    pub(super) total: u64,
    pub(super) clock_ms: u64,
    pub(super) boot: u64,
    pub(super) starts: Vec<BootPartition>,
}

/// A partition at a start. It repeats what other frames and headers hold, so that rot in one of
/// them costs no incarnation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BootPartition {
    pub(super) tp: TopicPartition,
    pub(super) start: Offset,
    pub(super) incarnation: u128,
    pub(super) since: Offset,
    pub(super) forks: u32,
    pub(super) acked: Offset,
}

pub(super) const BOOT_PARTITIONS_MAX: usize = 512;

/// PARTITION: a partition exists.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PartitionFrame {
    pub(super) tp: TopicPartition,
    pub(super) incarnation: u128,
    pub(super) boot: u64,
    pub(super) start: Offset,
}

/// FORK: a new incarnation from `at` on (U1).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ForkFrame {
    pub(super) tp: TopicPartition,
    pub(super) incarnation: u128,
    pub(super) at: Offset,
    /// Counts the partition's forks: the greatest holds.
    pub(super) forks: u32,
}

/// ACKED: cursors that moved, and the clock.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct AckedFrame {
    pub(super) clock_ms: u64,
    pub(super) cursors: Vec<(TopicPartition, u32, Offset)>,
}

/// GAP: offsets without records.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GapFrame {
    pub(super) tp: TopicPartition,
    pub(super) gap: Gap,
}

/// LOG_START: what is below may be deleted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LogStartFrame {
    pub(super) tp: TopicPartition,
    pub(super) start: Offset,
    /// Of the record before `start`, when it was known.
    pub(super) digest: Option<u64>,
}

/// No log comes so far. What says so has a right checksum and was still never written by us, and
/// sums of it would overflow.
pub(super) const PLAUSIBLE_MAX: u64 = 1 << 60;

/// Whether numbers from the disk can be a log's.
pub(super) trait Plausible {
    fn is_plausible(&self) -> bool;
}

pub(super) fn plausible(offset: Offset) -> bool {
    (0..=PLAUSIBLE_MAX as i64).contains(&offset.0)
}

impl Plausible for Gap {
    fn is_plausible(&self) -> bool {
        plausible(self.from) && plausible(self.to)
    }
}

impl Plausible for EntryFrame {
    fn is_plausible(&self) -> bool {
        // What no stage would have taken, no batch takes.
        let fits = |record: &NewRecord| {
            record.timestamp >= TIMESTAMP_MIN
                && record.bytes_bound() <= Limits::UPLINK.records_bytes_max
        };
        let mut all = self.records.iter();
        self.total <= PLAUSIBLE_MAX && all.all(|r| plausible(r.offset) && fits(&r.record))
    }
}

impl Plausible for BootFrame {
    fn is_plausible(&self) -> bool {
        let sane = |p: &BootPartition| {
            let offsets = [p.start, p.since, p.acked];
            offsets.into_iter().all(plausible) && u64::from(p.forks) < u64::from(u32::MAX)
        };
        self.total.max(self.clock_ms) <= PLAUSIBLE_MAX && self.starts.iter().all(sane)
    }
}

impl Plausible for PartitionFrame {
    fn is_plausible(&self) -> bool {
        plausible(self.start)
    }
}

impl Plausible for ForkFrame {
    fn is_plausible(&self) -> bool {
        plausible(self.at) && self.forks < u32::MAX
    }
}

impl Plausible for AckedFrame {
    fn is_plausible(&self) -> bool {
        self.clock_ms <= PLAUSIBLE_MAX && self.cursors.iter().all(|(.., at)| plausible(*at))
    }
}

impl Plausible for GapFrame {
    fn is_plausible(&self) -> bool {
        self.gap.is_plausible()
    }
}

impl Plausible for LogStartFrame {
    fn is_plausible(&self) -> bool {
        plausible(self.start)
    }
}

/// A frame of a kind known here always encodes.
pub(super) fn encode(frame: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(frame).expect("frames hold no type that postcard lacks")
}
