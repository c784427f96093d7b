//! Offsets of acked records whose journal frames rotted are never given again.

use std::path::PathBuf;

use headwater_batch::{NewRecord, Offset, TopicPartition};
use headwater_log::SimDisk;
use headwater_log::disk::{Crash, Disk, Open};
use headwater_log::store::{Entry, Full, GapReason, Store, StoreConfig};

use super::{NOW, config, offsets, open, restart, tp, try_open, write};

fn one(tp: &TopicPartition, key: &str) -> Entry {
    let record = NewRecord::new(NOW, key.to_owned(), "value");
    Entry {
        records: vec![(tp.clone(), record)],
        ..Entry::default()
    }
}

/// Stages one record for each key and commits them as one group.
fn group(store: &mut Store, tp: &TopicPartition, keys: &[&str]) {
    for key in keys {
        store.stage(one(tp, key), 0).unwrap();
    }
    store.commit(0).unwrap();
}

/// Damages the newest copy of the group that holds the record with this key.
fn rot_key(disk: &SimDisk, key: &str) {
    let files = disk.files().into_iter();
    let journals: Vec<PathBuf> = files
        .filter(|p| p.to_string_lossy().contains("/journal/0"))
        .collect();
    let at = journals.iter().rev().find_map(|path| {
        let file = disk.open(path, Open::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let found = bytes.windows(key.len()).position(|w| w == key.as_bytes());
        found.map(|at| (path, at as u64))
    });
    let (path, at) = at.expect("small groups are plain, and nothing is packed yet");
    disk.rot(path, at, 0x10).unwrap();
}

/// What a start makes of `lost` acked offsets from 3 on of `a`.
fn check(disk: &SimDisk, a: &TopicPartition, lost: i64) {
    restart(disk, Crash::Power);
    let mut store = open(disk, &config(), 2);
    let next = store.next(a).unwrap();
    assert!(next >= Offset(3 + lost), "{next} was given before");
    let gaps = store.gaps(a).to_vec();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!((gaps[0].from, gaps[0].to), (Offset(3), next));
    assert_eq!(gaps[0].reason, GapReason::Corrupt);
    let staged = store.stage(one(a, "later"), 0).unwrap();
    assert_eq!(staged.offsets, [next]);
    store.commit(0).unwrap();
    store.tick(10_000).unwrap();
    assert_eq!(offsets(&store, a, Offset::ZERO), [0, 1, 2, next.0]);
    drop(store);
    // The same rot is met again at the next start, and costs nothing more.
    restart(disk, Crash::Power);
    let store = open(disk, &config(), 3);
    assert_eq!(store.next(a), Some(next.next()));
    assert_eq!(store.gaps(a), gaps);
}

/// A frame behind the rot says how many records there were, and none of whose they are.
#[test]
fn offsets_lost_in_the_middle_of_the_journal_are_skipped() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, &config(), 1);
    let (a, b) = (tp("a-0"), tp("b-0"));
    group(&mut store, &b, &["other"]);
    group(&mut store, &a, &["first", "second", "third"]);
    group(&mut store, &a, &["fourth", "fifth"]);
    group(&mut store, &b, &["another"]);
    assert_eq!(store.next(&a), Some(Offset(5)));
    drop(store);
    rot_key(&disk, "fifth");
    check(&disk, &a, 2);
    // It is known of `b` that it lost nothing.
    let store = open(&disk, &config(), 4);
    assert_eq!(store.next(&b), Some(Offset(2)));
    assert!(store.gaps(&b).is_empty());
}

/// Nothing is left behind the rot but what says that it was synced.
#[test]
fn offsets_lost_at_the_end_of_the_journal_are_skipped() {
    let disk = SimDisk::new(2);
    let mut store = open(&disk, &config(), 1);
    let a = tp("a-0");
    group(&mut store, &a, &["first", "second", "third"]);
    group(&mut store, &a, &["fourth", "fifth"]);
    drop(store);
    // A start that dies before its own first group: the file it made says what was synced.
    restart(&disk, Crash::Kill);
    let copied = |disk: &SimDisk| {
        let files = disk.files().into_iter();
        let mut names = files.filter_map(|p| p.file_name()?.to_str().map(str::to_owned));
        names.any(|name| name == "00000000000000000002.journal")
    };
    for nth in 0..20 {
        disk.crash_at_sync(nth, Crash::Power);
        try_open(&disk, &config(), 2)
            .err()
            .expect("the machine is off");
        disk.restart();
        if copied(&disk) {
            break;
        }
    }
    assert!(copied(&disk));
    rot_key(&disk, "fifth");
    check(&disk, &a, 2);
}

/// The first records of a partition rot before any checkpoint or header knows of it, and the segments
/// that are written then begin behind them: the GAP must not pass for what retention took.
#[test]
fn a_gap_before_the_first_segment_is_not_forgotten() {
    let disk = SimDisk::new(3);
    let mut store = open(&disk, &config(), 1);
    let a = tp("a-0");
    group(&mut store, &a, &["first", "second"]);
    group(&mut store, &a, &["third", "fourth"]);
    drop(store);
    rot_key(&disk, "second");
    for (boot, how) in [(2, Crash::Power), (3, Crash::Power), (4, Crash::Kill)] {
        restart(&disk, how);
        let mut store = open(&disk, &config(), boot);
        let gaps: Vec<_> = store.gaps(&a).iter().map(|g| (g.from, g.to)).collect();
        assert_eq!(gaps, [(Offset(0), Offset(2))], "at start {boot}");
        assert_eq!(store.start(&a), Some(Offset::ZERO), "at start {boot}");
        assert_eq!(offsets(&store, &a, Offset::ZERO), [2, 3]);
        store.tick(10_000).unwrap();
    }
}

/// Sixty records in twenty batches of one segment, synced; journal and checkpoints are gone.
fn segment_alone(disk: &SimDisk, cfg: &StoreConfig, a: &TopicPartition) -> PathBuf {
    let mut store = open(disk, cfg, 1);
    for n in 0..20 {
        write(&mut store, a, 3, n * 20_000);
    }
    store.checkpoint(Vec::new(), 400_000).unwrap();
    drop(store);
    restart(disk, Crash::Kill);
    for path in disk.files() {
        let name = path.to_string_lossy();
        if name.contains("/journal/") || name.contains("/checkpoints/") {
            disk.remove(&path).unwrap();
        }
    }
    PathBuf::from("/data/a-0/00000000000000000000.log")
}

fn one_segment() -> StoreConfig {
    let mut cfg = config();
    cfg.segment_bytes = 1 << 20;
    cfg
}

/// What follows damage in the last segment is kept, and the next start, which finds a journal again,
/// must not take it for a torn tail.
#[test]
fn what_follows_damage_when_the_journal_is_lost_is_kept_by_the_next_start() {
    let (disk, cfg, a) = (SimDisk::new(5), one_segment(), tp("a-0"));
    let path = segment_alone(&disk, &cfg, &a);
    disk.rot(&path, 70, 0x10).unwrap();
    let whole: Vec<i64> = (3..60).collect();
    for (boot, how) in [(2, Crash::Kill), (3, Crash::Kill), (4, Crash::Power)] {
        restart(&disk, how);
        let store = open(&disk, &cfg, boot);
        assert_eq!(offsets(&store, &a, Offset(3)), whole, "at start {boot}");
        assert_eq!(store.next(&a), Some(Offset(60)));
        assert_eq!(store.gaps(&a), []);
    }
}

/// Base offsets are outside the CRC. One that rotted, behind another damage, leads nowhere.
#[test]
fn a_rotten_base_offset_behind_damage_costs_its_own_batch() {
    let (disk, cfg, a) = (SimDisk::new(6), one_segment(), tp("a-0"));
    let path = segment_alone(&disk, &cfg, &a);
    for suffix in ["index", "timeindex"] {
        disk.remove(&path.with_extension(suffix)).unwrap();
    }
    let mut length = [0; 4];
    let file = disk.open(&path, Open::Read).unwrap();
    file.read_exact_at(&mut length, 8).unwrap();
    let second = 12 + u64::from(u32::from_be_bytes(length));
    disk.rot(&path, 70, 0x10).unwrap();
    disk.rot(&path, second + 1, 0x10).unwrap();
    for boot in 2..4 {
        restart(&disk, Crash::Kill);
        let store = open(&disk, &cfg, boot);
        assert_eq!(store.next(&a), Some(Offset(60)), "at start {boot}");
        let found = offsets(&store, &a, Offset(6));
        assert_eq!(found, (6..60).collect::<Vec<_>>(), "at start {boot}");
    }
}

/// The frame that named records as dropped rots, a later one tells where the log begins: what lies
/// below was not acknowledged, and must not pass for what retention took.
#[test]
fn a_drop_that_nothing_names_any_more_is_a_gap() {
    let disk = SimDisk::new(4);
    let mut cfg = config();
    cfg.full = Full::DropOldest;
    cfg.budget_bytes = 800 << 10;
    let mut store = open(&disk, &cfg, 1);
    let a = tp("a-0");
    // One record a group, until two drops stand in groups of their own since the last checkpoint.
    let (mut drops, mut now) = (Vec::new(), 0);
    for n in 0.. {
        let key = format!("record-{n:06}");
        now += 50;
        let begin = store.start(&a);
        let staged = (0..2).find(|_| {
            let taken = store.stage(one(&a, &key), now).is_ok();
            if !taken || store.wants_checkpoint() {
                store.checkpoint(Vec::new(), now).unwrap();
                drops.clear();
            }
            taken
        });
        staged.expect("a checkpoint makes room");
        store.commit(now).unwrap();
        store.tick(now).unwrap();
        if store.start(&a) > begin.max(Some(Offset::ZERO)) {
            drops.push(key);
        }
        if drops.len() == 2 {
            break;
        }
    }
    let start = store.start(&a).unwrap();
    assert_eq!(store.acked(&a), Some(Offset::ZERO));
    drop(store);
    rot_key(&disk, &drops[0]);
    for boot in 2..4 {
        restart(&disk, Crash::Power);
        let store = open(&disk, &cfg, boot);
        assert_eq!(store.start(&a), Some(start));
        let mut named = Offset::ZERO;
        for gap in store.gaps(&a) {
            assert!(gap.from <= named, "nothing names {named} to {}", gap.from);
            named = gap.to;
        }
        assert!(named >= start, "nothing names {named} to {start}");
    }
}

/// The frame behind the rot is one that counts no records.
#[test]
fn offsets_lost_before_a_frame_that_counts_none_are_skipped() {
    let disk = SimDisk::new(7);
    let mut store = open(&disk, &config(), 1);
    let a = tp("a-0");
    group(&mut store, &a, &["first", "second", "third"]);
    group(&mut store, &a, &["fourth", "fifth"]);
    store.set_acked(&a, Offset(1), 0);
    store.tick(10_000).unwrap();
    store.commit(10_000).unwrap();
    drop(store);
    rot_key(&disk, "fifth");
    restart(&disk, Crash::Power);
    let store = open(&disk, &config(), 2);
    let next = store.next(&a).unwrap();
    assert!(next >= Offset(5), "{next} was given before");
}
