//! Checkpoint files: a generation as a plain file, and the manifest beside sled's.
//!
//! Memory: a checkpoint is read whole, and its entries are copied once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_log::checkpoint::{
    CheckpointStore, FileStore, MANIFEST_MAGIC, POSITION_MAX, SledStore,
};
use headwater_log::{Disk, SimDisk};

use super::{files, named};
use crate::Target;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "checkpoint",
    run,
    seeds,
    input_bytes_max: 16 << 10,
    memory_bytes_max: 16 << 20,
};

const SLED: u8 = 1;

fn names() -> Vec<PathBuf> {
    ["c/a.checkpoint", "c/b.checkpoint"]
        .map(PathBuf::from)
        .to_vec()
}

fn run(data: &[u8]) {
    match data.split_first() {
        Some((&SLED, manifest)) => sled(manifest),
        Some((_, files)) => plain(files),
        None => {}
    }
}

fn plain(data: &[u8]) {
    let disk = SimDisk::new(1);
    let _ = files::lay(&disk, &names(), &mut Input::new(data));
    let mut store = open(&disk);
    let marks = store.generations().expect("damage is no error");
    let mut newest = None;
    for mark in &marks {
        let loaded = store.load(mark.generation).expect("damage is no error");
        newest = newest.or(loaded.map(|_| mark.generation));
    }
    let next = marks.iter().map(|m| m.generation).max().unwrap_or(0);
    // Behind the last generation that is believed, there is none.
    let Some(next) = next.checked_add(1).filter(|next| *next <= POSITION_MAX) else {
        return;
    };
    let changes = [
        (b"k".to_vec(), Some(b"v".to_vec())),
        (b"gone".to_vec(), None),
    ];
    let mark = store
        .commit(newest, next, 5, &changes)
        .expect("a new generation");
    let entries = store.load(mark.generation).expect("it was just written");
    let entries = entries.expect("it proves itself");
    assert!(entries.contains(&(b"k".to_vec(), b"v".to_vec())));
    store.notes();
}

fn open(disk: &SimDisk) -> FileStore {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    FileStore::open(disk, Path::new("c")).expect("it opens on any disk")
}

/// The manifest decides whether sled is opened at all: with none of its files there, it never is.
fn sled(manifest: &[u8]) {
    let mut bytes = manifest.to_vec();
    if bytes.len() > 12 {
        let crc = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    }
    let dir = tempfile::tempdir().expect("a scratch folder");
    for name in ["a.manifest", "b.manifest"] {
        std::fs::write(dir.path().join(name), &bytes).expect("a scratch file");
    }
    let mut store = SledStore::open(dir.path()).expect("it opens on any disk");
    for mark in store.generations().expect("damage is no error") {
        let _ = store.load(mark.generation);
    }
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let disk = SimDisk::new(1);
    let mut store = open(&disk);
    let change = |n: u8| (vec![n; 3], Some(vec![n; 20]));
    store
        .commit(None, 1, 3, &[change(1), change(2)])
        .expect("the first");
    store
        .commit(Some(1), 2, 9, &[change(3)])
        .expect("the second");
    let plain = |fits| [&[0][..], &files::sections(&disk, &names(), fits)].concat();
    let mut manifest = vec![SLED];
    manifest.extend(MANIFEST_MAGIC);
    manifest.extend([0; 4]);
    manifest.extend(1u32.to_le_bytes());
    manifest.extend([1, 0, 0, 0, 0, 0, 0, 0].repeat(3));
    manifest.extend([3, 0, b'd', b'/', b'f', 9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    vec![
        named("plain", plain(0)),
        named("fitted", plain(4)),
        named("manifest", manifest),
    ]
}
