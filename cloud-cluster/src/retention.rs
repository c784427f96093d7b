//! Which segments are past their time or over their size, proposed as log starts.
//!
//! Age counts from when a segment's newest batch was appended here, not from its records' own times:
//! an edge that was offline for longer than the retention must not see its records go at once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};
use headwater_shard::{Entry, Segment};

use crate::clock::Clock;
use crate::shardlog::{ShardLog, commit};
use crate::shards::Shards;

/// Limits of one topic; negative: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub ms: i64,
    pub bytes: i64,
}

/// Looks every `every` and proposes, until the node stops.
pub async fn run(
    log: Arc<dyn ShardLog>,
    shards: Arc<Shards>,
    defaults: Retention,
    every: Duration,
    clock: Clock,
) {
    loop {
        tokio::time::sleep(every).await;
        for (tp, start) in due(&shards, defaults, clock.wall_ms()) {
            tracing::info!(%tp, %start, "retention moves the log start");
            let shard = shards.of(&tp);
            let entry = Entry::LogStart { tp, start };
            if let Err(error) = commit(&*log, shard, entry, Bytes::new()).await {
                tracing::warn!(%error, "retention waits");
                break;
            }
        }
    }
}

fn due(shards: &Shards, defaults: Retention, now_ms: i64) -> Vec<(TopicPartition, Offset)> {
    let mut moves = Vec::new();
    for id in shards.data() {
        let shard = shards.read(id);
        for (tp, partition) in shard.partitions() {
            let retention = of_topic(shards, tp, defaults);
            let start = new_start(shard.segments(tp), retention, now_ms);
            moves.extend(
                start
                    .filter(|start| *start > partition.start)
                    .map(|s| (tp.clone(), s)),
            );
        }
    }
    moves
}

fn of_topic(shards: &Shards, tp: &TopicPartition, defaults: Retention) -> Retention {
    let meta = shards.read(shards.meta());
    let Some(topic) = meta.topic(&tp.topic) else {
        return defaults;
    };
    let own = |key: &str| topic.config.get(key).and_then(|value| value.parse().ok());
    // A compacted topic keeps its newest values for ever; only "delete" deletes.
    let deletes = topic
        .config
        .get("cleanup.policy")
        .is_none_or(|p| p.contains("delete"));
    if !deletes {
        return Retention { ms: -1, bytes: -1 };
    }
    Retention {
        ms: own("retention.ms").unwrap_or(defaults.ms),
        bytes: own("retention.bytes").unwrap_or(defaults.bytes),
    }
}

/// The end of the newest segment that has to go.
fn new_start<'a>(
    segments: impl DoubleEndedIterator<Item = (Offset, &'a Segment)>,
    retention: Retention,
    now_ms: i64,
) -> Option<Offset> {
    let mut newer_bytes = 0i64;
    for (_, segment) in segments.rev() {
        let is_old = retention.ms >= 0 && now_ms - segment.appended_ms > retention.ms;
        newer_bytes = newer_bytes.saturating_add(segment.log_bytes as i64);
        let is_over = retention.bytes >= 0 && newer_bytes > retention.bytes;
        if is_old || is_over {
            return Some(segment.end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(end: i64, appended_ms: i64) -> Segment {
        Segment {
            end: Offset(end),
            uuid: 0,
            log_bytes: 100,
            index_bytes: 0,
            time_index_bytes: 0,
            // From 1970: what the edge's clock said does not matter.
            max_timestamp: 0,
            appended_ms,
        }
    }

    #[test]
    fn age_counts_from_arrival_and_size_from_the_newest() {
        let held = [segment(10, 1000), segment(20, 2000), segment(30, 3000)];
        let start = |ms, bytes, now| {
            let segments = held.iter().map(|s| (Offset(s.end.0 - 10), s));
            new_start(segments, Retention { ms, bytes }, now).map(|o| o.0)
        };
        assert_eq!(start(-1, -1, i64::MAX), None);
        assert_eq!(start(1000, -1, 2000), None);
        assert_eq!(start(1000, -1, 2001), Some(10));
        assert_eq!(start(1000, -1, 9999), Some(30));
        assert_eq!(start(-1, 300, 0), None);
        assert_eq!(start(-1, 299, 0), Some(10));
        assert_eq!(start(-1, 0, 0), Some(30));
    }
}
