//! What the store remembers of each partition, in checkpoints and in journal headers (J3).

use headwater_batch::{Offset, TopicPartition};
use serde::{Deserialize, Serialize};

use super::frames::{PLAUSIBLE_MAX, Plausible, plausible};
use super::types::BOOTS_MAX;
use crate::durable::HEADER_BYTES_MAX;
use crate::partition::Synced;
use crate::store::{Gap, Lineage};

/// Known holes kept per partition. Beyond it the oldest acked ones are forgotten.
pub(super) const GAPS_MAX: usize = 1024;

/// First byte of the owner's keys in the checkpoint, and of the store's.
pub(super) const OWNER: u8 = b'o';
pub(super) const STORE: u8 = b's';
/// The key of [`StoreMeta`]; partitions' keys are `sp` and the directory's name.
pub(super) const STORE_KEY: &[u8] = b"ss";
pub(super) const PARTITION_KEY: &[u8] = b"sp";

/// One partition's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartitionMeta {
    pub(super) tp: TopicPartition,
    /// The offset the next record gets, staged records counted.
    pub(super) next: Offset,
    /// Below it nothing can be read.
    pub(super) start: Offset,
    pub(super) acked: Offset,
    pub(super) incarnation: u128,
    pub(super) since: Offset,
    pub(super) forks: u32,
    pub(super) boots: Vec<(u64, Offset)>,
    pub(super) gaps: Vec<Gap>,
    pub(super) synced: Option<Synced>,
    /// When sealed segments were sealed: base offset, persisted clock.
    pub(super) stamps: Vec<(Offset, u64)>,
    /// Digest of the record before an offset whose record is deleted.
    pub(super) digest: Option<(Offset, u64)>,
}

/// The store's own state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoreMeta {
    /// Records ever staged.
    pub(super) total: u64,
    /// The persisted clock (J9).
    pub(super) clock_ms: u64,
}

/// The header of a journal file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) store: StoreMeta,
    pub(super) partitions: Vec<PartitionMeta>,
}

impl Plausible for StoreMeta {
    fn is_plausible(&self) -> bool {
        self.total.max(self.clock_ms) <= PLAUSIBLE_MAX
    }
}

impl Plausible for PartitionMeta {
    fn is_plausible(&self) -> bool {
        let single = [self.next, self.start, self.acked, self.since].into_iter();
        let boots = self.boots.iter().map(|(_, start)| *start);
        let stamps = self.stamps.iter().map(|(base, _)| *base);
        let digest = self.digest.map(|(at, _)| at);
        single
            .chain(boots)
            .chain(stamps)
            .chain(digest)
            .all(plausible)
            && self.gaps.iter().all(Plausible::is_plausible)
            && self.stamps.iter().all(|(_, at)| *at <= PLAUSIBLE_MAX)
            && self.forks < u32::MAX
    }
}

impl PartitionMeta {
    pub(super) fn new(tp: TopicPartition, incarnation: u128, start: Offset) -> PartitionMeta {
        PartitionMeta {
            tp,
            next: start,
            start,
            acked: Offset::ZERO,
            incarnation,
            since: start,
            forks: 0,
            boots: Vec::new(),
            gaps: Vec::new(),
            synced: None,
            stamps: Vec::new(),
            digest: None,
        }
    }

    /// As it stands on the disk. The next record goes behind all that is told to be gone: nobody could
    /// read it there. What we write says so itself.
    pub(super) fn read_back(mut self) -> Option<PartitionMeta> {
        let gone = self.gaps.iter().map(|gap| gap.to).max();
        let gone = gone.map_or(self.start, |to| to.max(self.start));
        self.next = self.next.max(gone);
        self.is_plausible().then_some(self)
    }

    pub(super) fn lineage(&self) -> Lineage {
        Lineage {
            incarnation: self.incarnation,
            since: self.since,
            boots: self.boots.clone(),
        }
    }

    /// Takes over what a header says that is newer than what is known.
    pub(super) fn merge(&mut self, theirs: PartitionMeta) {
        self.born(theirs.incarnation, theirs.since);
        self.fork(theirs.incarnation, theirs.since, theirs.forks);
        self.ack(theirs.forks, theirs.acked);
        self.next = self.next.max(theirs.next);
        self.start = self.start.max(theirs.start);
        self.merge_boots(theirs.boots);
        // What is known is as new: the header may be a copy of an older file's.
        for gap in theirs.gaps {
            for (from, to) in self.uncovered(gap.from, gap.to) {
                self.add_gap(Gap { from, to, ..gap });
            }
        }
    }

    /// The partition's first incarnation, unless one is known: nothing is known of a partition
    /// that was only found in the data directory.
    pub(super) fn born(&mut self, incarnation: u128, since: Offset) {
        if self.boots.is_empty() && self.forks == 0 {
            self.incarnation = incarnation;
            self.since = since;
        }
    }

    /// Remembers a start of the edge. Knowing it already is fine.
    pub(super) fn add_boot(&mut self, boot: u64, start: Offset) {
        if self.boots.iter().any(|(known, _)| *known == boot) {
            return;
        }
        self.boots.push((boot, start));
        self.bound_boots();
    }

    /// Starts without records go first, then the oldest.
    fn bound_boots(&mut self) {
        while self.boots.len() > BOOTS_MAX {
            let empty = self
                .boots
                .windows(2)
                .position(|pair| pair[0].1 == pair[1].1);
            self.boots.remove(empty.unwrap_or(0));
        }
    }

    /// Unites the starts with those that a header knew, in the order in which they were. What is
    /// known may lack the first ones: the frames that told of them may be lost.
    pub(super) fn merge_boots(&mut self, mut theirs: Vec<(u64, Offset)>) {
        let Some(&(_, last)) = theirs.last() else {
            return;
        };
        let shared = |boot: u64| theirs.iter().any(|(known, _)| *known == boot);
        let older = match self.boots.iter().position(|(boot, _)| shared(*boot)) {
            Some(at) => at,
            None => self.boots.partition_point(|(_, start)| *start < last),
        };
        let mut newer = self.boots.split_off(older);
        newer.retain(|(boot, _)| !shared(*boot));
        self.boots.append(&mut theirs);
        self.boots.append(&mut newer);
        self.bound_boots();
    }

    /// Takes over what a later frame or header says of the same partition.
    pub(super) fn fork(&mut self, incarnation: u128, at: Offset, forks: u32) {
        if forks <= self.forks {
            return;
        }
        self.forks = forks;
        self.incarnation = incarnation;
        self.since = at;
        // What lies below the fork is in the cloud, as the parent's records.
        self.acked = at;
    }

    /// Cursors of an incarnation that is no more do not count.
    pub(super) fn ack(&mut self, forks: u32, offset: Offset) -> bool {
        let moves = forks == self.forks && offset > self.acked;
        if moves {
            self.acked = offset;
        }
        moves
    }

    /// Unites `gap` with the known ones. Where they overlap the newer reason holds.
    pub(super) fn add_gap(&mut self, gap: Gap) {
        if gap.from >= gap.to {
            return;
        }
        let mut gaps = Vec::with_capacity(self.gaps.len() + 2);
        for old in self.gaps.drain(..) {
            let parts = [
                Gap {
                    to: old.to.min(gap.from),
                    ..old
                },
                Gap {
                    from: old.from.max(gap.to),
                    ..old
                },
            ];
            gaps.extend(parts.into_iter().filter(|part| part.from < part.to));
        }
        gaps.push(gap);
        gaps.sort_by_key(|gap| gap.from);
        gaps.dedup_by(|later, earlier| {
            let joins = earlier.to == later.from && earlier.reason == later.reason;
            if joins {
                earlier.to = later.to;
            }
            joins
        });
        self.gaps = gaps;
    }

    /// Known holes right before the first segment are no retention's: the log begins with them.
    pub(super) fn begin_with_gaps(&mut self) {
        for gap in self.gaps.iter().rev() {
            if gap.from < self.start && self.start <= gap.to {
                self.start = gap.from;
            }
        }
    }

    /// Forgets holes that nobody can meet any more.
    pub(super) fn prune(&mut self) {
        let (start, acked) = (self.start, self.acked);
        self.gaps.retain(|gap| gap.to > start || gap.to > acked);
        while self.gaps.len() > GAPS_MAX && self.gaps[0].to <= acked {
            self.gaps.remove(0);
        }
    }

    /// The parts of `from..to` that no known gap covers.
    pub(super) fn uncovered(&self, from: Offset, to: Offset) -> Vec<(Offset, Offset)> {
        let (mut at, mut parts) = (from, Vec::new());
        for gap in self
            .gaps
            .iter()
            .filter(|gap| gap.to > from && gap.from < to)
        {
            if gap.from > at {
                parts.push((at, gap.from));
            }
            at = at.max(gap.to);
        }
        if at < to {
            parts.push((at, to));
        }
        parts
    }

    pub(super) fn key(&self) -> Vec<u8> {
        [PARTITION_KEY, self.tp.to_string().as_bytes()].concat()
    }
}

impl Header {
    /// At most [`HEADER_BYTES_MAX`] bytes: with very many partitions what a checkpoint or a
    /// segment knows as well is left out, never the next offsets.
    pub(super) fn encode(mut self) -> Vec<u8> {
        for level in 0..3 {
            let bytes = super::frames::encode(&self);
            if bytes.len() <= HEADER_BYTES_MAX {
                return bytes;
            }
            for meta in &mut self.partitions {
                meta.stamps.clear();
                if level > 0 {
                    meta.gaps.clear();
                    let old = meta.boots.len().saturating_sub(1);
                    meta.boots.drain(..old);
                }
            }
        }
        super::frames::encode(&self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Header> {
        let Header { store, partitions } = postcard::from_bytes(bytes).ok()?;
        let partitions = partitions.into_iter().map(PartitionMeta::read_back);
        let partitions = partitions.collect::<Option<_>>()?;
        store.is_plausible().then_some(Header { store, partitions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(known: &[(u64, i64)], header: &[(u64, i64)]) -> Vec<u64> {
        let boots = |list: &[(u64, i64)]| list.iter().map(|&(b, at)| (b, Offset(at))).collect();
        let mut meta = PartitionMeta::new("t-0".parse().unwrap(), 1, Offset::ZERO);
        let mut theirs = meta.clone();
        meta.boots = boots(known);
        theirs.boots = boots(header);
        meta.merge(theirs);
        assert!(meta.boots.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        meta.boots.iter().map(|(boot, _)| *boot).collect()
    }

    #[test]
    fn starts_keep_their_order_whoever_told_of_them_first() {
        let header = [(1, 0), (2, 11), (3, 11)];
        assert_eq!(merged(&[], &header), [1, 2, 3]);
        assert_eq!(merged(&header, &[]), [1, 2, 3]);
        // The frames of the first starts are lost, the header of a later file knew them.
        assert_eq!(merged(&[(3, 11)], &header), [1, 2, 3]);
        assert_eq!(merged(&[(2, 11), (3, 11), (4, 11)], &header), [1, 2, 3, 4]);
        // The header had no room for the old ones.
        assert_eq!(merged(&[(1, 0), (2, 11)], &[(2, 11), (3, 11)]), [1, 2, 3]);
        assert_eq!(merged(&[(1, 0), (2, 5)], &[(3, 11)]), [1, 2, 3]);
    }
}
