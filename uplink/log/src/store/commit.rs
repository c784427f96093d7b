//! From staged to durable to packed.

use super::frames::{self, AckedFrame};
use super::{Durability, Mark, Ms, Store, Token};
use crate::durable::{CommitDone, CommitJob, Position};
use crate::error::{ErrorKind, LogError};
use crate::pack::Sealed;

impl Store {
    pub(super) fn begin(&mut self, now: Ms) -> Result<Option<CommitJob>, LogError> {
        self.check_running()?;
        if self.durable.in_flight() {
            return Ok(None);
        }
        self.journal_acks(now)?;
        let job = self.durable.begin_commit();
        let job = self.fatal(job)?;
        // Without a job nothing is unsynced: a checkpoint may have taken it along, or cursors found no
        // room. A date that stayed due would keep its owner busy for ever.
        self.due = None;
        self.gather.began();
        if job.is_none() {
            self.gather.ended();
        }
        let since = self.unsynced_since.take();
        self.in_flight_since = since.filter(|_| job.is_some());
        Ok(job)
    }

    pub(super) fn finish(&mut self, done: CommitDone, now: Ms) -> Result<Token, LogError> {
        let finished = self.durable.finish_commit(done);
        let durable = self.fatal(finished)?;
        self.in_flight_since = None;
        self.gather.ended();
        self.became_durable(durable, now)?;
        Ok(Token(durable.0))
    }

    pub(super) fn commit_inline(&mut self, now: Ms) -> Result<Token, LogError> {
        self.check_running()?;
        if self.durable.in_flight() {
            return Err(LogError::Busy { what: "commit" });
        }
        self.journal_acks(now)?;
        self.gather.began();
        let committed = self.durable.commit();
        let durable = self.fatal(committed)?;
        self.due = None;
        self.gather.ended();
        self.unsynced_since = None;
        self.became_durable(durable, now)?;
        Ok(Token(durable.0))
    }

    /// Cursors that moved travel with the next commit, in one frame.
    fn journal_acks(&mut self, now: Ms) -> Result<(), LogError> {
        if !std::mem::take(&mut self.acks_moved) {
            return Ok(());
        }
        self.refresh_header()?;
        let clock_ms = self.clock(now);
        let moved = self.table.partitions.iter_mut();
        let cursors = moved.filter_map(|partition| {
            let moved = std::mem::take(&mut partition.ack_moved);
            let meta = &partition.meta;
            moved.then(|| (meta.tp.clone(), meta.forks, meta.acked))
        });
        let frame = AckedFrame {
            clock_ms,
            cursors: cursors.collect(),
        };
        match self.durable.stage(frames::ACKED, &frames::encode(&frame)) {
            Ok(_) => Ok(()),
            // A journal without room for it: the cloud will tell again after a restart.
            Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::Full) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn became_durable(&mut self, durable: Position, now: Ms) -> Result<(), LogError> {
        let marks = self.marks.len();
        while self
            .marks
            .front()
            .is_some_and(|(position, _)| *position < durable.0)
        {
            let (_, mark) = self.marks.pop_front().expect("looked at above");
            self.lineages_due |= matches!(mark, Mark::Born(_) | Mark::Fork(..));
            self.apply(mark)?;
        }
        // Before a record can be read, and before whoever asked for a fork is answered.
        self.save_lineages()?;
        if self.marks.len() < marks {
            self.count_going();
        }
        self.pack_below(durable.0);
        self.append_sealed(now)
    }

    /// A change that was journaled has become durable: it holds from now on.
    fn apply(&mut self, mark: Mark) -> Result<(), LogError> {
        match mark {
            Mark::Born(number) => self.table.partitions[number].born = true,
            Mark::Gap(number, gap) => {
                let partition = &mut self.table.partitions[number];
                partition.meta.add_gap(gap);
                partition.publish();
            }
            Mark::Fork(number, frame) => {
                let meta = &mut self.table.partitions[number].meta;
                meta.fork(frame.incarnation, frame.at, frame.forks);
            }
            Mark::Start(number, frame) => {
                let partition = &mut self.table.partitions[number];
                partition.meta.start = partition.meta.start.max(frame.start);
                if let Some(digest) = frame.digest {
                    partition.meta.digest = Some((frame.start, digest));
                }
                partition.meta.prune();
                partition.publish();
                let before = partition.log.bytes();
                partition.log.delete_below(frame.start)?;
                self.segment_bytes -= before - partition.log.bytes();
            }
        }
        Ok(())
    }

    /// Moves records of frames below `position` to the packer (J4: the synced ones).
    pub(super) fn pack_below(&mut self, position: u64) {
        while self
            .waiting
            .front()
            .is_some_and(|waiting| waiting.position < position)
        {
            let waiting = self.waiting.pop_front().expect("looked at above");
            let from = (waiting.at, waiting.position);
            let (number, offset) = (waiting.number, waiting.offset);
            self.packer
                .push(number, offset, &waiting.record, from, &mut self.sealed);
            self.waiting_bytes -= waiting.bytes;
        }
    }

    /// Appends what the packer has sealed to the segments, older batches first.
    pub(super) fn append_sealed(&mut self, now: Ms) -> Result<(), LogError> {
        let clock = self.clock(now);
        let sealed = std::mem::take(&mut self.sealed);
        for batch in sealed {
            let number = batch.partition;
            self.table.partitions[number].stalled.push_back(batch);
            self.append_stalled(number, clock)?;
        }
        Ok(())
    }

    /// Tries again what found no room.
    pub(super) fn retry_stalled(&mut self, now: Ms) -> Result<(), LogError> {
        let clock = self.clock(now);
        self.disk_full = false;
        for number in 0..self.table.partitions.len() {
            self.append_stalled(number, clock)?;
        }
        Ok(())
    }

    fn append_stalled(&mut self, number: usize, clock: u64) -> Result<(), LogError> {
        let partition = &mut self.table.partitions[number];
        while let Some(Sealed { meta, bytes, .. }) = partition.stalled.front() {
            let before = partition.log.bytes();
            let appended = if partition.on_disk {
                partition.log.append(bytes, meta, clock)
            } else {
                let dir = &partition.log.shared.dir;
                let disk = partition.log.shared.disk.as_ref();
                let made = crate::disk::create_dirs(disk, dir);
                made.map_err(LogError::io("create", dir)).and_then(|()| {
                    partition.on_disk = true;
                    partition.log.append(bytes, meta, clock)
                })
            };
            match appended {
                Ok(()) => {
                    // Indexes count as they do when segments go, or the sum would fall below 0.
                    self.segment_bytes += partition.log.bytes() - before;
                    partition.stalled.pop_front();
                }
                // It stays in the journal and in memory; new records are refused meanwhile.
                Err(error) if error.kind() == ErrorKind::Full => {
                    if !std::mem::replace(&mut self.disk_full, true) {
                        tracing::warn!(%error, "no room for a batch, new records are refused");
                    }
                    return Ok(());
                }
                Err(error) => {
                    self.stopped = true;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Stages a frame of the store's own. It is synced with the next commit, 5 s from now at the
    /// latest (J7).
    pub(super) fn stage_own(
        &mut self,
        kind: u8,
        payload: &[u8],
        durability: Durability,
        now: Ms,
    ) -> Result<Position, LogError> {
        self.check_running()?;
        self.refresh_header()?;
        let position = self.durable.stage(kind, payload)?;
        self.note_due(durability, now);
        Ok(position)
    }

    pub(super) fn check_running(&self) -> Result<(), LogError> {
        match self.stopped {
            true => Err(LogError::Poisoned {
                cause: "an earlier error".to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// J6: after a failed write or sync nothing more is promised.
    pub(super) fn fatal<T>(&mut self, result: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(error) = &result {
            self.stopped |= matches!(error.kind(), ErrorKind::Fatal | ErrorKind::Io);
        }
        result
    }
}
