//! What can be wrong with a batch: rich inside, a small kind outside.

use crate::{Compression, Offset};

/// What the caller can do about a [`BatchError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The bytes end inside the batch. More of them may help; at rest it is a torn tail.
    Truncated,
    /// The bytes are not a batch, or not the batch that was written.
    Corrupt,
    /// A [`Limits`](crate::Limits) bound would be crossed.
    TooLarge,
    /// Well formed, but not for this crate or this caller: old magic, foreign codec, a range that
    /// is not there.
    Unsupported,
}

/// Why a batch was refused. Positions count bytes from the start of the batch, or of the
/// decompressed records where it says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("batch cut short: {have} of {need} bytes")]
    Truncated { need: usize, have: usize },
    #[error("{extra} bytes after the end of the batch")]
    Trailing { extra: usize },
    #[error("record format (magic) {0} is not 2")]
    Magic(u8),
    #[error("batch field {field} is {value}")]
    Field { field: &'static str, value: i64 },
    #[error("CRC-32C is {computed:08x}, the header says {stored:08x}")]
    Crc { stored: u32, computed: u32 },
    #[error("{what} is {size}, at most {max} allowed")]
    TooLarge {
        what: &'static str,
        size: u64,
        max: u64,
    },
    #[error("record {index}, at byte {at} of the records: {problem}")]
    Record {
        index: u32,
        at: usize,
        problem: &'static str,
    },
    #[error("{} is not decoded here", .0.name())]
    Codec(Compression),
    #[error("{} data is damaged: {problem}", .codec.name())]
    Decompress { codec: Compression, problem: String },
    #[error("cannot slice at {from}: the batch ends at {last}")]
    SliceRange { from: Offset, last: Offset },
    #[error("a transactional or control batch cannot be sliced")]
    SliceTransactional,
}

impl BatchError {
    /// What to do about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            BatchError::Truncated { .. } => ErrorKind::Truncated,
            BatchError::TooLarge { .. } => ErrorKind::TooLarge,
            BatchError::Magic(_)
            | BatchError::Codec(_)
            | BatchError::SliceRange { .. }
            | BatchError::SliceTransactional => ErrorKind::Unsupported,
            BatchError::Trailing { .. }
            | BatchError::Field { .. }
            | BatchError::Crc { .. }
            | BatchError::Record { .. }
            | BatchError::Decompress { .. } => ErrorKind::Corrupt,
        }
    }
}
