//! One ordered, append-only, checksummed sequence of preallocated files.
//!
//! # Contract
//! - Frames are `(kind, payload)`; what they mean is the owner's. One commit writes one *group* of
//!   frames: one write, one fdatasync.
//! - A group names the position synced before it, so recovery tells rot from a torn tail (J1).
//! - A file starts with a header of the owner, twice (J3), and with a salt: what an earlier use of
//!   the file left behind is never believed. File N is synced before N+1 is written.
//! - A file gets its name only when its header, and the tail that recovery or a checkpoint puts
//!   into it, are synced: it is there whole or not at all.
//! - Files are preallocated and reused, so `StorageFull` does not reach a write (J6). Any failed
//!   write or sync stops the journal for good.
//!
//! # Bounds
//! [`FRAME_BYTES_MAX`], [`HEADER_BYTES_MAX`], and the settings in [`JournalConfig`]. In memory:
//! two group buffers, and 16 bytes per 32 KiB of journal.
//!
//! The bytes are drawn in FORMAT.md.

mod commit;
mod erase;
mod files;
pub mod format;
mod read;
mod recover;
mod remnants;
mod roll;
mod rules;
mod scan;
mod writer;

use std::ops::Range;
use std::path::PathBuf;

pub use commit::{CommitDone, CommitJob};
pub use files::{ROTTEN_MAX, SPARES};
pub use format::{FRAME_BYTES_MAX, HEADER_BYTES_MAX};
pub use read::{Reader, Replay};
pub use rules::Rules;

pub(crate) use files::{journal_path, list};
pub(crate) use recover::{Survey, survey};
pub(crate) use scan::{read_header, scan};
pub(crate) use writer::Journal;

use crate::error::LogError;

/// A frame's number: 0 is the first ever staged, and numbers only grow. Known when staged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A frame, as read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub position: Position,
    /// Where it was first staged, when it has been copied forward since (J8).
    pub origin: Position,
    pub kind: u8,
    pub payload: Vec<u8>,
}

/// The most that [`JournalConfig::files_max`] may be.
const FILES_MAX: usize = 8192;

/// Where and how large. [`JournalConfig::new`] gives the defaults of a gateway.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Journal files live in `dir`.
    pub dir: PathBuf,
    /// Length of one journal file, preallocated; a multiple of 4096.
    pub file_bytes: u64,
    /// The most journal files, spares not counted; at the bound staging says Full.
    pub files_max: usize,
    /// The most bytes of frames in one group; at the bound staging says Busy.
    pub group_bytes_max: usize,
    /// Groups larger than this are compressed.
    pub compress_above_bytes: usize,
    /// A group that would touch a page more where it stands begins at the next page: few and small
    /// groups then wear a medium less, for journal files that hold somewhat less. What
    /// [`Durable::room_bytes`](crate::durable::Durable::room_bytes) estimates is then too much.
    pub whole_pages: bool,
    /// Random, new at every start: salts of journal files come from it.
    pub salt_seed: u64,
    /// Off-switches for tests.
    pub rules: Rules,
}

impl JournalConfig {
    /// A gateway's journal: files of 8 MiB, 8 at most, groups of one full frame.
    pub fn new(dir: impl Into<PathBuf>, salt_seed: u64) -> JournalConfig {
        JournalConfig {
            dir: dir.into(),
            file_bytes: 8 << 20,
            files_max: 8,
            group_bytes_max: FRAME_BYTES_MAX + 1024,
            compress_above_bytes: 1024,
            whole_pages: false,
            salt_seed,
            rules: Rules::default(),
        }
    }

    /// Checked when a journal is opened.
    pub fn check(&self) -> Result<(), LogError> {
        let wrong = |key, value: u64, valid: String| {
            Err(LogError::Config {
                key,
                value: value.to_string(),
                valid,
            })
        };
        let group = self.group_bytes_max as u64;
        if group < 1024 || self.group_bytes_max > format::BODY_BYTES_MAX {
            return wrong("group_bytes_max", group, "1 KiB to 8 MiB".into());
        }
        let least = (format::body_at(0) + format::group_bytes(self.group_bytes_max)) as u64;
        if self.file_bytes % 4096 != 0 || self.file_bytes < least || self.file_bytes > 1 << 30 {
            let valid = format!(
                "a multiple of 4096 from {least} (headers and one group of group_bytes_max) to 1 GiB"
            );
            return wrong("file_bytes", self.file_bytes, valid);
        }
        if !(3..=FILES_MAX).contains(&self.files_max) {
            return wrong(
                "files_max",
                self.files_max as u64,
                format!("3 to {FILES_MAX}"),
            );
        }
        Ok(())
    }
}

/// Acked frames that are gone: rot, or a missing file. Make a GAP(corrupt) of what they held.
/// The same range is reported at every start until its file is trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The file, and the bytes in it that no group explains; `None` when the file is missing.
    pub place: Option<(PathBuf, Range<u64>)>,
    pub frames: Range<u64>,
}

/// A torn tail: frames that were never acked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub path: PathBuf,
    pub bytes: Range<u64>,
    /// The number that the first frame of it had, and the next frame staged will have.
    pub at: Position,
}

/// What recovery met in the journal's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalReport {
    pub files: usize,
    /// Frames found, checkpointed ones included.
    pub frames: u64,
    /// Frames of unknown durability that were copied and synced (J4).
    pub tail_frames: u64,
    pub cut: Option<Cut>,
    pub lost: Vec<Lost>,
    /// Files of which both headers are unreadable; their groups were salvaged.
    pub headers_lost: Vec<PathBuf>,
}
