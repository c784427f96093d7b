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

mod rules;

use std::path::PathBuf;
use std::sync::Arc;

pub use crate::checkpoint::CheckpointStore;
pub use rules::Rules;

use crate::disk::Disk;
use crate::error::LogError;

/// The most bytes in one frame's payload: a batch of 1 MiB and what describes it.
pub const FRAME_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// The most bytes in a journal file's header, as the owner gives it.
pub const HEADER_BYTES_MAX: usize = 256 << 10;
/// Frame kinds from here on belong to this crate.
pub const KIND_RESERVED: u8 = 0xf0;

/// A frame's number: 0 is the first ever staged, and numbers only grow. Known when staged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Where and how large. [`DurableConfig::new`] gives the defaults of a gateway.
#[derive(Clone, Debug)]
pub struct DurableConfig {
    /// Journal files live in `dir`.
    pub dir: PathBuf,
    /// Length of one journal file, preallocated.
    pub file_bytes: u64,
    /// The most journal files; at the bound [`Durable::stage`] says Full.
    pub files_max: usize,
    /// The most bytes of frames in one group; at the bound [`Durable::stage`] says Busy.
    pub group_bytes_max: usize,
    /// Groups larger than this are compressed.
    pub compress_above_bytes: usize,
    /// Random, new at every start: salts of journal files come from it.
    pub salt_seed: u64,
    /// Off-switches for tests.
    pub rules: Rules,
}

impl DurableConfig {
    /// A gateway's journal: files of 8 MiB, 8 at most, groups of 1 MiB and a frame.
    pub fn new(dir: impl Into<PathBuf>, salt_seed: u64) -> DurableConfig {
        DurableConfig {
            dir: dir.into(),
            file_bytes: 8 << 20,
            files_max: 8,
            group_bytes_max: 1 << 20,
            compress_above_bytes: 1024,
            salt_seed,
            rules: Rules::default(),
        }
    }
}

/// A frame, as recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub position: Position,
    /// Where it was first staged, when it has been copied forward since (J8).
    pub origin: Position,
    pub kind: u8,
    pub payload: Vec<u8>,
}

/// What [`Durable::open`] found.
pub struct Recovered {
    /// Entries of the checkpoint in use, in key order; empty when there is none.
    pub checkpoint: Vec<(Vec<u8>, Vec<u8>)>,
    /// Frames below are in the checkpoint; [`Recovered::frames`] starts here.
    pub from: Position,
    /// Header bytes of the newest journal file that can be read (J3); empty in a new log.
    pub header: Vec<u8>,
    /// All readable headers with the first frame of their file, oldest first.
    pub headers: Vec<(Position, Vec<u8>)>,
    /// The frames since, oldest first, read one group at a time.
    pub frames: Replay,
    /// What was cut, lost or fallen back on.
    pub report: Report,
}

/// The frames of a recovered journal, in order. One group is in memory at a time.
pub struct Replay;

impl Iterator for Replay {
    type Item = Result<Frame, LogError>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

/// What recovery met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report;

/// One group on its way to the disk. [`CommitJob::run`] may run on any thread.
pub struct CommitJob;

/// What became of a [`CommitJob`]; give it to [`Durable::finish_commit`].
#[must_use]
pub struct CommitDone;

impl CommitJob {
    /// One write and one fdatasync, and the header of a new file where the group opens one.
    pub fn run(self) -> CommitDone {
        CommitDone
    }
}

/// What [`Durable::checkpoint`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpointed {
    /// Frames below this are durable now: everything that was staged.
    pub durable: Position,
    /// Frames below this are gone.
    pub start: Position,
    /// New places of the frames that were copied forward, in the order asked for.
    pub forwarded: Vec<(Position, Position)>,
}

/// A journal with its checkpoints. See the [module](self).
pub struct Durable;

impl Durable {
    /// Recovers what is in `cfg.dir`, or starts anew. When it returns, everything it recovered
    /// is synced (J4) and the journal takes frames.
    pub fn open(
        _disk: Arc<dyn Disk>,
        _checkpoints: Box<dyn CheckpointStore>,
        _cfg: DurableConfig,
    ) -> Result<(Durable, Recovered), LogError> {
        unimplemented!()
    }

    /// Adds a frame to the pending group. The payload is copied once.
    /// Busy: the group is full, commit first. Full: the journal is. TooLarge: the frame is.
    pub fn stage(&mut self, _kind: u8, _payload: &[u8]) -> Result<Position, LogError> {
        unimplemented!()
    }

    /// As [`Durable::stage`], for a payload in parts that are joined.
    pub fn stage_parts(&mut self, _kind: u8, _parts: &[&[u8]]) -> Result<Position, LogError> {
        unimplemented!()
    }

    /// Room the journal still has for payload bytes before [`Durable::stage`] says Full.
    pub fn room_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Takes the pending group. `None` while one is in flight or when there is nothing to write
    /// or sync.
    pub fn begin_commit(&mut self) -> Result<Option<CommitJob>, LogError> {
        unimplemented!()
    }

    /// As [`Durable::begin_commit`] but without the sync, for durability `os`: survives the
    /// process, not a power cut. The frames stay not durable until a later commit (J7: within 5 s).
    pub fn begin_write(&mut self) -> Result<Option<CommitJob>, LogError> {
        unimplemented!()
    }

    /// Notes what became of the job. Frames below the position are durable: release their acks.
    pub fn finish_commit(&mut self, _done: CommitDone) -> Result<Position, LogError> {
        unimplemented!()
    }

    /// All three inline; also when nothing is pending.
    pub fn commit(&mut self) -> Result<Position, LogError> {
        unimplemented!()
    }

    /// Whether the next group opens a new file and none of it is staged yet: the moment to call
    /// [`Durable::set_header`] with the state after every frame staged so far (J3).
    pub fn wants_header(&self) -> bool {
        unimplemented!()
    }

    /// The header of journal files opened from now on. It may count what is staged when
    /// [`Durable::wants_header`] is true; else only what is durable, or a cut tail leaves a hole.
    pub fn set_header(&mut self, _header: Vec<u8>) -> Result<(), LogError> {
        unimplemented!()
    }

    /// J5, in order. The owner has synced its segments and directories up to `at` before.
    ///
    /// Commits what is staged, puts `changes` (`None` removes) and `at` into the checkpoint in one
    /// batch, makes that durable, starts a journal file with `next_header`, copies the frames in
    /// `forward` into it (J8), and lets go of files below both generations.
    /// Busy while a job is in flight.
    pub fn checkpoint(
        &mut self,
        _at: Position,
        _changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
        _next_header: Vec<u8>,
        _forward: &[Position],
    ) -> Result<Checkpointed, LogError> {
        unimplemented!()
    }

    /// A durable frame that is still in the journal.
    pub fn read(&self, _position: Position) -> Result<Frame, LogError> {
        unimplemented!()
    }

    /// A handle that reads durable frames from any thread.
    pub fn reader(&self) -> Reader {
        unimplemented!()
    }

    /// The next frame's number.
    pub fn end(&self) -> Position {
        unimplemented!()
    }

    /// Frames below are durable.
    pub fn durable(&self) -> Position {
        unimplemented!()
    }

    /// Frames below are no longer in the journal.
    pub fn start(&self) -> Position {
        unimplemented!()
    }

    /// Bytes on disk held by journal files and spares.
    pub fn journal_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Bytes of frames that only a checkpoint can let go of: ask for one when this grows.
    pub fn live_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Whether frames are staged or written that no sync has covered yet.
    pub fn has_unsynced(&self) -> bool {
        unimplemented!()
    }

    /// Whether a job is in flight.
    pub fn in_flight(&self) -> bool {
        unimplemented!()
    }
}

/// Reads durable frames of a [`Durable`] from any thread.
#[derive(Clone)]
pub struct Reader;

impl Reader {
    /// A durable frame that is still in the journal.
    pub fn read(&self, _position: Position) -> Result<Frame, LogError> {
        unimplemented!()
    }
}
