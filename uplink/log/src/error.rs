//! What can go wrong, in two layers: [`LogError`] says what happened and where,
//! [`ErrorKind`] tells the caller what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// What the caller should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again after the next `finish_commit`: a bound was met that empties by itself.
    Busy,
    /// No room. Refuse new records until a checkpoint, retention or an operator made some.
    Full,
    /// The request cannot be served as it is: too large, trimmed, or a setting out of range.
    Invalid,
    /// Bytes on the medium are not what was written.
    Corrupt,
    /// Reading or preparing a file failed; nothing durable was lost by it.
    Io,
    /// Nothing can be promised any more (J6): stop the node.
    Fatal,
}

/// An error of the log, with the file and place it concerns.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    #[error("{op} {path}: {source}", path = path.display())]
    Io {
        op: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A failed fsync, for whatever reason: what was written may be lost though it reads back.
    #[error("fsync {path}: {source}", path = path.display())]
    Sync { path: PathBuf, source: io::Error },
    #[error("{path} at byte {at}: {what}", path = path.display())]
    Corrupt {
        path: PathBuf,
        at: u64,
        what: String,
    },
    #[error("{what} is full: {need} bytes wanted, {have} bytes left")]
    Full {
        what: &'static str,
        need: u64,
        have: u64,
    },
    #[error("{what}: wait for the commit in flight")]
    Busy { what: &'static str },
    #[error("{what} has {bytes} bytes; the most is {max}")]
    TooLarge {
        what: &'static str,
        bytes: u64,
        max: u64,
    },
    #[error("frame {position} is not in the journal: it holds {from}..{to}")]
    NotHeld { position: u64, from: u64, to: u64 },
    #[error("{key} = {value}: {valid}")]
    Config {
        key: &'static str,
        value: String,
        valid: String,
    },
    #[error("the journal is stopped since an earlier write or fsync failed: {cause}")]
    Poisoned { cause: String },
}

/// The medium has no room, or this user's share of it is used up.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

impl LogError {
    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            LogError::Io { source, .. } if is_full(source) => ErrorKind::Full,
            LogError::Io { .. } => ErrorKind::Io,
            LogError::Corrupt { .. } => ErrorKind::Corrupt,
            LogError::Full { .. } => ErrorKind::Full,
            LogError::Busy { .. } => ErrorKind::Busy,
            LogError::TooLarge { .. } | LogError::NotHeld { .. } | LogError::Config { .. } => {
                ErrorKind::Invalid
            }
            LogError::Sync { .. } | LogError::Poisoned { .. } => ErrorKind::Fatal,
        }
    }

    /// For `map_err`: `disk.open(p, ..).map_err(LogError::io("open", p))?`.
    pub fn io<'a>(op: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> LogError + 'a {
        move |source| LogError::Io {
            op,
            path: path.to_path_buf(),
            source,
        }
    }

    /// For `map_err` behind an fsync: never [`ErrorKind::Full`], which is tried again (J6).
    pub fn sync(path: &Path) -> impl FnOnce(io::Error) -> LogError + '_ {
        move |source| LogError::Sync {
            path: path.to_path_buf(),
            source,
        }
    }

    pub(crate) fn corrupt(path: &Path, at: u64, what: impl Into<String>) -> LogError {
        LogError::Corrupt {
            path: path.to_path_buf(),
            at,
            what: what.into(),
        }
    }
}
