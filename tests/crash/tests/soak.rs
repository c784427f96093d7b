//! The soak of an hour, small enough for the test command: one deck of faults, and a short flood.
//!
//! Without libtest's harness, since the process takes mounts of its own while it has one thread.
//! Arguments that are no flags choose a run by a part of its name.

#![allow(clippy::unwrap_used)] // A panic is how a test answers.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crash::room;
use crash::soak::{Setup, flood, run};

/// Fixed: the test command does the same each time. `--bin soak` draws fresh ones.
const SEED: u64 = 1;
/// How long any one wait may take.
const LIMIT: Duration = Duration::from_secs(120);

type Run = (&'static str, fn(&Path));

const RUNS: [Run; 2] = [
    ("a_flood_stands_once", a_flood_stands_once),
    ("all_faults_together", all_faults_together),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let chosen: Vec<&String> = words.iter().filter(|w| !w.starts_with('-')).collect();
    if let Err(what) = room::own_mounts() {
        eprintln!("{what}");
        return ExitCode::FAILURE;
    }
    let mut failed = 0;
    for (name, run) in RUNS {
        if !chosen.is_empty() && !chosen.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let started = Instant::now();
        let scratch = tempfile::tempdir().unwrap();
        let outcome = std::panic::catch_unwind(|| run(scratch.path()));
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        if outcome.is_err() {
            failed += 1;
            println!("data and logs are in {}", scratch.keep().display());
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("test {name} ... {word} ({seconds:.1} s)");
    }
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn a_flood_stands_once(scratch: &Path) {
    let lines = flood::run(scratch, 200_000, LIMIT).unwrap_or_else(|what| panic!("{what}"));
    println!("{}", lines.join("\n"));
}

fn all_faults_together(scratch: &Path) {
    let setup = Setup {
        seed: SEED,
        lasts: Duration::from_secs(60),
        pause_max_ms: 2_000,
        drop_oldest: false,
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
    assert!(summary.refused > 0 && summary.resent > 0);
}
