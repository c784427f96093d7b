//! Random histories of a store on a disk that loses power, fills up, fails and rots, compared with
//! a model in memory after every restart.
//!
//! `HEADWATER_SEEDS=20000` runs that many seeds, `HEADWATER_SEED=17` just that one, with its trace.
#![allow(clippy::unwrap_used)]

mod history;
mod model;
mod rules;

use history::{Plan, run};

const SEEDS: u64 = 120;

fn seeds() -> std::ops::Range<u64> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<u64>().ok())
    };
    match number("HEADWATER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HEADWATER_SEEDS").unwrap_or(SEEDS),
    }
}

/// Runs all seeds; a failure names the line that repeats it.
fn check(plan: impl Fn(u64) -> Plan) {
    let trace = std::env::var("HEADWATER_SEED").is_ok();
    for seed in seeds() {
        let outcome = run(seed, &plan(seed));
        if trace {
            outcome.trace.iter().for_each(|line| println!("{line}"));
        }
        if let Err(problem) = outcome.result {
            let name = std::thread::current().name().unwrap_or("crash").to_owned();
            panic!(
                "seed {seed}: {problem}\nrepeat: HEADWATER_SEED={seed} cargo test -p \
                 headwater-log --test crash {name} -- --exact --nocapture"
            );
        }
    }
}

#[test]
fn nothing_acked_is_lost() {
    check(|_| Plan::default());
}

#[test]
fn rot_is_a_gap_and_never_silent() {
    check(|_| Plan {
        rot: true,
        ..Plan::default()
    });
}

#[test]
fn drop_oldest_says_what_it_drops() {
    check(|_| Plan {
        drop_oldest: true,
        ..Plan::default()
    });
}

#[test]
fn full_and_failing_disks_lose_nothing() {
    check(|_| Plan {
        faults: true,
        ..Plan::default()
    });
}

/// A history is worth its seed only if it is the same each time.
#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 0..20 {
        let plan = Plan {
            rot: seed % 2 == 0,
            faults: seed % 3 == 0,
            ..Plan::default()
        };
        let (first, second) = (run(seed, &plan), run(seed, &plan));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert!(first.trace.len() > 20);
    }
}

/// The histories meet what they are meant to meet.
#[test]
fn the_faults_fire() {
    let mut seen = history::Seen::default();
    for seed in 0..150 {
        let plan = Plan {
            rot: seed % 3 == 0,
            faults: seed % 3 == 1,
            drop_oldest: seed % 3 == 2,
            ..Plan::default()
        };
        seen.add(&run(seed, &plan).seen);
    }
    println!("{seen:?}");
    assert!(seen.lives > 500 && seen.records > 5_000, "{seen:?}");
    assert!(seen.power_cuts > 100 && seen.kills > 50, "{seen:?}");
    assert!(
        seen.crashed_opens > 10 && seen.checkpoints > 100,
        "{seen:?}"
    );
    assert!(seen.full > 5 && seen.eio > 5, "{seen:?}");
    assert!(seen.corrupt_gaps > 5 && seen.dropped_gaps > 5, "{seen:?}");
    assert!(seen.unsynced_survivors > 5 && seen.forks > 20, "{seen:?}");
}
