//! Each rule is needed: without it some history fails.

use headwater_log::durable::Rules;

use super::history::{Plan, run};

const TRIED: u64 = 400;

/// Without the rule a history fails; with it none of those tried does.
fn finds(plan: &Plan, off: impl Fn(&mut Rules)) -> String {
    for seed in 0..TRIED {
        let mut without = plan.clone();
        off(&mut without.rules);
        // A failing rule may well break an assertion of the store's own.
        let outcome = std::panic::catch_unwind(|| run(seed, &without).result);
        let problem = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(problem)) => problem,
            Err(_) => "an assertion of the store".to_owned(),
        };
        assert_eq!(
            run(seed, plan).result,
            Ok(()),
            "seed {seed} fails with the rule too"
        );
        println!("seed {seed}: {problem}");
        return problem;
    }
    panic!("no history of {TRIED} needs the rule");
}

#[test]
fn j2_explicit_offsets() {
    finds(&Plan::default(), |rules| rules.j2 = false);
}

#[test]
fn j4_only_synced_frames_are_packed() {
    finds(&Plan::default(), |rules| rules.pack_synced = false);
}

#[test]
fn j5_segments_are_synced_before_a_checkpoint_counts() {
    finds(&Plan::default(), |rules| rules.segments_synced = false);
}

#[test]
fn j7_nothing_stays_unsynced() {
    finds(&Plan::default(), |rules| rules.j7 = false);
}

#[test]
fn j9_retention_never_touches_unsent_records() {
    finds(&Plan::default(), |rules| rules.keep_unsent = false);
}
