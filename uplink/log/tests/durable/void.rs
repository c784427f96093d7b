//! What was reported lost, or cut, is gone for good: numbers are used again, so old frames of the
//! same numbers must stay void whatever rots later.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use headwater_log::SimDisk;
use headwater_log::disk::{Crash, Disk, Open};
use headwater_log::durable::{Durable, Recovered, Rules};

use crate::model::{Rng, config, id_of, open, payload};

fn restart(disk: &SimDisk) {
    disk.crash(Crash::Kill);
    disk.restart();
}

fn start(disk: &SimDisk, salt_seed: u64) -> (Durable, Recovered) {
    open(disk, config(salt_seed, Rules::default())).unwrap()
}

fn journal(disk: &SimDisk, nth: usize) -> PathBuf {
    let files = disk.files().into_iter();
    let mut files = files.filter(|p| p.to_string_lossy().contains("/journal/0"));
    files.nth(nth).unwrap()
}

fn found(recovered: Recovered) -> Vec<u64> {
    let frames = recovered.frames.map(|f| id_of(&f.unwrap().payload));
    frames.collect()
}

/// Damages the item's group, in the place where it stands in that file.
fn rot_item(disk: &SimDisk, file: &Path, id: u64) {
    let open = disk.open(file, Open::Read).unwrap();
    let mut bytes = vec![0; open.len().unwrap() as usize];
    open.read_exact_at(&mut bytes, 0).unwrap();
    let marker = &payload(id)[..16];
    let at = bytes.windows(16).position(|w| w == marker);
    let at = at.expect("small frames are plain") as u64;
    disk.rot(file, at + 9, 0x40).unwrap();
}

/// Items 0 to 5 are synced, up to 10 only written, one group each.
fn with_unsynced_tail(disk: &SimDisk) {
    let (mut log, _) = start(disk, 1);
    for id in 0..5 {
        log.stage(1, &payload(id)).unwrap();
        log.commit().unwrap();
    }
    for id in 5..10 {
        log.stage(1, &payload(id)).unwrap();
        let job = log.begin_write().unwrap().unwrap();
        log.finish_commit(job.run()).unwrap();
    }
    drop(log);
    restart(disk);
}

/// Recovery copies the tail into a second file, all of which rots: the originals in the first
/// file are void. The rotten file may not go before they do.
#[test]
fn frames_lost_with_their_copy_do_not_come_back() {
    let disk = SimDisk::new(1);
    with_unsynced_tail(&disk);
    let (_, recovered) = start(&disk, 2);
    assert_eq!(recovered.report.journal.tail_frames, 5);
    let whole = found(recovered);
    assert_eq!(whole, (0..10).collect::<Vec<_>>());
    restart(&disk);
    for id in whole.iter().skip(5) {
        rot_item(&disk, &journal(&disk, 1), *id);
    }
    for life in 0..3 {
        let (mut log, recovered) = start(&disk, 3 + life);
        let lost = recovered.report.journal.lost.clone();
        assert_eq!(lost.len(), 1, "life {life}: {lost:?}");
        assert_eq!(lost[0].frames, 5..10, "life {life}");
        let (path, _) = lost[0].place.as_ref().expect("the file that rotted");
        assert!(path.ends_with("00000000000000000002.journal"), "{path:?}");
        let mut expected = vec![0, 1, 2, 3, 4];
        expected.extend((0..life).map(|l| 100 + l));
        assert_eq!(found(recovered), expected, "life {life}");
        for position in 5..10 {
            log.read(headwater_log::Position(position)).unwrap_err();
        }
        // A number that was never used before.
        assert_eq!(log.stage(1, &payload(100 + life)).unwrap().0, 10 + life);
        log.commit().unwrap();
        drop(log);
        restart(&disk);
    }
    // With the older file goes the rotten one, kept as evidence.
    let (mut log, _) = start(&disk, 9);
    for _ in 0..2 {
        log.checkpoint(log.end(), vec![], vec![], &[]).unwrap();
    }
    drop(log);
    let files = disk.files();
    let rotten: Vec<_> = files
        .iter()
        .filter(|p| p.to_string_lossy().contains("/rot-"))
        .collect();
    assert_eq!(rotten.len(), 1, "{files:?}");
    let (_, recovered) = start(&disk, 10);
    assert!(recovered.report.is_whole(), "{:?}", recovered.report);
}

/// A torn tail is cut, its numbers are given again; then both headers of the file that made the
/// rest of the tail void rot. Its groups still tell from where on.
#[test]
fn a_cut_tail_stays_cut_without_the_header_that_says_so() {
    let disk = SimDisk::new(1);
    with_unsynced_tail(&disk);
    rot_item(&disk, &journal(&disk, 0), 6);
    let (mut log, recovered) = start(&disk, 2);
    assert_eq!(recovered.report.journal.cut.as_ref().unwrap().at.0, 6);
    assert_eq!(found(recovered), (0..6).collect::<Vec<_>>());
    for id in 106..112 {
        log.stage(1, &payload(id)).unwrap();
        log.commit().unwrap();
    }
    drop(log);
    restart(&disk);
    let expected: Vec<u64> = (0..6).chain(106..112).collect();
    for copy in 0..2 {
        disk.rot(&journal(&disk, 1), copy * 4096 + 20, 4).unwrap();
    }
    for life in 0..2 {
        let (_, recovered) = start(&disk, 3 + life);
        assert_eq!(recovered.report.journal.headers_lost.len(), 1);
        assert!(recovered.report.is_whole(), "{:?}", recovered.report);
        assert_eq!(found(recovered), expected, "life {life}");
        restart(&disk);
    }
}

/// Lives with unsynced tails, crashes inside recovery, and rot: an item that a start did not give
/// back is given by no later one.
#[test]
fn what_one_start_misses_no_later_one_finds() {
    let (mut missed, mut headers) = (0, 0);
    for seed in 0..1500 {
        let mut rng = Rng(seed);
        let disk = SimDisk::new(seed);
        let (mut known, mut gone) = (Vec::new(), HashSet::new());
        let mut next = 0;
        for life in 0..8 {
            if rng.below(3) == 0 {
                disk.crash_at(rng.below(14), Crash::Power);
            }
            let salt_seed = seed * 100 + life;
            if let Ok((mut log, recovered)) = open(&disk, config(salt_seed, Rules::default())) {
                headers += recovered.report.journal.headers_lost.len();
                let found: HashSet<u64> = found(recovered).into_iter().collect();
                let back = found.intersection(&gone).next();
                assert_eq!(back, None, "seed {seed}, life {life}");
                gone.extend(known.drain(..).filter(|id| !found.contains(id)));
                missed = missed.max(gone.len());
                known.extend(found);
                for _ in 0..rng.below(20) {
                    let staged = log.stage(1, &payload(next));
                    known.push(next);
                    next += 1;
                    let begun = match rng.below(3) {
                        0 => log.begin_write(),
                        1 => log.begin_commit(),
                        _ => continue,
                    };
                    let Ok(Some(job)) = begun else { break };
                    if staged.is_err() || log.finish_commit(job.run()).is_err() {
                        break;
                    }
                }
            }
            let how = if rng.below(2) == 0 {
                Crash::Kill
            } else {
                Crash::Power
            };
            disk.crash(how);
            disk.restart();
            let files = disk.files();
            if rng.below(2) == 0 && !files.is_empty() {
                let file = &files[rng.below(files.len() as u64) as usize];
                // A failing block takes both copies of a header, or neighbouring groups.
                let at = rng.below(3) * 4096 + rng.below(500);
                let block = 4096 * rng.below(3);
                for at in [at, at + block] {
                    disk.rot(file, at, 1 << rng.below(8)).ok();
                }
            }
        }
    }
    assert!(missed > 10 && headers > 10, "{missed} {headers}");
}

/// Writes over the header of the item's group that frames below `synced` were durable.
fn say_synced(disk: &SimDisk, path: &Path, id: u64, synced: u64) {
    let file = disk.open(path, Open::Write).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let marker = &payload(id)[..16];
    let item = bytes.windows(16).position(|w| w == marker).unwrap();
    let group = bytes[..item].windows(4).rposition(|w| w == b"HWGR");
    let numbers = [synced; 2].map(u64::to_le_bytes).concat();
    file.write_at(&numbers, group.unwrap() as u64 + 16).unwrap();
    file.sync_data().unwrap();
}

/// Gives both copies of a file's header another *first*, and the checksum that fits.
fn say_first(disk: &SimDisk, path: &Path, first: u64) {
    let file = disk.open(path, Open::Write).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let owner = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let block = (96 + owner).next_multiple_of(4096);
    for at in [0, block] {
        let copy = &mut bytes[at..at + 96 + owner];
        copy[32..40].copy_from_slice(&first.to_le_bytes());
        let crc = crc32fast::hash(&copy[12..]);
        copy[8..12].copy_from_slice(&crc.to_le_bytes());
    }
    file.write_at(&bytes, 0).unwrap();
    file.sync_data().unwrap();
}

/// A header that says to come after a later file's frames: with it the file goes, and the frames of the
/// later one must count at this start as they do at the next.
#[test]
fn a_first_above_a_later_files_first_hides_no_frames() {
    let disk = SimDisk::new(7);
    with_unsynced_tail(&disk);
    drop(start(&disk, 2));
    restart(&disk);
    say_first(&disk, &journal(&disk, 0), 1 << 40);
    for salt_seed in 3..6 {
        let (_, recovered) = start(&disk, salt_seed);
        assert_eq!(found(recovered), [5, 6, 7, 8, 9], "at start {salt_seed}");
        restart(&disk);
    }
}

/// A header that says to come after its own groups: they go, and a header among them that is no whole
/// group's must not tell the next start what it did not tell this one.
#[test]
fn a_first_above_its_own_groups_leaves_no_proof_behind() {
    let disk = SimDisk::new(7);
    with_unsynced_tail(&disk);
    let (mut log, _) = start(&disk, 2);
    for id in 10..13 {
        log.stage(1, &payload(id)).unwrap();
        log.commit().unwrap();
    }
    drop(log);
    restart(&disk);
    let last = journal(&disk, 1);
    say_first(&disk, &last, 1 << 40);
    say_synced(&disk, &last, 11, 1 << 50);
    let starts = (3..6).map(|salt_seed| {
        let (log, recovered) = start(&disk, salt_seed);
        let all = (log.end().0, found(recovered));
        restart(&disk);
        all
    });
    let expected = (1 << 40, (0..10).collect());
    assert_eq!(starts.collect::<Vec<_>>(), vec![expected; 3]);
}
