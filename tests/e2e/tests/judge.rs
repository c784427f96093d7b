//! The oracle can fail: each kind of damage is seen.

use std::collections::BTreeSet;

use e2e::publisher::{Report, Verdict, judge};

fn report() -> Report {
    Report {
        acked: vec!["p#0.0".into(), "p#1.1".into(), "p#2.0".into()],
        unknown: BTreeSet::from(["p#1.0".to_owned()]),
        resends: 1,
        reconnects: 1,
    }
}

fn read(values: &[&str]) -> Vec<(String, String)> {
    values
        .iter()
        .map(|value| ("key".to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn what_stands_once_passes_and_qos1_doubles_are_counted() {
    let plain = judge(&[report()], &read(&["p#0.0", "p#1.1", "p#2.0"]));
    assert_eq!(
        plain,
        Ok(Verdict {
            acked: 3,
            unacked_present: 0,
            resends: 1
        })
    );
    let doubled = judge(&[report()], &read(&["p#0.0", "p#1.0", "p#1.1", "p#2.0"]));
    assert_eq!(
        doubled,
        Ok(Verdict {
            acked: 3,
            unacked_present: 1,
            resends: 1
        })
    );
}

#[test]
fn loss_doubles_strangers_and_disorder_are_named() {
    for (values, problem) in [
        (
            &["p#0.0", "p#2.0"][..],
            "p#1.1 was acknowledged and is not there",
        ),
        (
            &["p#0.0", "p#0.0", "p#1.1", "p#2.0"],
            "p#0.0 stands 2 times",
        ),
        (
            &["p#0.0", "p#1.1", "p#2.0", "q#9.0"],
            "q#9.0 was never sent",
        ),
        (&["p#2.0", "p#1.1", "p#0.0"], "p: message 0 after 2"),
    ] {
        assert_eq!(judge(&[report()], &read(values)), Err(problem.to_owned()));
    }
}
