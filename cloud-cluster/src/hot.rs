//! The hot end of every partition: batches that are applied and not yet in a cold segment, in
//! memory, and the marks that readers go by.
//!
//! A batch is stamped with base offset and leader epoch when it comes in (C2), so what is read here
//! and what is sealed from here are the same bytes.
//!
//! Bounds: the sealer keeps the sum of all partitions near `hot_bytes`; past twice that, new data
//! waits at the proposer ([`Hot::has_room`]). Waiting fetches are held weakly and swept.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};
use tokio::sync::Notify;

/// What one batch costs beside its bytes.
const BATCH_OVERHEAD_BYTES: u64 = 128;
/// Waiters of a partition are swept when there are this many.
const WAITERS_SWEEP: usize = 64;

/// All partitions of this node.
#[derive(Debug, Default)]
pub struct Hot {
    partitions: RwLock<HashMap<TopicPartition, Arc<PartitionLog>>>,
    bytes: Arc<AtomicU64>,
    /// Told whenever bytes were let go.
    pub drained: Notify,
}

/// One partition's hot end.
#[derive(Debug)]
pub struct PartitionLog {
    inner: Mutex<Inner>,
    total: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Inner {
    marks: Marks,
    topic_id: u128,
    batches: BTreeMap<Offset, HotBatch>,
    bytes: u64,
    waiters: Vec<Weak<Notify>>,
}

/// Where a partition stands for readers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    pub start: Offset,
    /// The high watermark: the offset after the last applied record.
    pub next: Offset,
    /// False once the partition is gone.
    pub open: bool,
}

/// One batch, stamped.
#[derive(Debug, Clone)]
pub struct HotBatch {
    pub end: Offset,
    pub epoch: i32,
    pub at_ms: i64,
    pub max_timestamp: i64,
    /// The newest journal frame that holds it.
    pub position: u64,
    pub bytes: Bytes,
}

impl Hot {
    pub fn partition(&self, tp: &TopicPartition) -> Option<Arc<PartitionLog>> {
        self.partitions
            .read()
            .expect("no holder panics")
            .get(tp)
            .cloned()
    }

    /// In the order of names: what is done for all is done in the same order on every run.
    pub fn partitions(&self) -> Vec<(TopicPartition, Arc<PartitionLog>)> {
        let partitions = self.partitions.read().expect("no holder panics");
        let mut all: Vec<_> = partitions
            .iter()
            .map(|(tp, log)| (tp.clone(), log.clone()))
            .collect();
        drop(partitions);
        all.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// Bytes held by all partitions.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether new data may come in, with `hot_bytes` as the sealer's aim.
    pub fn has_room(&self, hot_bytes: u64) -> bool {
        self.bytes() < hot_bytes.saturating_mul(2)
    }

    pub fn open(&self, tp: &TopicPartition, topic_id: u128, start: Offset, next: Offset) {
        let marks = Marks {
            start,
            next,
            open: true,
        };
        let inner = Inner {
            marks,
            topic_id,
            ..Inner::default()
        };
        let log = PartitionLog {
            inner: Mutex::new(inner),
            total: self.bytes.clone(),
        };
        let mut partitions = self.partitions.write().expect("no holder panics");
        if let Some(old) = partitions.insert(tp.clone(), Arc::new(log)) {
            old.close();
        }
    }

    pub fn close(&self, tp: &TopicPartition) {
        if let Some(log) = self
            .partitions
            .write()
            .expect("no holder panics")
            .remove(tp)
        {
            log.close();
            self.drained.notify_waiters();
        }
    }
}

impl PartitionLog {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }

    pub fn marks(&self) -> Marks {
        self.lock().marks
    }

    pub fn topic_id(&self) -> u128 {
        self.lock().topic_id
    }

    /// Adds the newest batch and wakes who waits for it.
    pub fn append(&self, base: Offset, batch: HotBatch) {
        let mut inner = self.lock();
        inner.marks.next = inner.marks.next.max(batch.end);
        self.insert(&mut inner, base, batch);
        inner.wake();
    }

    /// Puts a batch back that was copied forward in the journal.
    pub fn restore(&self, base: Offset, batch: HotBatch) {
        let mut inner = self.lock();
        if batch.end > inner.marks.start {
            self.insert(&mut inner, base, batch);
        }
    }

    fn insert(&self, inner: &mut Inner, base: Offset, batch: HotBatch) {
        let cost = cost(&batch);
        inner.bytes += cost;
        self.total.fetch_add(cost, Ordering::Relaxed);
        if let Some(old) = inner.batches.insert(base, batch) {
            self.release(inner, &old);
        }
    }

    fn release(&self, inner: &mut Inner, batch: &HotBatch) {
        inner.bytes -= cost(batch);
        self.total.fetch_sub(cost(batch), Ordering::Relaxed);
    }

    /// The log now starts at `start`.
    pub fn move_start(&self, start: Offset) {
        self.lock().marks.start = start;
        self.drop_below(start);
    }

    /// Takes the marks of a state that came from elsewhere.
    pub fn set_marks(&self, start: Offset, next: Offset, cold_end: Offset) {
        let mut inner = self.lock();
        (inner.marks.start, inner.marks.next) = (start, next);
        inner.wake();
        drop(inner);
        self.drop_below(start.max(cold_end));
    }

    /// The batches from the first one at or above `from` on, as [`PartitionLog::read`]: for an offset
    /// whose own batch is lost.
    pub fn read_after(&self, from: Offset, bytes_max: usize, first_whole: bool) -> Vec<Bytes> {
        let base = {
            let inner = self.lock();
            inner.batches.range(from..).next().map(|(base, _)| *base)
        };
        base.and_then(|base| self.read(base, bytes_max, first_whole))
            .unwrap_or_default()
    }

    /// Lets go of batches that end at or below `end`.
    pub fn drop_below(&self, end: Offset) {
        let mut inner = self.lock();
        while let Some(first) = inner.batches.first_entry() {
            if first.get().end > end {
                break;
            }
            let batch = first.remove();
            self.release(&mut inner, &batch);
        }
    }

    /// The batch of the journal frame at `from` now lies at `to`.
    pub fn moved(&self, base: Offset, to: u64) {
        if let Some(batch) = self.lock().batches.get_mut(&base) {
            batch.position = to;
        }
    }

    fn close(&self) {
        let mut inner = self.lock();
        inner.marks.open = false;
        for batch in std::mem::take(&mut inner.batches).into_values() {
            self.release(&mut inner, &batch);
        }
        inner.wake();
    }

    /// The batches from the one that holds `from` on, `bytes_max` at most, the first one in any
    /// case if `first_whole`. `None` when `from` lies below what is held here.
    pub fn read(&self, from: Offset, bytes_max: usize, first_whole: bool) -> Option<Vec<Bytes>> {
        let inner = self.lock();
        let (mut read, mut bytes) = (Vec::new(), 0);
        if from >= inner.marks.next {
            return Some(read);
        }
        let (first, batch) = inner.batches.range(..=from).next_back()?;
        if batch.end <= from {
            return None;
        }
        for batch in inner.batches.range(first..).map(|(_, batch)| batch) {
            let fits = bytes + batch.bytes.len() <= bytes_max;
            let goes = fits || (first_whole && read.is_empty());
            if !goes {
                break;
            }
            bytes += batch.bytes.len();
            read.push(batch.bytes.clone());
        }
        Some(read)
    }

    /// The batches of `[from, to)`.
    pub fn range(&self, from: Offset, to: Offset) -> Vec<(Offset, HotBatch)> {
        let inner = self.lock();
        let held = inner
            .batches
            .range(..to)
            .filter(|(_, batch)| batch.end > from);
        held.map(|(base, batch)| (*base, batch.clone())).collect()
    }

    /// What is held: bytes and the time of the oldest batch.
    pub fn held(&self) -> Option<(u64, i64)> {
        let inner = self.lock();
        inner
            .batches
            .first_key_value()
            .map(|(_, first)| (inner.bytes, first.at_ms))
    }

    /// Asks to be told when records come in or the partition closes.
    pub fn watch(&self, waiter: &Arc<Notify>) {
        let mut inner = self.lock();
        if inner.waiters.len() >= WAITERS_SWEEP {
            inner.waiters.retain(|w| w.strong_count() > 0);
        }
        inner.waiters.push(Arc::downgrade(waiter));
    }
}

impl Inner {
    fn wake(&mut self) {
        for waiter in self.waiters.drain(..).filter_map(|w| w.upgrade()) {
            waiter.notify_one();
        }
    }
}

fn cost(batch: &HotBatch) -> u64 {
    batch.bytes.len() as u64 + BATCH_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(end: i64, bytes: usize) -> HotBatch {
        let bytes = Bytes::from(vec![0; bytes]);
        HotBatch {
            end: Offset(end),
            epoch: 1,
            at_ms: end,
            max_timestamp: 0,
            position: 0,
            bytes,
        }
    }

    fn log() -> (Hot, Arc<PartitionLog>) {
        let (hot, tp) = (Hot::default(), "t-0".parse().unwrap());
        hot.open(&tp, 1, Offset(0), Offset(0));
        let log = hot.partition(&tp).unwrap();
        log.append(Offset(0), batch(10, 100));
        log.append(Offset(10), batch(11, 50));
        (hot, log)
    }

    #[test]
    fn a_read_begins_with_the_batch_that_holds_the_offset() {
        let (_hot, log) = log();
        let sizes = |from, max, whole| {
            let read = log.read(Offset(from), max, whole).unwrap();
            read.iter().map(Bytes::len).collect::<Vec<_>>()
        };
        assert_eq!(sizes(9, 150, false), [100, 50]);
        assert_eq!(sizes(9, 149, false), [100]);
        assert_eq!(sizes(10, 0, false), [0; 0]);
        assert_eq!(sizes(10, 0, true), [50]);
        assert_eq!(sizes(11, 1000, true), [0; 0]);
    }

    #[test]
    fn bytes_are_counted_and_let_go() {
        let (hot, log) = log();
        assert_eq!(hot.bytes(), 150 + 2 * BATCH_OVERHEAD_BYTES);
        log.append(Offset(10), batch(11, 60));
        log.drop_below(Offset(10));
        assert_eq!(log.read(Offset(0), 10, true), None);
        assert_eq!(hot.bytes(), 60 + BATCH_OVERHEAD_BYTES);
        hot.close(&"t-0".parse().unwrap());
        assert_eq!(hot.bytes(), 0);
        assert!(!log.marks().open);
    }

    #[test]
    fn who_waits_is_told_once_and_the_dead_are_swept() {
        let (_hot, log) = log();
        let waiter = Arc::new(Notify::new());
        log.watch(&waiter);
        for _ in 0..1000 {
            log.watch(&Arc::new(Notify::new()));
        }
        assert!(log.lock().waiters.len() <= WAITERS_SWEEP);
        log.append(Offset(11), batch(12, 1));
        let mut told = tokio_test_poll(waiter.notified());
        assert!(told.take().is_some());
    }

    /// Polls once.
    fn tokio_test_poll<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }
}
