//! The few header fields that a segment needs of each batch.

use headwater_batch::{Header, Offset};

/// What a batch spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMeta {
    pub base: Offset,
    pub last: Offset,
    pub max_timestamp: i64,
    /// Encoded, header included.
    pub bytes: usize,
}

impl BatchMeta {
    /// The offset after this batch.
    pub fn end(&self) -> Offset {
        self.last.next()
    }
}

impl From<&Header> for BatchMeta {
    fn from(header: &Header) -> BatchMeta {
        BatchMeta {
            base: header.base_offset,
            last: header.last_offset(),
            max_timestamp: header.max_timestamp,
            bytes: header.size,
        }
    }
}
