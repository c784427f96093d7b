//! Random histories that crash anywhere, and one that crashes at every operation.

use headwater_log::disk::Crash;
use headwater_log::durable::Rules;
use headwater_log::{ErrorKind, LogError, SimDisk};

use crate::model::{Owner, Promises, Rng, config, is_crash};

/// One life of the owner: random steps until the machine stops or `steps` are done.
fn live(owner: &mut Owner, rng: &mut Rng, p: &mut Promises, steps: u64) -> Result<(), LogError> {
    for _ in 0..steps {
        match rng.below(40) {
            0 => owner.checkpoint(p)?,
            1 => owner.settle(p),
            2..10 => {
                let done = owner.durable.commit()?;
                owner.acked(done, p);
            }
            10..12 => {
                if let Some(job) = owner.durable.begin_write()? {
                    owner.durable.finish_commit(job.run())?;
                }
            }
            n => {
                // A job in flight while others gather.
                let job = if n < 16 {
                    owner.durable.begin_commit()?
                } else {
                    None
                };
                for _ in 0..rng.below(4) {
                    match owner.stage(rng.below(12) == 0, p) {
                        Ok(()) => {}
                        Err(e) if e.kind() == ErrorKind::Busy => break,
                        Err(e) if e.kind() == ErrorKind::Full => {
                            if job.is_none() {
                                owner.settle(p);
                                owner.checkpoint(p)?;
                            }
                            break;
                        }
                        Err(e) => return Err(e),
                    }
                }
                if let Some(job) = job {
                    let done = owner.durable.finish_commit(job.run())?;
                    owner.acked(done, p);
                }
            }
        }
    }
    Ok(())
}

/// Several lives with crashes between. `Err`: a promise was broken, and by which seed.
pub fn history(seed: u64, lives: u64, rules: Rules) -> Result<SimDisk, String> {
    let mut rng = Rng(seed);
    let disk = SimDisk::new(rng.draw());
    let mut p = Promises::default();
    for life in 0..lives {
        let how = if rng.below(3) == 0 {
            Crash::Kill
        } else {
            Crash::Power
        };
        if rng.below(4) == 0 {
            disk.crash_at_sync(rng.below(30), how);
        } else {
            disk.crash_at(rng.below(120), how);
        }
        let steps = 10 + rng.below(80);
        match Owner::start(&disk, config(rng.draw(), rules), &mut p) {
            Ok(Ok(mut owner)) => match live(&mut owner, &mut rng, &mut p, steps) {
                Ok(()) => disk.crash(how),
                Err(e) if is_crash(&disk, &e) => {}
                Err(e) => return Err(format!("seed {seed}, life {life}: {e}")),
            },
            Ok(Err(broken)) => return Err(format!("seed {seed}, life {life}: {broken}")),
            Err(e) if is_crash(&disk, &e) => {}
            Err(e) => return Err(format!("seed {seed}, life {life}: does not start: {e}")),
        }
        disk.restart();
    }
    match Owner::start(&disk, config(rng.draw(), rules), &mut p) {
        Ok(Ok(_)) => Ok(disk),
        Ok(Err(broken)) => Err(format!("seed {seed}, at the end: {broken}")),
        Err(e) => Err(format!("seed {seed}, at the end: does not start: {e}")),
    }
}

#[test]
fn no_history_loses_repeats_or_reorders() {
    let mut fired = headwater_log::disk::SimCounters::default();
    for seed in 0..400 {
        let disk = history(seed, 6, Rules::default()).unwrap_or_else(|e| panic!("{e}"));
        let c = disk.counters();
        fired.power_cuts += c.power_cuts;
        fired.kills += c.kills;
        fired.sectors_lost += c.sectors_lost;
        fired.sectors_kept_unsynced += c.sectors_kept_unsynced;
        fired.sectors_stale += c.sectors_stale;
        fired.names_lost += c.names_lost;
        fired.names_kept_unsynced += c.names_kept_unsynced;
    }
    assert!(fired.power_cuts > 1000 && fired.kills > 300, "{fired:?}");
    assert!(
        fired.sectors_lost > 1000 && fired.sectors_kept_unsynced > 1000,
        "{fired:?}"
    );
    assert!(fired.sectors_stale > 1, "{fired:?}");
    assert!(
        fired.names_lost > 100 && fired.names_kept_unsynced > 100,
        "{fired:?}"
    );
}

#[test]
fn same_seed_same_history() {
    let bytes = |seed| history(seed, 6, Rules::default()).unwrap().counters();
    assert_eq!(bytes(42), bytes(42));
}
