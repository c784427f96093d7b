//! What recovery starts from: a checkpoint, and the headers below its position.

use std::collections::BTreeMap;

use headwater_batch::TopicPartition;

use super::meta::{Header, PartitionMeta, StoreMeta};

/// The store's part of a checkpoint.
#[derive(Default)]
pub(super) struct Checkpointed {
    pub(super) store: StoreMeta,
    pub(super) partitions: BTreeMap<TopicPartition, (PartitionMeta, Vec<u8>)>,
}

impl Checkpointed {
    /// What the headers below the checkpoint's position say. A start that opens a new journal file
    /// copies the newest of them behind that position, and what it says then must change nothing.
    pub(super) fn merge(&mut self, header: Header) {
        self.store.total = self.store.total.max(header.store.total);
        self.store.clock_ms = self.store.clock_ms.max(header.store.clock_ms);
        for theirs in header.partitions {
            match self.partitions.get_mut(&theirs.tp) {
                Some((ours, saved)) => {
                    if saved.is_empty() && ours.next < theirs.next {
                        ours.synced = theirs.synced;
                        ours.stamps.clone_from(&theirs.stamps);
                        ours.digest = theirs.digest;
                    }
                    ours.merge(theirs);
                }
                None => {
                    self.partitions
                        .insert(theirs.tp.clone(), (theirs, Vec::new()));
                }
            }
        }
    }
}
