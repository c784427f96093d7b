//! Builds batches: records stream into one buffer, which is compressed once at the end.

use crate::{
    Compression, Encoder, Level, Limits, NewRecord, Offset, Record,
    header::{Attributes, Header},
    layout::{HEADER_BYTES, RECORD_BYTES_MIN},
    records::Parts,
    varint,
};

/// A timestamp that is not there, as Kafka writes it.
const NO_TIMESTAMP: i64 = -1;

/// Builds one batch after another, reusing its buffer.
///
/// [`push`](BatchBuilder::push) records, [`finish`](BatchBuilder::finish) the batch, go on: the
/// next batch starts at the offset after the last one. A batch that does not get smaller by
/// compression is stored uncompressed.
///
/// Invariant: what was pushed fits its limits even uncompressed, so `finish` cannot fail.
#[derive(Debug)]
pub struct BatchBuilder {
    limits: Limits,
    level: Level,
    encoder: Option<Encoder>,
    /// The header's place, then the records.
    buffer: Vec<u8>,
    base_offset: Offset,
    base_timestamp: i64,
    max_timestamp: i64,
    count: u32,
    /// -1 before the first record.
    last_offset_delta: i32,
    attributes: Attributes,
    /// Encoded by uncompressed size of the last batches: what the estimate goes by.
    ratio: f32,
}

/// Why a record was not taken. The builder is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// Finish this batch, then push again: alone the record fits.
    #[error("the batch is full")]
    Full,
    /// Never fits, not even alone.
    #[error("a record of {bytes} bytes, at most {max} allowed")]
    RecordTooLarge { bytes: usize, max: usize },
    /// Offsets must rise, and stay below the end of the range. In an empty batch: or too far from
    /// its base offset, which [`reset`](BatchBuilder::reset) moves.
    #[error("offset {offset} is not usable at or after {expected}")]
    Offset { offset: Offset, expected: Offset },
    /// Kafka refuses timestamps below -1.
    #[error("timestamp {0} is negative")]
    Timestamp(i64),
}

/// The first fields of a record, and the sizes that follow from them.
struct Prefix {
    attributes: u8,
    timestamp_delta: i64,
    offset_delta: i32,
    /// What the record's length field says.
    length: usize,
}

impl BatchBuilder {
    /// A builder for batches that start at `base_offset`, within [`Limits::UPLINK`].
    pub fn new(base_offset: Offset, level: Level) -> BatchBuilder {
        BatchBuilder::with_limits(base_offset, level, &Limits::UPLINK)
    }

    /// As [`BatchBuilder::new`] with other bounds. Records are held to what fits uncompressed too.
    pub fn with_limits(base_offset: Offset, level: Level, limits: &Limits) -> BatchBuilder {
        // Lengths are 31 bits in the format.
        let room = limits
            .batch_bytes_max
            .min(i32::MAX as usize)
            .saturating_sub(HEADER_BYTES);
        let limits = Limits {
            records_bytes_max: limits.records_bytes_max.min(room),
            records_max: limits.records_max.min(i32::MAX as usize),
            ..*limits
        };
        let mut builder = BatchBuilder {
            limits,
            level,
            encoder: None,
            buffer: Vec::new(),
            base_offset,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            count: 0,
            last_offset_delta: -1,
            attributes: Attributes::default(),
            ratio: 1.0,
        };
        builder.reset(base_offset);
        builder
    }

    /// Appends `record` at the next offset.
    pub fn push(&mut self, record: &NewRecord) -> Result<Offset, PushError> {
        let offset = self.next_offset();
        self.push_at(&record.at(offset))?;
        Ok(offset)
    }

    /// Appends `record` at its own offset, which may leave a hole before it.
    pub fn push_at(&mut self, record: &Record<'_>) -> Result<(), PushError> {
        if record.timestamp < NO_TIMESTAMP {
            return Err(PushError::Timestamp(record.timestamp));
        }
        let first = self.count == 0;
        let base_timestamp = if first {
            record.timestamp
        } else {
            self.base_timestamp
        };
        let delta = record
            .timestamp
            .checked_sub(base_timestamp)
            .ok_or(PushError::Full)?;
        let prefix = self.admit(record.offset, 0, delta, record.body_bytes())?;
        self.base_timestamp = base_timestamp;
        self.put_prefix(&prefix, record.timestamp);
        record.put_body(&mut self.buffer);
        Ok(())
    }

    /// The batch, and the builder ready for the next one. No records, no bytes.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut encoder = self.encoder.take().unwrap_or_default();
        let batch = self.finish_with(&mut encoder);
        self.encoder = Some(encoder);
        batch
    }

    /// As [`finish`](BatchBuilder::finish), with an [`Encoder`] that other builders use too.
    pub fn finish_with(&mut self, encoder: &mut Encoder) -> Vec<u8> {
        if self.is_empty() {
            return Vec::new();
        }
        self.seal(encoder, self.last_offset_delta, None)
    }

    /// Drops what was pushed. The next batch starts at `base_offset`.
    pub fn reset(&mut self, base_offset: Offset) {
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        self.base_offset = base_offset;
        self.base_timestamp = NO_TIMESTAMP;
        self.max_timestamp = NO_TIMESTAMP;
        self.count = 0;
        self.last_offset_delta = -1;
        self.attributes = Attributes::default();
    }

    pub const fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// Where [`push`](BatchBuilder::push) puts the next record.
    pub fn next_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .0
                .saturating_add(i64::from(self.last_offset_delta) + 1),
        )
    }

    pub const fn record_count(&self) -> u32 {
        self.count
    }

    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The batch's size if it were stored uncompressed, header included: an upper bound.
    pub fn uncompressed_size(&self) -> usize {
        self.buffer.len()
    }

    /// The batch's size as it will probably be, going by how well the last ones compressed.
    /// Before the first one it is the upper bound.
    pub fn estimated_size(&self) -> usize {
        let records = self.buffer.len() - HEADER_BYTES;
        HEADER_BYTES + (records as f32 * self.ratio) as usize
    }

    /// The latest timestamp pushed, `None` before the first.
    pub fn max_timestamp(&self) -> Option<i64> {
        (!self.is_empty()).then_some(self.max_timestamp)
    }

    /// Starts a batch that takes records over from `header`'s batch with their timestamp deltas:
    /// counted from the same base they take no byte more than before, so `bytes` is their bound.
    pub(crate) fn take_over(&mut self, header: &Header, base_offset: Offset, bytes: usize) {
        self.reset(base_offset);
        self.buffer.reserve_exact(bytes);
        self.base_timestamp = header.base_timestamp;
        self.attributes = header.attributes;
    }

    /// Appends a record of the batch given to `take_over`, bit for bit.
    pub(crate) fn push_parts(&mut self, parts: &Parts<'_>) -> Result<(), PushError> {
        let Parts {
            record,
            attributes,
            timestamp_delta,
            body,
        } = parts;
        let prefix = self.admit(record.offset, *attributes, *timestamp_delta, body.len())?;
        self.put_prefix(&prefix, record.timestamp);
        self.buffer.extend_from_slice(body);
        Ok(())
    }

    /// Writes the batch out. With records missing at its end, or all of them, `last_offset_delta`
    /// still says where it ends.
    pub(crate) fn seal(
        &mut self,
        encoder: &mut Encoder,
        last_offset_delta: i32,
        max_timestamp: Option<i64>,
    ) -> Vec<u8> {
        let records = &self.buffer[HEADER_BYTES..];
        let compressed = encoder.encode(self.level, records);
        let compression = match compressed {
            Some(_) => Compression::Zstd,
            None => Compression::None,
        };
        let stored = compressed.unwrap_or(records);
        let mut batch = Vec::with_capacity(HEADER_BYTES + stored.len());
        batch.resize(HEADER_BYTES, 0);
        batch.extend_from_slice(stored);
        self.learn(stored.len());
        let header = Header {
            base_offset: self.base_offset,
            size: batch.len(),
            leader_epoch: -1,
            crc: 0,
            attributes: self.attributes.with_compression(compression),
            last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: max_timestamp.unwrap_or(self.max_timestamp),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: self.count,
        };
        header.write(&mut batch);
        self.reset(header.next_offset());
        batch
    }

    /// Checks a record against every bound, before anything is written.
    fn admit(
        &self,
        offset: Offset,
        attributes: u8,
        timestamp_delta: i64,
        body: usize,
    ) -> Result<Prefix, PushError> {
        let expected = self.next_offset();
        // The offset after the batch must exist as well.
        if offset < expected || offset >= Offset(i64::MAX - 1) || offset.0 < 0 {
            return Err(PushError::Offset { offset, expected });
        }
        let offset_delta = match i32::try_from(offset.0 - self.base_offset.0) {
            Ok(delta) => delta,
            // Too far from the base offset; another batch could start nearer.
            Err(_) if self.is_empty() => return Err(PushError::Offset { offset, expected }),
            Err(_) => return Err(PushError::Full),
        };
        let length = (1 + varint::size(timestamp_delta) + varint::size(offset_delta.into()))
            .saturating_add(body);
        let bytes = length.saturating_add(varint::size(length as i64));
        let max = self.limits.records_bytes_max;
        let used = self.buffer.len() - HEADER_BYTES;
        if bytes > max - used || self.count as usize >= self.limits.records_max {
            return Err(match self.is_empty() {
                true => PushError::RecordTooLarge { bytes, max },
                false => PushError::Full,
            });
        }
        Ok(Prefix {
            attributes,
            timestamp_delta,
            offset_delta,
            length,
        })
    }

    fn put_prefix(&mut self, prefix: &Prefix, timestamp: i64) {
        debug_assert!(prefix.length + 1 >= RECORD_BYTES_MIN);
        varint::put(&mut self.buffer, prefix.length as i64);
        self.buffer.push(prefix.attributes);
        varint::put(&mut self.buffer, prefix.timestamp_delta);
        varint::put(&mut self.buffer, prefix.offset_delta.into());
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = prefix.offset_delta;
        self.count += 1;
    }

    fn learn(&mut self, stored: usize) {
        let records = self.buffer.len() - HEADER_BYTES;
        if records > 0 {
            let ratio = stored as f32 / records as f32;
            // Half of the newest, half of the past: follows a change within a few batches.
            self.ratio = if self.ratio >= 1.0 {
                ratio
            } else {
                (self.ratio + ratio) / 2.0
            };
        }
    }
}
