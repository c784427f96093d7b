//! The store on the simulated disk: each promise by itself. Random histories are in `crash/`.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use headwater_batch::{BatchView, Decoder, Limits, NewRecord, Offset, TopicPartition};
use headwater_log::checkpoint::FileStore;
use headwater_log::disk::Crash;
use headwater_log::store::{
    CLOCK_HEADER, Chunk, Durability, Entry, Full, GapReason, Ms, ReadError, Refused, Store,
    StoreConfig,
};
use headwater_log::{Disk, ErrorKind, SimDisk, inspect};

const NOW: i64 = 1_780_000_000_000;

fn tp(name: &str) -> TopicPartition {
    name.parse().unwrap()
}

fn config() -> StoreConfig {
    let mut cfg = StoreConfig::new("/data");
    cfg.journal_file_bytes = 64 << 10;
    cfg.reserve_bytes = 64 << 10;
    cfg.budget_bytes = 16 << 20;
    cfg.batch_bytes = 2048;
    cfg.segment_bytes = 8192;
    cfg.linger_ms = 100;
    cfg.hold_ms = 5_000;
    cfg
}

fn open(disk: &SimDisk, cfg: &StoreConfig, boot: u64) -> Store {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let checkpoints = FileStore::open(Arc::clone(&shared), Path::new("/data/checkpoints")).unwrap();
    Store::open(
        shared,
        Box::new(checkpoints),
        cfg.clone(),
        0,
        boot,
        boot.into(),
    )
    .unwrap()
    .0
}

fn restart(disk: &SimDisk, how: Crash) {
    disk.crash(how);
    disk.restart();
}

fn entry(tp: &TopicPartition, n: i64) -> Entry {
    let value: Vec<u8> = (0..100)
        .map(|i| (n as u8).wrapping_mul(i).rotate_left(3))
        .collect();
    let record = NewRecord::new(NOW + n, format!("k{n}"), value);
    Entry {
        records: vec![(tp.clone(), record)],
        ..Entry::default()
    }
}

/// Stages, commits and seals `count` records.
fn write(store: &mut Store, tp: &TopicPartition, count: i64, now: Ms) {
    for n in 0..count {
        store.stage(entry(tp, n), now).unwrap();
        if n % 16 == 15 {
            store.commit(now).unwrap();
        }
    }
    store.commit(now).unwrap();
    store.tick(now + 10_000).unwrap();
}

/// Offsets read from `from`, gaps left out.
fn offsets(store: &Store, tp: &TopicPartition, from: Offset) -> Vec<i64> {
    let (mut reader, mut at, mut all) = (store.reader(tp).unwrap(), from, Vec::new());
    loop {
        match reader.read(at, 4096) {
            Ok(Chunk::Batches(batches)) => {
                for batch in batches {
                    let view = BatchView::parse(&batch, &Limits::UPLINK).unwrap();
                    let mut decoder = Decoder::new();
                    let records = view.records(&mut decoder, &Limits::UPLINK).unwrap();
                    all.extend(records.map(|record| record.unwrap().offset.0));
                    at = view.next_offset();
                }
            }
            Ok(Chunk::Gap(gap)) => at = gap.to,
            Ok(Chunk::End) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn j6_a_full_budget_refuses_before_anything_is_written() {
    let fill = |refuse: bool| {
        let disk = SimDisk::new(1);
        let mut cfg = config();
        cfg.budget_bytes = 800 << 10;
        cfg.rules.refuse_full = refuse;
        let mut store = open(&disk, &cfg, 1);
        let t = tp("a-0");
        let mut refused = None;
        for n in 0..20_000 {
            match store.stage(entry(&t, n), 0) {
                Ok(_) => {}
                Err(Refused::Full { .. }) if store.wants_checkpoint() => {
                    store.checkpoint(Vec::new(), 0).unwrap();
                    continue;
                }
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
            if n % 16 == 0 {
                store.commit(0).unwrap();
            }
            if store.wants_checkpoint() {
                store.checkpoint(Vec::new(), 0).unwrap();
            }
        }
        let used: u64 = {
            let sizes = disk.files();
            let size = |path| {
                disk.open(path, headwater_log::disk::Open::Read)
                    .unwrap()
                    .len()
            };
            sizes.iter().map(|path| size(path).unwrap()).sum()
        };
        (store, refused, used, cfg)
    };
    let (mut store, refused, used, cfg) = fill(true);
    assert!(matches!(refused, Some(Refused::Full { .. })), "{refused:?}");
    assert!(
        used <= cfg.budget_bytes,
        "{used} bytes on a budget of {}",
        cfg.budget_bytes
    );
    let t = tp("a-0");
    let next = store.next(&t).unwrap();
    store.stage(entry(&t, 0), 0).unwrap_err();
    assert_eq!(store.next(&t), Some(next), "a refused entry uses no offset");
    // The acks that free space still go through, and then there is room.
    store.commit(0).unwrap();
    store.tick(10_000).unwrap();
    for n in 0..2_000 {
        let now = 10_000 + n as Ms;
        store.set_acked(&t, store.sealed_end(&t).unwrap(), now);
        if store.wants_checkpoint() {
            store.checkpoint(Vec::new(), now).unwrap();
        }
        store.stage(entry(&t, n), now).unwrap();
        if n % 16 == 0 {
            store.commit(now).unwrap();
            store.tick(now).unwrap();
        }
    }
    assert!(store.start(&t).unwrap() > Offset::ZERO);
    assert!(store.gaps(&t).is_empty());

    let (_, refused, used, cfg) = fill(false);
    assert!(
        refused.is_none() && used > cfg.budget_bytes,
        "without the rule nothing refuses"
    );
}

#[test]
fn j8_an_idle_partition_does_not_hold_the_journal() {
    let run = |seal_idle: bool| {
        let disk = SimDisk::new(2);
        let mut cfg = config();
        cfg.rules.seal_idle = seal_idle;
        let mut store = open(&disk, &cfg, 1);
        store.set_link(false);
        let (idle, busy) = (tp("idle-0"), tp("busy-0"));
        store.stage(entry(&idle, 0), 0).unwrap();
        store.commit(0).unwrap();
        store.tick(cfg.linger_ms).unwrap();
        let sealed = store.sealed_end(&idle).unwrap();
        let mut most = 0;
        for n in 0..6_000 {
            let now = 100 + n as Ms;
            if store.stage(entry(&busy, n), now).is_err() {
                return (sealed, None);
            }
            if n % 8 == 0 {
                store.commit(now).unwrap();
                store.tick(now).unwrap();
            }
            if store.wants_checkpoint() && store.checkpoint(Vec::new(), now).is_err() {
                return (sealed, None);
            }
            most = most.max(store.usage().journal_bytes);
        }
        (sealed, Some(most))
    };
    let (sealed, most) = run(true);
    assert_eq!(
        sealed,
        Offset(1),
        "sealed at linger_ms although the link is down"
    );
    assert!(
        most.unwrap() <= 6 * (64 << 10),
        "the journal stays short: {most:?}"
    );
    let (sealed, most) = run(false);
    assert_eq!(sealed, Offset(0));
    assert!(
        most.is_none(),
        "without the rule the journal fills up: {most:?}"
    );
}

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

#[test]
fn j9_the_clock_runs_only_while_the_store_does() {
    let disk = SimDisk::new(4);
    let mut cfg = config();
    cfg.retention_ms = Some(10_000);
    let t = tp("a-0");
    let mut store = open(&disk, &cfg, 1);
    write(&mut store, &t, 300, 0);
    store.set_acked(&t, Offset(300), 4_000);
    store.checkpoint(Vec::new(), 4_000).unwrap();
    drop(store);
    restart(&disk, Crash::Power);
    // The caller's clock begins anew at each start; the age goes on at 4 s.
    let mut store = open(&disk, &cfg, 2);
    store.tick(5_000).unwrap();
    store.commit(5_000).unwrap();
    assert_eq!(store.start(&t), Some(Offset::ZERO), "9 s old");
    store.tick(17_000).unwrap();
    store.commit(17_000).unwrap();
    assert!(store.start(&t).unwrap() > Offset(200), "older than 10 s");
    // What was still open then was sealed then, and counts from there.
    store.tick(28_000).unwrap();
    store.commit(28_000).unwrap();
    assert_eq!(store.start(&t), Some(Offset(300)));
    // The last segment's name remembers where to go on, without any journal.
    assert!(
        disk.files()
            .contains(&format!("/data/a-0/{:020}.log", 300).into())
    );
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
fn a_rotten_batch_is_reported_quarantined_and_passed() {
    let disk = SimDisk::new(7);
    let mut store = open(&disk, &config(), 1);
    let t = tp("a-0");
    write(&mut store, &t, 200, 0);
    store.checkpoint(Vec::new(), 20_000).unwrap();
    let log = Path::new("/data/a-0/00000000000000000000.log");
    let mut out = Vec::new();
    let whole = inspect::verify(&disk, Path::new("/data"), &mut out).unwrap();
    assert_eq!((whole.damages.len(), whole.records), (0, 200), "{whole:?}");
    disk.rot(log, 2_500, 1).unwrap();
    let found = inspect::verify(&disk, Path::new("/data"), &mut out).unwrap();
    assert_eq!(found.damages.len(), 1);
    assert!(found.damages[0].path.ends_with("00000000000000000000.log"));
    assert!(
        found.damages[0].at <= 2_500 && found.damages[0].at > 0,
        "{:?}",
        found.damages
    );

    let mut reader = store.reader(&t).unwrap();
    let mut at = Offset::ZERO;
    let (from, to) = loop {
        match reader.read(at, 1) {
            Ok(Chunk::Batches(b)) => {
                at = BatchView::parse(&b[0], &Limits::UPLINK)
                    .unwrap()
                    .next_offset();
            }
            Err(ReadError::Corrupt { from, to, .. }) => break (from, to),
            other => panic!("{other:?}"),
        }
    };
    assert!(from == at && to > from);
    let gap = headwater_log::store::Gap {
        from,
        to,
        reason: GapReason::Corrupt,
    };
    let token = store.add_gap(&t, gap, 0).unwrap();
    assert!(
        matches!(reader.read(from, 1), Err(ReadError::Corrupt { .. })),
        "not durable yet"
    );
    assert!(store.commit(0).unwrap() >= token);
    assert_eq!(reader.read(from, 1).unwrap(), Chunk::Gap(gap));
    drop(store);
    restart(&disk, Crash::Power);
    let store = open(&disk, &config(), 2);
    assert_eq!(store.gaps(&t), [gap]);
    let expected: Vec<i64> = (0..200).filter(|n| !(from.0..to.0).contains(n)).collect();
    assert_eq!(offsets(&store, &t, Offset::ZERO), expected);
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
fn a_removed_route_still_drains_and_a_lost_journal_keeps_offsets() {
    let disk = SimDisk::new(10);
    let t = tp("old.route-3");
    let mut store = open(&disk, &config(), 1);
    write(&mut store, &t, 50, 0);
    store.checkpoint(Vec::new(), 20_000).unwrap();
    drop(store);
    restart(&disk, Crash::Kill);
    for dir in ["/data/journal", "/data/checkpoints"] {
        disk.remove_dir_all(Path::new(dir)).unwrap();
    }
    let store = open(&disk, &config(), 2);
    assert_eq!(store.partitions(), std::slice::from_ref(&t));
    assert_eq!(store.next(&t), Some(Offset(50)));
    assert_eq!(offsets(&store, &t, Offset::ZERO).len(), 50);
    // Nothing tells of the old incarnation any more: the cloud must not take it for that one.
    assert_eq!(store.lineage(&t).unwrap().incarnation, 2);
}

#[test]
fn drop_oldest_drops_whole_segments_and_no_more_than_needed() {
    let disk = SimDisk::new(11);
    let mut cfg = config();
    cfg.full = Full::DropOldest;
    cfg.budget_bytes = 800 << 10;
    let mut store = open(&disk, &cfg, 1);
    let t = tp("a-0");
    for n in 0..12_000 {
        let now = n as Ms;
        if store.stage(entry(&t, n), now).is_err() {
            store.checkpoint(Vec::new(), now).unwrap();
            store.stage(entry(&t, n), now).unwrap();
        }
        if n % 16 == 0 {
            store.commit(now).unwrap();
            store.tick(now).unwrap();
        }
        if store.wants_checkpoint() {
            store.checkpoint(Vec::new(), now).unwrap();
        }
    }
    store.commit(12_000).unwrap();
    let gaps = store.gaps(&t);
    let start = store.start(&t).unwrap();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].from, gaps[0].to), (Offset::ZERO, start));
    assert_eq!(gaps[0].reason, GapReason::Dropped);
    let usage = store.usage();
    let segment = 8192;
    assert!(
        usage.used_bytes() <= usage.limit_bytes + segment,
        "{usage:?}"
    );
    assert!(
        usage.used_bytes() + 8 * segment > usage.limit_bytes,
        "{usage:?}"
    );
    let next = store.next(&t).unwrap();
    assert_eq!(offsets(&store, &t, start).first(), Some(&start.0));
    assert!(next == Offset(12_000));
}

#[test]
fn a_failed_sync_stops_the_store() {
    let disk = SimDisk::new(12);
    let mut store = open(&disk, &config(), 1);
    let t = tp("a-0");
    store.stage(entry(&t, 0), 0).unwrap();
    disk.fail_sync(0);
    assert_eq!(store.commit(0).unwrap_err().kind(), ErrorKind::Fatal);
    assert_eq!(store.stage(entry(&t, 0), 0), Err(Refused::Stopped));
    assert_eq!(store.tick(1_000).unwrap_err().kind(), ErrorKind::Fatal);
    drop(store);
    restart(&disk, Crash::Power);
    let mut store = open(&disk, &config(), 2);
    write(&mut store, &t, 3, 0);
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
