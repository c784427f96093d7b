//! Replaying the journal's frames over a checkpoint: one function for each kind of frame.

use headwater_batch::{Offset, TopicPartition};

use super::frames::{
    self, AckedFrame, BootFrame, EntryFrame, ForkFrame, GapFrame, LogStartFrame, PLAUSIBLE_MAX,
    PartitionFrame, Plausible,
};
use super::meta::Header;
use super::open::Replay;
use super::stage::ENTRY_RECORDS_MAX;
use super::{Gap, GapReason};
use crate::durable::Frame;
use crate::error::LogError;

impl Replay {
    pub(super) fn frame(&mut self, frame: Frame) -> Result<(), LogError> {
        let position = frame.position.0;
        while self
            .headers
            .front()
            .is_some_and(|(first, _)| *first <= position)
        {
            let (first, header) = self.headers.pop_front().expect("looked at above");
            self.pass(first);
            self.header(header)?;
        }
        self.pass(position);
        self.expected = position + 1;
        match frame.kind {
            frames::ENTRY => self.entry(position, &frame.payload),
            frames::BOOT => self.decoded(&frame.payload, Self::boot),
            frames::PARTITION => self.decoded(&frame.payload, Self::partition),
            frames::FORK => self.decoded(&frame.payload, Self::fork),
            frames::ACKED => self.decoded(&frame.payload, Self::acked),
            frames::GAP => self.decoded(&frame.payload, Self::gap),
            frames::LOG_START => self.decoded(&frame.payload, Self::log_start),
            kind => {
                self.note(format!(
                    "journal frame {position} has the unknown kind {kind}"
                ));
                Ok(())
            }
        }
    }

    /// What is told next stands at `position`: frames before it that did not come are lost.
    fn pass(&mut self, position: u64) {
        let count = position.saturating_sub(self.expected);
        if count > 0 {
            self.note(format!(
                "{count} journal frames before frame {position} are lost"
            ));
            self.unsure.iter_mut().for_each(|unsure| *unsure = true);
            self.uncounted += count;
            self.expected = position;
        }
    }

    fn decoded<'f, T: serde::Deserialize<'f> + Plausible>(
        &mut self,
        payload: &'f [u8],
        apply: impl FnOnce(&mut Replay, T) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        match postcard::from_bytes::<T>(payload) {
            Ok(frame) if frame.is_plausible() => apply(self, frame),
            Ok(_) => {
                self.note("a journal frame holds numbers that are no log's".to_owned());
                Ok(())
            }
            // Its checksum was right: another version wrote it.
            Err(error) => {
                self.note(format!("a journal frame does not decode: {error}"));
                Ok(())
            }
        }
    }

    fn entry(&mut self, position: u64, payload: &[u8]) -> Result<(), LogError> {
        let (entry, op) = match postcard::take_from_bytes::<EntryFrame>(payload) {
            Ok(decoded) if decoded.0.is_plausible() => decoded,
            Ok(_) => {
                self.note(format!(
                    "journal frame {position} holds numbers that are no log's"
                ));
                return Ok(());
            }
            Err(error) => {
                self.note(format!("journal frame {position} does not decode: {error}"));
                return Ok(());
            }
        };
        self.saw_total(entry.total);
        self.store.total = entry.total + entry.records.len() as u64;
        for frame in entry.records {
            let number = self.number(&frame.tp)?;
            let offset = match self.store.cfg.rules.j2() {
                true => frame.offset,
                false => {
                    let counted = self.counted[number];
                    self.counted[number] = counted.next();
                    counted
                }
            };
            self.unsure[number] = false;
            if offset < self.packed[number] {
                continue;
            }
            let held = offset.0 - self.packed[number].0;
            if held > 0 {
                self.found += held as u64;
                self.hole(number, offset);
            }
            self.packed[number] = offset.next();
            let partition = &mut self.store.table.partitions[number];
            partition.meta.next = partition.meta.next.max(offset.next());
            let at = (self.store.clock_from, position);
            let store = &mut self.store;
            store
                .packer
                .push(number, offset, &frame.record, at, &mut store.sealed);
        }
        if !op.is_empty() {
            self.out.ops.push(op.to_vec());
        }
        let now = self.store.clock_from;
        self.store.append_sealed(now)
    }

    fn saw_total(&mut self, total: u64) {
        // Frames that the checkpoint covers come again after a fallback: they lose nothing.
        let seen = self.store.total;
        if total > seen && self.unsure.iter().any(|unsure| *unsure) {
            self.lost += total - seen;
        }
        self.uncounted = 0;
    }

    fn boot(&mut self, frame: BootFrame) -> Result<(), LogError> {
        self.saw_total(frame.total);
        self.store.total = self.store.total.max(frame.total);
        self.store.clock_base = self.store.clock_base.max(frame.clock_ms);
        for theirs in frame.starts {
            let (number, start) = (self.number(&theirs.tp)?, theirs.start);
            let counts = self.packed[number] < start && self.store.cfg.rules.j2();
            if counts {
                self.found += (start.0 - self.packed[number].0) as u64;
                self.hole(number, start);
                self.packed[number] = start;
            }
            self.unsure[number] = false;
            let meta = &mut self.store.table.partitions[number].meta;
            meta.next = meta.next.max(start);
            meta.born(theirs.incarnation, theirs.since);
            meta.fork(theirs.incarnation, theirs.since, theirs.forks);
            meta.ack(theirs.forks, theirs.acked);
            meta.add_boot(frame.boot, start);
        }
        Ok(())
    }

    fn partition(&mut self, frame: PartitionFrame) -> Result<(), LogError> {
        let number = self.number(&frame.tp)?;
        let meta = &mut self.store.table.partitions[number].meta;
        meta.born(frame.incarnation, frame.start);
        meta.add_boot(frame.boot, frame.start);
        Ok(())
    }

    fn fork(&mut self, frame: ForkFrame) -> Result<(), LogError> {
        let number = self.number(&frame.tp)?;
        let meta = &mut self.store.table.partitions[number].meta;
        meta.fork(frame.incarnation, frame.at, frame.forks);
        Ok(())
    }

    fn acked(&mut self, frame: AckedFrame) -> Result<(), LogError> {
        self.store.clock_base = self.store.clock_base.max(frame.clock_ms);
        for (tp, forks, offset) in frame.cursors {
            let number = self.number(&tp)?;
            self.store.table.partitions[number].meta.ack(forks, offset);
        }
        Ok(())
    }

    fn gap(&mut self, frame: GapFrame) -> Result<(), LogError> {
        let number = self.number(&frame.tp)?;
        let gap = frame.gap;
        if self.packed[number] >= gap.from {
            // Nothing was ever stored there, or it is to be forgotten: go on behind it.
            self.packed[number] = self.packed[number].max(gap.to);
        }
        let meta = &mut self.store.table.partitions[number].meta;
        meta.next = meta.next.max(gap.to);
        meta.add_gap(gap);
        Ok(())
    }

    fn log_start(&mut self, frame: LogStartFrame) -> Result<(), LogError> {
        let number = self.number(&frame.tp)?;
        let partition = &mut self.store.table.partitions[number];
        partition.meta.start = partition.meta.start.max(frame.start);
        if let Some(digest) = frame.digest {
            partition.meta.digest = Some((frame.start, digest));
        }
        self.untold[number] = None;
        self.packed[number] = self.packed[number].max(frame.start);
        Ok(())
    }

    /// What a later file's header says of everything before that file (J3).
    pub(super) fn header(&mut self, header: Header) -> Result<(), LogError> {
        self.store.clock_base = self.store.clock_base.max(header.store.clock_ms);
        if !self.store.cfg.rules.j2() {
            return Ok(());
        }
        // A start copies the newest header into the file it makes: it may be older than what is lost.
        let may_be_older = self.uncounted > 0 && header.store.total <= self.store.total;
        for theirs in header.partitions {
            let number = self.number(&theirs.tp)?;
            if self.packed[number] < theirs.next {
                self.found += (theirs.next.0 - self.packed[number].0) as u64;
                self.hole(number, theirs.next);
                self.packed[number] = theirs.next;
            }
            self.unsure[number] &= may_be_older;
            self.untold[number] = None;
            // The frames that told of all this may be among the lost.
            self.store.table.partitions[number].meta.merge(theirs);
        }
        if !may_be_older {
            self.saw_total(header.store.total);
        }
        self.store.total = self.store.total.max(header.store.total);
        Ok(())
    }

    /// The partition's number; one that nothing told of before is made.
    pub(super) fn number(&mut self, tp: &TopicPartition) -> Result<usize, LogError> {
        match self.store.table.number(tp) {
            Some(number) => Ok(number),
            None => self.open_partition(tp.clone(), None, Vec::new(), false, false),
        }
    }

    /// Nothing has `packed..to`, although it was durable once. Frames that come later may say why.
    pub(super) fn hole(&mut self, number: usize, to: Offset) {
        let gap = Gap {
            from: self.packed[number],
            to,
            reason: GapReason::Corrupt,
        };
        self.holes.push((number, gap));
    }

    /// Frames were lost whose records nothing tells of. No partition that they may have written
    /// to uses their offsets again.
    pub(super) fn skip_lost(&mut self) {
        let end = self.store.durable.end().0;
        let tail = end.saturating_sub(self.expected);
        if tail > 0 {
            self.note(format!("{tail} journal frames at the end are lost"));
            self.unsure.iter_mut().for_each(|unsure| *unsure = true);
        }
        let lost = self.lost.saturating_sub(self.found);
        let uncounted = tail.saturating_add(self.uncounted);
        let lost = lost.saturating_add(uncounted.saturating_mul(ENTRY_RECORDS_MAX as u64));
        if lost == 0 || !self.store.cfg.rules.j2() {
            return;
        }
        for number in 0..self.packed.len() {
            if self.unsure[number] {
                let meta = &mut self.store.table.partitions[number].meta;
                let from = meta.next.max(self.packed[number]);
                let next = from.0 as u64 + lost.min(PLAUSIBLE_MAX);
                meta.next = Offset(next.min(PLAUSIBLE_MAX) as i64).max(from);
            }
        }
        self.store.total = (self.store.total + lost.min(PLAUSIBLE_MAX)).min(PLAUSIBLE_MAX);
    }

    /// Where logs begin of which nothing told it: with their first segment.
    pub(super) fn guess_starts(&mut self) {
        let partitions = self.store.table.partitions.iter_mut();
        for (partition, untold) in partitions.zip(&self.untold) {
            if let Some(first) = untold {
                partition.meta.start = *first;
            }
        }
    }

    /// Holes that neither retention nor a known gap explains.
    pub(super) fn unexplained(&self) -> Vec<(usize, Gap)> {
        let mut holes = Vec::new();
        for &(number, Gap { from, to, reason }) in &self.holes {
            let meta = &self.store.table.partitions[number].meta;
            let parts = meta.uncovered(from.max(meta.start), to);
            holes.extend(
                parts
                    .into_iter()
                    .map(|(from, to)| (number, Gap { from, to, reason })),
            );
        }
        holes
    }

    /// Offsets below a log's start of which nothing tells that they were acknowledged: the frames that
    /// named them as dropped may be among the lost. If the cloud has them, a GAP costs nothing (U4).
    pub(super) fn unheard(&self) -> Vec<(usize, Gap)> {
        let reason = GapReason::Corrupt;
        let partitions = self.store.table.partitions.iter().enumerate();
        let holes = partitions.flat_map(|(number, partition)| {
            let meta = &partition.meta;
            let parts = meta.uncovered(meta.acked, meta.start).into_iter();
            parts.map(move |(from, to)| (number, Gap { from, to, reason }))
        });
        holes.collect()
    }
}
