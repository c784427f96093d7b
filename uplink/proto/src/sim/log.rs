//! The honest model of one partition's log on one card.

use bytes::Bytes;
use headwater_batch::{BatchBuilder, Level, NewRecord, Offset, TopicPartition};

use crate::{GapReason, Incarnation, Parent, StreamInfo, boot_spans};

/// A record's number, unique in a run.
pub(super) type Id = u64;

#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) tp: TopicPartition,
    pub(super) incarnation: Incarnation,
    /// Every incarnation this history ever had, for the oracle.
    pub(super) incarnations: Vec<Incarnation>,
    pub(super) origin: i64,
    pub(super) parent: Option<Parent>,
    pub(super) boots: Vec<(u64, Offset)>,
    /// All records ever written, from offset 0; the oracle's memory, not the log's.
    pub(super) hist: Vec<Id>,
    /// Records below it survive a power cut, and were PUBACKed.
    pub(super) durable: i64,
    pub(super) start: i64,
    /// Ends of sealed batches, rising. Batches begin where the one before ends.
    pub(super) borders: Vec<i64>,
    pub(super) acked: i64,
    pub(super) acked_durable: i64,
    /// Dropped, rotten or dead-lettered, never trimmed: what a GAP may say.
    pub(super) gaps: Vec<(i64, i64, GapReason)>,
    /// How many partitions the topic has on this card (U6).
    pub(super) partitions: u32,
}

pub(super) enum Answer {
    Batches(Vec<Bytes>),
    Gap(i64, i64, GapReason),
}

impl Log {
    pub(super) fn new(tp: TopicPartition, incarnation: u128) -> Log {
        let incarnation = Incarnation(incarnation);
        Log {
            partitions: tp.partition + 1,
            tp,
            incarnation,
            incarnations: vec![incarnation],
            origin: 0,
            parent: None,
            boots: Vec::new(),
            hist: Vec::new(),
            durable: 0,
            start: 0,
            borders: Vec::new(),
            acked: 0,
            acked_durable: 0,
            gaps: Vec::new(),
        }
    }

    pub(super) fn next(&self) -> i64 {
        self.hist.len() as i64
    }

    pub(super) fn sealed(&self) -> i64 {
        self.borders.last().copied().unwrap_or(0)
    }

    /// Every durable record becomes a batch; borders fall where they will.
    pub(super) fn seal(&mut self) {
        if self.durable > self.sealed() {
            self.borders.push(self.durable);
        }
    }

    /// A start of the edge: BOOT is durable before the first record (U1).
    pub(super) fn boot(&mut self, boot: u64) {
        self.boots.push((boot, Offset(self.next())));
    }

    /// What a power cut leaves: unsynced records go, batches may be drawn anew.
    pub(super) fn power_cut(&mut self, borders_kept: usize) {
        self.hist.truncate(self.durable as usize);
        let dropped_to = self
            .gaps
            .iter()
            .map(|g| g.1)
            .max()
            .unwrap_or(0)
            .max(self.start);
        let fixed = self.borders.iter().filter(|b| **b <= dropped_to).count();
        self.borders.truncate(borders_kept.max(fixed));
        self.acked = self.acked_durable;
    }

    /// Deletes up to a batch border that is not above `to`; gives the old and the new start.
    pub(super) fn delete_to(&mut self, to: i64) -> Option<(i64, i64)> {
        let border = self.borders.iter().copied().rfind(|b| *b <= to)?;
        (border > self.start).then(|| (std::mem::replace(&mut self.start, border), border))
    }

    pub(super) fn gap_at(&self, offset: i64) -> Option<(i64, i64, GapReason)> {
        self.gaps
            .iter()
            .copied()
            .find(|g| g.0 <= offset && offset < g.1)
    }

    pub(super) fn fork(&mut self, incarnation: Incarnation, at: i64) {
        self.parent = Some(Parent {
            incarnation: self.incarnation,
            fork: Offset(at),
        });
        self.incarnation = incarnation;
        self.incarnations.push(incarnation);
        self.origin = at;
        (self.acked, self.acked_durable) = (at, at);
    }

    pub(super) fn info(&self) -> StreamInfo {
        StreamInfo {
            tp: self.tp.clone(),
            partitions: self.partitions,
            incarnation: self.incarnation,
            origin: Offset(self.origin),
            parent: self.parent,
            start: Offset(self.start),
            end: Offset(self.sealed().max(self.start)),
            acked: Offset(self.acked),
            spans: boot_spans(&self.boots, Offset(self.next())),
            priority: 0,
        }
    }

    pub(super) fn read(&self, from: i64, batches_max: usize, level: Level) -> Answer {
        if let Some((_, to, reason)) = self.gap_at(from) {
            return Answer::Gap(from, to, reason);
        }
        let mut batches = Vec::new();
        let mut base = 0;
        for &end in &self.borders {
            let lost = self.gap_at(base.max(from)).is_some();
            if end > from.max(self.start) && batches.len() < batches_max {
                if lost && !batches.is_empty() {
                    break;
                }
                if !lost {
                    batches.push(self.batch(base, end, level));
                }
            }
            base = end;
        }
        Answer::Batches(batches)
    }

    fn batch(&self, base: i64, end: i64, level: Level) -> Bytes {
        let mut builder = BatchBuilder::new(Offset(base), level);
        for &id in &self.hist[base as usize..end as usize] {
            builder
                .push(&NewRecord::new(id as i64, "k", id.to_le_bytes().to_vec()))
                .unwrap();
        }
        builder.finish().into()
    }
}
