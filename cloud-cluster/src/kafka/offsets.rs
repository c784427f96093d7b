//! ListOffsets and OffsetForLeaderEpoch.

use headwater_batch::{BatchError, BatchView, Decoder, Limits, Offset, TopicPartition};
use headwater_kafka::{EpochAsk, EpochEnd, ErrorCode, Foreign, FoundOffset, OffsetAsk, OffsetAt};

use super::reads::Reader;
use crate::cold::{Found, SegmentName, batches};
use crate::hot::PartitionLog;

/// What the records of one batch may take when decompressed here.
const RECORDS_BYTES_MAX: usize = 64 << 20;

impl Reader {
    pub async fn list_offset(&self, ask: &OffsetAsk) -> Result<Option<FoundOffset>, ErrorCode> {
        let log = self
            .hot
            .partition(&ask.tp)
            .ok_or(ErrorCode::NotLeaderOrFollower)?;
        let marks = log.marks();
        match ask.at {
            OffsetAt::Latest => Ok(Some(self.end(&ask.tp, marks.next, true))),
            OffsetAt::Earliest => Ok(Some(self.end(&ask.tp, marks.start, false))),
            OffsetAt::Time(timestamp) => self.at_time(&ask.tp, &log, timestamp).await,
            OffsetAt::MaxTimestamp => match self.max_timestamp(&ask.tp, &log) {
                Some(timestamp) => self.at_time(&ask.tp, &log, timestamp).await,
                None => Ok(None),
            },
        }
    }

    /// An end of the log, with the leader's epoch or that of the first record.
    fn end(&self, tp: &TopicPartition, offset: Offset, is_latest: bool) -> FoundOffset {
        let shard = self.shards.read(self.shards.of(tp));
        let term = shard.applied().term as i32;
        let leader_epoch = shard.partition(tp).map_or(-1, |partition| match is_latest {
            true => partition.epoch_base + term,
            false => partition
                .epoch_at(offset)
                .unwrap_or(partition.epoch_base + term),
        });
        FoundOffset {
            offset: offset.0,
            timestamp: -1,
            leader_epoch,
        }
    }

    fn max_timestamp(&self, tp: &TopicPartition, log: &PartitionLog) -> Option<i64> {
        let marks = log.marks();
        let hot = log
            .range(marks.start, marks.next)
            .into_iter()
            .map(|(_, b)| b.max_timestamp);
        let shard = self.shards.read(self.shards.of(tp));
        hot.chain(shard.segments(tp).map(|(_, segment)| segment.max_timestamp))
            .max()
    }

    /// The first record at or after `timestamp`: the batch by index, then into that one batch.
    async fn at_time(
        &self,
        tp: &TopicPartition,
        log: &PartitionLog,
        timestamp: i64,
    ) -> Result<Option<FoundOffset>, ErrorCode> {
        let start = log.marks().start;
        let mut searched = start;
        let segments: Vec<_> = {
            let shard = self.shards.read(self.shards.of(tp));
            let all = shard
                .segments(tp)
                .map(|(base, s)| (SegmentName::new(tp, base, s.uuid), s));
            all.map(|(name, segment)| (name, segment.clone())).collect()
        };
        for (name, segment) in segments {
            searched = searched.max(segment.end);
            if segment.max_timestamp < timestamp {
                continue;
            }
            let found = self
                .cold
                .at_time(&name, &segment, timestamp)
                .await
                .map_err(|error| {
                    tracing::warn!(%error, %tp, "a cold segment cannot be searched");
                    ErrorCode::KafkaStorageError
                })?;
            if let Some(found) = found.and_then(|f| record_at(&f, start, timestamp)) {
                return Ok(Some(found));
            }
        }
        for (_, batch) in log.range(searched, Offset::MAX) {
            if batch.max_timestamp < timestamp {
                continue;
            }
            let found = batches(&batch.bytes).next();
            if let Some(found) = found.and_then(|f| record_at(&f, start, timestamp)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    pub fn epoch_end(&self, ask: &EpochAsk) -> Result<Option<EpochEnd>, ErrorCode> {
        let shard = self.shards.read(self.shards.of(&ask.tp));
        let partition = shard
            .partition(&ask.tp)
            .ok_or(ErrorCode::NotLeaderOrFollower)?;
        if ask.leader_epoch < 0 {
            return Ok(None);
        }
        let current = partition.epoch_base + shard.applied().term as i32;
        if ask.leader_epoch == current {
            let end_offset = partition.next.0;
            return Ok(Some(EpochEnd {
                leader_epoch: current,
                end_offset,
            }));
        }
        let (leader_epoch, end) = partition.epoch_end(ask.leader_epoch);
        Ok(Some(EpochEnd {
            leader_epoch,
            end_offset: end.0,
        }))
    }
}

/// Looks into one batch. One that cannot be decoded answers with its first record: too early is a
/// repetition, too late a loss.
fn record_at(found: &Found, start: Offset, timestamp: i64) -> Option<FoundOffset> {
    search(found, start, timestamp).unwrap_or_else(|error| {
        tracing::warn!(%error, base = %found.meta.base, "a batch cannot be searched by time");
        Some(FoundOffset {
            offset: found.meta.base.0.max(start.0),
            timestamp: found.meta.max_timestamp,
            leader_epoch: -1,
        })
    })
}

fn search(found: &Found, start: Offset, timestamp: i64) -> Result<Option<FoundOffset>, BatchError> {
    let limits = Limits {
        batch_bytes_max: found.bytes.len(),
        records_bytes_max: RECORDS_BYTES_MAX,
        records_max: RECORDS_BYTES_MAX / 8,
    };
    let batch = BatchView::parse(&found.bytes, &limits)?;
    let leader_epoch = batch.header().leader_epoch;
    let mut decoder = Decoder::with(Box::new(Foreign));
    for record in batch.records(&mut decoder, &limits)? {
        let record = record?;
        if record.timestamp >= timestamp && record.offset >= start {
            let (offset, timestamp) = (record.offset.0, record.timestamp);
            return Ok(Some(FoundOffset {
                offset,
                timestamp,
                leader_epoch,
            }));
        }
    }
    Ok(None)
}
