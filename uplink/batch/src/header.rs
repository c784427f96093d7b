//! The 61 bytes in front of a batch's records.

use std::ops::Range;

use crate::{
    BatchError, Compression, Limits, Offset,
    layout::{self, HEADER_BYTES, LENGTH_PREFIX_BYTES, MAGIC, RECORD_BYTES_MIN},
};

/// A batch's header, decoded. Every field is what the bytes say; what had to be checked to trust
/// the lengths is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub base_offset: Offset,
    /// The whole batch in bytes, this header included (Kafka's `batchLength` plus 12).
    pub size: usize,
    /// -1 where there is none.
    pub leader_epoch: i32,
    /// CRC-32C from the attributes to the end.
    pub crc: u32,
    pub attributes: Attributes,
    /// Last offset less base offset.
    pub last_offset_delta: i32,
    /// What records' timestamps count from, ms.
    pub base_timestamp: i64,
    /// The latest timestamp, ms; of all records, if they carry the broker's time.
    pub max_timestamp: i64,
    /// -1 where there is none.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: u32,
}

/// Whose clock a batch's timestamps come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The attribute bits of a batch. Unused bits are kept as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub u16);

impl Attributes {
    /// `None` for a codec that Kafka does not define; [`Header::parse`] lets none through.
    pub const fn compression(self) -> Option<Compression> {
        Compression::from_bits(self.0 & layout::ATTRIBUTE_COMPRESSION)
    }

    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Attributes {
        Attributes(self.0 & !layout::ATTRIBUTE_COMPRESSION | compression.bits())
    }

    pub const fn timestamp_type(self) -> TimestampType {
        match self.0 & layout::ATTRIBUTE_LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    pub const fn is_transactional(self) -> bool {
        self.0 & layout::ATTRIBUTE_TRANSACTIONAL != 0
    }

    pub const fn is_control(self) -> bool {
        self.0 & layout::ATTRIBUTE_CONTROL != 0
    }

    pub const fn has_delete_horizon(self) -> bool {
        self.0 & layout::ATTRIBUTE_DELETE_HORIZON != 0
    }
}

impl Header {
    /// Decodes the header at the front of `bytes`; the records need not be there. For scanning a
    /// file: [`size`](Header::size) leads to the next one.
    ///
    /// Errors: `Truncated` under 61 bytes, `Magic`, `TooLarge` over `limits`, `Field` for lengths
    /// and counts that no batch can have. The CRC is not looked at.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Header, BatchError> {
        // The magic comes before the lengths: in an older format they mean something else.
        match bytes.get(layout::MAGIC_AT.start) {
            Some(&magic) if magic != MAGIC => return Err(BatchError::Magic(magic)),
            _ => {}
        }
        let size = Header::peek_size(bytes, limits)?
            .filter(|_| bytes.len() >= HEADER_BYTES)
            .ok_or(BatchError::Truncated {
                need: HEADER_BYTES,
                have: bytes.len(),
            })?;
        let header = Header::decode(bytes, size);
        header.check(limits)?;
        Ok(header)
    }

    /// The size of the batch that starts with `bytes`, from its first 12; `None` if they are fewer.
    pub fn peek_size(bytes: &[u8], limits: &Limits) -> Result<Option<usize>, BatchError> {
        if bytes.len() < LENGTH_PREFIX_BYTES {
            return Ok(None);
        }
        let length = i32::from_be_bytes(field(bytes, layout::BATCH_LENGTH));
        let size = i64::from(length) + LENGTH_PREFIX_BYTES as i64;
        if size < HEADER_BYTES as i64 {
            return Err(BatchError::Field {
                field: "batch length",
                value: length.into(),
            });
        }
        if size > limits.batch_bytes_max as i64 {
            return Err(BatchError::TooLarge {
                what: "batch",
                size: size as u64,
                max: limits.batch_bytes_max as u64,
            });
        }
        Ok(Some(size as usize))
    }

    /// The codec of the records.
    pub fn compression(&self) -> Compression {
        self.attributes.compression().unwrap_or(Compression::None)
    }

    /// The offset of the last record, or of what was the last one before compaction.
    pub fn last_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .0
                .saturating_add(self.last_offset_delta.into()),
        )
    }

    /// The offset after this batch: where the next one starts.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    fn decode(bytes: &[u8], size: usize) -> Header {
        Header {
            base_offset: Offset(i64::from_be_bytes(field(bytes, layout::BASE_OFFSET))),
            size,
            leader_epoch: i32::from_be_bytes(field(bytes, layout::LEADER_EPOCH)),
            crc: u32::from_be_bytes(field(bytes, layout::CRC)),
            attributes: Attributes(u16::from_be_bytes(field(bytes, layout::ATTRIBUTES))),
            last_offset_delta: i32::from_be_bytes(field(bytes, layout::LAST_OFFSET_DELTA)),
            base_timestamp: i64::from_be_bytes(field(bytes, layout::BASE_TIMESTAMP)),
            max_timestamp: i64::from_be_bytes(field(bytes, layout::MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(field(bytes, layout::PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(field(bytes, layout::PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(field(bytes, layout::BASE_SEQUENCE)),
            record_count: u32::from_be_bytes(field(bytes, layout::RECORD_COUNT)),
        }
    }

    fn check(&self, limits: &Limits) -> Result<(), BatchError> {
        let wrong = |field, value| Err(BatchError::Field { field, value });
        if self.attributes.compression().is_none() {
            return wrong(
                "compression",
                (self.attributes.0 & layout::ATTRIBUTE_COMPRESSION).into(),
            );
        }
        if self.base_offset.0 < 0 {
            return wrong("base offset", self.base_offset.0);
        }
        if self.last_offset_delta < 0 {
            return wrong("last offset delta", self.last_offset_delta.into());
        }
        // One below the end of the range: the offset after this batch exists too.
        if self.base_offset.0 >= i64::MAX - i64::from(self.last_offset_delta) {
            return wrong("base offset", self.base_offset.0);
        }
        let count = self.record_count as usize;
        if self.record_count > i32::MAX as u32
            || i64::from(self.record_count) > i64::from(self.last_offset_delta) + 1
        {
            return wrong("record count", self.record_count.into());
        }
        if count > limits.records_max {
            return Err(BatchError::TooLarge {
                what: "record count",
                size: count as u64,
                max: limits.records_max as u64,
            });
        }
        let stored = self.size - HEADER_BYTES;
        if self.compression() == Compression::None && count > stored / RECORD_BYTES_MIN {
            return wrong("record count", self.record_count.into());
        }
        Ok(())
    }

    /// Writes the header over the first 61 bytes of `batch`, and the CRC of the rest into it.
    /// `size` and `crc` are taken from `batch`, not from `self`.
    pub(crate) fn write(&self, batch: &mut [u8]) {
        debug_assert!(batch.len() >= HEADER_BYTES);
        let length = (batch.len() - LENGTH_PREFIX_BYTES) as i32;
        put(
            batch,
            layout::BASE_OFFSET,
            &self.base_offset.0.to_be_bytes(),
        );
        put(batch, layout::BATCH_LENGTH, &length.to_be_bytes());
        put(
            batch,
            layout::LEADER_EPOCH,
            &self.leader_epoch.to_be_bytes(),
        );
        put(batch, layout::MAGIC_AT, &[MAGIC]);
        put(batch, layout::ATTRIBUTES, &self.attributes.0.to_be_bytes());
        put(
            batch,
            layout::LAST_OFFSET_DELTA,
            &self.last_offset_delta.to_be_bytes(),
        );
        put(
            batch,
            layout::BASE_TIMESTAMP,
            &self.base_timestamp.to_be_bytes(),
        );
        put(
            batch,
            layout::MAX_TIMESTAMP,
            &self.max_timestamp.to_be_bytes(),
        );
        put(batch, layout::PRODUCER_ID, &self.producer_id.to_be_bytes());
        put(
            batch,
            layout::PRODUCER_EPOCH,
            &self.producer_epoch.to_be_bytes(),
        );
        put(
            batch,
            layout::BASE_SEQUENCE,
            &self.base_sequence.to_be_bytes(),
        );
        put(
            batch,
            layout::RECORD_COUNT,
            &self.record_count.to_be_bytes(),
        );
        write_crc(batch);
    }
}

/// The CRC-32C that belongs into a batch's header.
pub(crate) fn crc_of(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[layout::CRC_FROM..])
}

pub(crate) fn write_crc(batch: &mut [u8]) {
    let crc = crc_of(batch);
    put(batch, layout::CRC, &crc.to_be_bytes());
}

pub(crate) fn put(batch: &mut [u8], at: Range<usize>, value: &[u8]) {
    batch[at].copy_from_slice(value);
}

fn field<const N: usize>(bytes: &[u8], at: Range<usize>) -> [u8; N] {
    bytes[at]
        .try_into()
        .expect("the caller has checked the length, the layout has the width")
}
