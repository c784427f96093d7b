//! The store's partitions, by number and by name.

use std::collections::{HashMap, VecDeque};

use headwater_batch::{Offset, TopicPartition};

use super::meta::PartitionMeta;
use crate::pack::Sealed;
use crate::partition::PartitionLog;
use crate::retention::Candidate;

/// The most partitions of one edge: their states fit a journal file's header (J3).
pub const PARTITIONS_MAX: usize = 700;

/// One partition.
pub(super) struct Partition {
    pub(super) meta: PartitionMeta,
    pub(super) log: PartitionLog,
    /// The directory exists.
    pub(super) on_disk: bool,
    /// Sealed batches that found no room. They are tried again before any newer one.
    pub(super) stalled: VecDeque<Sealed>,
    /// The encoded state in the last checkpoint.
    pub(super) saved: Vec<u8>,
    /// Journaled, not yet durable: segments below go as soon as it is.
    pub(super) going: Offset,
    /// The acked offset moved since it was last journaled.
    pub(super) ack_moved: bool,
    /// Its lineage is lost (U1).
    pub(super) in_doubt: bool,
    /// Its incarnation and boot are durable: it may be named to others (U1).
    pub(super) born: bool,
}

/// All partitions. Numbers are stable while the store is open.
#[derive(Default)]
pub(super) struct Table {
    pub(super) partitions: Vec<Partition>,
    numbers: HashMap<TopicPartition, usize>,
}

impl Table {
    pub(super) fn number(&self, tp: &TopicPartition) -> Option<usize> {
        self.numbers.get(tp).copied()
    }

    pub(super) fn find(&self, tp: &TopicPartition) -> Option<&Partition> {
        self.number(tp).map(|number| &self.partitions[number])
    }

    pub(super) fn find_mut(&mut self, tp: &TopicPartition) -> Option<&mut Partition> {
        self.number(tp).map(|number| &mut self.partitions[number])
    }

    pub(super) fn add(&mut self, partition: Partition) -> usize {
        let number = self.partitions.len();
        self.numbers.insert(partition.meta.tp.clone(), number);
        self.partitions.push(partition);
        number
    }
}

impl Partition {
    pub(super) fn new(meta: PartitionMeta, log: PartitionLog, on_disk: bool) -> Partition {
        Partition {
            going: meta.start,
            meta,
            log,
            on_disk,
            stalled: VecDeque::new(),
            saved: Vec::new(),
            ack_moved: false,
            in_doubt: false,
            born: true,
        }
    }

    /// The sealed segments that are not on their way out, in order.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let state = self.log.shared.state();
        let pairs = state.segments.windows(2);
        pairs
            .map(|pair| Candidate {
                base: pair[0].base,
                end: pair[1].base,
                bytes: pair[0].bytes,
                stamp: pair[0].stamp,
            })
            .filter(|candidate| candidate.end > self.going)
            .collect()
    }

    /// Bytes of segments that go with the next commit.
    pub(super) fn going_bytes(&self) -> u64 {
        let state = self.log.shared.state();
        let pairs = state.segments.windows(2);
        let going = pairs.filter(|pair| pair[1].base <= self.going);
        going.map(|pair| pair[0].bytes).sum()
    }

    /// Brings what readers see up to the state.
    pub(super) fn publish(&self) {
        let mut state = self.log.shared.state();
        state.start = self.meta.start;
        state.gaps.clone_from(&self.meta.gaps);
    }

    /// A hole at the end is to be read like records: whoever sends them must send the GAP.
    pub(super) fn extend_over_gaps(&self) {
        let mut state = self.log.shared.state();
        while let Some(gap) = state.gap_at(state.end).filter(|_| self.stalled.is_empty()) {
            state.end = gap.to;
        }
    }

    /// The state as a checkpoint keeps it.
    pub(super) fn snapshot(&self) -> PartitionMeta {
        let mut meta = self.meta.clone();
        meta.synced = Some(self.log.synced());
        let state = self.log.shared.state();
        let sealed = state.segments.len().saturating_sub(1);
        let stamps = state.segments[..sealed].iter();
        meta.stamps = stamps
            .map(|segment| (segment.base, segment.stamp))
            .collect();
        meta
    }
}
