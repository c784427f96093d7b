//! The byte layout of a batch, as constants. `FORMAT.md` draws it; `tests/format.rs` compares.

use std::ops::Range;

/// One encoded batch, header included, at most: edge and uplink (rule U5).
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// The fixed header in front of the records.
pub const HEADER_BYTES: usize = 61;
/// Base offset and batch length: what `batch_length` does not count.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// The only record format there is.
pub const MAGIC: u8 = 2;
/// The smallest record: seven fields of one byte each.
pub const RECORD_BYTES_MIN: usize = 7;

pub const BASE_OFFSET: Range<usize> = 0..8;
pub const BATCH_LENGTH: Range<usize> = 8..12;
pub const LEADER_EPOCH: Range<usize> = 12..16;
pub const MAGIC_AT: Range<usize> = 16..17;
pub const CRC: Range<usize> = 17..21;
pub const ATTRIBUTES: Range<usize> = 21..23;
pub const LAST_OFFSET_DELTA: Range<usize> = 23..27;
pub const BASE_TIMESTAMP: Range<usize> = 27..35;
pub const MAX_TIMESTAMP: Range<usize> = 35..43;
pub const PRODUCER_ID: Range<usize> = 43..51;
pub const PRODUCER_EPOCH: Range<usize> = 51..53;
pub const BASE_SEQUENCE: Range<usize> = 53..57;
pub const RECORD_COUNT: Range<usize> = 57..61;

/// The CRC-32C covers everything from here to the end of the batch.
pub const CRC_FROM: usize = ATTRIBUTES.start;

/// Attribute bits 0-2: compression.
pub const ATTRIBUTE_COMPRESSION: u16 = 0b111;
/// Attribute bit 3: the timestamps are the broker's (LogAppendTime).
pub const ATTRIBUTE_LOG_APPEND_TIME: u16 = 1 << 3;
/// Attribute bit 4: part of a transaction.
pub const ATTRIBUTE_TRANSACTIONAL: u16 = 1 << 4;
/// Attribute bit 5: a control batch (transaction markers).
pub const ATTRIBUTE_CONTROL: u16 = 1 << 5;
/// Attribute bit 6: `base_timestamp` is the delete horizon (KIP-534).
pub const ATTRIBUTE_DELETE_HORIZON: u16 = 1 << 6;
