//! Reading a partition while it is written.

use headwater_batch::Offset;

use crate::error::LogError;
use crate::store::Chunk;

/// Reads one partition, on any thread, while the store appends and retention deletes.
/// Cheap to clone; each clone remembers its own place, so reading on is quick.
#[derive(Clone)]
pub struct PartitionReader;

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Retention has deleted it.
    #[error("offset {from} is below the log's start {start}")]
    BelowStart { from: Offset, start: Offset },
    /// A checksum failed: tell [`Store::add_gap`](crate::store::Store::add_gap), then read on at
    /// `to`.
    #[error("offsets {from}..{to} are damaged: {what}")]
    Corrupt {
        from: Offset,
        to: Offset,
        what: String,
    },
    /// The disk said no (EIO): stop this stream, make no GAP (U4).
    #[error(transparent)]
    Io(#[from] LogError),
}

impl PartitionReader {
    /// Whole batches from the one that holds `from`, up to `max_bytes` but at least one.
    pub fn read(&mut self, from: Offset, max_bytes: usize) -> Result<Chunk, ReadError> {
        let _ = (from, max_bytes);
        unimplemented!()
    }

    /// The first offset that can be read.
    pub fn start(&self) -> Offset {
        unimplemented!()
    }

    /// The offset after the last sealed batch.
    pub fn sealed_end(&self) -> Offset {
        unimplemented!()
    }

    /// The first offset whose record has this timestamp or a later one, and its timestamp.
    pub fn offset_for_time(&mut self, timestamp: i64) -> Result<Option<(Offset, i64)>, ReadError> {
        let _ = timestamp;
        unimplemented!()
    }
}
