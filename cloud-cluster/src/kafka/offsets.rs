//! ListOffsets and OffsetForLeaderEpoch.

use headwater_batch::{BatchError, BatchView, Decoder, Limits, Offset, TopicPartition};
use headwater_kafka::{EpochAsk, EpochEnd, ErrorCode, Foreign, FoundOffset, OffsetAsk, OffsetAt};
use headwater_shard::Segment;

use super::reads::Reader;
use crate::cold::{Found, SegmentName, batches};
use crate::hot::{HotBatch, PartitionLog};

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
        let held = self.held(tp, log);
        self.search(tp, held, timestamp).await
    }

    /// What is held now. The hot end first: what turns cold between the two looks is in both, where
    /// the other way round it would be in neither, and the search would pass it over.
    fn held(&self, tp: &TopicPartition, log: &PartitionLog) -> Held {
        let start = log.marks().start;
        let hot = log.range(start, Offset::MAX);
        let shard = self.shards.read(self.shards.of(tp));
        let segments = shard
            .segments(tp)
            .map(|(base, s)| (SegmentName::new(tp, base, s.uuid), s.clone()))
            .collect();
        Held {
            start,
            segments,
            hot,
        }
    }

    async fn search(
        &self,
        tp: &TopicPartition,
        held: Held,
        timestamp: i64,
    ) -> Result<Option<FoundOffset>, ErrorCode> {
        let Held {
            start,
            segments,
            hot,
        } = held;
        let mut searched = start;
        for (name, segment) in segments {
            searched = searched.max(segment.end);
            if segment.max_timestamp < timestamp {
                continue;
            }
            let found = match self.cold.at_time(&name, &segment, timestamp).await {
                Ok(found) => found,
                Err(error) if error.is_rot() => {
                    tracing::error!(%error, %tp, "a cold segment is damaged");
                    let good = self.around(tp, &name, segment.end).await?;
                    let reaches = |f: &Found| f.meta.max_timestamp >= timestamp;
                    good.into_iter().find(reaches)
                }
                // Said by the store itself, once; the client asks again.
                Err(_) => return Err(ErrorCode::KafkaStorageError),
            };
            if let Some(found) = found.and_then(|f| record_at(&f, start, timestamp)) {
                return Ok(Some(found));
            }
        }
        for (_, batch) in hot {
            if batch.end <= searched || batch.max_timestamp < timestamp {
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

/// One partition as it was at a moment: its segments, and the batches that were hot. Some may be in
/// both.
struct Held {
    start: Offset,
    segments: Vec<(SegmentName, Segment)>,
    hot: Vec<(Offset, HotBatch)>,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use headwater_batch::{BatchBuilder, Level, NewRecord};
    use headwater_kafka::FetchPartition;
    use headwater_log::segment::SegmentBuilder;
    use headwater_shard::{At, Entry, Shard};

    use super::*;
    use crate::clock::Clock;
    use crate::cold::ColdStore;
    use crate::hot::Hot;
    use crate::shardlog::{ProposeError, Proposed, ShardId, ShardLog};
    use crate::shards::Shards;

    const TIME: i64 = 1_000;

    /// Nothing is found damaged here, so nothing is proposed.
    #[derive(Debug)]
    struct NoLog;

    impl ShardLog for NoLog {
        fn propose(&self, _: ShardId, _: Entry, _: Bytes) -> Proposed<'_> {
            Box::pin(async { Err(ProposeError::Stopped) })
        }
    }

    /// A reader of one partition with one hot batch per timestamp, one record each.
    fn reader(tp: &TopicPartition, times: &[i64]) -> Reader {
        let cold = ColdStore::of(Arc::new(object_store::memory::InMemory::new()));
        let reader = Reader {
            shards: Arc::new(Shards::new(vec![Shard::new(); 2])),
            hot: Arc::new(Hot::default()),
            cold: Arc::new(cold),
            budget: Default::default(),
            log: Arc::new(NoLog),
            clock: Clock::system(),
        };
        let open = Entry::OpenPartition {
            tp: tp.clone(),
            topic_id: 1,
            epoch_base: 0,
        };
        apply(&reader, tp, &open, &Bytes::new());
        reader.hot.open(tp, 1, Offset(0), Offset(0));
        let log = reader.hot.partition(tp).unwrap();
        for (base, time) in (0..).zip(times) {
            let mut batch = BatchBuilder::new(Offset(base), Level::None);
            batch.push(&NewRecord::new(*time, "k", "v")).unwrap();
            let bytes = Bytes::from(batch.finish().to_vec());
            let produce = Entry::Produce {
                tp: tp.clone(),
                topic_id: 1,
                at_ms: 0,
            };
            apply(&reader, tp, &produce, &bytes);
            let batch = HotBatch {
                end: Offset(base + 1),
                epoch: 1,
                at_ms: 0,
                max_timestamp: *time,
                position: 0,
                bytes,
            };
            log.append(Offset(base), batch);
        }
        reader
    }

    fn apply(reader: &Reader, tp: &TopicPartition, entry: &Entry, batch: &Bytes) {
        let mut shard = reader.shards.write(reader.shards.of(tp));
        let index = shard.applied().index + 1;
        shard.apply(At { index, term: 1 }, entry, batch);
    }

    /// As the sealer does it.
    async fn seal(reader: &Reader, tp: &TopicPartition, end: i64) {
        let log = reader.hot.partition(tp).unwrap();
        let run = log.range(Offset(0), Offset(end));
        let base = run[0].0;
        let mut builder = SegmentBuilder::new(base);
        for (_, batch) in &run {
            let appended = builder.append(&batch.bytes, &crate::batches::ANY_SIZE);
            appended.unwrap();
        }
        let bytes = builder.finish();
        let segment = Segment {
            end: Offset(end),
            uuid: 5,
            log_bytes: bytes.log.len() as u64,
            index_bytes: bytes.index.len() as u64,
            time_index_bytes: bytes.timeindex.len() as u64,
            max_timestamp: run.iter().map(|(_, b)| b.max_timestamp).max().unwrap(),
            appended_ms: 0,
        };
        let name = SegmentName::new(tp, base, segment.uuid);
        reader.cold.put(&name, bytes).await.unwrap();
        let entry = Entry::AddSegment {
            tp: tp.clone(),
            topic_id: 1,
            base,
            segment,
        };
        apply(reader, tp, &entry, &Bytes::new());
        log.drop_below(Offset(end));
    }

    /// Deleted and made again while a Fetch waits: neither the new topic's records nor its ends are
    /// what was asked for. OFFSET_OUT_OF_RANGE would have the consumer reset.
    #[tokio::test]
    async fn a_fetch_is_not_answered_from_a_later_topic_of_the_same_name() {
        let tp: TopicPartition = "t-0".parse().unwrap();
        let reader = reader(&tp, &[TIME]);
        let wanted = |offset| FetchPartition {
            tp: tp.clone(),
            topic_id: uuid::Uuid::from_u128(1),
            offset,
            max_bytes: 1_000,
        };
        let before = reader.partition(&wanted(1), 1_000, true).await;
        assert_eq!((before.error, before.high_watermark), (None, 1));
        reader.hot.open(&tp, 2, Offset(0), Offset(0));
        for offset in [0, 1] {
            let after = reader.partition(&wanted(offset), 1_000, true).await;
            assert_eq!(after.error, Some(ErrorCode::NotLeaderOrFollower));
        }
    }

    /// A record that turns cold during a search by time must not be passed over: a consumer that
    /// seeks by time would never see it.
    #[tokio::test]
    async fn what_turns_cold_during_a_search_is_found() {
        let tp: TopicPartition = "t-0".parse().unwrap();
        let times = [TIME, TIME + 1, TIME + 2, TIME + 3];
        for sealed in 0..=4 {
            let reader = reader(&tp, &times);
            let log = reader.hot.partition(&tp).unwrap();
            let before = reader.held(&tp, &log);
            if sealed > 0 {
                seal(&reader, &tp, sealed).await;
            }
            let after = reader.held(&tp, &log);
            // Sealed between the look at the hot end and that at the segments.
            let during = Held {
                start: before.start,
                hot: before.hot.clone(),
                segments: after.segments.clone(),
            };
            for held in [before, during, after] {
                let found = reader.search(&tp, held, TIME + 1).await.unwrap();
                assert_eq!(found.map(|f| f.offset), Some(1), "{sealed} sealed");
            }
        }
    }
}
