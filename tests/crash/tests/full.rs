//! Disks that are really full: nothing stops, nothing acknowledged is lost, and it goes on by itself
//! when there is room.
//!
//! Without libtest's harness, since the process takes mounts of its own while it has one thread.
//! Arguments that are no flags choose scenarios by a part of their name.

#![allow(clippy::unwrap_used)] // A panic is how a test answers.

#[path = "full/checkpoints.rs"]
mod checkpoints;
#[path = "full/cloud.rs"]
mod cloud;
#[path = "full/edge.rs"]
mod edge;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crash::room;

/// How long any one wait may take.
const LIMIT: Duration = Duration::from_secs(120);

type Scenario = (&'static str, fn(&Path));

/// Lines of each node's log that a failure shows.
const LOG_LINES: usize = 40;

const SCENARIOS: [Scenario; 3] = [
    (
        "checkpoints_find_no_room",
        checkpoints::checkpoints_find_no_room,
    ),
    (
        "a_full_edge_refuses_and_goes_on",
        edge::a_full_edge_refuses_and_goes_on,
    ),
    (
        "a_full_cloud_refuses_and_goes_on",
        cloud::a_full_cloud_refuses_and_goes_on,
    ),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let chosen: Vec<&str> = words.iter().map(String::as_str).collect();
    let chosen: Vec<&str> = chosen.into_iter().filter(|w| !w.starts_with('-')).collect();
    if let Err(what) = room::own_mounts() {
        eprintln!("{what}");
        return ExitCode::FAILURE;
    }
    let mut failed = 0;
    for (name, scenario) in SCENARIOS {
        if !chosen.is_empty() && !chosen.iter().any(|part| name.contains(part)) {
            continue;
        }
        let started = Instant::now();
        let scratch = tempfile::tempdir().unwrap();
        let outcome = std::panic::catch_unwind(|| scenario(scratch.path()));
        if outcome.is_err() {
            failed += 1;
            show_logs(scratch.path());
        }
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!(
            "test {name} ... {word} ({:.1} s)",
            started.elapsed().as_secs_f64()
        );
    }
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn show_logs(scratch: &Path) {
    for node in ["edge", "cloud"] {
        let log = std::fs::read(scratch.join(node).join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        println!("the end of the {node}'s log:");
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            println!("  {line}");
        }
    }
}
