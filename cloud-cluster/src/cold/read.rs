//! Reading from cold segments.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headwater_batch::{BatchView, HEADER_BYTES, Offset};
use headwater_log::segment::{BatchMeta, position_for, time_floor};
use headwater_shard::Segment;

use super::{ColdError, ColdStore, Patience, SegmentName};
use crate::batches::{ANY_SIZE, peek};

/// The most bytes of indexes that are kept in memory; the oldest go first.
const INDEX_CACHE_BYTES: usize = 32 << 20;
/// What is read at first when only the place of a batch is looked for.
const PROBE_BYTES: u64 = 64 << 10;

/// Index files by segment.
#[derive(Debug, Default)]
pub(super) struct IndexCache {
    inner: Mutex<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    held: HashMap<SegmentName, Arc<Indexes>>,
    order: VecDeque<SegmentName>,
    bytes: usize,
}

#[derive(Debug)]
struct Indexes {
    index: Bytes,
    timeindex: Bytes,
}

impl Indexes {
    fn byte_len(&self) -> usize {
        self.index.len() + self.timeindex.len() + 256
    }
}

impl IndexCache {
    fn find(&self, name: &SegmentName) -> Option<Arc<Indexes>> {
        self.inner
            .lock()
            .expect("no holder panics")
            .held
            .get(name)
            .cloned()
    }

    fn keep(&self, name: &SegmentName, indexes: Arc<Indexes>) {
        let mut inner = self.inner.lock().expect("no holder panics");
        inner.bytes += indexes.byte_len();
        if let Some(old) = inner.held.insert(name.clone(), indexes) {
            inner.bytes -= old.byte_len();
        } else {
            inner.order.push_back(name.clone());
        }
        while inner.bytes > INDEX_CACHE_BYTES {
            let Some(oldest) = inner.order.pop_front() else {
                break;
            };
            if let Some(old) = inner.held.remove(&oldest) {
                inner.bytes -= old.byte_len();
            }
        }
    }

    pub(super) fn replace(&self, name: &SegmentName, index: Bytes, timeindex: Bytes) {
        self.keep(name, Arc::new(Indexes { index, timeindex }));
    }

    pub(super) fn forget(&self, name: &SegmentName) {
        let mut inner = self.inner.lock().expect("no holder panics");
        if let Some(old) = inner.held.remove(name) {
            inner.bytes -= old.byte_len();
            inner.order.retain(|held| held != name);
        }
    }
}

/// A batch of a segment that is being looked through.
#[derive(Debug, Clone)]
pub struct Found {
    pub meta: BatchMeta,
    pub bytes: Bytes,
}

impl ColdStore {
    async fn indexes(&self, name: &SegmentName) -> Result<Arc<Indexes>, ColdError> {
        if let Some(indexes) = self.indexes.find(name) {
            return Ok(indexes);
        }
        let index = self.whole(name, "index", Patience::of_reader()).await?;
        let timeindex = self.whole(name, "timeindex", Patience::of_reader()).await?;
        let indexes = Arc::new(Indexes { index, timeindex });
        self.indexes.keep(name, indexes.clone());
        Ok(indexes)
    }

    /// Whole batches from the one that holds `from` on: `bytes_max` at most, but the first one in
    /// any case if `first_whole`.
    pub async fn read(
        &self,
        name: &SegmentName,
        segment: &Segment,
        from: Offset,
        bytes_max: usize,
        first_whole: bool,
    ) -> Result<Bytes, ColdError> {
        let indexes = self.indexes(name).await?;
        let start = position_for(&indexes.index, name.base, from);
        let wanted = (bytes_max as u64).max(PROBE_BYTES);
        let mut end = segment.log_bytes.min(start.saturating_add(wanted));
        loop {
            let bytes = self.log_range(name, start..end).await?;
            match cut(&bytes, from, bytes_max, first_whole) {
                Cut::Done(range) => {
                    let at = start + range.start as u64;
                    let read = bytes.slice(range);
                    return match is_good(&read) {
                        true => Ok(read),
                        false => Err(corrupt(name, at, "a checksum is wrong")),
                    };
                }
                Cut::Corrupt(at) => {
                    return Err(corrupt(name, start + at, "a batch is not in turn"));
                }
                Cut::NeedsTo(need) if start + need <= segment.log_bytes && start + need > end => {
                    end = start + need;
                }
                Cut::NeedsTo(_) => {
                    return Err(corrupt(name, start, format!("no batch with offset {from}")));
                }
            }
        }
    }

    /// The first batch that reaches `timestamp`, searched from the time index on.
    pub async fn at_time(
        &self,
        name: &SegmentName,
        segment: &Segment,
        timestamp: i64,
    ) -> Result<Option<Found>, ColdError> {
        let indexes = self.indexes(name).await?;
        let floor = time_floor(&indexes.timeindex, timestamp);
        let mut from = floor.map_or(name.base, |e| {
            Offset(name.base.0 + i64::from(e.relative_offset))
        });
        while from < segment.end {
            let bytes = self.read(name, segment, from, 1 << 20, true).await?;
            for found in batches(&bytes) {
                from = found.meta.end();
                if found.meta.max_timestamp >= timestamp {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    async fn log_range(&self, name: &SegmentName, range: Range<u64>) -> Result<Bytes, ColdError> {
        let object = name.object("log");
        let get = || self.store.get_range(&object, range.clone());
        self.ask(object.as_ref(), Patience::of_reader(), get).await
    }

    /// All of one object.
    pub(super) async fn whole(
        &self,
        name: &SegmentName,
        suffix: &str,
        patience: Patience,
    ) -> Result<Bytes, ColdError> {
        let object = name.object(suffix);
        let get = || async { self.store.get(&object).await?.bytes().await };
        self.ask(object.as_ref(), patience, get).await
    }
}

/// The batches in `bytes`; ends at the first that is cut or damaged.
pub fn batches(bytes: &Bytes) -> impl Iterator<Item = Found> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let meta = peek(&bytes[at..]).filter(|meta| at + meta.bytes <= bytes.len())?;
        let found = Found {
            meta,
            bytes: bytes.slice(at..at + meta.bytes),
        };
        at += meta.bytes;
        Some(found)
    })
}

fn corrupt(name: &SegmentName, at: u64, what: impl Into<String>) -> ColdError {
    ColdError::Corrupt {
        object: name.object("log").to_string(),
        at,
        what: what.into(),
    }
}

/// Whether the checksums of all batches are right.
fn is_good(bytes: &Bytes) -> bool {
    let good = |found: Found| {
        BatchView::parse(&found.bytes, &ANY_SIZE).is_ok_and(|b| b.verify_crc().is_ok())
    };
    batches(bytes).all(good)
}

enum Cut {
    Done(Range<usize>),
    /// The bytes have to reach at least this far.
    NeedsTo(u64),
    /// The batch there has another offset than the one before it says.
    Corrupt(u64),
}

/// Which part of `bytes`, that begin with a batch, answers a read.
fn cut(bytes: &[u8], from: Offset, bytes_max: usize, first_whole: bool) -> Cut {
    let (mut at, mut first, mut expected) = (0, None, None);
    loop {
        let Some(meta) = peek(&bytes[at..]) else {
            let whole = bytes.len() - at < HEADER_BYTES;
            return match first {
                Some(first) => Cut::Done(first..at),
                None if whole => Cut::NeedsTo((at + HEADER_BYTES) as u64),
                None => Cut::NeedsTo(0),
            };
        };
        let is_in_turn = expected.is_none_or(|expected| meta.base == expected);
        if !is_in_turn || (first.is_none() && meta.base > from) {
            return match first {
                Some(first) => Cut::Done(first..at),
                None => Cut::Corrupt(at as u64),
            };
        }
        expected = Some(meta.end());
        let end = at + meta.bytes;
        if meta.end() <= from {
            at = end;
            if at > bytes.len() {
                return Cut::NeedsTo((at + HEADER_BYTES) as u64);
            }
            continue;
        }
        let start = *first.get_or_insert(at);
        let is_first = start == at;
        if end - start > bytes_max && !(is_first && first_whole) {
            return Cut::Done(start..at);
        }
        if end > bytes.len() {
            return if is_first {
                Cut::NeedsTo(end as u64)
            } else {
                Cut::Done(start..at)
            };
        }
        at = end;
        if at == bytes.len() {
            return Cut::Done(start..at);
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_batch::{BatchBuilder, Level, NewRecord, TopicPartition};
    use headwater_log::segment::SegmentBuilder;

    use super::*;

    /// Batches of 2 records, about 5 kB each, from offset 100.
    async fn stored(count: i64) -> (tempfile::TempDir, ColdStore, SegmentName, Segment) {
        let dir = tempfile::tempdir().unwrap();
        let store = ColdStore::local(dir.path()).unwrap();
        let tp: TopicPartition = "t-0".parse().unwrap();
        let name = SegmentName::new(&tp, Offset(100), 5);
        let mut builder = SegmentBuilder::new(Offset(100));
        for i in 0..count {
            let mut batch = BatchBuilder::new(Offset(100 + 2 * i), Level::None);
            for r in 0..2 {
                let value = vec![b'x'; 2500];
                batch
                    .push(&NewRecord::new(1000 + 2 * i + r, "k", value))
                    .unwrap();
            }
            builder
                .append(&batch.finish(), &crate::batches::ANY_SIZE)
                .unwrap();
        }
        let (end, bytes) = (builder.end(), builder.finish());
        let segment = Segment {
            end,
            uuid: 5,
            log_bytes: bytes.log.len() as u64,
            index_bytes: bytes.index.len() as u64,
            time_index_bytes: bytes.timeindex.len() as u64,
            max_timestamp: 1000 + 2 * count - 1,
            appended_ms: 0,
        };
        store.put(&name, bytes).await.unwrap();
        (dir, store, name, segment)
    }

    #[tokio::test]
    async fn every_offset_is_found_whatever_the_limit() {
        let (_dir, store, name, segment) = stored(60).await;
        for from in 100..220 {
            for max in [0, 1, 6_000, 70_000, 1 << 20] {
                let bytes = store
                    .read(&name, &segment, Offset(from), max, true)
                    .await
                    .unwrap();
                let first = batches(&bytes).next().unwrap().meta;
                assert!(first.base.0 <= from && from <= first.last.0, "{from} {max}");
                let read: Vec<_> = batches(&bytes).collect();
                assert_eq!(
                    read.iter().map(|f| f.meta.bytes).sum::<usize>(),
                    bytes.len()
                );
                assert!(
                    bytes.len() <= max.max(first.bytes),
                    "{from} {max} {}",
                    bytes.len()
                );
                let none = store
                    .read(&name, &segment, Offset(from), 10, false)
                    .await
                    .unwrap();
                assert!(none.is_empty());
            }
        }
    }

    #[tokio::test]
    async fn times_are_found() {
        let (_dir, store, name, segment) = stored(60).await;
        for timestamp in 990..1120 {
            let found = store
                .at_time(&name, &segment, timestamp)
                .await
                .unwrap()
                .unwrap();
            let expected = 100 + (timestamp - 1000).max(0) / 2 * 2;
            assert_eq!(found.meta.base.0, expected, "{timestamp}");
        }
        assert!(
            store
                .at_time(&name, &segment, 1120)
                .await
                .unwrap()
                .is_none()
        );
    }

    #[tokio::test]
    async fn what_is_deleted_is_gone_and_listed_no_more() {
        let (_dir, store, name, segment) = stored(2).await;
        assert_eq!(store.list().await.unwrap(), vec![name.clone()]);
        store.delete(&name).await.unwrap();
        store.delete(&name).await.unwrap();
        assert!(store.list().await.unwrap().is_empty());
        store
            .read(&name, &segment, Offset(100), 10, true)
            .await
            .unwrap_err();
    }
}
