//! The few header fields that a segment needs of each batch.

use headwater_batch::{HEADER_BYTES, LENGTH_PREFIX_BYTES, Offset, layout};

/// Where a batch lies and what it spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMeta {
    pub base: Offset,
    pub last: Offset,
    pub max_timestamp: i64,
    /// Encoded, header included.
    pub bytes: usize,
}

impl BatchMeta {
    /// Reads the header in front of `bytes`, which may end early or go on behind the batch.
    ///
    /// `None` if it is too short for a header, not of format 2, or its fields contradict each
    /// other. Nothing behind the header is looked at: only the CRC tells whether this is true.
    pub fn peek(bytes: &[u8]) -> Option<BatchMeta> {
        let header = bytes.get(..HEADER_BYTES)?;
        if header[layout::MAGIC_AT.start] != layout::MAGIC {
            return None;
        }
        let base = i64_at(header, layout::BASE_OFFSET.start);
        let length = i32_at(header, layout::BATCH_LENGTH.start);
        let delta = i32_at(header, layout::LAST_OFFSET_DELTA.start);
        let bytes = usize::try_from(length)
            .ok()?
            .checked_add(LENGTH_PREFIX_BYTES)?;
        if base < 0 || delta < 0 || bytes < HEADER_BYTES {
            return None;
        }
        let last = base
            .checked_add(i64::from(delta))
            .filter(|last| *last < i64::MAX)?;
        Some(BatchMeta {
            base: Offset(base),
            last: Offset(last),
            max_timestamp: i64_at(header, layout::MAX_TIMESTAMP.start),
            bytes,
        })
    }

    /// The offset after this batch.
    pub fn end(&self) -> Offset {
        self.last.next()
    }
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
