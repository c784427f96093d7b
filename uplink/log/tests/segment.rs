//! Segment files by Kafka's rules, made in memory.
#![allow(clippy::unwrap_used)]

use headwater_batch::{BatchBuilder, Level, Limits, NewRecord, Offset};
use headwater_log::segment::{
    INDEX_ENTRY_BYTES, INDEX_INTERVAL_BYTES, OffsetEntry, SegmentBuilder, TIME_ENTRY_BYTES,
    TimeEntry, base_of, file_name, index_problem, position_for, time_floor, timeindex_problem,
};

/// (position, base, last, greatest timestamp) of each batch.
type Batches = Vec<(usize, i64, i64, i64)>;

fn segment(base: i64, batches: usize) -> (Batches, headwater_log::segment::SegmentBytes) {
    let mut segment = SegmentBuilder::new(Offset(base));
    let mut builder = BatchBuilder::new(Offset(base), Level::None);
    let mut list = Vec::new();
    for i in 0..batches {
        let timestamps: Vec<i64> = (0..1 + i % 3)
            .map(|n| 1_000 + ((i * 37 + n * 11) % 400) as i64)
            .collect();
        for timestamp in &timestamps {
            builder
                .push(&NewRecord::new(*timestamp, "k", vec![7; 300 + i % 500]))
                .unwrap();
        }
        let bytes = builder.finish();
        let (position, first) = (segment.log_bytes(), segment.end().0);
        segment.append(&bytes, &Limits::UPLINK).unwrap();
        let newest = timestamps.into_iter().max().unwrap();
        list.push((position, first, segment.end().0 - 1, newest));
    }
    (list, segment.finish())
}

#[test]
fn entries_mean_what_kafka_means() {
    let (batches, bytes) = segment(5_000, 200);
    assert_eq!(index_problem(&bytes.index, bytes.log.len() as u64), None);
    assert_eq!(timeindex_problem(&bytes.timeindex), None);
    let index: Vec<_> = bytes
        .index
        .chunks_exact(INDEX_ENTRY_BYTES)
        .map(OffsetEntry::decode)
        .collect();
    assert!(index.len() > 20);
    let mut unindexed = 0;
    let mut entries = index.iter();
    for (i, (position, _, last, _)) in batches.iter().enumerate() {
        // LogSegment.append: an entry before the batch is counted, once more than the interval lies
        // behind the last entry; so the first batch has none.
        if unindexed > INDEX_INTERVAL_BYTES as usize {
            let entry = entries.next().unwrap();
            assert_eq!(entry.position as usize, *position);
            assert_eq!(i64::from(entry.relative_offset) + 5_000, *last);
            unindexed = 0;
        }
        let end = batches.get(i + 1).map_or(bytes.log.len(), |next| next.0);
        unindexed += end - position;
    }
    assert!(entries.next().is_none());
    let times: Vec<_> = bytes
        .timeindex
        .chunks_exact(TIME_ENTRY_BYTES)
        .map(TimeEntry::decode)
        .collect();
    for entry in &times {
        let last = i64::from(entry.relative_offset) + 5_000;
        let batch = batches.iter().find(|batch| batch.2 == last).unwrap();
        assert_eq!(
            batch.3, entry.timestamp,
            "the batch's own greatest timestamp"
        );
    }
    let newest = batches.iter().map(|batch| batch.3).max().unwrap();
    assert_eq!(
        times.last().unwrap().timestamp,
        newest,
        "the seal adds the last one"
    );
}

#[test]
fn lookups_never_pass_what_they_look_for() {
    let (batches, bytes) = segment(5_000, 200);
    for (position, first, last, _) in &batches {
        for offset in *first..=*last {
            let found = position_for(&bytes.index, Offset(5_000), Offset(offset)) as usize;
            assert!(found <= *position);
            assert!(
                batches.iter().any(|batch| batch.0 == found),
                "where a batch begins"
            );
            assert!(position - found <= 2 * INDEX_INTERVAL_BYTES as usize);
        }
    }
    for timestamp in [0, 1_000, 1_100, 1_399, 1_400, 5_000] {
        let floor = time_floor(&bytes.timeindex, timestamp);
        let before = floor.map_or(5_000, |entry| i64::from(entry.relative_offset) + 5_000);
        let first = batches.iter().find(|batch| batch.3 >= timestamp);
        assert!(first.is_none_or(|batch| batch.2 >= before));
    }
}

#[test]
fn appends_that_do_not_follow_are_refused() {
    let mut segment = SegmentBuilder::new(Offset(10));
    let mut builder = BatchBuilder::new(Offset(5), Level::None);
    builder.push(&NewRecord::new(0, "k", "v")).unwrap();
    let early = builder.finish();
    segment.append(&early, &Limits::UPLINK).unwrap_err();
    segment.append(&early[..20], &Limits::UPLINK).unwrap_err();
    assert_eq!((segment.log_bytes(), segment.end()), (0, Offset(10)));
}

#[test]
fn names_are_kafkas() {
    assert_eq!(file_name(Offset(42), "log"), "00000000000000000042.log");
    assert_eq!(base_of("00000000000000000042.log"), Some(Offset(42)));
    for other in [
        "42.log",
        "00000000000000000042.index",
        "0000000000000000004x.log",
        ".log",
    ] {
        assert_eq!(base_of(other), None);
    }
}

#[test]
fn damaged_indexes_are_seen() {
    let (_, bytes) = segment(0, 100);
    let log = bytes.log.len() as u64;
    let mut zero_tail = bytes.index.clone();
    zero_tail.extend([0; 8]);
    assert!(
        index_problem(&zero_tail, log).is_some(),
        "preallocated, as Kafka leaves them open"
    );
    assert!(index_problem(&bytes.index[..13], log).is_some());
    assert!(index_problem(&bytes.index, log / 2).is_some());
    let mut swapped = bytes.timeindex.clone();
    swapped.rotate_left(12);
    assert!(timeindex_problem(&swapped).is_some());
}
