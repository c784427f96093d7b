//! No single rot, whatever it hits, makes a log a stranger to the cloud or undoes a fork (U1).

use std::path::{Path, PathBuf};

use headwater_batch::{Offset, TopicPartition};
use headwater_log::disk::{Crash, Disk, Open};
use headwater_log::store::{LINEAGE_FILES, LINEAGE_MAGIC, Lineage, Store, trust};
use headwater_log::{SimDisk, inspect};

use super::{config, entry, offsets, open, restart, tp};

const DIR: &str = "/data";

fn paths(disk: &SimDisk, part: &str) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    files
        .filter(|path| path.to_string_lossy().contains(part))
        .collect()
}

fn contents(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Where groups begin, in the order of the journal.
fn groups(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let mut all = Vec::new();
    for path in paths(disk, "/journal/0") {
        let bytes = contents(disk, &path);
        let found = bytes.windows(4).enumerate();
        let found = found.filter(|(_, window)| *window == b"HWGR");
        all.extend(found.map(|(at, _)| (path.clone(), at as u64)));
    }
    all
}

fn damage(disk: &SimDisk, name: &str) {
    disk.rot(&Path::new(DIR).join(name), 20, 4).unwrap();
}

/// A log of three starts, one fork and a record in each group.
fn forked(disk: &SimDisk) -> (TopicPartition, Lineage) {
    let t = tp("a-0");
    let put = |store: &mut Store, n| {
        store.stage(entry(&t, n), 0).unwrap();
        store.commit(0).unwrap();
    };
    let mut store = open(disk, &config(), 1);
    put(&mut store, 0);
    put(&mut store, 1);
    drop(store);
    restart(disk, Crash::Kill);
    let mut store = open(disk, &config(), 2);
    put(&mut store, 2);
    let token = store.fork(&t, 99, Offset(1), 0).unwrap();
    assert!(store.commit(0).unwrap() >= token);
    put(&mut store, 3);
    drop(store);
    restart(disk, Crash::Kill);
    let mut store = open(disk, &config(), 3);
    put(&mut store, 4);
    put(&mut store, 5);
    let lineage = store.lineage(&t).unwrap();
    assert_eq!((lineage.incarnation, lineage.since), (99, Offset(1)));
    let boots: Vec<u64> = lineage.boots.iter().map(|boot| boot.0).collect();
    assert_eq!(boots, [1, 2, 3]);
    (t, lineage)
}

#[test]
fn no_group_of_the_journal_takes_a_lineage_with_it() {
    let disk = SimDisk::new(1);
    let (t, lineage) = forked(&disk);
    restart(&disk, Crash::Power);
    let groups = groups(&disk);
    assert!(groups.len() >= 9, "{groups:?}");
    for (path, at) in groups {
        let disk = disk.copy(at);
        disk.rot(&path, at + 9, 1).unwrap();
        let mut store = open(&disk, &config(), 4);
        let found = store.lineage(&t).unwrap();
        let what = format!("{} at {at}", path.display());
        assert_eq!(found.incarnation, lineage.incarnation, "{what}");
        assert_eq!(found.since, lineage.since, "{what}");
        let (new, known) = found.boots.split_last().unwrap();
        assert_eq!((known, new.0), (&lineage.boots[..], 4), "{what}");
        assert!(!store.in_doubt(&t), "{what}");
        // What a start names was used before it: it is not given again.
        assert!(found.boots.is_sorted_by_key(|boot| boot.1), "{found:?}");
        store.tick(10_000).unwrap();
        assert!(offsets(&store, &t, Offset::ZERO).len() >= 4, "{what}");
    }
}

#[test]
fn a_lineage_survives_the_whole_journal() {
    let disk = SimDisk::new(2);
    let (t, lineage) = forked(&disk);
    let mut store = open(&disk, &config(), 4);
    store.tick(10_000).unwrap();
    store.checkpoint(Vec::new(), 10_000).unwrap();
    drop(store);
    restart(&disk, Crash::Power);
    for dir in ["journal", "checkpoints"] {
        disk.remove_dir_all(&Path::new(DIR).join(dir)).unwrap();
    }
    let store = open(&disk, &config(), 5);
    let found = store.lineage(&t).unwrap();
    assert_eq!(found.incarnation, lineage.incarnation);
    assert_eq!(found.boots.len(), 5);
    assert!(!store.in_doubt(&t));
}

#[test]
fn one_file_of_two_is_enough_and_is_written_again() {
    for name in LINEAGE_FILES {
        let disk = SimDisk::new(3);
        let (t, lineage) = forked(&disk);
        restart(&disk, Crash::Power);
        damage(&disk, name);
        let mut out = Vec::new();
        let verified = inspect::verify(&disk, Path::new(DIR), &mut out).unwrap();
        assert_eq!(verified.damages.len(), 1, "{verified:?}");
        assert!(verified.damages[0].path.ends_with(name));
        let (path, at) = groups(&disk)[0].clone();
        disk.rot(&path, at + 9, 1).unwrap();
        let store = open(&disk, &config(), 4);
        assert_eq!(store.lineage(&t).unwrap().incarnation, lineage.incarnation);
        assert!(!store.in_doubt(&t));
        let verified = inspect::verify(&disk, Path::new(DIR), &mut out).unwrap();
        let lineages = verified.damages.iter();
        let damaged = lineages.filter(|damage| damage.path.ends_with(name));
        assert_eq!(damaged.count(), 0, "{verified:?}");
    }
}

/// Nothing tells of the newest fork any more, or may not: then nothing is sent under a guess.
#[test]
fn a_lineage_that_nothing_tells_of_is_in_doubt_until_it_is_trusted() {
    let disk = SimDisk::new(4);
    let (t, _) = forked(&disk);
    restart(&disk, Crash::Power);
    LINEAGE_FILES.iter().for_each(|name| damage(&disk, name));
    for (path, at) in groups(&disk) {
        disk.rot(&path, at + 9, 1).unwrap();
    }
    let store = open(&disk, &config(), 4);
    assert!(store.in_doubt(&t));
    drop(store);

    let disk = SimDisk::new(5);
    let (t, _) = forked(&disk);
    let mut store = open(&disk, &config(), 4);
    store.tick(10_000).unwrap();
    drop(store);
    restart(&disk, Crash::Power);
    LINEAGE_FILES.iter().for_each(|name| damage(&disk, name));
    let (path, at) = groups(&disk)[1].clone();
    disk.rot(&path, at + 9, 1).unwrap();
    let mut store = open(&disk, &config(), 5);
    assert!(store.in_doubt(&t));
    // It takes records, and stays in doubt over starts.
    store.stage(entry(&t, 7), 0).unwrap();
    store.commit(0).unwrap();
    drop(store);
    restart(&disk, Crash::Power);
    let store = open(&disk, &config(), 6);
    assert!(store.in_doubt(&t));
    drop(store);
    assert!(trust(&disk, Path::new(DIR), &t).unwrap());
    assert!(!trust(&disk, Path::new(DIR), &t).unwrap());
    let store = open(&disk, &config(), 7);
    assert!(!store.in_doubt(&t));
}

/// What a power cut would take back is not told to anybody.
#[test]
fn a_partition_has_no_name_before_its_birth_is_durable() {
    let disk = SimDisk::new(9);
    let t = tp("a-0");
    let mut store = open(&disk, &config(), 1);
    store.stage(entry(&t, 0), 0).unwrap();
    assert_eq!(store.partitions(), std::slice::from_ref(&t));
    assert_eq!(store.lineage(&t), None);
    let job = store.begin_commit(0).unwrap().unwrap();
    assert_eq!(store.lineage(&t), None);
    let done = job.run();
    assert_eq!(
        store.lineage(&t),
        None,
        "durable, and nobody has heard of it"
    );
    store.finish_commit(done, 0).unwrap();
    let told = store.lineage(&t).unwrap();

    store.stage(entry(&tp("b-0"), 1), 0).unwrap();
    drop(store);
    restart(&disk, Crash::Power);
    let store = open(&disk, &config(), 2);
    assert_eq!(store.lineage(&t).unwrap().incarnation, told.incarnation);
    assert_eq!(store.lineage(&tp("b-0")), None);
}

#[test]
fn a_segment_without_any_lineage_is_in_doubt() {
    let disk = SimDisk::new(6);
    let (t, _) = forked(&disk);
    let mut store = open(&disk, &config(), 4);
    store.tick(10_000).unwrap();
    drop(store);
    restart(&disk, Crash::Kill);
    for dir in ["journal", "checkpoints"] {
        disk.remove_dir_all(&Path::new(DIR).join(dir)).unwrap();
    }
    for name in LINEAGE_FILES {
        disk.remove(&Path::new(DIR).join(name)).unwrap();
    }
    let store = open(&disk, &config(), 5);
    assert!(store.in_doubt(&t));
}

/// A medium without room for the files stops neither fork nor start; with room they are written.
#[test]
fn without_room_the_files_wait() {
    let disk = SimDisk::new(7);
    let t = tp("a-0");
    let mut store = open(&disk, &config(), 1);
    store.stage(entry(&t, 0), 0).unwrap();
    store.commit(0).unwrap();
    disk.set_capacity(0);
    let token = store.fork(&t, 99, Offset(1), 0).unwrap();
    assert!(store.commit(0).unwrap() >= token);
    assert_eq!(store.lineage(&t).unwrap().incarnation, 99);
    let copy = Path::new(DIR).join(LINEAGE_FILES[1]);
    let before = contents(&disk, &copy);
    disk.set_capacity(u64::MAX);
    store.tick(2_000).unwrap();
    assert_ne!(contents(&disk, &copy), before);
    assert_eq!(contents(&disk, &copy)[..8], LINEAGE_MAGIC);
}

/// The bytes of the first version: they must be read for ever.
#[test]
fn the_bytes_of_the_first_version() {
    let disk = SimDisk::new(8);
    let t = tp("a-0");
    let mut store = open(&disk, &config(), 1);
    store.stage(entry(&t, 0), 0).unwrap();
    store.commit(0).unwrap();
    store.fork(&t, 0x1234, Offset(1), 0).unwrap();
    store.commit(0).unwrap();
    for name in LINEAGE_FILES {
        let bytes = contents(&disk, &Path::new(DIR).join(name));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }
}

const GOLDEN: &str = "48574c4e474530316372a82e0c00000001016100b424020100010100";
