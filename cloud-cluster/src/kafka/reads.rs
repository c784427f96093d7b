//! Reading partitions, hot or cold, and waiting for more.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};
use headwater_kafka::{ErrorCode, FetchPartition, FetchPlan, Fetched};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::budget::Budget;
use crate::cold::{ColdStore, SegmentName};
use crate::hot::{Hot, PartitionLog};
use crate::shards::Shards;

/// Reads what is applied.
#[derive(Debug, Clone)]
pub struct Reader {
    pub shards: Arc<Shards>,
    pub hot: Arc<Hot>,
    pub cold: Arc<ColdStore>,
    /// What replies may hold, all together.
    pub budget: Budget,
}

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

    /// Whole batches from the one that holds `from` on. `from` is not below the log start.
    pub async fn read(
        &self,
        tp: &TopicPartition,
        log: &PartitionLog,
        from: Offset,
        bytes_max: usize,
        first_whole: bool,
    ) -> Result<Vec<Bytes>, ErrorCode> {
        // Twice: a batch may turn cold between the two looks.
        for _ in 0..2 {
            if let Some(read) = log.read(from, bytes_max, first_whole) {
                return Ok(read);
            }
            let found = {
                let shard = self.shards.read(self.shards.of(tp));
                let segment = shard.segment_at(tp, from);
                segment.map(|(base, s)| (SegmentName::new(tp, base, s.uuid), s.clone()))
            };
            let Some((name, segment)) = found else {
                continue;
            };
            let from = from.max(name.base);
            let read = self
                .cold
                .read(&name, &segment, from, bytes_max, first_whole)
                .await;
            return match read {
                Ok(bytes) if bytes.is_empty() => Ok(Vec::new()),
                Ok(bytes) => Ok(vec![bytes]),
                Err(error) => {
                    tracing::warn!(%error, %tp, %from, "a cold segment cannot be read");
                    Err(ErrorCode::KafkaStorageError)
                }
            };
        }
        Err(ErrorCode::OffsetNotAvailable)
    }
}
