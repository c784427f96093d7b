//! Partitions: next offset, log start, leader epochs, cold segments.

use bytes::Bytes;
use headwater_batch::{Header, Limits, Offset, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::key::Key;
use crate::outcome::{Appended, Applied, Effect, Outcome, Refusal};
use crate::producers::{Verdict, sequence_add};
use crate::segments::Segment;
use crate::state::{At, Shard};

/// One partition.
///
/// Invariant: `start <= next`, `cold_end <= next`, and `[max(start, cold_end), next)` is in the
/// journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    pub topic_id: u128,
    /// Added to the entry's term to make the leader epoch (rule C2), so that epochs of a partition
    /// never go back when it moves to a shard with a younger term.
    pub epoch_base: i32,
    pub start: Offset,
    /// The next free offset; what is applied is committed, so it is the high watermark too.
    pub next: Offset,
    /// The end of the newest cold segment.
    pub cold_end: Offset,
    /// `(leader epoch, first offset)`, oldest first, from the log start on.
    pub epochs: Vec<(i32, Offset)>,
    pub appended_ms: i64,
}

impl Partition {
    /// For OffsetForLeaderEpoch: the largest known epoch that is not above `epoch`, and where it
    /// ends. An epoch below all known ones had no records, or they are gone: it ends where the first
    /// known one begins, as Kafka's leaders say too. "Not known" is no answer: consumers take it for
    /// a truncation and reset, past records that they have not read.
    pub fn epoch_end(&self, epoch: i32) -> (i32, Offset) {
        let after = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let end = self
            .epochs
            .get(after)
            .map_or(self.next, |(_, start)| *start);
        match after.checked_sub(1) {
            Some(found) => (self.epochs[found].0, end),
            None => (epoch, end.max(self.start)),
        }
    }

    /// The epoch of the batch at `offset`.
    pub fn epoch_at(&self, offset: Offset) -> Option<i32> {
        let after = self.epochs.partition_point(|(_, start)| *start <= offset);
        self.epochs
            .get(after.checked_sub(1)?)
            .map(|(epoch, _)| *epoch)
    }

    fn trim_epochs(&mut self) {
        let keep = self
            .epochs
            .partition_point(|(_, start)| *start <= self.start);
        self.epochs.drain(..keep.saturating_sub(1));
    }
}

/// Sizes were checked before a batch was proposed. A bound here that depends on the compressed size
/// would refuse what compresses well.
const ANY_SIZE: Limits = Limits::new(i32::MAX as usize);

/// What the state machine has to know of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchFacts {
    pub records: i32,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

impl BatchFacts {
    /// Looks at the header only: CRC and records were checked before the batch was proposed, and
    /// the journal has its own checksum.
    pub(crate) fn of(batch: &[u8]) -> Result<Self, Refusal> {
        let header =
            Header::parse(batch, &ANY_SIZE).map_err(|e| Refusal::BadBatch(e.to_string()))?;
        if header.size != batch.len() {
            return Err(Refusal::BadBatch(format!(
                "{} of {} bytes",
                batch.len(),
                header.size
            )));
        }
        let records = header.last_offset_delta.checked_add(1);
        let records = records.ok_or(Refusal::BadBatch("2^31 records".into()))?;
        Ok(Self {
            records,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        })
    }

    pub(crate) fn last_sequence(&self) -> i32 {
        sequence_add(self.base_sequence, self.records - 1)
    }
}

impl Shard {
    /// Makes a partition, or renews it when its topic was deleted and created again. The same
    /// topic id again changes nothing.
    pub(crate) fn open_partition(&mut self, tp: &TopicPartition, id: u128, base: i32) -> Applied {
        let mut effects = Vec::new();
        match self.partitions.get(tp) {
            Some(known) if known.topic_id == id => return Applied::quiet(Outcome::Done),
            Some(_) => effects = self.drop_partition(tp),
            None => {}
        }
        let partition = Partition {
            topic_id: id,
            epoch_base: base,
            start: Offset::ZERO,
            next: Offset::ZERO,
            cold_end: Offset::ZERO,
            epochs: Vec::new(),
            appended_ms: 0,
        };
        self.partitions.insert(tp.clone(), partition);
        self.touch(Key::Partition(tp.clone()));
        effects.push(Effect::PartitionOpened(tp.clone()));
        Applied::with(Outcome::Done, effects)
    }

    /// Forgets a partition's data. The uplink's streams into it stay (rule U2).
    pub(crate) fn close_partition(&mut self, tp: &TopicPartition, id: u128) -> Applied {
        match self.partitions.get(tp) {
            Some(known) if known.topic_id == id => {
                Applied::with(Outcome::Done, self.drop_partition(tp))
            }
            _ => Applied::quiet(Outcome::Refused(Refusal::UnknownPartition)),
        }
    }

    fn drop_partition(&mut self, tp: &TopicPartition) -> Vec<Effect> {
        self.partitions.remove(tp);
        self.touch(Key::Partition(tp.clone()));
        let mut effects = vec![Effect::PartitionClosed(tp.clone())];
        for (base, segment) in self.segments.remove(tp).unwrap_or_default() {
            self.touch(Key::Segment(tp.clone(), base));
            effects.push(Effect::SegmentGone(tp.clone(), base, segment));
        }
        self.forget_lost(tp);
        for id in self.producers.remove(tp).unwrap_or_default().into_keys() {
            self.touch(Key::Producer(tp.clone(), id));
        }
        effects
    }

    pub(crate) fn produce(
        &mut self,
        at: At,
        tp: &TopicPartition,
        topic_id: u128,
        batch: &Bytes,
        at_ms: i64,
    ) -> Applied {
        match self.try_produce(at, tp, topic_id, batch, at_ms) {
            Ok(applied) => applied,
            Err(refusal) => Applied::quiet(Outcome::Refused(refusal)),
        }
    }

    fn try_produce(
        &mut self,
        at: At,
        tp: &TopicPartition,
        topic_id: u128,
        batch: &Bytes,
        at_ms: i64,
    ) -> Result<Applied, Refusal> {
        let facts = BatchFacts::of(batch)?;
        let partition = self.partitions.get(tp).ok_or(Refusal::UnknownPartition)?;
        if partition.topic_id != topic_id {
            return Err(Refusal::UnknownPartition);
        }
        let log_start = partition.start;
        if let Verdict::Repeated(seen) = self.judge_producer(tp, &facts)? {
            let epoch = partition
                .epoch_at(seen.base)
                .unwrap_or(partition.epoch_base);
            let there = Appended {
                base: seen.base,
                end: seen.end,
                epoch,
                log_start,
            };
            return Ok(Applied::quiet(Outcome::Duplicate(there)));
        }
        let (appended, effect) = self.append(at, tp, &facts, at_ms)?;
        self.remember_producer(tp, &facts, appended.base, appended.end, at_ms);
        Ok(Applied::with(Outcome::Appended(appended), vec![effect]))
    }

    /// Gives the batch the next offsets.
    pub(crate) fn append(
        &mut self,
        at: At,
        tp: &TopicPartition,
        facts: &BatchFacts,
        at_ms: i64,
    ) -> Result<(Appended, Effect), Refusal> {
        let partition = self
            .partitions
            .get_mut(tp)
            .ok_or(Refusal::UnknownPartition)?;
        let base = partition.next;
        let end = base
            .checked_add(i64::from(facts.records))
            .ok_or(Refusal::OffsetOutOfRange)?;
        let epoch = partition.epoch_base.saturating_add(at.term as i32);
        if partition
            .epochs
            .last()
            .is_none_or(|(newest, _)| *newest < epoch)
        {
            partition.epochs.push((epoch, base));
        }
        partition.next = end;
        partition.appended_ms = at_ms;
        let appended = Appended {
            base,
            end,
            epoch,
            log_start: partition.start,
        };
        self.touch(Key::Partition(tp.clone()));
        let effect = Effect::Append {
            tp: tp.clone(),
            base,
            end,
            epoch,
            at_ms,
        };
        Ok((appended, effect))
    }

    /// Moves the log start forward and drops the segments that lie wholly below it.
    pub(crate) fn move_log_start(&mut self, tp: &TopicPartition, start: Offset) -> Applied {
        let Some(partition) = self.partitions.get_mut(tp) else {
            return Applied::quiet(Outcome::Refused(Refusal::UnknownPartition));
        };
        if start > partition.next {
            return Applied::quiet(Outcome::Refused(Refusal::OffsetOutOfRange));
        }
        if start <= partition.start {
            return Applied::quiet(Outcome::Done);
        }
        partition.start = start;
        partition.trim_epochs();
        self.touch(Key::Partition(tp.clone()));
        let mut effects = vec![Effect::LogStart(tp.clone(), start)];
        let Some(segments) = self.segments.get_mut(tp) else {
            return Applied::with(Outcome::Done, effects);
        };
        while let Some(first) = segments.first_entry() {
            if first.get().end > start {
                break;
            }
            let (base, segment) = first.remove_entry();
            effects.push(Effect::SegmentGone(tp.clone(), base, segment));
        }
        for effect in &effects {
            if let Effect::SegmentGone(tp, base, _) = effect {
                self.touch(Key::Segment(tp.clone(), *base));
            }
        }
        Applied::with(Outcome::Done, effects)
    }

    /// Enters a sealed segment into the manifest: it must go on where the last one ended, or start
    /// inside a range that was deleted meanwhile, or behind one that is lost.
    pub(crate) fn add_segment(
        &mut self,
        tp: &TopicPartition,
        topic_id: u128,
        base: Offset,
        segment: &Segment,
    ) -> Applied {
        let known = self.partitions.get(tp).filter(|p| p.topic_id == topic_id);
        let Some(cold_end) = known.map(|p| p.cold_end) else {
            return Applied::quiet(Outcome::Refused(Refusal::UnknownPartition));
        };
        // What is lost is in no segment.
        let expected = self.lost_end(tp, cold_end);
        let partition = self.partitions.get_mut(tp).expect("it was just there");
        let continues = base == expected || (base > expected && base <= partition.start);
        let continues = continues || base == cold_end;
        if !continues || segment.end <= base || segment.end > partition.next {
            return Applied::quiet(Outcome::Refused(Refusal::SegmentNotNext(expected)));
        }
        partition.cold_end = segment.end;
        let mut effects = vec![Effect::Cold(tp.clone(), segment.end)];
        self.touch(Key::Partition(tp.clone()));
        if segment.end <= self.partitions[tp].start {
            effects.push(Effect::SegmentGone(tp.clone(), base, segment.clone()));
        } else {
            self.segments
                .entry(tp.clone())
                .or_default()
                .insert(base, segment.clone());
            self.touch(Key::Segment(tp.clone(), base));
        }
        Applied::with(Outcome::Done, effects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(start: i64, next: i64, epochs: &[(i32, i64)]) -> Partition {
        Partition {
            topic_id: 1,
            epoch_base: 0,
            start: Offset(start),
            next: Offset(next),
            cold_end: Offset::ZERO,
            epochs: epochs.iter().map(|(e, o)| (*e, Offset(*o))).collect(),
            appended_ms: 0,
        }
    }

    #[test]
    fn epochs_end_where_the_next_begins() {
        let p = partition(0, 30, &[(1, 0), (3, 10), (4, 25)]);
        assert_eq!(p.epoch_end(1), (1, Offset(10)));
        assert_eq!(p.epoch_end(2), (1, Offset(10)));
        assert_eq!(p.epoch_end(3), (3, Offset(25)));
        assert_eq!(p.epoch_end(9), (4, Offset(30)));
        assert_eq!(p.epoch_at(Offset(9)), Some(1));
        assert_eq!(p.epoch_at(Offset(10)), Some(3));
    }

    /// A consumer that waits at the end of an empty log, or at a log start whose last deleted record
    /// had an older epoch, knows an epoch of which nothing is left. It must hear of no truncation.
    #[test]
    fn an_epoch_without_records_ends_where_the_log_goes_on() {
        let untouched = partition(0, 0, &[]);
        assert_eq!(untouched.epoch_end(3), (3, Offset(0)));
        let begun = partition(0, 10, &[(4, 0)]);
        assert_eq!(begun.epoch_end(3), (3, Offset(0)));
        let mut deleted = partition(0, 150, &[(3, 0), (4, 100)]);
        deleted.start = Offset(100);
        deleted.trim_epochs();
        assert_eq!(deleted.epoch_end(3), (3, Offset(100)));
        let inside = partition(120, 150, &[(4, 100)]);
        assert_eq!(inside.epoch_end(3), (3, Offset(120)));
    }

    #[test]
    fn trimming_keeps_the_epoch_of_the_log_start() {
        let mut p = partition(12, 30, &[(1, 0), (3, 10), (4, 25)]);
        p.trim_epochs();
        assert_eq!(p.epochs, vec![(3, Offset(10)), (4, Offset(25))]);
    }
}
