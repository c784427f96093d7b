//! Groups that spare pages: where they stand, and that they are found there.

use std::path::{Path, PathBuf};

use headwater_log::disk::{Crash, Disk, Open};
use headwater_log::durable::{DurableConfig, Rules};
use headwater_log::{Position, SimDisk};

use crate::model::{Rng, config, open};

const PAGE: usize = 4096;

fn spared(salt_seed: u64) -> DurableConfig {
    DurableConfig {
        whole_pages: true,
        file_bytes: 64 << 10,
        compress_above_bytes: usize::MAX,
        ..config(salt_seed, Rules::default())
    }
}

fn payload(id: u64) -> Vec<u8> {
    let mut rng = Rng(id + 1);
    let bytes = 300 + rng.below(900);
    (0..bytes).map(|_| rng.draw() as u8).collect()
}

fn journals(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    files
        .filter(|p| p.to_string_lossy().contains("/journal/0"))
        .collect()
}

/// Place and length of each group in a file.
fn groups(disk: &SimDisk, path: &Path) -> Vec<(usize, usize)> {
    let file = disk.open(path, Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let starts = (0..bytes.len() - 48).step_by(8);
    let length = |at: usize| u32::from_le_bytes(bytes[at + 44..at + 48].try_into().unwrap());
    starts
        .filter(|at| bytes[*at..at + 4] == *b"HWGR")
        .map(|at| (at, 48 + length(at) as usize))
        .collect()
}

#[test]
fn small_groups_touch_one_page_and_are_all_found() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, spared(1)).unwrap();
    for id in 0..150 {
        log.stage(1, &payload(id)).unwrap();
        log.commit().unwrap();
    }
    let files = journals(&disk);
    assert!(files.len() > 2, "{files:?}");
    let all: Vec<_> = files.iter().flat_map(|path| groups(&disk, path)).collect();
    assert_eq!(all.len(), 150);
    for (at, bytes) in all {
        assert_eq!(at / PAGE, (at + bytes - 1) / PAGE, "{bytes} bytes at {at}");
    }
    // One by one, from anywhere; then from the front, after a crash.
    for id in (0..150).rev() {
        assert_eq!(log.read(Position(id)).unwrap().payload, payload(id));
    }
    drop(log);
    disk.crash(Crash::Power);
    disk.restart();
    let (mut log, recovered) = open(&disk, spared(2)).unwrap();
    assert!(recovered.report.is_whole(), "{:?}", recovered.report);
    let found: Vec<_> = recovered.frames.map(|f| f.unwrap().payload).collect();
    assert_eq!(found, (0..150).map(payload).collect::<Vec<_>>());
    log.stage(1, &payload(150)).unwrap();
    log.commit().unwrap();
    assert_eq!(log.read(Position(150)).unwrap().payload, payload(150));
}

/// The last group stands at a page's start, behind a free rest of the page before: a flipped bit in
/// its header must not look like a clean end.
#[test]
fn a_rotten_header_behind_a_free_rest_is_no_clean_end() {
    let disk = SimDisk::new(2);
    let (mut log, _) = open(&disk, spared(1)).unwrap();
    let mut id = 0;
    let (path, at) = loop {
        log.stage(1, &payload(id)).unwrap();
        log.commit().unwrap();
        id += 1;
        let path = journals(&disk).pop().unwrap();
        let all = groups(&disk, &path);
        if let [.., before, (at, _)] = all[..]
            && at % PAGE == 0
            && before.0 + before.1 < at - 8
        {
            break (path, at as u64);
        }
    };
    drop(log);
    disk.crash(Crash::Power);
    disk.restart();
    disk.rot(&path, at + 1, 4).unwrap();
    let (_, recovered) = open(&disk, spared(2)).unwrap();
    let journal = &recovered.report.journal;
    let told = journal.cut.as_ref().map(|cut| cut.bytes.start);
    assert_eq!(told, Some(at), "{journal:?}");
    assert_eq!(recovered.frames.count() as u64, id - 1);
}
