//! Resuming inside a batch: the same records, without those below an offset.

use crate::{
    BatchBuilder, BatchError, BatchView, Decoder, Encoder, Level, Limits, Offset, PushError,
    TimestampType,
};

/// The records of `batch` from `from` on, as a batch whose base offset is `from`.
///
/// Offsets (holes included), timestamps, keys, values and headers stay as they are; the range ends
/// where it ended. Producer id, epoch and sequence are dropped, the leader epoch too (-1). If
/// `from` is not above the base offset, the answer is the batch, byte for byte. If only a hole is
/// left, the answer is a batch without records that covers it, as Kafka's compaction leaves them.
///
/// The CRC is not checked here, see [`BatchView::verify_crc`].
///
/// Errors: `SliceRange` if `from` is after the last offset, `SliceTransactional`, and what reading
/// the records can answer.
pub fn slice(
    batch: &BatchView<'_>,
    from: Offset,
    level: Level,
    limits: &Limits,
) -> Result<Vec<u8>, BatchError> {
    Slicer::new(level).slice(batch, from, limits)
}

/// [`slice`](slice()) with buffers that are kept between batches.
#[derive(Debug)]
pub struct Slicer {
    level: Level,
    decoder: Decoder,
    encoder: Encoder,
}

impl Slicer {
    pub fn new(level: Level) -> Slicer {
        Slicer::with(level, Decoder::new())
    }

    /// With a decoder that knows more codecs.
    pub fn with(level: Level, decoder: Decoder) -> Slicer {
        Slicer {
            level,
            decoder,
            encoder: Encoder::new(),
        }
    }

    /// See [`slice`](slice()).
    pub fn slice(
        &mut self,
        batch: &BatchView<'_>,
        from: Offset,
        limits: &Limits,
    ) -> Result<Vec<u8>, BatchError> {
        let header = batch.header();
        if from <= header.base_offset {
            return Ok(batch.bytes().to_vec());
        }
        let last = header.last_offset();
        if from > last {
            return Err(BatchError::SliceRange { from, last });
        }
        if header.attributes.is_transactional() || header.attributes.is_control() {
            return Err(BatchError::SliceTransactional);
        }
        let mut builder = BatchBuilder::with_limits(from, self.level, limits);
        let mut records = batch.records(&mut self.decoder, limits)?;
        builder.take_over(header, from, records.bytes());
        while let Some(parts) = records.next_parts() {
            let parts = parts?;
            if parts.record.offset >= from {
                builder
                    .push_parts(&parts)
                    .map_err(|error| refused(error, limits))?;
            }
        }
        let last_offset_delta =
            i32::try_from(last.0 - from.0).expect("not more than the old delta, which is 31 bits");
        let append_time = match header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => Some(header.max_timestamp),
            TimestampType::CreateTime => None,
        };
        Ok(builder.seal(&mut self.encoder, last_offset_delta, append_time))
    }
}

/// Records that were read keep the builder's rules, but for its bounds: limits may let more be
/// read than one batch may hold uncompressed.
fn refused(error: PushError, limits: &Limits) -> BatchError {
    let size = match error {
        PushError::RecordTooLarge { bytes, .. } => bytes as u64,
        _ => limits.records_bytes_max as u64 + 1,
    };
    BatchError::TooLarge {
        what: "slice",
        size,
        max: limits.records_bytes_max as u64,
    }
}
