//! Journal and checkpoints together: what an owner makes its state durable with.
//!
//! # Contract
//! - A frame is durable, and shown by [`Durable::read`], once the [`Durable::finish_commit`] of
//!   its group said so. One group is written and synced at a time (J1); while it is, the next
//!   gathers. No timer is needed.
//! - [`Durable::open`] gives back the newest checkpoint that proves itself and every frame from its
//!   position on. It starts on any disk: what was lost is in [`Recovered::report`] (J1, J4, J5).
//! - [`Durable::checkpoint`] makes state durable, starts a journal file with a new header and then
//!   lets go of the files that neither of the two kept generations needs (J3, J5).
//! - A write or fsync that fails stops it for good (J6): every call after it is
//!   [`LogError::Poisoned`]. The one way out is a new process that recovers.
//! - Full is said by [`Durable::stage`], before anything is written.
//!
//! # Life of a frame
//! ```text
//! stage -> [pending group] -> begin_commit -> CommitJob::run (any thread) -> finish_commit
//! ```
//!
//! # Disk it may take
//! `(files_max + 2 spares) * file_bytes`, two rotten files kept as evidence, and two checkpoints.

mod open;

use std::collections::BTreeMap;

pub use crate::checkpoint::{Change, CheckpointStore};
pub use crate::journal::{
    CommitDone, CommitJob, Cut, FRAME_BYTES_MAX, Frame, HEADER_BYTES_MAX,
    JournalConfig as DurableConfig, JournalReport, Lost, Position, Reader, Replay, Rules,
};
pub use open::{CheckpointUse, Recovered, Report};

use crate::checkpoint::Mark;
use crate::error::LogError;
use crate::journal::Journal;

/// What [`Durable::checkpoint`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpointed {
    /// Frames below this are durable now: everything that was staged.
    pub durable: Position,
    /// Frames below this are gone.
    pub start: Position,
    /// Old and new places of the frames that were copied forward, in the order asked for.
    pub forwarded: Vec<(Position, Position)>,
}

/// A journal with its checkpoints. See the [module](self).
pub struct Durable {
    journal: Journal,
    store: Box<dyn CheckpointStore>,
    reader: Reader,
    rules: Rules,
    /// The generation that the next one is built on.
    current: Mark,
    /// The highest generation ever seen.
    generation: u64,
    /// Changes of a checkpoint that failed; they are part of the next.
    carried: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Durable {
    /// Adds a frame to the pending group. The payload is copied once.
    /// Busy: the group is full, commit first. Full: the journal is. TooLarge: the frame is.
    pub fn stage(&mut self, kind: u8, payload: &[u8]) -> Result<Position, LogError> {
        self.journal.stage(kind, &[payload])
    }

    /// As [`Durable::stage`], for a payload in parts that are joined.
    pub fn stage_parts(&mut self, kind: u8, parts: &[&[u8]]) -> Result<Position, LogError> {
        self.journal.stage(kind, parts)
    }

    /// Room the journal still has for payload bytes before [`Durable::stage`] says Full: an
    /// estimate from below, as if nothing compressed.
    pub fn room_bytes(&self) -> u64 {
        self.room_bytes_but(0)
    }

    /// The same for an owner who leaves so many files to what makes room.
    pub fn room_bytes_but(&self, files: usize) -> u64 {
        self.journal.room_bytes(files)
    }

    /// Preallocates again what a full disk did not give. [`Durable::stage`] does it too, but an owner
    /// that goes by [`Durable::room_bytes`] stages nothing while there seems to be no room.
    pub fn refill(&mut self) -> Result<(), LogError> {
        self.journal.check_alive()?;
        self.journal.spares.fill().map(drop)
    }

    /// Takes the pending group. `None` while one is in flight or when there is nothing to write
    /// or sync.
    pub fn begin_commit(&mut self) -> Result<Option<CommitJob>, LogError> {
        self.journal.begin(true)
    }

    /// As [`Durable::begin_commit`] but without the sync, for durability `os`: survives the
    /// process, not a power cut. The frames stay not durable until a later commit (J7: within 5 s).
    pub fn begin_write(&mut self) -> Result<Option<CommitJob>, LogError> {
        self.journal.begin(false)
    }

    /// Notes what became of the job. Frames below the position are durable: release their acks.
    pub fn finish_commit(&mut self, done: CommitDone) -> Result<Position, LogError> {
        self.journal.finish(done)
    }

    /// All three inline; also when nothing is pending. Busy while a job is in flight.
    pub fn commit(&mut self) -> Result<Position, LogError> {
        self.journal.commit()
    }

    /// Whether the next group opens a new file and none of it is staged yet: the moment to call
    /// [`Durable::set_header`] with the state after every frame staged so far (J3).
    pub fn wants_header(&self) -> bool {
        self.journal.wants_header()
    }

    /// The header of journal files opened from now on. It may count what is staged when
    /// [`Durable::wants_header`] is true; else only what is durable, or a cut tail leaves a hole.
    pub fn set_header(&mut self, header: Vec<u8>) -> Result<(), LogError> {
        self.journal.check_header(&header)?;
        self.journal.header = header;
        Ok(())
    }

    /// Makes `changes` part of the next checkpoint, over earlier ones of the same keys.
    pub(crate) fn carry(&mut self, changes: Vec<Change>) {
        self.carried.extend(changes);
    }

    /// J5, in order. The owner has synced its segments and directories up to `at` before.
    ///
    /// Commits what is staged, puts `changes` (`None` removes) and `at` into the checkpoint in one
    /// batch, makes that durable, starts a journal file with `next_header`, copies the frames in
    /// `forward` into it (J8), and lets go of files below both generations.
    ///
    /// Busy while a job is in flight. On an error the changes are kept and made part of the next
    /// checkpoint: the owner gives each change once.
    pub fn checkpoint(
        &mut self,
        at: Position,
        changes: Vec<Change>,
        next_header: Vec<u8>,
        forward: &[Position],
    ) -> Result<Checkpointed, LogError> {
        self.carry(changes);
        self.journal.check_header(&next_header)?;
        self.journal.check_files()?;
        let durable = self.journal.commit()?;
        if at > durable {
            let (from, to) = (self.journal.start(), durable.0);
            return Err(LogError::NotHeld {
                position: at.0,
                from,
                to,
            });
        }
        let (at, forward) = self.rule_j8(at, forward);
        let mut copies = Vec::with_capacity(forward.len());
        for position in forward {
            copies.push(self.reader.read(*position)?);
        }
        self.generation += 1;
        let changes: Vec<Change> = self.carried.clone().into_iter().collect();
        let base = (self.current.generation > 0).then_some(self.current.generation);
        let places = if self.rules.j5() {
            let mark = self.store.commit(base, self.generation, at.0, &changes)?;
            let marks = [mark, self.current];
            let places = self.journal.begin_file(next_header, marks, &copies)?;
            // Only now: a generation that no header confirms must not become a base, or the next
            // one would overwrite the one that counts.
            self.current = mark;
            self.journal
                .trim(marks.iter().map(|m| m.at).min().unwrap_or(0))?;
            places
        } else {
            let places = self
                .journal
                .begin_file(next_header, Default::default(), &copies)?;
            self.journal.trim(at.0)?;
            self.current = self.store.commit(base, self.generation, at.0, &changes)?;
            places
        };
        self.carried.clear();
        self.journal.spares.fill()?;
        Ok(Checkpointed {
            durable: Position(self.journal.durable),
            start: self.start(),
            forwarded: forward.iter().copied().zip(places).collect(),
        })
    }

    /// Without J8 the oldest straggler holds the checkpoint's position back.
    fn rule_j8<'a>(&self, at: Position, forward: &'a [Position]) -> (Position, &'a [Position]) {
        if self.rules.j8() {
            return (at, forward);
        }
        (
            forward
                .iter()
                .copied()
                .min()
                .map_or(at, |oldest| at.min(oldest)),
            &[],
        )
    }

    /// A durable frame that is still in the journal.
    pub fn read(&self, position: Position) -> Result<Frame, LogError> {
        self.reader.read(position)
    }

    /// A handle that reads durable frames from any thread.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// The next frame's number.
    pub fn end(&self) -> Position {
        Position(self.journal.next)
    }

    /// Frames below are durable.
    pub fn durable(&self) -> Position {
        Position(self.journal.durable)
    }

    /// Frames below are no longer in the journal.
    pub fn start(&self) -> Position {
        Position(self.journal.start())
    }

    /// Bytes on disk held by journal files and spares.
    pub fn journal_bytes(&self) -> u64 {
        self.journal.held_bytes()
    }

    /// Bytes of frames that only a checkpoint can let go of: ask for one when this grows.
    pub fn live_bytes(&self) -> u64 {
        self.journal.live_bytes()
    }

    /// Whether frames are staged or written that no sync has covered yet.
    pub fn has_unsynced(&self) -> bool {
        self.journal.durable < self.journal.next
    }

    /// Whether a job is in flight.
    pub fn in_flight(&self) -> bool {
        self.journal.in_flight.is_some()
    }

    /// Why it stopped for good, if it did (J6).
    pub fn poisoned(&self) -> Option<&str> {
        self.journal.poisoned.as_deref()
    }
}
