//! [`SledStore`] with files that are cut, zeroed, flipped, missing or new: it always starts, and
//! what it gives back is a generation as it was written, or none.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_log::RealDisk;
use headwater_log::checkpoint::{CheckpointStore, Mark, SledStore};
use headwater_log::durable::{CheckpointUse, Durable, DurableConfig, Position};

use crate::model::Rng;

type Change = (Vec<u8>, Option<Vec<u8>>);

fn changes(rng: &mut Rng, model: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Change> {
    let mut changes = Vec::new();
    for _ in 0..rng.below(60) {
        let key = format!("key-{}", rng.below(200)).into_bytes();
        // Now and then larger than a sled segment, which goes into a file of its own.
        let len = if rng.below(40) == 0 {
            90_000
        } else {
            rng.below(200)
        };
        let value = (rng.below(4) > 0).then(|| (0..len).map(|_| rng.draw() as u8).collect());
        match &value {
            Some(value) => model.insert(key.clone(), Vec::clone(value)),
            None => model.remove(&key),
        };
        changes.push((key, value));
    }
    changes
}

#[test]
fn generations_follow_a_model_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng(5);
    let mut model = BTreeMap::new();
    let mut before = BTreeMap::new();
    let mut mark = Mark::default();
    let mut store = SledStore::open(dir.path()).unwrap();
    for generation in 1..14 {
        before.clone_from(&model);
        let base = (generation > 1).then_some(mark.generation);
        let changes = changes(&mut rng, &mut model);
        mark = store
            .commit(base, generation, generation * 10, &changes)
            .unwrap();
        assert_eq!((mark.generation, mark.at), (generation, generation * 10));
        if generation % 3 == 0 {
            store = SledStore::open(dir.path()).unwrap();
        }
        let held: Vec<u64> = store
            .generations()
            .unwrap()
            .iter()
            .map(|m| m.generation)
            .collect();
        assert_eq!(
            held,
            if generation > 1 {
                vec![generation, generation - 1]
            } else {
                vec![1]
            }
        );
        let now = store.load(generation).unwrap().unwrap();
        assert_eq!(now, model.clone().into_iter().collect::<Vec<_>>());
        if generation > 1 {
            let then = store.load(generation - 1).unwrap().unwrap();
            assert_eq!(then, before.clone().into_iter().collect::<Vec<_>>());
        }
    }
    assert_eq!(store.notes(), [""; 0]);
}

/// A queue that many messages pass through: no more is kept than a fixed number of rows, and each
/// generation replaces a part of them.
#[test]
fn a_state_that_changes_all_the_time_does_not_grow_the_files() {
    const ROWS: u64 = 100;
    const ROW_BYTES: usize = 4_000;
    let dir = tempfile::tempdir().unwrap();
    let checkpoints = dir.path().join("checkpoints");
    let mut rng = Rng(11);
    let mut store = SledStore::open(&checkpoints).unwrap();
    let mut model = BTreeMap::new();
    let mut largest = 0;
    for generation in 1..41 {
        let first: u64 = generation * 50;
        let mut changes: Vec<Change> = Vec::new();
        for row in first..first + 50 {
            let value: Vec<u8> = (0..ROW_BYTES).map(|_| rng.draw() as u8).collect();
            let key = format!("row-{row:08}").into_bytes();
            model.insert(key.clone(), value.clone());
            changes.push((key, Some(value)));
            let old = format!("row-{:08}", row.saturating_sub(ROWS)).into_bytes();
            if model.remove(&old).is_some() {
                changes.push((old, None));
            }
        }
        let base = (generation > 1).then_some(generation - 1);
        store
            .commit(base, generation, generation, &changes)
            .unwrap();
        let bytes: u64 = files(&checkpoints)
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .sum();
        largest = largest.max(bytes);
        if generation % 20 == 0 {
            store = SledStore::open(&checkpoints).unwrap();
            let loaded = store.load(generation).unwrap().unwrap();
            assert_eq!(loaded, model.clone().into_iter().collect::<Vec<_>>());
        }
    }
    // Two slots, each up to twice what is large enough to be written anew, and a change.
    assert!(largest < 10 << 20, "{largest} bytes for 400 kB of rows");
    assert_eq!(store.notes(), [""; 0]);
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
}

const HARMS: [&str; 6] = [
    "cut in half",
    "emptied",
    "zeroed",
    "flipped",
    "removed",
    "grown",
];

fn harm(path: &Path, how: &str) {
    let mut bytes = fs::read(path).unwrap();
    match how {
        "cut in half" => bytes.truncate(bytes.len() / 2),
        "emptied" => bytes.clear(),
        "zeroed" => bytes.fill(0),
        "flipped" => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
        }
        "grown" => bytes.extend([0; 100]),
        _ => return fs::remove_file(path).unwrap(),
    }
    fs::write(path, bytes).unwrap();
}

fn open(dir: &Path) -> (Durable, headwater_log::Recovered) {
    let store = SledStore::open(&dir.join("checkpoints")).unwrap();
    let cfg = DurableConfig {
        file_bytes: 2 << 20,
        ..DurableConfig::new(dir.join("journal"), 7)
    };
    Durable::open(Arc::new(RealDisk), Box::new(store), cfg).unwrap()
}

fn key(i: u64) -> Vec<u8> {
    i.to_be_bytes().to_vec()
}

/// Items 0..10 and 10..20 in two checkpoints, 20..25 in the journal alone.
fn written(dir: &Path) {
    let (mut log, _) = open(dir);
    for i in 0..25u64 {
        log.stage(1, &key(i)).unwrap();
        log.commit().unwrap();
        if i == 9 || i == 19 {
            let changes = (i - 9..=i)
                .map(|i| (key(i), Some(vec![i as u8; 50])))
                .collect();
            log.checkpoint(Position(i + 1), changes, key(i + 1), &[])
                .unwrap();
        }
    }
}

/// All items, wherever they come from.
fn items(recovered: headwater_log::Recovered) -> Vec<Vec<u8>> {
    let mut items: Vec<Vec<u8>> = recovered.checkpoint.into_iter().map(|(k, _)| k).collect();
    items.extend(recovered.frames.map(|f| f.unwrap().payload));
    items
}

#[test]
fn one_damaged_file_falls_back_a_generation_and_loses_nothing() {
    let whole = tempfile::tempdir().unwrap();
    written(whole.path());
    let all: Vec<Vec<u8>> = (0..25).map(key).collect();
    let (mut fell_back, mut kept) = (0, 0);
    let store = whole.path().join("checkpoints");
    for file in files(&store) {
        for how in HARMS {
            let dir = tempfile::tempdir().unwrap();
            copy(whole.path(), dir.path());
            harm(
                &dir.path().join(file.strip_prefix(whole.path()).unwrap()),
                how,
            );
            let (mut log, recovered) = open(dir.path());
            match recovered.report.checkpoint {
                CheckpointUse::FellBack { to: 1, from: 2 } => fell_back += 1,
                CheckpointUse::Newest(2) => kept += 1,
                other => panic!("{file:?} {how}: {other:?}"),
            }
            assert_eq!(items(recovered), all, "{file:?} {how}");
            // It goes on: the next two checkpoints make both slots whole again.
            for i in 25..27u64 {
                log.stage(1, &key(i)).unwrap();
                let changes = (0..=i).map(|i| (key(i), Some(vec![0]))).collect();
                log.checkpoint(Position(log.end().0), changes, key(i), &[])
                    .unwrap();
            }
            drop(log);
            let (_, recovered) = open(dir.path());
            assert!(matches!(
                recovered.report.checkpoint,
                CheckpointUse::Newest(_)
            ));
            assert_eq!(recovered.report.notes, [""; 0]);
            assert_eq!(items(recovered).len(), 27);
        }
    }
    assert!(
        fell_back >= HARMS.len() * 3 && kept >= HARMS.len() * 3,
        "{fell_back} {kept}"
    );
}

#[test]
fn with_both_slots_damaged_it_starts_from_headers_and_frames() {
    for how in HARMS {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path());
        for slot in ["a", "b"] {
            harm(&dir.path().join("checkpoints").join(slot).join("db"), how);
        }
        let (_, recovered) = open(dir.path());
        assert_eq!(recovered.report.checkpoint, CheckpointUse::Lost, "{how}");
        assert!(!recovered.report.is_whole());
        assert_eq!(recovered.header, key(20), "J3: next offsets survive");
        // The journal was trimmed to the older generation, no further.
        assert_eq!(
            items(recovered),
            (10..25).map(key).collect::<Vec<_>>(),
            "{how}"
        );
    }
}
