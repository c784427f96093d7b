//! Taking entries: every bound is checked before anything is written.

use headwater_batch::{Limits, NewHeader, NewRecord, Offset, TopicPartition};

use super::frames::{self, PartitionFrame, RecordFrameRef};
use super::meta::PartitionMeta;
use super::table::{PARTITIONS_MAX, Partition};
use super::{BACKSTOP_MS, Durability, Entry, Mark, Ms, Refused, Staged, Store, Token, Waiting};
use crate::durable::FRAME_BYTES_MAX;
use crate::error::{ErrorKind, LogError};

/// Records of one entry. After rot it bounds what a lost frame can have held.
pub const ENTRY_RECORDS_MAX: usize = 64;

/// What a record without a believable clock carries (J9).
pub const CLOCK_HEADER: &str = "headwater-clock";
pub const CLOCK_UNSET: &[u8] = b"unset";

/// Frame bytes around a record, and the least an entry is counted as.
const OVERHEAD_BYTES: usize = 64;

impl Store {
    /// `reserved`: what the budget keeps for such entries may be used (J6).
    pub(super) fn stage_entry(
        &mut self,
        entry: Entry,
        reserved: bool,
        now: Ms,
    ) -> Result<Staged, Refused> {
        let staged = self.try_stage(entry, reserved, now);
        if matches!(staged, Err(Refused::Busy { .. })) {
            // Whoever comes now waits for those before: they do not wait for their interval.
            self.note_due(Durability::Fsync, now);
        }
        staged
    }

    fn try_stage(&mut self, mut entry: Entry, reserved: bool, now: Ms) -> Result<Staged, Refused> {
        if self.stopped {
            return Err(Refused::Stopped);
        }
        let bytes = entry_bytes(&entry)?;
        let waiting = self.waiting_bytes;
        if !reserved && waiting > 0 && waiting + bytes > self.cfg.memory_bytes {
            return Err(Refused::Busy { waiting });
        }
        if !reserved {
            self.admit(bytes as u64, now)?;
        }
        for (_, record) in &mut entry.records {
            mark_clock(record, self.cfg.clock_floor_ms);
        }
        let numbers = self.numbers(&entry, waiting)?;
        self.refresh_header()
            .map_err(|error| self.refusal(&error, waiting))?;
        let before: Vec<Offset> = numbers.iter().map(|n| self.meta(*n).next).collect();
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let offsets = self.encode(&entry, &numbers, &mut scratch);
        let staged = self
            .durable
            .stage_parts(frames::ENTRY, &[&scratch, &entry.op]);
        self.scratch = scratch;
        let position = match staged {
            Ok(position) => position,
            Err(error) => {
                for (number, next) in numbers.iter().zip(before).rev() {
                    self.table.partitions[*number].meta.next = next;
                }
                return Err(self.refusal(&error, waiting));
            }
        };
        self.total += entry.records.len() as u64;
        let last = entry.records.len();
        if last > 0 {
            self.waiting_bytes += bytes;
        }
        match entry.durability {
            Durability::Fsync | Durability::Os => {
                self.gather.came(bytes, now);
                self.unsynced_since.get_or_insert(now);
            }
            Durability::Interval => self.note_due(entry.durability, now),
        }
        let placed = entry
            .records
            .into_iter()
            .zip(numbers)
            .zip(&offsets)
            .zip(1..);
        for ((((_, record), number), &offset), nth) in placed {
            let bytes = if nth == last { bytes } else { 0 };
            let position = position.0;
            self.waiting.push_back(Waiting {
                position,
                at: now,
                number,
                offset,
                record,
                bytes,
            });
        }
        if !self.cfg.rules.pack_synced() {
            self.pack_below(u64::MAX);
        }
        Ok(Staged {
            token: Token(position.0 + 1),
            offsets,
            ack_now: entry.durability == Durability::Interval,
        })
    }

    /// The entry's frame, without its op. Assigns the offsets (J2).
    fn encode(&mut self, entry: &Entry, numbers: &[usize], out: &mut Vec<u8>) -> Vec<Offset> {
        let never = "frames hold no type that postcard lacks";
        let put = |out: &mut Vec<u8>, value: u64| {
            *out = postcard::to_extend(&value, std::mem::take(out)).expect(never);
        };
        put(out, self.total);
        put(out, entry.records.len() as u64);
        let mut offsets = Vec::with_capacity(numbers.len());
        for ((tp, record), number) in entry.records.iter().zip(numbers) {
            let meta = &mut self.table.partitions[*number].meta;
            let offset = meta.next;
            meta.next = offset.next();
            let frame = RecordFrameRef { tp, offset, record };
            *out = postcard::to_extend(&frame, std::mem::take(out)).expect(never);
            offsets.push(offset);
        }
        offsets
    }

    /// Each record's partition; new ones are made.
    fn numbers(&mut self, entry: &Entry, waiting: usize) -> Result<Vec<usize>, Refused> {
        let mut numbers = Vec::with_capacity(entry.records.len());
        for (tp, _) in &entry.records {
            let number = match self.table.number(tp) {
                Some(number) => number,
                None => self
                    .create(tp)
                    .map_err(|error| self.refusal(&error, waiting))?,
            };
            numbers.push(number);
        }
        Ok(numbers)
    }

    fn create(&mut self, tp: &TopicPartition) -> Result<usize, LogError> {
        if self.table.partitions.len() >= PARTITIONS_MAX {
            let (bytes, max) = (
                self.table.partitions.len() as u64 + 1,
                PARTITIONS_MAX as u64,
            );
            return Err(LogError::TooLarge {
                what: "the number of partitions",
                bytes,
                max,
            });
        }
        self.refresh_header()?;
        let mut meta = PartitionMeta::new(tp.clone(), self.incarnation_if_new, Offset::ZERO);
        meta.add_boot(self.boot, Offset::ZERO);
        let frame = PartitionFrame {
            tp: tp.clone(),
            incarnation: meta.incarnation,
            boot: self.boot,
            start: Offset::ZERO,
        };
        let position = self
            .durable
            .stage(frames::PARTITION, &frames::encode(&frame))?;
        let log = self.new_log(tp);
        let mut partition = Partition::new(meta, log, false);
        partition.born = false;
        let number = self.table.add(partition);
        self.marks.push_back((position.0, Mark::Born(number)));
        Ok(number)
    }

    /// Gives the next journal file its header while it can still count what is staged (J3).
    pub(super) fn refresh_header(&mut self) -> Result<(), LogError> {
        if !self.durable.wants_header() {
            return Ok(());
        }
        let header = self.header();
        self.durable.set_header(header)
    }

    pub(super) fn note_due(&mut self, durability: Durability, now: Ms) {
        let wait = match durability {
            Durability::Fsync | Durability::Os => 0,
            // The medium's own time comes on top, and must end in time (J7).
            Durability::Interval if self.cfg.rules.j7() => self.cfg.interval_ms.min(BACKSTOP_MS),
            Durability::Interval => self.cfg.interval_ms,
        };
        let due = now.saturating_add(wait);
        self.due = Some(self.due.map_or(due, |had| had.min(due)));
        self.unsynced_since.get_or_insert(now);
    }

    fn meta(&self, number: usize) -> &PartitionMeta {
        &self.table.partitions[number].meta
    }

    fn refusal(&mut self, error: &LogError, waiting: usize) -> Refused {
        match error.kind() {
            ErrorKind::Busy => Refused::Busy { waiting },
            ErrorKind::Full => {
                // The journal is full of what a checkpoint lets go of.
                self.checkpoint_wanted = true;
                let usage = self.usage_now();
                Refused::Full {
                    used: usage.used_bytes(),
                    limit: usage.limit_bytes,
                }
            }
            ErrorKind::Invalid => Refused::TooLarge {
                bytes: 0,
                max: FRAME_BYTES_MAX,
            },
            ErrorKind::Corrupt | ErrorKind::Io | ErrorKind::Fatal => {
                self.stopped = true;
                tracing::error!(%error, "the log has stopped");
                Refused::Stopped
            }
        }
    }
}

/// An upper bound of the entry's frame, in bytes.
fn entry_bytes(entry: &Entry) -> Result<usize, Refused> {
    let max = Limits::UPLINK.records_bytes_max;
    if entry.records.len() > ENTRY_RECORDS_MAX {
        return Err(Refused::TooLarge {
            bytes: entry.records.len(),
            max: ENTRY_RECORDS_MAX,
        });
    }
    let mut bytes = OVERHEAD_BYTES + entry.op.len();
    for (tp, record) in &entry.records {
        let record_bytes = record.bytes_bound() + CLOCK_HEADER.len() + CLOCK_UNSET.len() + 4;
        if record_bytes > max {
            return Err(Refused::TooLarge {
                bytes: record_bytes,
                max,
            });
        }
        bytes += record_bytes + tp.topic.len() + OVERHEAD_BYTES;
    }
    match bytes {
        bytes if bytes > FRAME_BYTES_MAX => Err(Refused::TooLarge {
            bytes,
            max: FRAME_BYTES_MAX,
        }),
        bytes => Ok(bytes),
    }
}

/// J9: a wall clock before the floor is not believed, and says so until clocks are repaired.
fn mark_clock(record: &mut NewRecord, floor_ms: i64) {
    record.timestamp = record.timestamp.max(frames::TIMESTAMP_MIN);
    if record.timestamp < floor_ms {
        let value = Some(bytes::Bytes::from_static(CLOCK_UNSET));
        record.headers.push(NewHeader {
            key: CLOCK_HEADER.to_owned(),
            value,
        });
    }
}
