//! What a log may still write into a batch that was built elsewhere.

use crate::{
    BatchError, Limits, Offset,
    header::{Header, put, write_crc},
    layout::{
        ATTRIBUTE_LOG_APPEND_TIME, ATTRIBUTES, BASE_OFFSET, BATCH_BYTES_MAX, HEADER_BYTES,
        LEADER_EPOCH, MAX_TIMESTAMP,
    },
};

/// Writes base offset and leader epoch over those in `batch`. Both lie outside the CRC, so the
/// batch stays as valid as it was, and all its records move along.
///
/// Errors: `Truncated` under 61 bytes, `Field` for a negative offset. Nothing is written then.
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: i32) -> Result<(), BatchError> {
    if batch.len() < HEADER_BYTES {
        return Err(BatchError::Truncated {
            need: HEADER_BYTES,
            have: batch.len(),
        });
    }
    if base_offset.0 < 0 {
        return Err(BatchError::Field {
            field: "base offset",
            value: base_offset.0,
        });
    }
    put(batch, BASE_OFFSET, &base_offset.0.to_be_bytes());
    put(batch, LEADER_EPOCH, &leader_epoch.to_be_bytes());
    Ok(())
}

/// Makes `timestamp` the time of every record in `batch` (`message.timestamp.type=LogAppendTime`)
/// and writes the CRC anew. Nothing is decompressed.
///
/// `batch` is exactly one batch of any size; anything else is an error and stays untouched.
pub fn set_log_append_time(batch: &mut [u8], timestamp: i64) -> Result<(), BatchError> {
    let any_size = Limits::new(batch.len().max(BATCH_BYTES_MAX));
    let header = Header::parse(batch, &any_size)?;
    match batch.len().checked_sub(header.size) {
        Some(0) => {}
        Some(extra) => return Err(BatchError::Trailing { extra }),
        None => {
            return Err(BatchError::Truncated {
                need: header.size,
                have: batch.len(),
            });
        }
    }
    let attributes = header.attributes.0 | ATTRIBUTE_LOG_APPEND_TIME;
    put(batch, ATTRIBUTES, &attributes.to_be_bytes());
    put(batch, MAX_TIMESTAMP, &timestamp.to_be_bytes());
    write_crc(batch);
    Ok(())
}
