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

mod config;
mod types;

use std::sync::Arc;

use headwater_batch::{Offset, TopicPartition};

pub use crate::durable::{CheckpointStore, CommitDone, CommitJob};
pub use crate::partition::{PartitionReader, ReadError};
pub use config::{CLOCK_FLOOR_MS, Durability, Full, SYNC_MS_MAX, StoreConfig};
pub use types::{
    BOOTS_MAX, Chunk, Digest, Entry, Gap, GapReason, Lineage, Ms, Recovered, Refused, Staged,
    Token, Usage,
};

use crate::disk::Disk;
use crate::error::LogError;

/// The edge's log. See the [module](self).
pub struct Store;

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
        let _ = (disk, checkpoints, cfg, now, boot, incarnation_if_new);
        unimplemented!()
    }

    /// Takes an entry. Its partitions are made when they are new.
    /// On `Err` nothing was written and no offset was used.
    pub fn stage(&mut self, entry: Entry, now: Ms) -> Result<Staged, Refused> {
        let _ = (entry, now);
        unimplemented!()
    }

    /// When the next commit should begin: in the past if one is due, `None` if nothing waits.
    /// An entry with durability `fsync` is due at once.
    pub fn commit_due(&self) -> Option<Ms> {
        unimplemented!()
    }

    /// Takes everything staged for one write and one fdatasync. `None` while a job is in flight
    /// or when there is nothing to do.
    pub fn begin_commit(&mut self, now: Ms) -> Result<Option<CommitJob>, LogError> {
        let _ = now;
        unimplemented!()
    }

    /// Notes the job's outcome. Entries up to the token are durable: release their acks.
    pub fn finish_commit(&mut self, done: CommitDone, now: Ms) -> Result<Token, LogError> {
        let _ = (done, now);
        unimplemented!()
    }

    /// Begin, run and finish inline; [`Busy`](crate::error::ErrorKind::Busy) while a job is in
    /// flight.
    pub fn commit(&mut self, now: Ms) -> Result<Token, LogError> {
        let _ = now;
        unimplemented!()
    }

    /// Entries up to here are durable.
    pub fn durable(&self) -> Token {
        unimplemented!()
    }

    /// Seals batches, syncs what waited too long, applies retention and budget. Call it when the
    /// time it returned has come; sooner does no harm.
    pub fn tick(&mut self, now: Ms) -> Result<Ms, LogError> {
        let _ = now;
        unimplemented!()
    }

    /// Whether the journal has grown enough for a checkpoint.
    pub fn wants_checkpoint(&self) -> bool {
        unimplemented!()
    }

    /// Commits, seals and syncs everything, then makes `changes` durable and trims the journal
    /// (J5). `changes` is the owner's state that changed since the last call, after *all* ops
    /// staged so far; `None` removes a key. Busy while a job is in flight. Runs inline: some
    /// syncs, so tens of ms on a slow card.
    pub fn checkpoint(
        &mut self,
        changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        now: Ms,
    ) -> Result<Token, LogError> {
        let _ = (changes, now);
        unimplemented!()
    }

    /// Tells the packer about the link: while it is down, batches grow (J8).
    pub fn set_link(&mut self, up: bool) {
        let _ = up;
        unimplemented!()
    }

    /// Every partition of the data directory, in order.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        unimplemented!()
    }

    /// The first offset that can be read.
    pub fn start(&self, tp: &TopicPartition) -> Option<Offset> {
        let _ = tp;
        unimplemented!()
    }

    /// The offset after the last batch that can be read.
    pub fn sealed_end(&self, tp: &TopicPartition) -> Option<Offset> {
        let _ = tp;
        unimplemented!()
    }

    /// The offset the next record gets.
    pub fn next(&self, tp: &TopicPartition) -> Option<Offset> {
        let _ = tp;
        unimplemented!()
    }

    /// A handle that reads the partition from any thread.
    pub fn reader(&self, tp: &TopicPartition) -> Option<PartitionReader> {
        let _ = tp;
        unimplemented!()
    }

    /// Incarnation and boots (U1).
    pub fn lineage(&self, tp: &TopicPartition) -> Option<Lineage> {
        let _ = tp;
        unimplemented!()
    }

    /// The digest of the record before `offset`: `None` if there is none, or it is gone.
    pub fn digest_before(
        &self,
        tp: &TopicPartition,
        offset: Offset,
    ) -> Result<Option<Digest>, ReadError> {
        let _ = (tp, offset);
        unimplemented!()
    }

    /// The cloud's `next` as last confirmed.
    pub fn acked(&self, tp: &TopicPartition) -> Option<Offset> {
        let _ = tp;
        unimplemented!()
    }

    /// The cloud has everything below `offset`. Never moves back. Journaled within 5 s; a crash
    /// before that only makes the edge ask again.
    pub fn set_acked(&mut self, tp: &TopicPartition, offset: Offset, now: Ms) {
        let _ = (tp, offset, now);
        unimplemented!()
    }

    /// A new incarnation that starts at `at` (U1, DIVERGED). In force when the token is durable.
    pub fn fork(
        &mut self,
        tp: &TopicPartition,
        incarnation: u128,
        at: Offset,
        now: Ms,
    ) -> Result<Token, LogError> {
        let _ = (tp, incarnation, at, now);
        unimplemented!()
    }

    /// Notes that offsets are gone: a reader met a bad checksum, or the cloud rejected them (U5).
    /// The damaged file part is copied to `quarantine/`. In force when the token is durable.
    pub fn add_gap(&mut self, tp: &TopicPartition, gap: Gap, now: Ms) -> Result<Token, LogError> {
        let _ = (tp, gap, now);
        unimplemented!()
    }

    /// GAPs that end above the acked offset, in order.
    pub fn gaps(&self, tp: &TopicPartition) -> Vec<Gap> {
        let _ = tp;
        unimplemented!()
    }

    /// What is used of the budget, and by what.
    pub fn usage(&self) -> Usage {
        unimplemented!()
    }
}
