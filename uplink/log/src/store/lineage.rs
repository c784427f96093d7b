//! Cursors, incarnations and gaps: what the uplink tells the log (U1, U4).

use headwater_batch::{Offset, TopicPartition};

use super::frames::{self, ForkFrame, GapFrame};
use super::{Digest, Durability, Gap, Mark, Ms, PartitionReader, ReadError, Store, Token};
use crate::error::LogError;

impl Store {
    pub(super) fn find_digest(
        &self,
        tp: &TopicPartition,
        offset: Offset,
    ) -> Result<Option<Digest>, ReadError> {
        let Some(partition) = self.table.find(tp) else {
            return Ok(None);
        };
        // The record before the log's start is gone, its digest was kept.
        if let Some((at, digest)) = partition.meta.digest
            && at == offset
        {
            return Ok(Some(digest));
        }
        PartitionReader::new(partition.log.shared.clone()).digest_before(offset)
    }

    pub(super) fn move_acked(&mut self, tp: &TopicPartition, offset: Offset, now: Ms) {
        let Some(partition) = self.table.find_mut(tp) else {
            return;
        };
        let meta = &mut partition.meta;
        // The cloud cannot have what was never written.
        let offset = offset.min(meta.next);
        let forks = meta.forks;
        if meta.ack(forks, offset) {
            meta.prune();
            partition.ack_moved = true;
            self.acks_moved = true;
            let due = now.saturating_add(self.cfg.interval_ms);
            self.due = Some(self.due.map_or(due, |had| had.min(due)));
            self.unsynced_since.get_or_insert(now);
        }
    }

    pub(super) fn begin_fork(
        &mut self,
        tp: &TopicPartition,
        incarnation: u128,
        at: Offset,
        now: Ms,
    ) -> Result<Token, LogError> {
        let number = self.known(tp)?;
        let waiting = self
            .marks
            .iter()
            .filter(|(_, mark)| matches!(mark, Mark::Fork(other, _) if *other == number));
        let pending = waiting.count() as u32;
        let meta = &self.table.partitions[number].meta;
        let at = at.min(meta.next);
        let forks = meta.forks + pending + 1;
        let frame = ForkFrame {
            tp: tp.clone(),
            incarnation,
            at,
            forks,
        };
        let payload = frames::encode(&frame);
        let position = self.stage_own(frames::FORK, &payload, Durability::Fsync, now)?;
        self.marks
            .push_back((position.0, Mark::Fork(number, frame)));
        Ok(Token(position.0 + 1))
    }

    pub(super) fn begin_gap(
        &mut self,
        tp: &TopicPartition,
        gap: Gap,
        now: Ms,
    ) -> Result<Token, LogError> {
        let number = self.known(tp)?;
        let end = self.table.partitions[number].log.end();
        // What is not sealed yet cannot be damaged, nor rejected.
        let gap = Gap {
            to: gap.to.min(end),
            ..gap
        };
        let payload = frames::encode(&GapFrame {
            tp: tp.clone(),
            gap,
        });
        let position = self.stage_own(frames::GAP, &payload, Durability::Fsync, now)?;
        self.marks.push_back((position.0, Mark::Gap(number, gap)));
        Ok(Token(position.0 + 1))
    }

    fn known(&self, tp: &TopicPartition) -> Result<usize, LogError> {
        self.table.number(tp).ok_or_else(|| LogError::Config {
            key: "partition",
            value: tp.to_string(),
            valid: "a partition of this log".to_owned(),
        })
    }
}
