//! The edge's log: entries become durable in the journal, then batches in segments.
//!
//! # Contract
//! - An [`Entry`] (records and an owner's op) is one journal frame with explicit offsets (J2).
//!   It is durable once [`Store::finish_commit`] returned a token at or above its own; then its
//!   records have their offsets for ever.
//! - Only durable records are packed into batches and can be read or sent (J4).
//! - [`Store::stage`] refuses before anything is written (J6).
//! - Nothing stays unsynced for more than 5 s while [`Store::tick`] is called when it asks (J7).
//! - Unacked records are deleted by the budget under [`Full::DropOldest`] only, and that makes a
//!   [`Gap`], durable before the files go. Nothing else is ever skipped silently.
//! - Partitions are found in the data directory, so what was routed once still drains (U5).
//! - After an error of kind [`Fatal`](crate::error::ErrorKind::Fatal) the process must end (J6).
//!
//! The store has one owner. Slow steps can leave its thread: [`CommitJob::run`] and everything
//! that a [`PartitionReader`] does. `now` is a monotonic clock in ms.
//!
//! # How to drive it
//! ```text
//! stage(..)                 for each publish
//! begin_commit -> run -> finish_commit    when an entry waits (commit_due() <= now), one at a time
//! tick(now)                 at the deadline it gave last, and after each finish_commit
//! if wants_checkpoint() && no job in flight: checkpoint(owner's changed state, now)
//! ```

mod checkpoint;
mod checkpointed;
mod commit;
mod config;
mod frames;
mod gather;
mod keep;
mod lineage;
mod lineages;
mod meta;
mod open;
mod replay;
mod stage;
mod table;
mod types;

use std::collections::VecDeque;
use std::sync::Arc;

use headwater_batch::{NewRecord, Offset, TopicPartition};

pub use crate::durable::{CheckpointStore, CommitDone, CommitJob};
pub use crate::partition::{PartitionReader, ReadError};
pub use config::{CLOCK_FLOOR_MS, Durability, Full, SYNC_MS_MAX, StoreConfig};
pub(crate) use lineages::damaged_lineages;
pub use lineages::{LINEAGE_BYTES_MAX, LINEAGE_FILES, LINEAGE_MAGIC, trust};
pub use stage::{CLOCK_HEADER, CLOCK_UNSET, ENTRY_RECORDS_MAX};
pub use table::PARTITIONS_MAX;
pub use types::{
    BOOTS_MAX, Chunk, Digest, Entry, Gap, GapReason, Lineage, Ms, Recovered, Refused, Staged,
    Token, Usage,
};

use crate::disk::Disk;
use crate::durable::Durable;
use crate::error::LogError;
use crate::pack::{Packer, Sealed};
use crate::partition::{PartitionLog, Shared};
use gather::Gather;
use table::Table;

/// Longest time between two calls of [`Store::tick`] that it asks for.
const TICK_MS_MAX: Ms = 60_000;

/// [`Store::tick`] commits by itself what the owner has left unsynced for this long, so that J7
/// holds whatever the owner does.
const BACKSTOP_MS: Ms = SYNC_MS_MAX - 1_000;

/// The edge's log. See the [module](self).
pub struct Store {
    disk: Arc<dyn Disk>,
    durable: Durable,
    cfg: StoreConfig,
    table: Table,
    packer: Packer,
    boot: u64,
    incarnation_if_new: u128,
    /// Records ever staged.
    total: u64,
    /// The persisted clock at the start, and the caller's clock then (J9).
    clock_base: u64,
    clock_from: Ms,
    /// The persisted clock as last asked for.
    clock_seen: u64,
    /// Staged records whose frames are not durable.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Sealed by the packer, on their way to the segments.
    sealed: Vec<Sealed>,
    /// Journaled changes that hold once their frame is durable.
    marks: VecDeque<(u64, Mark)>,
    scratch: Vec<u8>,
    /// When the next commit should begin, for what does not wait for company.
    due: Option<Ms>,
    gather: Gather,
    /// Since when something staged waits outside, and inside, the commit in flight.
    unsynced_since: Option<Ms>,
    in_flight_since: Option<Ms>,
    acks_moved: bool,
    /// A lineage changed that its files do not tell of yet.
    lineages_due: bool,
    keep_at: Ms,
    segment_bytes: u64,
    checkpoint_bytes: u64,
    going_bytes: u64,
    /// What is used and what is free on the medium, together.
    medium_bytes: u64,
    /// When that was last asked.
    looked_at: Ms,
    disk_full: bool,
    stopped: bool,
    checkpoint_wanted: bool,
    /// Generations of checkpoints that may still hold what the owner has let go of since.
    stale_checkpoints: u8,
    /// The last one failed: not again before the next look at the medium.
    checkpoint_failed: bool,
    live_bytes_then: u64,
    /// Frames that only a checkpoint lets go of, at most, before entries are refused.
    journal_live_max: u64,
    /// The journal's share of the budget, whether it is used now or not.
    journal_bytes_max: u64,
}

/// A staged record.
struct Waiting {
    position: u64,
    at: Ms,
    number: usize,
    offset: Offset,
    record: NewRecord,
    /// What its entry counts for, on the entry's last record.
    bytes: usize,
}

/// A change of a partition, by its number.
enum Mark {
    Born(usize),
    Gap(usize, Gap),
    Fork(usize, frames::ForkFrame),
    Start(usize, frames::LogStartFrame),
}

impl Store {
    /// Recovers what is in `cfg.dir`, or starts anew, and appends BOOT(`boot`) durably (U1).
    ///
    /// `boot` is random, new at every start. A partition that is created in this run gets
    /// `incarnation_if_new`, which is random and new at every start too: two clones of a card
    /// never share the lineage of a partition that they made apart.
    pub fn open(
        disk: Arc<dyn Disk>,
        checkpoints: Box<dyn CheckpointStore>,
        cfg: StoreConfig,
        now: Ms,
        boot: u64,
        incarnation_if_new: u128,
    ) -> Result<(Store, Recovered), LogError> {
        let start = open::Start {
            now,
            boot,
            incarnation_if_new,
        };
        open::open(disk, checkpoints, cfg, start)
    }

    /// Takes an entry. Its partitions are made when they are new.
    /// On `Err` nothing was written and no offset was used.
    pub fn stage(&mut self, entry: Entry, now: Ms) -> Result<Staged, Refused> {
        self.stage_entry(entry, false, now)
    }

    /// Takes a small change of the owner's state without which nothing could free space, out of the
    /// reserve: a full log must not keep it out (J6).
    pub fn stage_reserved(&mut self, op: Vec<u8>, now: Ms) -> Result<Staged, Refused> {
        let entry = Entry {
            op,
            ..Entry::default()
        };
        // Both generations are smaller only after two more.
        self.stale_checkpoints = 2;
        self.stage_entry(entry, true, now)
    }

    /// When the next commit should begin: in the past if one is due, `None` if nothing waits.
    /// An entry with durability `fsync` is due at once, or up to [`StoreConfig::commit_gather_ms`]
    /// later if others are to be expected; so ask again after each entry.
    pub fn commit_due(&self) -> Option<Ms> {
        [self.due, self.gather.due()].into_iter().flatten().min()
    }

    /// Takes everything staged for one write and one fdatasync. `None` while a job is in flight
    /// or when there is nothing to do.
    pub fn begin_commit(&mut self, now: Ms) -> Result<Option<CommitJob>, LogError> {
        self.begin(now)
    }

    /// Notes the job's outcome. Entries up to the token are durable: release their acks.
    pub fn finish_commit(&mut self, done: CommitDone, now: Ms) -> Result<Token, LogError> {
        self.finish(done, now)
    }

    /// Begin, run and finish inline; [`Busy`](crate::error::ErrorKind::Busy) while a job is in
    /// flight.
    pub fn commit(&mut self, now: Ms) -> Result<Token, LogError> {
        self.commit_inline(now)
    }

    /// Entries up to here are durable.
    pub fn durable(&self) -> Token {
        Token(self.durable.durable().0)
    }

    /// Seals batches, syncs what waited too long, applies retention and budget. Call it when the
    /// time it returned has come; sooner does no harm.
    pub fn tick(&mut self, now: Ms) -> Result<Ms, LogError> {
        self.check_running()?;
        let since = self.in_flight_since.or(self.unsynced_since);
        let late = since.is_some_and(|since| now.saturating_sub(since) >= BACKSTOP_MS);
        if late && self.cfg.rules.j7() && !self.durable.in_flight() {
            self.commit_inline(now)?;
        }
        if self.disk_full && now >= self.keep_at {
            self.retry_stalled(now)?;
        }
        self.packer.seal_due(now, &mut self.sealed);
        self.append_sealed(now)?;
        if now >= self.keep_at {
            self.keep_at = now + keep::KEEP_MS;
            self.checkpoint_failed = false;
            self.save_lineages()?;
            self.keep(now)?;
        }
        Ok(self.next_tick(now))
    }

    /// Whether the journal has grown enough for a checkpoint.
    pub fn wants_checkpoint(&self) -> bool {
        let grown = self
            .durable
            .live_bytes()
            .saturating_sub(self.live_bytes_then);
        let wanted = self.checkpoint_wanted || grown >= self.cfg.journal_file_bytes;
        wanted && !self.checkpoint_failed
    }

    /// Commits, seals and syncs everything, then makes `changes` durable and trims the journal
    /// (J5). `changes` is the owner's state that changed since the last call, after *all* ops
    /// staged so far; `None` removes a key. Busy while a job is in flight; Full when the medium has
    /// no room for it. On an error the changes are kept for the next checkpoint. Runs inline: some
    /// syncs, so tens of ms on a slow card.
    pub fn checkpoint(
        &mut self,
        changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        now: Ms,
    ) -> Result<Token, LogError> {
        self.checkpoint_all(changes, now)
    }

    /// Tells the packer about the link: while it is down, batches grow (J8).
    pub fn set_link(&mut self, up: bool) {
        self.packer.set_link(up);
    }

    /// Every partition of the data directory, in order.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let all = self.table.partitions.iter();
        let mut all: Vec<_> = all.map(|partition| partition.meta.tp.clone()).collect();
        all.sort();
        all
    }

    /// The first offset that can be read.
    pub fn start(&self, tp: &TopicPartition) -> Option<Offset> {
        self.table.find(tp).map(|partition| partition.meta.start)
    }

    /// The offset after the last batch that can be read; never below the start. After a crash the
    /// last segments may be gone whose records were acknowledged and deleted before.
    pub fn sealed_end(&self, tp: &TopicPartition) -> Option<Offset> {
        let partition = self.table.find(tp)?;
        Some(partition.log.end().max(partition.meta.start))
    }

    /// The offset the next record gets.
    pub fn next(&self, tp: &TopicPartition) -> Option<Offset> {
        self.table.find(tp).map(|partition| partition.meta.next)
    }

    /// A handle that reads the partition from any thread.
    pub fn reader(&self, tp: &TopicPartition) -> Option<PartitionReader> {
        let shared = Arc::clone(&self.table.find(tp)?.log.shared);
        Some(PartitionReader::new(shared))
    }

    /// Incarnation and boots (U1). None of a partition whose birth is not durable yet: a cloud that
    /// heard of it, and a power cut, would leave the cloud with a name that this log never had.
    pub fn lineage(&self, tp: &TopicPartition) -> Option<Lineage> {
        let born = self.table.find(tp).filter(|partition| partition.born);
        born.map(|partition| partition.meta.lineage())
    }

    /// Whether the partition's lineage is lost: nothing of it may be offered to the cloud until an
    /// operator says so ([`trust`]).
    pub fn in_doubt(&self, tp: &TopicPartition) -> bool {
        self.table.find(tp).is_some_and(|found| found.in_doubt)
    }

    /// The digest of the record before `offset`: `None` if there is none, or it is gone.
    pub fn digest_before(
        &self,
        tp: &TopicPartition,
        offset: Offset,
    ) -> Result<Option<Digest>, ReadError> {
        self.find_digest(tp, offset)
    }

    /// The cloud's `next` as last confirmed.
    pub fn acked(&self, tp: &TopicPartition) -> Option<Offset> {
        self.table.find(tp).map(|partition| partition.meta.acked)
    }

    /// The cloud has everything below `offset`. Never moves back. Journaled within 5 s; a crash
    /// before that only makes the edge ask again.
    pub fn set_acked(&mut self, tp: &TopicPartition, offset: Offset, now: Ms) {
        self.move_acked(tp, offset, now);
    }

    /// A new incarnation that starts at `at` (U1, DIVERGED). In force when the token is durable.
    pub fn fork(
        &mut self,
        tp: &TopicPartition,
        incarnation: u128,
        at: Offset,
        now: Ms,
    ) -> Result<Token, LogError> {
        self.begin_fork(tp, incarnation, at, now)
    }

    /// Notes that offsets are gone: a reader met a bad checksum, or the cloud rejected them (U5).
    /// The damaged file part is copied to `quarantine/`. In force when the token is durable.
    pub fn add_gap(&mut self, tp: &TopicPartition, gap: Gap, now: Ms) -> Result<Token, LogError> {
        self.begin_gap(tp, gap, now)
    }

    /// GAPs that end above the acked offset, in order.
    pub fn gaps(&self, tp: &TopicPartition) -> Vec<Gap> {
        let Some(partition) = self.table.find(tp) else {
            return Vec::new();
        };
        let unsent = |gap: &&Gap| gap.to > partition.meta.acked;
        partition.meta.gaps.iter().filter(unsent).copied().collect()
    }

    /// What is used of the budget, and by what.
    pub fn usage(&self) -> Usage {
        self.usage_shown()
    }

    /// The persisted clock: it runs while a store is open (J9).
    fn clock(&mut self, now: Ms) -> u64 {
        self.clock_seen = match self.cfg.rules.j9() {
            true => self.clock_base + now.saturating_sub(self.clock_from),
            false => now,
        };
        self.clock_seen
    }

    fn next_tick(&self, now: Ms) -> Ms {
        let backstop = self
            .unsynced_since
            .map(|since| since.saturating_add(BACKSTOP_MS));
        let keeps = self.cfg.retention_ms.is_some()
            || self.cfg.retention_bytes.is_some()
            || self.disk_full
            || self.checkpoint_failed
            || self.lineages_due
            || self.unsynced_since.is_some();
        let keep = keeps.then_some(self.keep_at);
        [self.packer.next_due(), self.commit_due(), backstop, keep]
            .into_iter()
            .flatten()
            .min()
            .map_or(now + TICK_MS_MAX, |at| at.clamp(now, now + TICK_MS_MAX))
    }

    /// A log of a partition that has no directory yet.
    fn new_log(&self, tp: &TopicPartition) -> PartitionLog {
        let dir = self.cfg.dir.join(tp.to_string());
        let shared = Shared::new(Arc::clone(&self.disk), dir, tp.clone());
        PartitionLog::new(Arc::new(shared), self.cfg.segment_bytes)
    }
}
