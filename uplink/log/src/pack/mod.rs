//! The packer: synced records gather per partition until they make a good batch.
//!
//! # When a batch is sealed
//! - its records, uncompressed, reach `batch_bytes`;
//! - its first record is `linger_ms` old, while the link is up;
//! - while the link is down: its first record is `hold_ms` old. A partition that had no record for
//!   `hold_ms` before is idle, and its batch is still sealed at `linger_ms` (J8), so that nothing
//!   waits in the journal for a partition that has gone quiet;
//! - all partitions together hold more than `memory_bytes`: the largest first;
//! - the offset that comes next does not follow on: a batch has no holes;
//! - a checkpoint is taken: all.
//!
//! Invariant: only what the journal has synced is pushed (J4). The packer itself has no file, and
//! what it holds can be lost: the journal still has it.

use headwater_batch::{BatchBuilder, Encoder, Level, NewRecord, Offset, PushError};

use crate::segment::BatchMeta;
use crate::store::Ms;

/// Builders kept for reuse. An idle partition holds none.
const SPARE_BUILDERS_MAX: usize = 8;

/// Settings of a [`Packer`]; see [`StoreConfig`](crate::store::StoreConfig).
#[derive(Clone, Copy, Debug)]
pub struct PackConfig {
    pub batch_bytes: usize,
    pub linger_ms: Ms,
    pub hold_ms: Ms,
    pub level: Level,
    pub memory_bytes: usize,
}

/// Gathers records of all partitions. Partitions are numbered by the owner.
pub struct Packer {
    cfg: PackConfig,
    packs: Vec<Pack>,
    spare: Vec<BatchBuilder>,
    encoder: Encoder,
    link_up: bool,
    seal_idle: bool,
    bytes: usize,
}

/// One partition's batch in the making.
#[derive(Default)]
struct Pack {
    builder: Option<BatchBuilder>,
    first_at: Ms,
    /// When the newest record came, also of a batch that is sealed since.
    last_at: Option<Ms>,
    /// The partition had been quiet before this batch began.
    idle: bool,
    /// Journal position of the first record.
    position: u64,
}

/// A sealed batch.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub partition: usize,
    pub meta: BatchMeta,
    pub bytes: Vec<u8>,
    /// Journal position of its first record.
    pub position: u64,
}

impl Packer {
    /// `seal_idle` is rule J8.
    pub fn new(cfg: PackConfig, seal_idle: bool) -> Packer {
        Packer {
            cfg,
            packs: Vec::new(),
            spare: Vec::new(),
            encoder: Encoder::new(),
            link_up: true,
            seal_idle,
            bytes: 0,
        }
    }

    pub fn set_link(&mut self, up: bool) {
        self.link_up = up;
    }

    /// Bytes of records held, uncompressed.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The journal position of the oldest record held.
    pub fn oldest(&self) -> Option<u64> {
        let held = self.packs.iter().filter(|pack| pack.builder.is_some());
        held.map(|pack| pack.position).min()
    }

    /// Adds a synced record. `sealed` gets the batches that had to be closed for it.
    ///
    /// The record was checked when it was staged: it fits a batch of its own.
    pub fn push(
        &mut self,
        partition: usize,
        offset: Offset,
        record: &NewRecord,
        (at, position): (Ms, u64),
        sealed: &mut Vec<Sealed>,
    ) {
        let wants = self
            .packs
            .get(partition)
            .and_then(|pack| pack.builder.as_ref());
        let close = wants.is_some_and(|builder| {
            let grown = builder.uncompressed_size() + record.bytes_bound() > self.cfg.batch_bytes;
            grown || builder.next_offset() != offset
        });
        if close {
            sealed.extend(self.seal(partition));
        }
        self.add(partition, offset, record, at, position, sealed);
        while self.bytes > self.cfg.memory_bytes {
            match self.largest() {
                Some(largest) => sealed.extend(self.seal(largest)),
                None => break,
            }
        }
    }

    fn add(
        &mut self,
        partition: usize,
        offset: Offset,
        record: &NewRecord,
        at: Ms,
        position: u64,
        sealed: &mut Vec<Sealed>,
    ) {
        if self.packs.len() <= partition {
            self.packs.resize_with(partition + 1, Pack::default);
        }
        loop {
            let pack = &mut self.packs[partition];
            if pack.builder.is_none() {
                let mut builder = self
                    .spare
                    .pop()
                    .unwrap_or_else(|| BatchBuilder::new(offset, self.cfg.level));
                builder.reset(offset);
                self.bytes += builder.uncompressed_size();
                pack.builder = Some(builder);
                pack.first_at = at;
                pack.position = position;
                let quiet = |last: Ms| at.saturating_sub(last) >= self.cfg.hold_ms;
                pack.idle = pack.last_at.is_none_or(quiet);
            }
            let builder = pack.builder.as_mut().expect("made above");
            let before = builder.uncompressed_size();
            match builder.push_at(&record.at(offset)) {
                Ok(()) => {
                    self.bytes += builder.uncompressed_size() - before;
                    pack.last_at = Some(at);
                    return;
                }
                Err(PushError::Full) => sealed.extend(self.seal(partition)),
                Err(error) => unreachable!("a staged record fits a batch: {error}"),
            }
        }
    }

    /// Closes a partition's batch; `None` if it has none.
    pub fn seal(&mut self, partition: usize) -> Option<Sealed> {
        let pack = self.packs.get_mut(partition)?;
        let mut builder = pack.builder.take()?;
        self.bytes -= builder.uncompressed_size();
        let (base, end) = (builder.base_offset(), builder.next_offset());
        let max_timestamp = builder.max_timestamp();
        let bytes = builder.finish_with(&mut self.encoder);
        if self.spare.len() < SPARE_BUILDERS_MAX {
            self.spare.push(builder);
        }
        let meta = BatchMeta {
            base,
            last: Offset(end.0 - 1),
            max_timestamp: max_timestamp?,
            bytes: bytes.len(),
        };
        Some(Sealed {
            partition,
            meta,
            bytes,
            position: pack.position,
        })
    }

    /// Closes every batch whose time has come.
    pub fn seal_due(&mut self, now: Ms, sealed: &mut Vec<Sealed>) {
        for partition in 0..self.packs.len() {
            if self
                .due(&self.packs[partition])
                .is_some_and(|due| due <= now)
            {
                sealed.extend(self.seal(partition));
            }
        }
    }

    /// Closes every batch.
    pub fn seal_all(&mut self, sealed: &mut Vec<Sealed>) {
        for partition in 0..self.packs.len() {
            sealed.extend(self.seal(partition));
        }
    }

    /// When [`Packer::seal_due`] has something to do next.
    pub fn next_due(&self) -> Option<Ms> {
        self.packs.iter().filter_map(|pack| self.due(pack)).min()
    }

    fn due(&self, pack: &Pack) -> Option<Ms> {
        pack.builder.as_ref()?;
        let wait = match (self.link_up, pack.idle) {
            (true, _) => self.cfg.linger_ms,
            (false, true) if self.seal_idle => self.cfg.linger_ms,
            (false, _) if self.seal_idle => self.cfg.hold_ms.max(self.cfg.linger_ms),
            (false, _) => return None,
        };
        Some(pack.first_at.saturating_add(wait))
    }

    fn largest(&self) -> Option<usize> {
        let size = |pack: &Pack| pack.builder.as_ref().map(BatchBuilder::uncompressed_size);
        let held = self.packs.iter().enumerate();
        held.filter_map(|(i, pack)| Some((size(pack)?, i)))
            .max()
            .map(|(_, i)| i)
    }
}
