//! Budget, retention, and what lets go of the journal.

use headwater_batch::Offset;
use headwater_log::disk::Crash;
use headwater_log::store::{Durability, Entry, Full, GapReason, Ms, Refused, SYNC_MS_MAX};
use headwater_log::{Disk, SimDisk};

use super::{config, entry, offsets, open, restart, tp, write};

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
    assert!(store.usage().is_full);
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
        assert!(!store.usage().is_full, "what the cloud has may go");
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

/// J9: the frames since the checkpoint move the clock on; what they sealed is not old for that.
#[test]
fn what_was_sealed_since_the_checkpoint_is_not_older_after_a_crash() {
    let disk = SimDisk::new(10);
    let mut cfg = config();
    cfg.retention_ms = Some(10_000);
    let t = tp("a-0");
    let mut store = open(&disk, &cfg, 1);
    store.tick(90_000).unwrap();
    write(&mut store, &t, 300, 90_000);
    store.set_acked(&t, Offset(300), 101_000);
    store.commit(101_000).unwrap();
    restart(&disk, Crash::Power);
    let mut store = open(&disk, &cfg, 2);
    store.tick(5_000).unwrap();
    store.commit(5_000).unwrap();
    assert_eq!(store.start(&t), Some(Offset::ZERO), "6 s old");
    store.tick(17_000).unwrap();
    store.commit(17_000).unwrap();
    assert!(store.start(&t).unwrap() > Offset(200), "older than 10 s");
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
    // The journal's share counts in full, whether it is used just now or not: 4 files and 2 spares.
    let journal = 6 * cfg.journal_file_bytes;
    let rest = usage.used_bytes() - usage.journal_bytes + usage.memory_bytes;
    assert!(
        rest + journal + 2 * segment > usage.limit_bytes,
        "{usage:?}"
    );
    let next = store.next(&t).unwrap();
    assert_eq!(offsets(&store, &t, start).first(), Some(&start.0));
    assert!(next == Offset(12_000));
}

#[test]
fn j7_the_longest_interval_leaves_the_medium_its_second() {
    let due = |keeps: bool| {
        let mut cfg = config();
        cfg.interval_ms = SYNC_MS_MAX;
        cfg.rules.j7 = keeps;
        let mut store = open(&SimDisk::new(5), &cfg, 1);
        let entry = Entry {
            durability: Durability::Interval,
            ..entry(&tp("a-0"), 1)
        };
        assert!(store.stage(entry, 100).unwrap().ack_now);
        store.commit_due()
    };
    assert_eq!(due(true), Some(100 + SYNC_MS_MAX - 1_000));
    assert_eq!(due(false), Some(100 + SYNC_MS_MAX));
}
