//! What other threads may see of the log: partitions, counters.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use headwater_batch::{Offset, TopicPartition};
use headwater_log::store::{Lineage, PartitionReader, Usage};
use headwater_proto::Parent;
use tokio::sync::watch;

/// One partition, as of the store thread's last step.
#[derive(Clone)]
pub struct PartitionView {
    /// The first offset that can be read.
    pub start: Offset,
    /// The offset after the last sealed batch.
    pub sealed_end: Offset,
    /// The offset the next record gets.
    pub next: Offset,
    /// The cloud has everything below.
    pub acked: Offset,
    /// Incarnation and boots.
    pub lineage: Lineage,
    /// The lineage is lost: nothing of the partition may be offered to the cloud.
    pub in_doubt: bool,
    /// Where this incarnation came from.
    pub parent: Option<Parent>,
    /// Reads it, on any thread.
    pub reader: PartitionReader,
}

/// Written by the store thread, read by the mirror and the status page.
pub struct LogView {
    partitions: Mutex<BTreeMap<TopicPartition, PartitionView>>,
    usage: Mutex<Usage>,
    changed: watch::Sender<u64>,
}

impl LogView {
    pub(super) fn new() -> LogView {
        LogView {
            partitions: Mutex::default(),
            usage: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// All partitions. The lock is held for copies only, never for I/O.
    pub fn partitions(&self) -> MutexGuard<'_, BTreeMap<TopicPartition, PartitionView>> {
        self.partitions
            .lock()
            .expect("no code panics while it holds this lock")
    }

    /// Ticks when a range moved or a partition appeared.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn tick(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// What is used of the budget.
    pub fn usage(&self) -> Usage {
        *self
            .usage
            .lock()
            .expect("no code panics while it holds this lock")
    }

    pub(super) fn set_usage(&self, usage: Usage) {
        *self
            .usage
            .lock()
            .expect("no code panics while it holds this lock") = usage;
    }
}

/// Upper bounds of the commit time histogram, microseconds; the last bucket has none.
pub const COMMIT_BUCKETS_US: [u64; 10] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000,
];

/// Counted since the start of the node.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records staged.
    pub records: AtomicU64,
    /// Bytes of keys, values and headers of those records, roughly.
    pub record_bytes: AtomicU64,
    /// Messages that matched no route.
    pub unrouted: AtomicU64,
    /// Frames refused since the budget was used up.
    pub refused_full: AtomicU64,
    /// Frames refused for good.
    pub refused_invalid: AtomicU64,
    /// Group commits.
    pub commits: AtomicU64,
    /// Time in them, microseconds.
    pub commit_us: AtomicU64,
    /// Checkpoints taken.
    pub checkpoints: AtomicU64,
    commit_buckets: [AtomicU64; COMMIT_BUCKETS_US.len() + 1],
    /// When the commit under way began.
    committing: Mutex<Option<Instant>>,
}

impl Counters {
    pub(super) fn commit_begins(&self) {
        *self.committing() = Some(Instant::now());
    }

    /// How long the commit under way has taken so far.
    pub fn commit_age(&self) -> Option<Duration> {
        self.committing().map(|began| began.elapsed())
    }

    fn committing(&self) -> MutexGuard<'_, Option<Instant>> {
        self.committing
            .lock()
            .expect("no code panics while it holds this lock")
    }

    pub(super) fn committed(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        *self.committing() = None;
        self.commits.fetch_add(1, Relaxed);
        self.commit_us.fetch_add(us, Relaxed);
        let bucket = COMMIT_BUCKETS_US.partition_point(|bound| *bound < us);
        self.commit_buckets[bucket].fetch_add(1, Relaxed);
    }

    /// Commits that took up to each of [`COMMIT_BUCKETS_US`] (cumulative), and all.
    pub fn commit_histogram(&self) -> Vec<u64> {
        let mut sum = 0;
        let cumulate = |bucket: &AtomicU64| {
            sum += bucket.load(Relaxed);
            sum
        };
        self.commit_buckets.iter().map(cumulate).collect()
    }
}
