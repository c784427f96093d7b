//! What a produced batch must be (Kafka's LogValidator, for magic 2).

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use headwater_batch::layout::{CRC, CRC_FROM, MAX_TIMESTAMP};
use headwater_batch::{
    BatchError, BatchView, Compression, Decoder, Limits, RecordsSummary, TimestampType,
    TopicPartition,
};

use super::{Append, BatchInfo, no_transactions};
use crate::api::config;
use crate::codec::Foreign;
use crate::node::{Settings, Topic};
use crate::{ErrorCode, KafkaError};

/// The first version that may carry zstd (KIP-110).
const ZSTD_FROM: i16 = 7;
/// The smallest record: seven fields of a byte each.
const RECORD_BYTES_MIN: usize = 7;
/// A decoder with a larger buffer is not kept for the next batch.
const KEPT_BUFFER_BYTES_MAX: usize = 1 << 20;

thread_local! {
    /// A cache and nothing else: zstd's context, and a buffer that has grown to what batches take.
    /// Without the latter a frame that tells no size, as Java's do not, is decompressed more than once.
    static DECODER: RefCell<Option<Decoder>> = const { RefCell::new(None) };
}

/// Checks the one batch of a partition and says what to append.
pub(super) fn batch(
    settings: &Settings,
    topic: &Topic,
    tp: TopicPartition,
    records: Bytes,
    version: i16,
) -> Result<Append, KafkaError> {
    let limits = limits(settings, topic);
    let view = BatchView::parse(&records, &limits).map_err(refused)?;
    view.verify_crc().map_err(refused)?;
    check_header(&view, version)?;
    let summary = with_decoder(|decoder| view.check_records(decoder, &limits)).map_err(refused)?;
    check_summary(topic, &view, &summary)?;

    let max_timestamp = summary.max_timestamp.unwrap_or(-1);
    let info = BatchInfo {
        producer_id: view.producer_id(),
        producer_epoch: view.producer_epoch(),
        base_sequence: view.base_sequence(),
        records: view.record_count(),
        base_timestamp: view.base_timestamp(),
        max_timestamp,
        codec: view.compression().bits() as u8,
    };
    let stated = view.max_timestamp();
    let batch = if stated == max_timestamp {
        records
    } else {
        repair(&records, max_timestamp)
    };
    let log_append_time = config::log_append_time(&topic.configs);
    Ok(Append {
        tp,
        batch,
        info,
        log_append_time,
    })
}

fn with_decoder<T>(check: impl FnOnce(&mut Decoder) -> T) -> T {
    DECODER.with_borrow_mut(|kept| {
        let decoder = kept.get_or_insert_with(|| Decoder::with(Box::new(Foreign)));
        let checked = check(decoder);
        if decoder.buffer_bytes() > KEPT_BUFFER_BYTES_MAX {
            *kept = None;
        }
        checked
    })
}

fn limits(settings: &Settings, topic: &Topic) -> Limits {
    let records_bytes_max = settings.records_bytes_max as usize;
    Limits {
        batch_bytes_max: config::batch_bytes_max(&topic.configs, settings.batch_bytes_max),
        records_bytes_max,
        records_max: records_bytes_max / RECORD_BYTES_MIN,
    }
}

fn check_header(view: &BatchView<'_>, version: i16) -> Result<(), KafkaError> {
    let attributes = view.attributes();
    if attributes.is_transactional() {
        return Err(no_transactions());
    }
    if attributes.is_control() {
        return Err(invalid("clients may not write control batches"));
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        let words = "clients may not set the append time";
        return Err(KafkaError::new(ErrorCode::InvalidTimestamp, words));
    }
    if view.compression() == Compression::Zstd && version < ZSTD_FROM {
        let words = "zstd needs Produce version 7 or later";
        return Err(KafkaError::new(
            ErrorCode::UnsupportedCompressionType,
            words,
        ));
    }
    if view.producer_id() >= 0 && (view.producer_epoch() < 0 || view.base_sequence() < 0) {
        return Err(invalid("an idempotent batch needs an epoch and a sequence"));
    }
    Ok(())
}

fn check_summary(
    topic: &Topic,
    view: &BatchView<'_>,
    summary: &RecordsSummary,
) -> Result<(), KafkaError> {
    if summary.count == 0 {
        return Err(invalid("a batch without records"));
    }
    let first_delta = summary
        .offsets
        .map(|(first, _)| first.0 - view.base_offset().0);
    if !summary.contiguous || first_delta != Some(0) {
        return Err(invalid("offset deltas must be 0, 1, 2 and so on"));
    }
    if summary.null_key && config::is_compacted(&topic.configs) {
        return Err(invalid("a compacted topic needs a key in every record"));
    }
    Ok(())
}

/// Some producers leave the header's largest timestamp at the first record's or at 0. Time
/// lookups trust it, so it is set right, as Kafka does on append.
fn repair(records: &[u8], max_timestamp: i64) -> Bytes {
    let mut bytes = BytesMut::from(records);
    bytes[MAX_TIMESTAMP].copy_from_slice(&max_timestamp.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[CRC].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

fn invalid(words: &str) -> KafkaError {
    KafkaError::new(ErrorCode::InvalidRecord, words)
}

/// CORRUPT_MESSAGE has the client send again, so it is for bytes that changed on the way; what
/// was built wrong stays wrong and is INVALID_RECORD. MESSAGE_TOO_LARGE has it split the batch.
fn refused(error: BatchError) -> KafkaError {
    let code = match &error {
        BatchError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        BatchError::Magic(_) | BatchError::Trailing { .. } | BatchError::Record { .. } => {
            ErrorCode::InvalidRecord
        }
        BatchError::Codec(_) => ErrorCode::UnsupportedCompressionType,
        _ => ErrorCode::CorruptMessage,
    };
    KafkaError::new(code, error.to_string())
}
