//! The run of the whole, small enough for the test command.

use std::time::Duration;

use crash::plan::Counts;
use crash::run::{Setup, run};

/// Fixed: the test command does the same each time. `cargo run -p crash` draws fresh ones.
const SEED: u64 = 2;

#[test]
fn what_is_acknowledged_stands_once_whatever_is_killed_or_cut() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let setup = Setup {
        seed: SEED,
        qos1: 18_000,
        qos2: 2_000,
        counts: Counts { kills: 2, cuts: 1 },
        limit: Duration::from_secs(120),
    };
    let summary = run(scratch.path(), setup, |_| {}).unwrap_or_else(|what| panic!("{what}"));
    println!("{summary:?}");
    assert_eq!(summary.verdict.acked, 20_000);
    assert!(
        summary.verdict.reconnects >= 10,
        "the edge was killed while publishers wrote"
    );
    assert!(
        summary.verdict.resends > 0,
        "nothing was under way when the edge was killed"
    );
    assert!(summary.dropped > 0, "the cut dropped nothing");
}
