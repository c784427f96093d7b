//! The soak of an hour, small enough for the test command: a short flood, then one deck of faults for
//! an edge that refuses and one that drops its oldest, side by side.
//!
//! Without libtest's harness, since the process takes mounts of its own while it has one thread.
//! Arguments that are no flags choose a run by a part of its name.

#![allow(clippy::unwrap_used)] // A panic is how a test answers.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use crash::room;
use crash::soak::{Setup, Summary, flood, run};

/// Fixed: the test command does the same each time. `--bin soak` draws fresh ones.
const SEED: u64 = 1;
/// How long any one wait may take.
const LIMIT: Duration = Duration::from_secs(120);

type Run = (&'static str, fn(&Path));

/// Those in one row run at the same time: they mostly wait. A flood takes all that there is.
const RUNS: [&[Run]; 2] = [
    &[("a_flood_stands_once", a_flood_stands_once)],
    &[
        ("all_faults_together", all_faults_together),
        ("all_faults_and_the_oldest_dropped", the_oldest_dropped),
    ],
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let chosen: Vec<&String> = words.iter().filter(|w| !w.starts_with('-')).collect();
    if let Err(what) = room::own_mounts() {
        eprintln!("{what}");
        return ExitCode::FAILURE;
    }
    let is_chosen = |(name, _): &&Run| {
        chosen.is_empty() || chosen.iter().any(|part| name.contains(part.as_str()))
    };
    let mut all_well = true;
    for row in RUNS {
        let runs = row.iter().filter(is_chosen);
        let runs: Vec<_> = runs.map(|run| thread::spawn(|| is_well(run))).collect();
        for run in runs {
            all_well &= run.join().unwrap();
        }
    }
    match all_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn is_well((name, run): &Run) -> bool {
    let started = Instant::now();
    let scratch = tempfile::tempdir().unwrap();
    let outcome = std::panic::catch_unwind(|| run(scratch.path()));
    let word = if outcome.is_ok() { "ok" } else { "FAILED" };
    if outcome.is_err() {
        println!("data and logs are in {}", scratch.keep().display());
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("test {name} ... {word} ({seconds:.1} s)");
    outcome.is_ok()
}

fn a_flood_stands_once(scratch: &Path) {
    let lines = flood::run(scratch, 200_000, LIMIT).unwrap_or_else(|what| panic!("{what}"));
    println!("{}", lines.join("\n"));
}

fn all_faults_together(scratch: &Path) {
    let summary = all_faults(scratch, false);
    assert!(summary.refused > 0);
}

/// What it drops stands in the ledger, or the run says so itself; and that it dropped something.
fn the_oldest_dropped(scratch: &Path) {
    all_faults(scratch, true);
}

fn all_faults(scratch: &Path, drop_oldest: bool) -> Summary {
    let setup = Setup {
        seed: SEED,
        lasts: Duration::from_secs(60),
        pause_max_ms: 2_000,
        drop_oldest,
        limit: LIMIT,
    };
    let summary = run(scratch, setup).unwrap_or_else(|what| panic!("{what}"));
    println!("{}", summary.lines.join("\n"));
    let done = summary.done;
    println!("{done:?}");
    assert!(done.edge_kills >= 3 && done.edge_terms >= 1);
    assert!(done.cloud_kills >= 1 && done.cloud_terms >= 1);
    assert!(done.cuts >= 2 && done.disk_fills >= 1);
    assert!(done.filled >= 1, "no outage filled the log");
    assert!(done.censuses >= 5 && summary.compared >= 150);
    assert!(summary.resent > 0);
    summary
}
