//! A medium without room, whoever filled it: nothing stops, nothing is lost, and it empties again.

use std::path::Path;
use std::sync::Arc;

use headwater_batch::Offset;
use headwater_log::checkpoint::FileStore;
use headwater_log::disk::Crash;
use headwater_log::store::{Entry, Store};
use headwater_log::{Disk, ErrorKind, SimDisk};

use super::{config, entry, offsets, open, restart, tp, write};

type Kv = Vec<(Vec<u8>, Vec<u8>)>;

fn kv(disk: &SimDisk, boot: u64) -> Kv {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let checkpoints = FileStore::open(Arc::clone(&shared), Path::new("/data/checkpoints")).unwrap();
    let checkpoints = Box::new(checkpoints);
    let opened = Store::open(shared, checkpoints, config(), 0, boot, boot.into());
    opened.unwrap().1.kv
}

#[test]
fn a_checkpoint_that_found_no_room_keeps_the_owner_s_changes_for_the_next() {
    let disk = SimDisk::new(14);
    let mut store = open(&disk, &config(), 1);
    let t = tp("a-0");
    for n in 0..40 {
        store.stage(entry(&t, n), 0).unwrap();
        store.commit(0).unwrap();
    }
    disk.set_capacity(0);
    let change = |key: &str, value: Option<&str>| (key.into(), value.map(Into::into));
    let first = vec![
        change("kept", Some("1")),
        change("newer", Some("1")),
        change("gone", Some("1")),
    ];
    let error = store.checkpoint(first, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(!store.wants_checkpoint(), "it does not ask again at once");
    let second = vec![change("newer", Some("2")), change("gone", None)];
    store.checkpoint(second, 0).unwrap_err();
    disk.set_capacity(u64::MAX);
    store.tick(2_000).unwrap();
    assert!(store.wants_checkpoint());
    store.checkpoint(Vec::new(), 2_000).unwrap();
    drop(store);
    restart(&disk, Crash::Power);
    let pair = |key: &str, value: &str| (key.into(), value.into());
    assert_eq!(kv(&disk, 2), [pair("kept", "1"), pair("newer", "2")]);
}

#[test]
fn a_full_budget_leaves_room_for_what_frees_space() {
    let disk = SimDisk::new(17);
    let mut cfg = config();
    cfg.budget_bytes = 800 << 10;
    let mut store = open(&disk, &cfg, 1);
    let t = tp("a-0");
    for n in 0.. {
        match store.stage(entry(&t, n), 0) {
            Ok(_) => drop(store.commit(0).unwrap()),
            Err(_) if store.wants_checkpoint() => {
                store.checkpoint(Vec::new(), 0).unwrap();
            }
            Err(_) => break,
        }
    }
    let op = Entry {
        op: b"fork".to_vec(),
        ..Entry::default()
    };
    while store.stage(op.clone(), 0).is_ok() {
        store.commit(0).unwrap();
    }
    let staged = store.stage_reserved(op.op, 0).unwrap();
    assert!(store.commit(0).unwrap() >= staged.token);
}

/// Sessions' queues stand in the checkpoints. When their messages are delivered, these have to be
/// written anew before there is room, and a log that is full must ask for that itself.
#[test]
fn what_the_owner_lets_go_of_makes_room_again() {
    let disk = SimDisk::new(18);
    let mut cfg = config();
    cfg.budget_bytes = 1_000 << 10;
    let mut store = open(&disk, &cfg, 1);
    let t = tp("a-0");
    let queue = |value: Option<Vec<u8>>| vec![(b"queue".to_vec(), value)];
    for byte in [1, 2] {
        let value = Some(vec![byte; 150 << 10]);
        store.checkpoint(queue(value), 0).unwrap();
    }
    for n in 0.. {
        match store.stage(entry(&t, n), 0) {
            Ok(_) => drop(store.commit(0).unwrap()),
            Err(_) if store.wants_checkpoint() => {
                store.checkpoint(Vec::new(), 0).unwrap();
            }
            Err(_) => break,
        }
    }
    assert!(
        !store.wants_checkpoint(),
        "it does not ask for what would not help"
    );
    store.stage_reserved(b"delivered".to_vec(), 0).unwrap();
    store.commit(0).unwrap();
    let mut checkpoints = 0;
    while store.stage(entry(&t, 0), 0).is_err() {
        assert!(store.wants_checkpoint() && checkpoints < 2);
        store.checkpoint(queue(None), 0).unwrap();
        checkpoints += 1;
    }
    assert!(checkpoints > 0);
}

#[test]
fn a_full_medium_does_not_keep_the_store_from_starting() {
    let disk = SimDisk::new(15);
    let mut store = open(&disk, &config(), 1);
    let t = tp("a-0");
    write(&mut store, &t, 75, 0);
    store.checkpoint(Vec::new(), 20_000).unwrap();
    drop(store);
    restart(&disk, Crash::Kill);
    let entries = disk
        .open(
            Path::new("/data/a-0/00000000000000000000.index"),
            headwater_log::disk::Open::Read,
        )
        .unwrap();
    assert!(
        entries.len().unwrap() > 0,
        "there is an index to write anew"
    );
    disk.set_capacity(0);
    let store = open(&disk, &config(), 2);
    let all: Vec<i64> = (0..75).collect();
    assert_eq!(offsets(&store, &t, Offset::ZERO), all);
}

#[test]
fn a_lost_index_costs_no_reading_on_a_full_medium() {
    let disk = SimDisk::new(16);
    let mut store = open(&disk, &config(), 1);
    let t = tp("a-0");
    write(&mut store, &t, 400, 0);
    let index = Path::new("/data/a-0/00000000000000000000.index");
    disk.remove(index).unwrap();
    disk.set_capacity(0);
    let all: Vec<i64> = (0..400).collect();
    assert_eq!(offsets(&store, &t, Offset::ZERO), all);
    assert!(!disk.exists(index).unwrap());
    disk.set_capacity(u64::MAX);
    assert_eq!(offsets(&store, &t, Offset::ZERO), all);
    assert!(disk.exists(index).unwrap(), "made anew when there is room");
}
