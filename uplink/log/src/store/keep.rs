//! Room: the budget (J6) and retention (J9).

use headwater_batch::Offset;

use super::frames::{self, GapFrame, LogStartFrame};
use super::{Durability, Full, Gap, GapReason, Mark, Ms, Refused, Store, Usage};
use crate::checkpoint::reserve_bytes;
use crate::error::{ErrorKind, LogError};
use crate::retention::{Candidate, Keep, expired, victim};

/// How often retention and free space are looked at.
pub(super) const KEEP_MS: Ms = 1_000;
/// What a reading of up to 2 kB needs: once in the journal, once in a segment.
const SMALL_BYTES: u64 = 4_096;

impl Store {
    /// J6: refuses what the budget has no room for, before anything is written.
    pub(super) fn admit(&mut self, bytes: u64, now: Ms) -> Result<(), Refused> {
        if !self.cfg.rules.refuse_full() {
            return Ok(());
        }
        let limit = self.usage_now().limit_bytes;
        let (live, live_max) = (self.durable.live_bytes(), self.journal_live_max);
        if live + bytes > live_max {
            // The journal is full of what the next checkpoint lets go of.
            self.checkpoint_wanted = true;
            return Err(Refused::Full {
                used: live,
                limit: live_max,
            });
        }
        // Once in a segment, once in the journal, at most.
        let need = bytes.saturating_mul(2);
        if self.expected_bytes() + need > limit || self.disk_full {
            // Others may have made room, and an idle store looks seldom.
            if now >= self.looked_at.saturating_add(KEEP_MS) {
                self.look_at_medium(now);
            }
            let made = self.make_room(need, now);
            if let Err(error) = made {
                tracing::warn!(%error, "room could not be made");
            }
        }
        let (used, limit) = (self.expected_bytes(), self.usage_now().limit_bytes);
        if used + need <= limit && !self.disk_full {
            return Ok(());
        }
        // What the owner has let go of counts until the checkpoints are without it.
        self.checkpoint_wanted |= self.stale_checkpoints > 0;
        Err(Refused::Full { used, limit })
    }

    pub(super) fn usage_now(&self) -> Usage {
        let reserve = self.cfg.reserve_bytes;
        let budget = self.cfg.budget_bytes.min(self.medium_bytes);
        Usage {
            journal_bytes: self.durable.journal_bytes(),
            segment_bytes: self.segment_bytes,
            checkpoint_bytes: self.checkpoint_bytes,
            limit_bytes: budget.saturating_sub(reserve),
            memory_bytes: (self.waiting_bytes + self.packer.bytes()) as u64,
            is_full: false,
        }
    }

    /// The same with [`Usage::is_full`].
    pub(super) fn usage_shown(&self) -> Usage {
        let usage = self.usage_now();
        let is_over = |gone| self.expected_bytes() + SMALL_BYTES > usage.limit_bytes + gone;
        Usage {
            is_full: self.disk_full || is_over(0) && is_over(self.spare_bytes()),
            ..usage
        }
    }

    /// Bytes of segments that a record without room would send away.
    fn spare_bytes(&self) -> u64 {
        let unsent = self.cfg.full == Full::DropOldest;
        let partitions = self.table.partitions.iter();
        let spare = partitions.map(|partition| {
            let all = partition.candidates().into_iter();
            let may_go = all.filter(|segment| unsent || segment.end <= partition.meta.acked);
            may_go.map(|segment| segment.bytes).sum::<u64>()
        });
        spare.sum()
    }

    /// What is used once everything staged is in segments and everything on its way out is gone.
    fn expected_bytes(&self) -> u64 {
        let usage = self.usage_now();
        let growth = self.journal_bytes_max.saturating_sub(usage.journal_bytes);
        (usage.used_bytes() + growth + usage.memory_bytes).saturating_sub(self.going_bytes)
    }

    /// Lets go of whole sealed segments until `need` more bytes fit: acked ones first, unsent
    /// ones only under [`Full::DropOldest`], never more than it takes.
    fn make_room(&mut self, need: u64, now: Ms) -> Result<(), LogError> {
        let limit = self.usage_now().limit_bytes;
        while self.expected_bytes() + need > limit {
            let unsent = self.cfg.full == Full::DropOldest;
            let partitions = self.table.partitions.iter().enumerate();
            let firsts = partitions.filter_map(|(number, partition)| {
                let first = partition.candidates().into_iter().next()?;
                Some((number, first, partition.meta.acked))
            });
            let Some((number, first)) = victim(firsts, unsent) else {
                return Ok(());
            };
            self.let_go(number, first.end, now)?;
        }
        Ok(())
    }

    /// Journals that everything below `start` goes; the files go once that is durable.
    fn let_go(&mut self, number: usize, start: Offset, now: Ms) -> Result<(), LogError> {
        let partition = &mut self.table.partitions[number];
        let meta = &partition.meta;
        let (tp, acked) = (meta.tp.clone(), meta.acked);
        let unsent = meta.uncovered(partition.going.max(acked), start);
        let mut reader = crate::partition::PartitionReader::new(partition.log.shared.clone());
        // What cannot be read any more has no digest; the boots alone must tell then.
        let digest = reader.digest_before(start).unwrap_or_default();
        for (from, to) in unsent {
            let gap = Gap {
                from,
                to,
                reason: GapReason::Dropped,
            };
            let frame = frames::encode(&GapFrame {
                tp: tp.clone(),
                gap,
            });
            let position = self.stage_own(frames::GAP, &frame, Durability::Interval, now)?;
            self.marks.push_back((position.0, Mark::Gap(number, gap)));
            tracing::warn!(%tp, %from, %to, "the log is full: unsent records are dropped");
        }
        let frame = LogStartFrame { tp, start, digest };
        let encoded = frames::encode(&frame);
        let position = self.stage_own(frames::LOG_START, &encoded, Durability::Interval, now)?;
        self.marks
            .push_back((position.0, Mark::Start(number, frame)));
        let partition = &mut self.table.partitions[number];
        partition.going = partition.going.max(start);
        self.count_going();
        Ok(())
    }

    pub(super) fn count_going(&mut self) {
        self.going_bytes = self.table.partitions.iter().map(|p| p.going_bytes()).sum();
    }

    /// Retention by age and size, and a look at how much the medium has left.
    pub(super) fn keep(&mut self, now: Ms) -> Result<(), LogError> {
        self.look_at_medium(now);
        let clock = self.clock(now);
        for number in 0..self.table.partitions.len() {
            self.roll_old(number, clock)?;
            let partition = &self.table.partitions[number];
            let keep = Keep {
                acked: match self.cfg.rules.keep_unsent() {
                    true => partition.meta.acked,
                    false => Offset::MAX,
                },
                age_ms: self.cfg.retention_ms,
                bytes: self.cfg.retention_bytes,
            };
            if keep.age_ms.is_none() && keep.bytes.is_none() {
                continue;
            }
            let active = partition
                .log
                .shared
                .state()
                .segments
                .last()
                .map_or(0, |s| s.bytes);
            let candidates: Vec<Candidate> = partition.candidates();
            let Some(start) = expired(&candidates, active, keep, clock) else {
                continue;
            };
            let gone = self.let_go(number, start, now);
            self.later(gone)?;
        }
        self.count_going();
        if self.expected_bytes() > self.usage_now().limit_bytes {
            let made = self.make_room(0, now);
            self.later(made)?;
        }
        Ok(())
    }

    /// The journal is full, or its group is: there will be room at the next look.
    fn later(&mut self, result: Result<(), LogError>) -> Result<(), LogError> {
        match result {
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::Full) => Ok(()),
            other => self.fatal(other),
        }
    }

    /// What the checkpoint store holds on the medium, as far as it lies in the data directory.
    pub(super) fn weigh_checkpoints(&mut self) {
        let mut dirs = vec![self.cfg.dir.join("checkpoints")];
        let mut bytes = 0;
        while let Some(dir) = dirs.pop() {
            for listed in self.disk.list(&dir).unwrap_or_default() {
                bytes += listed.bytes;
                if listed.is_dir {
                    dirs.push(dir.join(listed.name));
                }
            }
        }
        self.checkpoint_bytes = bytes;
    }

    /// A segment that has been written to for longer than records are kept is sealed, or a quiet
    /// partition would keep its records for ever. An empty one takes its place, since the last
    /// segment's name remembers the next offset.
    fn roll_old(&mut self, number: usize, clock: u64) -> Result<(), LogError> {
        let Some(age) = self.cfg.retention_ms else {
            return Ok(());
        };
        let partition = &mut self.table.partitions[number];
        let Some(active) = partition.log.shared.state().segments.last().copied() else {
            return Ok(());
        };
        let end = partition.log.end();
        let old = clock.saturating_sub(active.stamp) > age;
        if active.bytes == 0 || !old || end > partition.meta.acked || self.disk_full {
            return Ok(());
        }
        let rolled = partition.log.roll(clock);
        let begun = rolled.and_then(|()| partition.log.begin_segment(end, clock));
        match begun {
            Err(error) if error.kind() == ErrorKind::Full => Ok(()),
            other => self.fatal(other),
        }
    }

    /// The budget cannot be larger than what the medium has.
    fn look_at_medium(&mut self, now: Ms) {
        self.looked_at = now;
        if let Ok(free) = self.disk.free_bytes(&self.cfg.dir) {
            // What is laid aside is part of the reserve, which the limit leaves out.
            let aside = reserve_bytes(&*self.disk, &self.cfg.dir).unwrap_or_default();
            let used = self.usage_now().used_bytes();
            self.medium_bytes = used.saturating_add(free).saturating_add(aside);
        }
    }
}
