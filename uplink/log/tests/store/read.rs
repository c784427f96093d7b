//! What readers see: batches, times, indexes; and when an entry may be acked.

use std::path::Path;
use std::sync::Arc;

use headwater_batch::{BatchView, Decoder, Limits, NewRecord, Offset};
use headwater_log::disk::Crash;
use headwater_log::store::{CLOCK_HEADER, Chunk, Durability, Entry, Ms, ReadError, Refused};
use headwater_log::{Disk, SimDisk};

use super::{NOW, config, entry, offsets, open, restart, tp, write};

#[test]
fn batches_grow_while_the_link_is_down() {
    let batches = |up: bool| {
        let mut store = open(&SimDisk::new(3), &config(), 1);
        let t = tp("a-0");
        store.set_link(up);
        for n in 0..40 {
            let now = n as Ms * 300;
            store.stage(entry(&t, n), now).unwrap();
            store.commit(now).unwrap();
            store.tick(now + 150).unwrap();
        }
        store.tick(60_000).unwrap();
        let mut reader = store.reader(&t).unwrap();
        let Chunk::Batches(all) = reader.read(Offset::ZERO, 1 << 20).unwrap() else {
            panic!()
        };
        assert_eq!(offsets(&store, &t, Offset::ZERO).len(), 40);
        all.len()
    };
    assert_eq!(batches(true), 40);
    assert!(batches(false) < 8);
}

/// A backlog is read in pieces by readers that know no place yet: each must cost what it gives.
#[test]
fn a_piece_from_the_middle_of_a_segment_is_not_paid_for_with_all_of_it() {
    let disk = SimDisk::new(8);
    let mut cfg = config();
    cfg.segment_bytes = 4 << 20;
    let mut store = open(&disk, &cfg, 1);
    let t = tp("a-0");
    for n in 0..30 {
        write(&mut store, &t, 1_000, n * 20_000);
        store.checkpoint(Vec::new(), n * 20_000 + 10_000).unwrap();
    }
    let log_bytes = store.usage().segment_bytes;
    assert!(log_bytes > 1 << 20, "{log_bytes} bytes in the segment");
    let before = disk.counters().bytes_read;
    for from in (1_000..29_000).step_by(1_000) {
        let piece = store.reader(&t).unwrap().read(Offset(from), 4_096);
        assert!(matches!(piece, Ok(Chunk::Batches(_))));
    }
    // The index, the window in front of the piece, and the piece.
    let each = (disk.counters().bytes_read - before) / 28;
    assert!(each < 600 << 10, "{each} bytes read for a piece of 4 KiB");
}

#[test]
fn an_unset_clock_says_so() {
    let mut store = open(&SimDisk::new(5), &config(), 1);
    let t = tp("a-0");
    for timestamp in [5, NOW] {
        let record = NewRecord::new(timestamp, "k", "v");
        let entry = Entry {
            records: vec![(t.clone(), record)],
            ..Entry::default()
        };
        store.stage(entry, 0).unwrap();
    }
    store.commit(0).unwrap();
    store.tick(1_000).unwrap();
    let Chunk::Batches(all) = store
        .reader(&t)
        .unwrap()
        .read(Offset::ZERO, 1 << 20)
        .unwrap()
    else {
        panic!()
    };
    let mut decoder = Decoder::new();
    let view = BatchView::parse(&all[0], &Limits::UPLINK).unwrap();
    let records = view.records(&mut decoder, &Limits::UPLINK).unwrap();
    let unset: Vec<_> = records
        .map(|r| r.unwrap().headers.last(CLOCK_HEADER).flatten() == Some(b"unset"))
        .collect();
    assert_eq!(unset, [true, false]);
}

#[test]
fn indexes_are_rebuilt_when_missing_short_or_wrong() {
    let disk = SimDisk::new(6);
    let mut store = open(&disk, &config(), 1);
    let t = tp("a-0");
    write(&mut store, &t, 600, 0);
    store.checkpoint(Vec::new(), 20_000).unwrap();
    let indexes: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "index" || e == "timeindex")
        })
        .collect();
    assert!(indexes.len() > 6);
    let read = |path: &Path| headwater_log::disk::read_all(&disk, path, 1 << 20).unwrap();
    let good: Vec<_> = indexes.iter().map(|path| read(path)).collect();
    for damage in 0..3 {
        for path in &indexes {
            match damage {
                0 => disk.remove(path).unwrap(),
                1 => disk
                    .open(path, headwater_log::disk::Open::Write)
                    .unwrap()
                    .set_len(5)
                    .unwrap(),
                _ => drop(disk.rot(path, 6, 0x40)),
            }
        }
        for from in [0, 77, 301, 599] {
            let all = offsets(&store, &t, Offset(from));
            let first = all[0];
            assert!(first <= from && *all.last().unwrap() == 599);
        }
        drop(store);
        restart(&disk, Crash::Kill);
        store = open(&disk, &config(), 2 + damage);
        // Reading each sealed segment from its middle makes its index anew.
        (0..600).for_each(|n| drop(store.reader(&t).unwrap().read(Offset(n), 1).unwrap()));
        store.tick(1_000).unwrap();
        store.checkpoint(Vec::new(), 2_000).unwrap();
        let now: Vec<_> = indexes.iter().map(|path| read(path)).collect();
        assert_eq!(now, good, "damage {damage}");
    }
}

#[test]
fn readers_go_on_while_the_store_writes_and_deletes() {
    let disk = SimDisk::new(8);
    let mut cfg = config();
    cfg.retention_bytes = Some(32 << 10);
    let mut store = open(&disk, &cfg, 1);
    let t = tp("a-0");
    write(&mut store, &t, 10, 0);
    let reader = store.reader(&t).unwrap();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (mut reader, done) = (reader.clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                let (mut at, mut read) = (Offset::ZERO, 0u64);
                loop {
                    let last = done.load(std::sync::atomic::Ordering::SeqCst);
                    match reader.read(at, 8_000) {
                        Ok(Chunk::Batches(batches)) => {
                            for batch in batches {
                                let view = BatchView::parse(&batch, &Limits::UPLINK).unwrap();
                                assert!(view.base_offset() <= at, "no hole is skipped");
                                at = view.next_offset();
                                read += u64::from(view.record_count());
                            }
                        }
                        Ok(Chunk::End) if last => return (at, read),
                        Ok(Chunk::End) => std::thread::yield_now(),
                        Err(ReadError::BelowStart { start, .. }) => at = start,
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    for round in 1..60 {
        let now = round * 20_000;
        write(&mut store, &t, 64, now);
        store.set_acked(&t, store.sealed_end(&t).unwrap(), now);
        store.tick(now + 15_000).unwrap();
        store.checkpoint(Vec::new(), now + 15_000).unwrap();
    }
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    for thread in threads {
        let (at, read) = thread.join().unwrap();
        assert_eq!(at, store.next(&t).unwrap());
        assert!(read > 0);
    }
    assert!(store.start(&t).unwrap() > Offset::ZERO);
}

#[test]
fn offsets_are_found_by_time() {
    let mut store = open(&SimDisk::new(9), &config(), 1);
    let t = tp("a-0");
    write(&mut store, &t, 500, 0);
    let mut reader = store.reader(&t).unwrap();
    for n in [0, 1, 99, 250, 499] {
        assert_eq!(
            reader.offset_for_time(NOW + n).unwrap(),
            Some((Offset(n), NOW + n))
        );
    }
    assert_eq!(reader.offset_for_time(0).unwrap(), Some((Offset(0), NOW)));
    assert_eq!(reader.offset_for_time(NOW + 500).unwrap(), None);
}

#[test]
fn acks_and_intervals_are_told_apart() {
    let mut store = open(&SimDisk::new(13), &config(), 1);
    let t = tp("a-0");
    let mut relaxed = entry(&t, 0);
    relaxed.durability = Durability::Interval;
    let staged = store.stage(relaxed, 500).unwrap();
    assert!(staged.ack_now);
    assert_eq!(store.commit_due(), Some(1_500));
    let strict = store.stage(entry(&t, 1), 600).unwrap();
    assert!(!strict.ack_now);
    assert_eq!(store.commit_due(), Some(600));
    let job = store.begin_commit(600).unwrap().unwrap();
    assert!(
        store.begin_commit(600).unwrap().is_none(),
        "one in flight (J1)"
    );
    let later = store.stage(entry(&t, 2), 601).unwrap();
    let token = store.finish_commit(job.run(), 602).unwrap();
    assert!(token >= strict.token && token < later.token);
    assert_eq!(store.sealed_end(&t), Some(Offset(0)));
    assert_eq!(
        store
            .checkpoint(Vec::new(), 603)
            .map(|token| token >= later.token)
            .ok(),
        Some(true)
    );
    assert_eq!(store.sealed_end(&t), Some(Offset(3)));
}

/// Otherwise a burst is taken at the pace of its interval: so much memory, every few seconds.
#[test]
fn entries_that_find_no_memory_do_not_wait_for_the_interval_of_those_before() {
    let mut cfg = config();
    cfg.memory_bytes = 4_096;
    cfg.interval_ms = 5_000;
    let mut store = open(&SimDisk::new(9), &cfg, 1);
    let t = tp("a-0");
    let mut relaxed = |n| {
        let mut entry = entry(&t, n);
        entry.durability = Durability::Interval;
        store.stage(entry, 100).map(|_| store.commit_due())
    };
    assert!(relaxed(0).unwrap() > Some(100));
    let refused = (1..100).find_map(|n| relaxed(n).err());
    assert!(matches!(refused, Some(Refused::Busy { .. })), "{refused:?}");
    assert_eq!(store.commit_due(), Some(100));
    store.commit(100).unwrap();
    assert!(store.stage(entry(&t, 100), 100).is_ok());
}
