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
        for Move {
            tp,
            topic_id,
            start,
        } in due(&shards, defaults, clock.wall_ms())
        {
            tracing::info!(%tp, %start, "retention moves the log start");
            let shard = shards.of(&tp);
            // Deleted and made again while the moves before this one were committed: the offset
            // means nothing there.
            let known = shards.read(shard).partition(&tp).map(|p| p.topic_id);
            if known != Some(topic_id) {
                continue;
            }
            let entry = Entry::LogStart { tp, start };
            if let Err(error) = commit(&*log, shard, entry, Bytes::new()).await {
                tracing::warn!(%error, "retention waits");
                break;
            }
        }
    }
}

/// A log start that is due.
struct Move {
    tp: TopicPartition,
    topic_id: u128,
    start: Offset,
}

fn due(shards: &Shards, defaults: Retention, now_ms: i64) -> Vec<Move> {
    let mut moves = Vec::new();
    for id in shards.data() {
        let shard = shards.read(id);
        for (tp, partition) in shard.partitions() {
            let retention = of_topic(shards, tp, defaults);
            let start = new_start(shard.segments(tp), retention, now_ms);
            moves.extend(start.filter(|s| *s > partition.start).map(|start| Move {
                tp: tp.clone(),
                topic_id: partition.topic_id,
                start,
            }));
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

/// The end of the last segment that has to go. As in Kafka they go from the oldest on, up to the
/// first that has to stay: a time that was stamped by a wrong clock takes nothing older along. By
/// size a segment goes only while at least `bytes` are left without it.
fn new_start<'a>(
    segments: impl Iterator<Item = (Offset, &'a Segment)>,
    retention: Retention,
    now_ms: i64,
) -> Option<Offset> {
    let segments: Vec<_> = segments.map(|(_, segment)| segment).collect();
    let (mut left, mut start) = (segments.iter().map(|s| s.log_bytes).sum::<u64>(), None);
    for segment in segments {
        left -= segment.log_bytes;
        let is_old = retention.ms >= 0 && now_ms - segment.appended_ms > retention.ms;
        let is_over = u64::try_from(retention.bytes).is_ok_and(|bytes| left >= bytes);
        if !(is_old || is_over) {
            break;
        }
        start = Some(segment.end);
    }
    start
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
        // What is left is never less than was asked for.
        assert_eq!(start(-1, 300, 0), None);
        assert_eq!(start(-1, 201, 0), None);
        assert_eq!(start(-1, 200, 0), Some(10));
        assert_eq!(start(-1, 50, 0), Some(20));
        assert_eq!(start(-1, 0, 0), Some(30));
    }

    #[test]
    fn a_wrong_clock_takes_nothing_older_along() {
        let held = [segment(10, 5000), segment(20, 0), segment(30, 5000)];
        let start = |now| {
            let segments = held.iter().map(|s| (Offset(s.end.0 - 10), s));
            let retention = Retention {
                ms: 1000,
                bytes: -1,
            };
            new_start(segments, retention, now).map(|o| o.0)
        };
        assert_eq!(start(5500), None);
        assert_eq!(start(6001), Some(30));
    }
}
