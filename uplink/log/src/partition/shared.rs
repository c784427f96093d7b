//! What the writer of a partition and its readers both see.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use headwater_batch::{Offset, TopicPartition};

use crate::disk::Disk;
use crate::segment::file_name;
use crate::store::Gap;

/// A partition as its readers see it. The lock is held for a few instructions only, never over
/// I/O.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) tp: TopicPartition,
    state: Mutex<State>,
    /// Held while an index is rebuilt, so that two readers do not write one file.
    pub(crate) repair: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    /// In order of their base offsets. The last is the active one, if there is one.
    pub(crate) segments: Vec<SegmentInfo>,
    /// The first offset that may be read.
    pub(crate) start: Offset,
    /// The offset after the last batch.
    pub(crate) end: Offset,
    /// Known holes, in order, not overlapping.
    pub(crate) gaps: Vec<Gap>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentInfo {
    pub(crate) base: Offset,
    /// Good bytes of the log file.
    pub(crate) bytes: u64,
    /// When it was sealed, on the store's persisted clock; for the active one, when it began.
    pub(crate) stamp: u64,
}

impl Shared {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, tp: TopicPartition) -> Shared {
        Shared {
            disk,
            dir,
            tp,
            state: Mutex::default(),
            repair: Mutex::default(),
        }
    }

    /// A panic elsewhere leaves the state whole: each change is one assignment.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn path(&self, base: Offset, suffix: &str) -> PathBuf {
        self.dir.join(file_name(base, suffix))
    }
}

impl State {
    /// The segment whose range holds `offset`, and the offset where that range ends.
    pub(crate) fn segment_at(&self, offset: Offset) -> Option<(SegmentInfo, Offset)> {
        let after = self.segments.partition_point(|s| s.base <= offset);
        let segment = *self.segments.get(after.checked_sub(1)?)?;
        let end = self.segments.get(after).map_or(self.end, |next| next.base);
        Some((segment, end))
    }

    /// The gap that `offset` lies in.
    pub(crate) fn gap_at(&self, offset: Offset) -> Option<Gap> {
        let after = self.gaps.partition_point(|gap| gap.from <= offset);
        let gap = *self.gaps.get(after.checked_sub(1)?)?;
        (offset < gap.to).then_some(gap)
    }

    /// Bytes of all segments' logs.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }
}
