//! Records of a partition, decoded, for people (`topic tail`).

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State as Extract};
use axum::http::StatusCode;
use bytes::Bytes;
use headwater_batch::{BatchView, Decoder, Limits, Offset, Record, TopicName, TopicPartition};
use headwater_kafka::Foreign;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{Failure, State};
use crate::cold::batches;

/// The most records of one answer.
const RECORDS_MAX: usize = 10_000;
/// The most bytes that are read for one answer.
const READ_BYTES: usize = 1 << 20;
/// The longest that an answer waits for records.
const WAIT_MS_MAX: u64 = 30_000;
/// What the records of one batch may take when decompressed.
const RECORDS_BYTES_MAX: usize = 64 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// An offset; negative: so many records before the end.
    #[serde(default)]
    from: i64,
    max: Option<usize>,
    #[serde(default)]
    wait_ms: u64,
}

pub(super) async fn records(
    Extract(state): Extract<State>,
    Path((name, partition)): Path<(String, u32)>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Value>, Failure> {
    let name = TopicName::new(&name).map_err(Failure::bad)?;
    let tp = TopicPartition::new(name, partition);
    let reader = &state.inner.service.reader;
    let unknown = || Failure::new(StatusCode::NOT_FOUND, format!("there is no partition {tp}"));
    let log = reader.hot.partition(&tp).ok_or_else(unknown)?;
    let marks = log.marks();
    let from = match wanted.from {
        from if from < 0 => marks.next.0.saturating_add(from),
        from => from,
    };
    let from = Offset(from.max(marks.start.0));
    wait(
        &log,
        from,
        Duration::from_millis(wanted.wait_ms.min(WAIT_MS_MAX)),
    )
    .await;
    let read = reader.read(&tp, &log, from, READ_BYTES, true).await;
    let chunks = read.map_err(|e| Failure::new(StatusCode::SERVICE_UNAVAILABLE, e))?;
    let max = wanted.max.unwrap_or(100).min(RECORDS_MAX);
    let mut records = Vec::new();
    let mut next = from;
    for chunk in &chunks {
        for found in batches(chunk) {
            next = decode(&found.bytes, next, max, &mut records)
                .map_err(|e| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, e))?;
        }
    }
    let marks = log.marks();
    Ok(Json(json!({
        "start": marks.start.0, "next": marks.next.0, "resume_at": next.0, "records": records,
    })))
}

async fn wait(log: &crate::hot::PartitionLog, from: Offset, at_most: Duration) {
    let waiter = std::sync::Arc::new(Notify::new());
    log.watch(&waiter);
    if log.marks().next <= from && !at_most.is_zero() {
        let _ = tokio::time::timeout(at_most, waiter.notified()).await;
    }
}

/// Adds the batch's records from `from` on; where to go on.
fn decode(
    batch: &Bytes,
    from: Offset,
    max: usize,
    records: &mut Vec<Value>,
) -> Result<Offset, headwater_batch::BatchError> {
    let limits = Limits {
        batch_bytes_max: batch.len(),
        records_bytes_max: RECORDS_BYTES_MAX,
        records_max: RECORDS_BYTES_MAX / 8,
    };
    let view = BatchView::parse(batch, &limits)?;
    let mut decoder = Decoder::with(Box::new(Foreign));
    let mut next = from;
    for record in view.records(&mut decoder, &limits)? {
        let record = record?;
        if record.offset < from {
            continue;
        }
        if records.len() >= max {
            return Ok(next);
        }
        next = record.offset.next();
        records.push(as_json(&record));
    }
    Ok(next)
}

fn as_json(record: &Record<'_>) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|h| json!({ "key": text(h.key), "value": h.value.map(text) }))
        .collect();
    json!({
        "offset": record.offset.0,
        "timestamp": record.timestamp,
        "key": record.key.map(text),
        "value": record.value.map(text),
        "headers": headers,
    })
}
