//! Rot, lost files and failed syncs, one by one.

use std::path::Path;

use headwater_batch::{BatchView, Limits, Offset};
use headwater_log::disk::Crash;
use headwater_log::store::{Chunk, GapReason, ReadError, Refused};
use headwater_log::{Disk, ErrorKind, SimDisk, inspect};

use super::{config, entry, offsets, open, restart, tp, try_open, write};

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
    // Its name is left, and the starts say from where on this log may differ from what was sent.
    let lineage = store.lineage(&t).unwrap();
    assert_eq!(lineage.incarnation, 1);
    assert_eq!(lineage.boots, [(1, Offset(0)), (2, Offset(50))]);
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

/// Rule J6: where room is found only at write-back, ENOSPC comes from the fsync, and the pages look
/// clean afterwards. It is no want of room to be tried again.
#[test]
fn a_sync_that_fails_for_want_of_room_stops_the_store_too() {
    let disk = SimDisk::new(13);
    let mut store = open(&disk, &config(), 1);
    let t = tp("a-0");
    let mut now = 0;
    let error = loop {
        assert!(
            now < 100_000,
            "a segment is sealed, and synced, before that"
        );
        now += 1_000;
        for n in 0..16 {
            store.stage(entry(&t, n), now).unwrap();
        }
        store.commit(now).unwrap();
        disk.fail_sync_full(Some(0));
        match store.tick(now + 500) {
            Ok(_) => disk.fail_sync_full(None),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert_eq!(store.stage(entry(&t, 0), now), Err(Refused::Stopped));
    let next = store.next(&t).unwrap();
    drop(store);
    restart(&disk, Crash::Power);
    let store = open(&disk, &config(), 2);
    let all: Vec<i64> = (0..next.0).collect();
    assert_eq!(offsets(&store, &t, Offset::ZERO), all);
}

/// U4: what cannot be read now is not rotten. No start makes a GAP of it.
#[test]
fn a_journal_that_cannot_be_read_ends_the_start_and_loses_nothing() {
    let disk = SimDisk::new(11);
    let mut store = open(&disk, &config(), 1);
    let t = tp("a-0");
    for n in 0..600 {
        store.stage(entry(&t, n), 0).unwrap();
        store.commit(0).unwrap();
    }
    drop(store);
    restart(&disk, Crash::Power);
    let files = disk.files().into_iter();
    let journal: Vec<_> = files
        .filter(|path| path.to_string_lossy().contains("/journal/0"))
        .collect();
    assert!(journal.len() > 1, "{journal:?}");
    let files_before = disk.files();
    for path in &journal {
        disk.fail_reads(Some(path)).unwrap();
        let failed = try_open(&disk, &config(), 2).err();
        let failed = failed.unwrap_or_else(|| panic!("{} was passed over", path.display()));
        assert_eq!(failed.kind(), ErrorKind::Io, "{failed}");
        assert!(
            failed.to_string().contains(path.to_str().unwrap()),
            "{failed}"
        );
        assert_eq!(disk.files(), files_before);
    }
    disk.fail_reads(None).unwrap();
    let mut store = open(&disk, &config(), 3);
    store.tick(10_000).unwrap();
    assert!(store.gaps(&t).is_empty(), "{:?}", store.gaps(&t));
    assert_eq!(offsets(&store, &t, Offset::ZERO), Vec::from_iter(0..600));
}
