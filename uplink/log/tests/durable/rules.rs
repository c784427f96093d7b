//! Each rule keeps a promise that breaks when the rule is switched off: first the history that
//! holds with it, then the same history without, where the failure must be found.

use headwater_log::disk::Crash;
use headwater_log::durable::{Position, Rules};
use headwater_log::{ErrorKind, SimDisk};

use crate::model::{Owner, Promises, config, header, header_next, id_of, open, payload};
use crate::random::history;

/// Runs random histories until one breaks.
fn search(rules: Rules, seeds: u64) -> Result<(), String> {
    (0..seeds).try_for_each(|seed| history(seed, 6, rules).map(drop))
}

fn without(change: impl FnOnce(&mut Rules)) -> Rules {
    let mut rules = Rules::default();
    change(&mut rules);
    rules
}

fn power_off(disk: &SimDisk) {
    disk.crash(Crash::Power);
    disk.restart();
}

/// Ten acked items in ten groups; the group of item 4 rots. What is missing must be reported.
fn j1_rot(rules: Rules) -> Result<(), String> {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, config(1, rules)).unwrap();
    for id in 0..10 {
        log.stage(1, &payload(id)).unwrap();
        log.commit().unwrap();
    }
    drop(log);
    disk.crash(Crash::Kill);
    disk.restart();
    let path = disk
        .files()
        .into_iter()
        .find(|p| p.to_string_lossy().contains("/journal/0"));
    let path = path.unwrap();
    let marker = &payload(4)[..8];
    let file = headwater_log::Disk::open(&disk, &path, headwater_log::disk::Open::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let at = bytes
        .windows(8)
        .position(|w| w == marker)
        .expect("small frames are plain");
    disk.rot(&path, at as u64 + 9, 0x40).unwrap();

    let (_, recovered) = open(&disk, config(2, rules)).unwrap();
    let lost = recovered.report.journal.lost.clone();
    let found: Vec<u64> = recovered
        .frames
        .map(|f| id_of(&f.unwrap().payload))
        .collect();
    for id in 0..10 {
        let said = lost.iter().any(|l| l.frames.contains(&id));
        if said == found.contains(&id) {
            return Err(format!("item {id}: found {found:?}, lost {lost:?}"));
        }
    }
    if lost.len() != 1 || lost[0].frames != (4..5) || lost[0].place.is_none() {
        return Err(format!("{lost:?}"));
    }
    Ok(())
}

#[test]
fn j1_rot_is_told_from_a_torn_tail() {
    j1_rot(Rules::default()).unwrap();
    let broken = j1_rot(without(|r| r.j1 = false)).unwrap_err();
    assert!(
        broken.starts_with("item 4"),
        "all from 4 on is cut without a word: {broken}"
    );
}

/// All frames are trimmed and the checkpoints are gone: only headers know the next number.
fn j3_header(rules: Rules) -> Result<(), String> {
    let disk = SimDisk::new(1);
    let mut p = Promises::default();
    let mut owner = Owner::start(&disk, config(1, rules), &mut p)
        .unwrap()
        .unwrap();
    for _ in 0..20 {
        owner.stage(false, &mut p).unwrap();
    }
    for _ in 0..3 {
        owner.checkpoint(&mut p).unwrap();
    }
    assert_eq!(owner.durable.start(), Position(20));
    power_off(&disk);
    headwater_log::Disk::remove_dir_all(&disk, "d/checkpoints".as_ref()).unwrap();
    let (_, recovered) = open(&disk, config(2, rules)).unwrap();
    match header_next(&recovered.header) {
        20 => Ok(()),
        next => Err(format!(
            "the next item would be {next}, a number used before"
        )),
    }
}

#[test]
fn j3_headers_keep_numbers_from_being_used_twice() {
    j3_header(Rules::default()).unwrap();
    j3_header(without(|r| r.j3 = false)).unwrap_err();
}

/// A group is written, not synced; the process dies and recovers; then the power goes.
fn j4_page_cache(rules: Rules) -> Result<(), String> {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk, config(1, rules)).unwrap();
        log.stage(1, &payload(0)).unwrap();
        log.commit().unwrap();
        log.stage(1, &payload(1)).unwrap();
        let job = log.begin_write().unwrap().unwrap();
        log.finish_commit(job.run()).unwrap();
        disk.crash(Crash::Kill);
        disk.restart();
        let (_, recovered) = open(&disk, config(2, rules)).unwrap();
        // What recovery gives is packed, served and sent: it must stay.
        let served = recovered.frames.count();
        power_off(&disk);
        let (_, recovered) = open(&disk, config(3, rules)).unwrap();
        let left = recovered.frames.count();
        if left < served {
            return Err(format!("{served} frames were served, {left} are left"));
        }
    }
    Ok(())
}

#[test]
fn j4_what_recovery_gives_is_durable() {
    j4_page_cache(Rules::default()).unwrap();
    j4_page_cache(without(|r| r.j4 = false)).unwrap_err();
    search(without(|r| r.j4 = false), 3000).expect_err("random histories find it too");
}

/// The newest checkpoint rots at rest.
fn j5_generations(rules: Rules) -> Result<(), String> {
    let disk = SimDisk::new(1);
    let mut p = Promises::default();
    let mut owner = Owner::start(&disk, config(1, rules), &mut p)
        .unwrap()
        .unwrap();
    for _ in 0..4 {
        for _ in 0..10 {
            owner.stage(false, &mut p).unwrap();
        }
        owner.checkpoint(&mut p).unwrap();
    }
    power_off(&disk);
    disk.rot("d/checkpoints/b.checkpoint".as_ref(), 60, 1)
        .unwrap();
    let (_, recovered) = open(&disk, config(2, rules)).unwrap();
    let items = recovered.checkpoint.len() + recovered.frames.count();
    if items == 40 {
        Ok(())
    } else {
        Err(format!("{items} of 40 are left"))
    }
}

#[test]
fn j5_files_go_only_after_two_generations_have_what_they_hold() {
    j5_generations(Rules::default()).unwrap();
    j5_generations(without(|r| r.j5 = false)).unwrap_err();
    search(without(|r| r.j5 = false), 400).expect_err("random histories find it too");
}

/// An fsync fails and is tried again, as a hopeful program would.
fn j6_failed_fsync(rules: Rules) -> Result<(), String> {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (mut log, _) = open(&disk, config(1, rules)).unwrap();
        log.stage(1, &payload(0)).unwrap();
        disk.fail_sync(0);
        let acked = match log.commit() {
            Ok(durable) => durable.0,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Fatal);
                assert_eq!(log.stage(1, b"more").unwrap_err().kind(), ErrorKind::Fatal);
                assert_eq!(log.commit().unwrap_err().kind(), ErrorKind::Fatal);
                assert!(log.poisoned().is_some());
                0
            }
        };
        power_off(&disk);
        let (_, recovered) = open(&disk, config(2, rules)).unwrap();
        if recovered.end.0 < acked {
            return Err(format!("{acked} acked, {:?} left", recovered.end));
        }
    }
    Ok(())
}

#[test]
fn j6_a_failed_fsync_is_never_followed_by_an_ack() {
    j6_failed_fsync(Rules::default()).unwrap();
    j6_failed_fsync(without(|r| r.j6 = false)).unwrap_err();
}

/// One slow item among many quick ones.
fn j8_straggler(rules: Rules) -> Result<(), String> {
    let disk = SimDisk::new(1);
    let mut p = Promises::default();
    let mut owner = Owner::start(&disk, config(1, rules), &mut p)
        .unwrap()
        .unwrap();
    owner.stage(true, &mut p).unwrap();
    for round in 0..12 {
        for _ in 0..30 {
            match owner.stage(false, &mut p) {
                Err(e) if e.kind() == ErrorKind::Busy => drop(owner.durable.commit().unwrap()),
                Err(e) => return Err(format!("round {round}: {e}")),
                Ok(()) => {}
            }
        }
        owner
            .checkpoint(&mut p)
            .map_err(|e| format!("round {round}: {e}"))?;
    }
    power_off(&disk);
    let (_, recovered) = open(&disk, config(2, rules)).unwrap();
    let slow: Vec<u64> = recovered
        .frames
        .map(|f| id_of(&f.unwrap().payload))
        .collect();
    if slow.contains(&0) {
        Ok(())
    } else {
        Err(format!("the slow item is lost: {slow:?}"))
    }
}

#[test]
fn j8_trimming_never_waits_for_a_straggler() {
    j8_straggler(Rules::default()).unwrap();
    let broken = j8_straggler(without(|r| r.j8 = false)).unwrap_err();
    assert!(broken.contains("full"), "{broken}");
}

#[test]
fn headers_of_the_model_read_back() {
    assert_eq!(header_next(&header(7)), 7);
}
