//! Files that were used before, headers that rot, names that come back.

use std::path::{Path, PathBuf};

use headwater_log::disk::{Crash, Disk, Open};
use headwater_log::durable::Rules;
use headwater_log::{ErrorKind, SimDisk};

use crate::model::{Owner, Promises, config, id_of, open, payload};

fn journal_files(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    files
        .filter(|p| p.to_string_lossy().contains("/journal/0"))
        .collect()
}

fn bytes(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn items(recovered: headwater_log::Recovered) -> Vec<u64> {
    let mut items: Vec<u64> = recovered.checkpoint.iter().map(|(k, _)| id_of(k)).collect();
    items.extend(recovered.frames.map(|f| id_of(&f.unwrap().payload)));
    items
}

#[test]
fn groups_of_an_earlier_use_are_never_believed() {
    let disk = SimDisk::new(3);
    let mut p = Promises::default();
    let mut owner = Owner::start(&disk, config(1, Rules::default()), &mut p)
        .unwrap()
        .unwrap();
    for round in 0..8 {
        for _ in 0..40 {
            owner.stage(false, &mut p).unwrap();
            let done = owner.durable.commit().unwrap();
            owner.acked(done, &mut p);
        }
        owner.checkpoint(&mut p).unwrap();
        assert!(
            journal_files(&disk).len() <= 4,
            "round {round}: files are reused"
        );
    }
    owner.stage(false, &mut p).unwrap();
    owner.durable.commit().unwrap();
    // The file in use has whole groups of an earlier use behind its end.
    let last = bytes(&disk, journal_files(&disk).last().unwrap());
    let groups = last.windows(4).filter(|w| w == b"HWGR").count();
    assert!(groups > 5, "{groups}");
    disk.crash(Crash::Power);
    disk.restart();
    let (_, recovered) = open(&disk, config(2, Rules::default())).unwrap();
    assert!(recovered.report.is_whole(), "{:?}", recovered.report);
    assert_eq!(items(recovered), (0..321).collect::<Vec<_>>());
}

#[test]
fn one_rotten_header_copy_costs_nothing_and_both_cost_the_header_alone() {
    for copies in 1..3 {
        let disk = SimDisk::new(3);
        let mut p = Promises::default();
        let mut owner = Owner::start(&disk, config(1, Rules::default()), &mut p)
            .unwrap()
            .unwrap();
        for i in 0..60 {
            owner.stage(false, &mut p).unwrap();
            owner.durable.commit().unwrap();
            if i == 20 || i == 40 {
                owner.checkpoint(&mut p).unwrap();
            }
        }
        drop(owner);
        disk.crash(Crash::Kill);
        disk.restart();
        let files = journal_files(&disk);
        for copy in 0..copies {
            disk.rot(&files[files.len() - 1], copy * 4096 + 20, 4)
                .unwrap();
        }
        let (_, recovered) = open(&disk, config(2, Rules::default())).unwrap();
        let report = recovered.report.clone();
        assert_eq!(
            report.journal.headers_lost.len(),
            copies as usize - 1,
            "{report:?}"
        );
        assert_eq!(
            items(recovered),
            (0..60).collect::<Vec<_>>(),
            "{copies}: {report:?}"
        );
    }
}

#[test]
fn a_missing_file_is_noticed() {
    let disk = SimDisk::new(3);
    let (mut log, _) = open(&disk, config(1, Rules::default())).unwrap();
    for id in 0..300 {
        log.stage(1, &payload(id * 3)).unwrap();
        if id % 3 == 0 {
            log.commit().unwrap();
        }
    }
    log.commit().unwrap();
    drop(log);
    let files = journal_files(&disk);
    assert!(files.len() > 2, "{files:?}");
    disk.remove(&files[1]).unwrap();
    let (_, recovered) = open(&disk, config(2, Rules::default())).unwrap();
    let lost = recovered.report.journal.lost.clone();
    assert_eq!(lost.len(), 1, "{lost:?}");
    let found: Vec<u64> = recovered.frames.map(|f| f.unwrap().position.0).collect();
    let expected: Vec<u64> = (0..300).filter(|i| !lost[0].frames.contains(i)).collect();
    assert_eq!(found, expected);
    assert!(expected.len() > 50 && expected.len() < 290);
}

#[test]
fn reads_give_durable_frames_and_say_what_is_gone() {
    let disk = SimDisk::new(3);
    let (mut log, _) = open(&disk, config(1, Rules::default())).unwrap();
    let reader = log.reader();
    for id in 0..200 {
        log.stage(1, &payload(id)).unwrap();
        assert_eq!(
            log.read(headwater_log::Position(id)).unwrap_err().kind(),
            ErrorKind::Invalid
        );
        log.commit().unwrap();
        if id % 50 == 49 {
            log.checkpoint(headwater_log::Position(id + 1), vec![], vec![], &[])
                .unwrap();
        }
    }
    for id in 0..200 {
        match reader.read(headwater_log::Position(id)) {
            Ok(frame) => assert_eq!((frame.payload, frame.kind), (payload(id), 1)),
            Err(e) => assert!(
                id < log.start().0 && e.kind() == ErrorKind::Invalid,
                "{id}: {e}"
            ),
        }
    }
    assert_eq!(log.start().0, 150);
}

/// Numbers start again, in a file whose old groups stand where the new ones will: only the salt
/// tells them apart.
#[test]
fn only_the_salt_tells_old_groups_of_the_same_numbers() {
    let disk = SimDisk::new(3);
    let (mut log, _) = open(&disk, config(1, Rules::default())).unwrap();
    for id in 0..20 {
        log.stage(1, &payload(id)).unwrap();
        log.commit().unwrap();
    }
    drop(log);
    let used = journal_files(&disk);
    for file in disk.files().into_iter().filter(|f| *f != used[0]) {
        disk.remove(&file).unwrap();
    }
    let spare = used[0].with_file_name("spare-00000000000000000000.journal");
    disk.rename(&used[0], &spare).unwrap();
    let (mut log, _) = open(&disk, config(2, Rules::default())).unwrap();
    log.stage(1, &payload(0)).unwrap();
    log.commit().unwrap();
    drop(log);
    let (_, recovered) = open(&disk, config(3, Rules::default())).unwrap();
    assert_eq!(recovered.end.0, 1);
    assert_eq!(items(recovered), [0]);
}
