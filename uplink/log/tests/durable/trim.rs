//! Files that are let go of, and a power cut before their names are gone for good.

use std::path::Path;

use headwater_log::SimDisk;
use headwater_log::disk::{Crash, Disk};
use headwater_log::durable::Rules;

use crate::model::{Owner, Promises, config, open};

/// Some files, two checkpoints, and the next one will let go of most of them.
fn two_checkpoints(disk: &SimDisk) -> Owner {
    let mut p = Promises::default();
    let started = Owner::start(disk, config(1, Rules::default()), &mut p);
    let mut owner = started.unwrap().unwrap();
    for items in [20, 150] {
        for _ in 0..items {
            owner.stage(false, &mut p).unwrap();
            owner.durable.commit().unwrap();
        }
        owner.checkpoint(&mut p).unwrap();
    }
    owner.stage(false, &mut p).unwrap();
    owner
}

/// A process is killed at any moment of such a checkpoint; the power goes at any moment of the next
/// start, and the checkpoints are lost besides. What was let go of may be back by name, all of it or
/// some, and nothing of that is damage.
#[test]
fn names_that_come_back_are_no_damage() {
    let mut back = 0;
    for seed in 0..20 {
        for (killed, cut) in (0..40).flat_map(|killed| (0..16).map(move |cut| (killed, cut))) {
            let disk = SimDisk::new(seed);
            let mut owner = two_checkpoints(&disk);
            disk.crash_at(killed, Crash::Kill);
            if owner.checkpoint(&mut Promises::default()).is_ok() {
                break;
            }
            drop(owner);
            disk.restart();
            let files = disk.files().len();
            disk.crash_at(cut, Crash::Power);
            drop(open(&disk, config(2, Rules::default())));
            disk.crash(Crash::Power);
            disk.restart();
            back += usize::from(disk.files().len() > files);
            let _ = disk.remove_dir_all(Path::new("d/checkpoints"));
            let (_, recovered) = open(&disk, config(3, Rules::default())).unwrap();
            let journal = recovered.report.journal;
            let at = format!("seed {seed}, killed at {killed}, cut at {cut}");
            assert_eq!(journal.lost, [], "{at}");
            assert!(journal.headers_lost.is_empty(), "{at}");
        }
    }
    assert!(back > 100, "{back} times there was more than before");
}
