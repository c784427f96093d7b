//! Crashes at every operation of one history; rot anywhere; full disks.

use std::path::Path;

use headwater_log::disk::{Crash, Disk};
use headwater_log::durable::{CheckpointUse, Rules};
use headwater_log::{ErrorKind, SimDisk};

use crate::model::{Owner, Promises, Rng, config, id_of, open};

/// A fixed history with every kind of step. Stops at the first error.
fn script(disk: &SimDisk, p: &mut Promises) -> Result<(), headwater_log::LogError> {
    let mut owner = Owner::start(disk, config(1, Rules::default()), p)?.unwrap();
    for round in 0..5u64 {
        for i in 0..12 {
            owner.stage(i == 5, p)?;
            if i % 4 == 3 {
                let job = owner.durable.begin_commit()?.expect("something is staged");
                owner.stage(false, p)?;
                let done = owner.durable.finish_commit(job.run())?;
                owner.acked(done, p);
            }
            if i % 5 == 4 {
                let job = owner.durable.begin_write()?.expect("something is staged");
                owner.durable.finish_commit(job.run())?;
            }
        }
        let done = owner.durable.commit()?;
        owner.acked(done, p);
        if round > 0 {
            owner.settle(p);
            owner.checkpoint(p)?;
        }
    }
    Ok(())
}

#[test]
fn a_crash_at_every_operation_keeps_every_promise() {
    let disk = SimDisk::new(0);
    script(&disk, &mut Promises::default()).unwrap();
    let operations = disk.operations();
    assert!(operations > 100, "{operations}");
    let mut crashes = 0;
    for nth in 0..operations {
        for seed in 0..6 {
            let how = if seed == 0 { Crash::Kill } else { Crash::Power };
            let disk = SimDisk::new(seed * 1000 + nth);
            let mut p = Promises::default();
            disk.crash_at(nth, how);
            script(&disk, &mut p).expect_err("the machine stopped");
            disk.restart();
            // And again inside the recovery.
            disk.crash_at(
                nth % 13,
                if seed % 2 == 0 {
                    Crash::Power
                } else {
                    Crash::Kill
                },
            );
            let again = Owner::start(&disk, config(2, Rules::default()), &mut p);
            if let Ok(Err(broken)) = again {
                panic!("operation {nth}, seed {seed}: {broken}");
            }
            disk.crash(Crash::Power);
            disk.restart();
            crashes += 1;
            Owner::start(&disk, config(3, Rules::default()), &mut p)
                .unwrap_or_else(|e| panic!("operation {nth}, seed {seed}: {e}"))
                .unwrap_or_else(|e| panic!("operation {nth}, seed {seed}: {e}"));
        }
    }
    assert!(crashes > 600);
}

/// Items are frames here: no slow ones, so item and position are the same number.
#[test]
fn rot_anywhere_is_reported_and_never_keeps_it_from_starting() {
    let (mut lost, mut fell_back, mut headers, mut cut) = (0, 0, 0, 0);
    for seed in 0..600 {
        let mut rng = Rng(seed);
        let disk = SimDisk::new(seed);
        let mut p = Promises::default();
        let mut owner = Owner::start(&disk, config(1, Rules::default()), &mut p)
            .unwrap()
            .unwrap();
        for _ in 0..40 + rng.below(60) {
            owner.stage(false, &mut p).unwrap();
            if rng.below(3) > 0 {
                let done = owner.durable.commit().unwrap();
                owner.acked(done, &mut p);
            }
            if rng.below(25) == 0 {
                owner.checkpoint(&mut p).unwrap();
            }
        }
        let done = owner.durable.commit().unwrap();
        owner.acked(done, &mut p);
        drop(owner);
        disk.crash(Crash::Power);
        disk.restart();
        let files = disk.files();
        let checkpoints: Vec<_> = files
            .iter()
            .filter(|f| f.extension().unwrap() == "checkpoint")
            .collect();
        for _ in 0..1 + rng.below(6) {
            let journal = files
                .iter()
                .filter(|f| f.to_string_lossy().contains("/journal/0"));
            let journal: Vec<_> = journal.collect();
            let file = journal[rng.below(journal.len() as u64) as usize];
            // Mostly where something is written.
            let at = if rng.below(4) == 0 {
                rng.below(8200)
            } else {
                8192 + rng.below(6000)
            };
            disk.rot(file, at, 1 << rng.below(8)).unwrap();
        }
        if rng.below(3) == 0 && !checkpoints.is_empty() {
            let file = checkpoints[rng.below(checkpoints.len() as u64) as usize];
            disk.rot(file, rng.below(60), 1).unwrap();
        }
        let (mut log, recovered) = open(&disk, config(2, Rules::default()))
            .unwrap_or_else(|e| panic!("seed {seed}: does not start: {e}"));
        let report = recovered.report;
        let mut found: Vec<u64> = recovered.checkpoint.iter().map(|(k, _)| id_of(k)).collect();
        for frame in recovered.frames {
            let frame = frame.unwrap_or_else(|e| panic!("seed {seed}: {e} {report:?}"));
            found.push(id_of(&frame.payload));
        }
        for id in 0..p.acked {
            let said = report.journal.lost.iter().any(|l| l.frames.contains(&id))
                || report.journal.cut.as_ref().is_some_and(|c| c.at.0 <= id)
                || matches!(report.checkpoint, CheckpointUse::Lost);
            assert!(
                found.contains(&id) || said,
                "seed {seed}: item {id} is lost in silence: {report:?}"
            );
        }
        lost += usize::from(!report.journal.lost.is_empty());
        cut += usize::from(report.journal.cut.is_some());
        headers += report.journal.headers_lost.len();
        fell_back += usize::from(matches!(report.checkpoint, CheckpointUse::FellBack { .. }));
        log.stage(1, b"it goes on").unwrap();
        log.commit().unwrap();
    }
    assert!(
        lost > 100 && cut > 10 && fell_back > 20,
        "{lost} {cut} {headers} {fell_back}"
    );
}

#[test]
fn a_full_disk_is_refused_before_anything_is_written() {
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let disk = SimDisk::new(seed);
        let mut p = Promises::default();
        // Room for three to five journal files of 32 KiB and some checkpoints.
        disk.set_capacity((110 << 10) + rng.below(80 << 10));
        let mut full = 0;
        for life in 0..4 {
            let mut owner = Owner::start(&disk, config(seed + life, Rules::default()), &mut p)
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"))
                .unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            for _ in 0..300 {
                match owner.stage(false, &mut p) {
                    Ok(()) => {}
                    Err(e) if e.kind() == ErrorKind::Full => {
                        full += 1;
                        break;
                    }
                    Err(e) if e.kind() == ErrorKind::Busy => {
                        let done = owner.durable.commit().expect("never full in a commit");
                        owner.acked(done, &mut p);
                    }
                    Err(e) => panic!("seed {seed}: {e}"),
                }
            }
            let done = owner.durable.commit().expect("never full in a commit");
            owner.acked(done, &mut p);
            if life % 2 == 1 {
                match owner.checkpoint(&mut p) {
                    Ok(()) => {}
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Full, "seed {seed}: {e}"),
                }
            }
            disk.crash(if rng.below(2) == 0 {
                Crash::Kill
            } else {
                Crash::Power
            });
            disk.restart();
        }
        assert!(full > 0, "seed {seed}: never full");
    }
}

/// An owner that lets nothing in while there seems to be no room would wait for ever otherwise.
#[test]
fn room_is_seen_again_once_the_disk_has_some() {
    let disk = SimDisk::new(7);
    let mut p = Promises::default();
    let mut owner = Owner::start(&disk, config(1, Rules::default()), &mut p)
        .unwrap()
        .unwrap();
    let before = owner.durable.room_bytes();
    let free = disk.free_bytes(Path::new("/")).unwrap();
    disk.set_capacity(u64::MAX - free);
    let full = loop {
        match owner.stage(false, &mut p) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::Busy => {
                let done = owner.durable.commit().expect("never full in a commit");
                owner.acked(done, &mut p);
            }
            Err(e) => break e,
        }
    };
    assert_eq!(full.kind(), ErrorKind::Full);
    let done = owner.durable.commit().expect("never full in a commit");
    owner.acked(done, &mut p);
    owner.durable.refill().expect("a full disk is no failure");
    let without = owner.durable.room_bytes();
    assert!(without < before / 2, "{without} of {before}");
    disk.set_capacity(u64::MAX);
    assert_eq!(owner.durable.room_bytes(), without);
    owner.durable.refill().unwrap();
    let with = owner.durable.room_bytes();
    assert!(with > before / 2, "{with} of {before}");
}
