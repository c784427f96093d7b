//! Rot at the very end of the journal, where a torn tail would be.

use std::path::PathBuf;

use headwater_log::SimDisk;
use headwater_log::disk::{Crash, Disk, Open};
use headwater_log::durable::{JournalReport, Rules};

use crate::model::{config, id_of, open, payload};

/// Bytes of a group's header, and one in its body.
const PLACES: u64 = 49;
/// All but the checksum: what says where the next group stands, or is not believed when it is odd.
const FRAMING: [std::ops::Range<u64>; 2] = [0..4, 8..48];
/// Salt and number.
const NAME: std::ops::Range<u64> = 8..24;
const SALT: std::ops::Range<u64> = 8..16;
const NUMBER: std::ops::Range<u64> = 16..24;
/// What was synced before.
const SYNCED: std::ops::Range<u64> = 24..32;

fn power_off(disk: &SimDisk) {
    disk.crash(Crash::Power);
    disk.restart();
}

/// Eight items, each a group, all synced; and where each group begins.
fn journal() -> (SimDisk, PathBuf, Vec<u64>) {
    let journal = journal_of(8);
    assert_eq!(journal.2.len(), 8);
    journal
}

/// The same with so many items; the groups are those of the last file.
fn journal_of(items: u64) -> (SimDisk, PathBuf, Vec<u64>) {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, config(1, Rules::default())).unwrap();
    for id in 0..items {
        log.stage(1, &payload(id)).unwrap();
        log.commit().unwrap();
    }
    drop(log);
    power_off(&disk);
    let mut files = disk.files().into_iter();
    let path = files
        .rfind(|p| p.to_string_lossy().contains("/journal/0"))
        .unwrap();
    let file = disk.open(&path, Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let places = bytes.chunks_exact(8).enumerate();
    let groups = places.filter(|(_, c)| c[..4] == *b"HWGR");
    let groups: Vec<u64> = groups.map(|(i, _)| i as u64 * 8).collect();
    (disk, path, groups)
}

/// What a start after the damage says; a second one finds what it found, and numbers go on behind.
fn start(disk: &SimDisk) -> (JournalReport, Vec<u64>) {
    let (_, recovered) = open(disk, config(2, Rules::default())).unwrap();
    let report = recovered.report.journal.clone();
    let found: Vec<u64> = recovered
        .frames
        .map(|f| id_of(&f.unwrap().payload))
        .collect();
    power_off(disk);
    let (mut log, recovered) = open(disk, config(3, Rules::default())).unwrap();
    let again = recovered.frames.map(|f| id_of(&f.unwrap().payload));
    assert_eq!(again.collect::<Vec<_>>(), found);
    let behind = report
        .lost
        .last()
        .map_or(found.len() as u64, |l| l.frames.end);
    assert_eq!(log.stage(1, &payload(100)).unwrap().0, behind);
    (report, found)
}

/// J1: the second of two bad groups was begun when the first was durable.
#[test]
fn of_two_rotten_groups_at_the_end_the_first_is_rot() {
    let (disk, path, groups) = journal();
    let (mut proven, mut open) = (0, 0);
    for first in 0..PLACES {
        for second in 0..PLACES {
            let disk = disk.copy(first);
            disk.rot(&path, groups[6] + first, 0x40).unwrap();
            disk.rot(&path, groups[7] + second, 0x20).unwrap();
            let (report, found) = start(&disk);
            assert_eq!(found, [0, 1, 2, 3, 4, 5]);
            let what = format!("byte {first} and byte {second}: {report:?}");
            let cut = report
                .cut
                .as_ref()
                .expect("the last one is a torn tail")
                .at
                .0;
            let framing = FRAMING.iter().any(|f| f.contains(&first));
            let hidden = SYNCED.contains(&second) || framing && NAME.contains(&second);
            if report.lost.is_empty() {
                assert!(hidden, "{what}");
                assert_eq!(cut, 6, "{what}");
                open += 1;
                continue;
            }
            assert_eq!((report.lost.len(), cut), (1, 7), "{what}");
            assert_eq!(report.lost[0].frames, 6..7, "{what}");
            let (file, bytes) = report.lost[0].place.as_ref().expect("it is there");
            assert_eq!((file, bytes.start), (&path, groups[6]), "{what}");
            proven += 1;
        }
    }
    println!(
        "{proven} of {} pairs are proven, {open} are cut",
        PLACES * PLACES
    );
    assert!(open < proven / 2);
}

/// Of many, as a bad stretch of the medium takes them, all but the last.
#[test]
fn of_many_rotten_groups_at_the_end_all_but_the_last_are_rot() {
    let (disk, path, groups) = journal();
    for first in 0..7 {
        let disk = disk.copy(first);
        for group in &groups[first as usize..] {
            disk.rot(&path, group + 50, 0x10).unwrap();
        }
        let (report, found) = start(&disk);
        assert_eq!(found, (0..first).collect::<Vec<_>>());
        assert_eq!(report.lost[0].frames, first..7);
        assert_eq!(report.cut.unwrap().at.0, 7);
    }
}

/// Nothing where the first should begin looks like a group any more, and the magic of the last is wrong:
/// its salt and numbers prove that there was more.
#[test]
fn a_first_group_without_any_header_does_not_pass_for_the_end() {
    for byte in [0, 0x55] {
        let (disk, path, groups) = journal();
        let file = disk.open(&path, Open::Write).unwrap();
        file.write_at(&[byte; 48], groups[6]).unwrap();
        file.sync_data().unwrap();
        disk.rot(&path, groups[7], 0x40).unwrap();
        let (report, found) = start(&disk);
        assert_eq!(found, [0, 1, 2, 3, 4, 5]);
        assert_eq!(report.lost.len(), 1, "{byte}: {report:?}");
        assert_eq!(report.lost[0].frames, 6..7, "{byte}: {report:?}");
        assert_eq!(report.cut.unwrap().at.0, 7, "{byte}");
    }
}

/// One alone is a torn tail, whatever of it is damaged.
#[test]
fn one_rotten_group_at_the_end_is_cut() {
    let (disk, path, groups) = journal();
    for place in 0..PLACES {
        let disk = disk.copy(place);
        disk.rot(&path, groups[7] + place, 0x40).unwrap();
        let (report, found) = start(&disk);
        assert_eq!(found, [0, 1, 2, 3, 4, 5, 6], "byte {place}");
        assert!(report.lost.is_empty(), "byte {place}: {report:?}");
        assert_eq!(report.cut.unwrap().at.0, 7, "byte {place}");
    }
}

/// Nor when two bytes of it are: no number in its header tells of more frames than the bytes before it
/// have room for.
#[test]
fn two_rotten_bytes_in_the_last_group_prove_nothing() {
    let (disk, path, groups) = journal();
    for first in 0..PLACES {
        for second in first + 1..PLACES {
            let disk = disk.copy(first);
            disk.rot(&path, groups[7] + first, 0x20).unwrap();
            disk.rot(&path, groups[7] + second, 0x40).unwrap();
            let (report, found) = start(&disk);
            let what = format!("bytes {first} and {second}: {report:?}");
            assert_eq!(found, [0, 1, 2, 3, 4, 5, 6], "{what}");
            assert!(report.lost.is_empty(), "{what}");
            // Salt and number gone, and nothing looks like a group of this file.
            let hidden = SALT.contains(&first) && NUMBER.contains(&second);
            assert_eq!(report.cut.is_none(), hidden, "{what}");
        }
    }
}

/// A header on the border of two sectors, of which a power cut kept the first: the salt is right, and
/// the numbers beside it are those of an older use of the file. They prove nothing.
#[test]
fn a_header_torn_between_two_sectors_is_no_proof_of_rot() {
    const SECTOR: u64 = 512;
    // The salt ends where the sector does; or the first number does.
    for place in [496, 488] {
        let torn = |items: &u64| {
            journal_of(*items)
                .2
                .last()
                .is_some_and(|at| at % SECTOR == place)
        };
        let items = (8..400).find(torn).expect("groups begin everywhere");
        let (disk, path, groups) = journal_of(items);
        let at = *groups.last().unwrap();
        let behind = at.next_multiple_of(SECTOR);
        let older: Vec<u8> = (0..64u64)
            .flat_map(|n| (35_142 - n).to_le_bytes())
            .collect();
        let file = disk.open(&path, Open::Write).unwrap();
        file.write_at(&older, behind).unwrap();
        file.sync_data().unwrap();
        power_off(&disk);
        let (report, found) = start(&disk);
        assert_eq!(found, (0..items - 1).collect::<Vec<_>>(), "{report:?}");
        assert!(report.lost.is_empty(), "{report:?}");
        assert_eq!(report.cut.unwrap().at.0, items - 1);
    }
}
