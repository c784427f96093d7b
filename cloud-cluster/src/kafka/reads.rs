//! Reading partitions, hot or cold, and waiting for more.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};
use headwater_kafka::{ErrorCode, FetchPartition, FetchPlan, Fetched};
use headwater_shard::{Entry, LostRange, LostReason};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::budget::Budget;
use super::errors;
use crate::clock::Clock;
use crate::cold::{ColdStore, Found, Patience, SegmentName};
use crate::hot::{Hot, PartitionLog};
use crate::shardlog::{ShardLog, commit};
use crate::shards::Shards;

/// Reads what is applied.
#[derive(Debug, Clone)]
pub struct Reader {
    pub shards: Arc<Shards>,
    pub hot: Arc<Hot>,
    pub cold: Arc<ColdStore>,
    /// What replies may hold, all together.
    pub budget: Budget,
    /// For the ledger, where a segment turns out to be damaged.
    pub log: Arc<dyn ShardLog>,
    pub clock: Clock,
}

/// How often a read looks for its place before it says that it is not to be had now.
const LOOKS: usize = 8;

impl Reader {
    /// Reads the plan's partitions, waiting until there is enough or the client's time is up.
    pub async fn fetch(&self, plan: &FetchPlan) -> Vec<Fetched> {
        let deadline = Instant::now() + Duration::from_millis(plan.max_wait_ms.into());
        let waiter = Arc::new(Notify::new());
        loop {
            // Before the read: what comes in meanwhile must wake us.
            for wanted in &plan.partitions {
                if let Some(log) = self.hot.partition(&wanted.tp) {
                    log.watch(&waiter);
                }
            }
            let share = self.budget.take(plan.max_bytes as usize);
            let mut fetched = self.fetch_once(plan, share.bytes).await;
            if plan.is_satisfied(&fetched) || Instant::now() >= deadline {
                share.tie(&mut fetched);
                return fetched;
            }
            drop((fetched, share));
            // On time out the loop reads once more and answers with what there is.
            let _ = tokio::time::timeout_at(deadline, waiter.notified()).await;
        }
    }

    async fn fetch_once(&self, plan: &FetchPlan, granted: usize) -> Vec<Fetched> {
        let (mut all, mut so_far) = (Vec::with_capacity(plan.partitions.len()), 0);
        for (i, wanted) in plan.partitions.iter().enumerate() {
            let (bytes_max, first_whole) = plan.allowance(i, so_far);
            let bytes_max = bytes_max.min(granted.saturating_sub(so_far));
            let fetched = self.partition(wanted, bytes_max, first_whole).await;
            so_far += fetched.byte_len();
            all.push(fetched);
        }
        all
    }

    pub(super) async fn partition(
        &self,
        wanted: &FetchPartition,
        bytes_max: usize,
        first_whole: bool,
    ) -> Fetched {
        let (tp, offset) = (&wanted.tp, wanted.offset);
        let wanted_id = wanted.topic_id.as_u128();
        let log = self.hot.partition(tp);
        let Some(log) = log.filter(|log| log.topic_id() == wanted_id) else {
            // The topic was there, or the plan would not name it: its partition is being opened, or
            // it was deleted during the wait and the client has to look again.
            return Fetched::failed(ErrorCode::NotLeaderOrFollower);
        };
        let marks = log.marks();
        if offset < marks.start.0 || offset > marks.next.0 {
            return Fetched {
                error: Some(ErrorCode::OffsetOutOfRange),
                high_watermark: marks.next.0,
                log_start: marks.start.0,
                records: Vec::new(),
            };
        }
        let nothing_wanted = bytes_max == 0 && !first_whole;
        let records = if nothing_wanted {
            Ok(Vec::new())
        } else {
            self.read(tp, &log, Offset(offset), bytes_max, first_whole)
                .await
        };
        match records {
            Ok(records) => Fetched {
                error: None,
                high_watermark: marks.next.0,
                log_start: marks.start.0,
                records,
            },
            Err(error) => Fetched::failed(error),
        }
    }

    /// Whole batches from the one that holds `from` on, or behind what is lost there. `from` is not
    /// below the log start.
    pub async fn read(
        &self,
        tp: &TopicPartition,
        log: &PartitionLog,
        mut from: Offset,
        bytes_max: usize,
        first_whole: bool,
    ) -> Result<Vec<Bytes>, ErrorCode> {
        // More than once: a batch may turn cold between two looks, and what is lost is passed.
        for look in 0..LOOKS {
            if let Some(read) = log.read(from, bytes_max, first_whole) {
                return Ok(read);
            }
            let (lost_end, found) = {
                let shard = self.shards.read(self.shards.of(tp));
                let found = shard.segment_at(tp, from);
                let found = found.map(|(base, s)| (SegmentName::new(tp, base, s.uuid), s.clone()));
                (shard.lost_end(tp, from), found)
            };
            if lost_end > from {
                from = lost_end;
                continue;
            }
            let Some((name, segment)) = found else {
                let read = log.read_after(from, bytes_max, first_whole);
                if look > 0 && !read.is_empty() {
                    return Ok(read);
                }
                continue;
            };
            from = from.max(name.base);
            let read = self
                .cold
                .read(&name, &segment, from, bytes_max, first_whole)
                .await;
            match read {
                Ok(bytes) if bytes.is_empty() => return Ok(Vec::new()),
                Ok(bytes) => return Ok(vec![bytes]),
                Err(error) if error.is_rot() => {
                    tracing::error!(%error, %tp, %from, "a cold segment is damaged");
                    let salvaged = self.around(tp, &name, segment.end).await?;
                    let good = salvaged.into_iter().filter(|f| f.meta.end() > from);
                    let read = fitting(good, bytes_max, first_whole);
                    if !read.is_empty() || !first_whole {
                        return Ok(read);
                    }
                    from = segment.end;
                }
                // Said by the store itself, once. Clients ask again after this, where
                // OFFSET_OUT_OF_RANGE would have them reset (C3).
                Err(_) => return Err(ErrorCode::KafkaStorageError),
            }
        }
        Err(ErrorCode::OffsetNotAvailable)
    }

    /// The good batches of a damaged segment; what is missing is put into the ledger.
    pub(super) async fn around(
        &self,
        tp: &TopicPartition,
        name: &SegmentName,
        end: Offset,
    ) -> Result<Vec<Found>, ErrorCode> {
        let patience = Patience::of_reader();
        let salvaged = self.cold.salvage(name, Some(end), patience).await;
        // Said by the store itself, once; the client asks again.
        let salvaged = salvaged.map_err(|_| ErrorCode::KafkaStorageError)?;
        let (shard, at_ms) = (self.shards.of(tp), self.clock.wall_ms());
        let partition = self
            .shards
            .read(shard)
            .partition(tp)
            .map(|p| (p.topic_id, p.start));
        let Some((topic_id, start)) = partition else {
            return Err(ErrorCode::UnknownTopicOrPartition);
        };
        for (from, to) in salvaged.missing {
            if to <= start {
                continue;
            }
            let range = LostRange {
                to,
                reason: LostReason::Segment,
                at_ms,
            };
            let entry = Entry::Lost {
                tp: tp.clone(),
                topic_id,
                from: from.max(start),
                range,
            };
            // Not entered now, it is met again by the next who reads there.
            let entered = commit(&*self.log, shard, entry, Bytes::new()).await;
            entered.map_err(|e| errors::of_propose(&e).code)?;
        }
        Ok(salvaged.batches)
    }
}

/// Whole batches of `bytes_max` at most, but the first one in any case if `first_whole`.
fn fitting(good: impl Iterator<Item = Found>, bytes_max: usize, first_whole: bool) -> Vec<Bytes> {
    let (mut read, mut bytes) = (Vec::new(), 0);
    for found in good {
        let fits = bytes + found.bytes.len() <= bytes_max;
        let goes = fits || (first_whole && read.is_empty());
        if !goes {
            break;
        }
        bytes += found.bytes.len();
        read.push(found.bytes);
    }
    read
}
