//! The same seeds at each run, those that once failed, and the proof that a seed is a world.
//!
//! And 200 that nobody has seen: a failure says how it is repeated.

use headwater_log::durable::Rules;
use sim::count::Trace;
use sim::run::{self, simulate};

const SEEDS: u64 = 500;
const FRESH_SEEDS: u64 = 200;

/// Seeds that found something; what it was stands beside them. A seed is a world only as long as the
/// simulator draws the same: after a change of the simulator these are seeds like others.
const REGRESSIONS: &[u64] = &[
    79,              // the thread of a broker without events took a whole core
    86,              // the sum of segments' bytes fell below zero: full for ever
    1056,  // a commit without anything to sync stayed due: the store's thread took a whole core
    5588,  // a full log could not make its fork durable, and so never send
    21155, // a log that begins behind its last segment was announced so, and refused
    8141,  // the record to be compared went by retention: the stream waited for it for ever
    425,   // a full disk took the journal's spares; with room again nothing asked for them
    94420865854137, // the same, with EIO armed
    106529580224800, // starts out of order after rot: the cloud ended each session
    1157,  // rot took the one frame of a partition's incarnation
    6580,  // the same
    147511054611742, // the same, with a crash in that very recovery
    71409415086147, // the same, with a log that is full as its stream stops
    154905762933109, // a burst of `interval` records was taken at the pace of its interval
    154905762936894, // a torn group header, half of it an older file's, passed for proof of rot
    195823662028893, // a record that this log had dead-lettered was taken for the one that was stored
    188059549488605, // the same
    195823662030042, // SUBSCRIBE at each connection was refused on a full log, which so stayed full
    113587877608499, // a GAP's own frame rotted: what was dropped passed for acknowledged
    275994852406761, // names of trimmed journal files came back after a power cut: told as damage
];

#[test]
fn the_first_seeds_are_green_and_every_fault_happens() {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = run::many(0, SEEDS, jobs, 1, |_| {});
    for (what, count) in &summary.counts {
        println!("{count:>10} {what}");
    }
    assert!(summary.failures.is_empty(), "{}", summary.failures[0]);
    let silent = run::silent(&summary.counts);
    assert!(silent.is_empty(), "never happened: {silent:?}");
}

#[test]
fn fresh_seeds_are_green() {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let first = run::fresh_seed();
    let summary = run::many(first, FRESH_SEEDS, jobs, 1, |_| {});
    println!("{} seeds from {first}", summary.seeds);
    assert!(summary.failures.is_empty(), "{}", summary.failures[0]);
}

#[test]
fn what_was_found_stays_found() {
    for seed in REGRESSIONS {
        assert_eq!(simulate(*seed, Trace::Off, Rules::default()).told(), None);
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..6 {
        let one = simulate(seed, Trace::Kept, Rules::default());
        let two = simulate(seed, Trace::Kept, Rules::default());
        let differs = one.trace.iter().zip(&two.trace).position(|(a, b)| a != b);
        if let Some(at) = differs {
            panic!("seed {seed} differs: {} / {}", one.trace[at], two.trace[at]);
        }
        assert_eq!(one.hash, two.hash, "seed {seed}");
        assert!(one.trace.len() > 100);
    }
    let hash = |seed| simulate(seed, Trace::Off, Rules::default()).hash;
    assert_ne!(hash(1), hash(2));
}
