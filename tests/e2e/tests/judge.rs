//! The oracle can fail: each kind of damage is seen, and named with its place.

#![allow(clippy::unwrap_used)] // A panic is how a test answers.

use std::collections::BTreeSet;

use e2e::judge::{Stored, Verdict, judge};
use e2e::payload;
use e2e::publisher::Report;

fn report() -> Report {
    Report {
        acked: vec!["p#0.0".into(), "p#1.1".into(), "p#2.0".into()],
        unknown: BTreeSet::from(["p#1.0".to_owned()]),
        resends: 1,
        reconnects: 1,
        refused: 0,
    }
}

fn read(values: &[&str]) -> Vec<Stored> {
    let stored = values.iter().zip(0..).map(|(value, offset)| Stored {
        partition: 3,
        offset,
        attempt: (*value).to_owned(),
    });
    stored.collect()
}

#[test]
fn what_stands_once_passes_and_qos1_doubles_are_counted() {
    let plain = judge(&[report()], &read(&["p#0.0", "p#1.1", "p#2.0"]));
    let verdict = Verdict {
        acked: 3,
        unacked_present: 0,
        resends: 1,
        reconnects: 1,
        refused: 0,
    };
    assert_eq!(plain, Ok(verdict.clone()));
    let doubled = judge(&[report()], &read(&["p#0.0", "p#1.0", "p#1.1", "p#2.0"]));
    let unacked_present = 1;
    assert_eq!(
        doubled,
        Ok(Verdict {
            unacked_present,
            ..verdict
        })
    );
}

#[test]
fn loss_doubles_strangers_and_disorder_are_named() {
    for (values, problem) in [
        (
            &["p#0.0", "p#2.0"][..],
            "1 missing:\n  p#1.1 was acknowledged and is not there\n",
        ),
        (
            &["p#0.0", "p#1.1", "p#2.0", "p#1.1"],
            "1 double:\n  p#1.1 stands 2 times: at offset 1 of 3, at offset 3 of 3\n",
        ),
        (
            &["p#0.0", "p#1.1", "p#2.0", "q#9.0"],
            "1 there without being sent:\n  q#9.0 was never sent, or refused, and stands at offset 3 of 3\n",
        ),
        (
            &["p#2.0", "p#1.1", "p#0.0"],
            "1 out of order:\n  p: message 0 after 2, at offset 2 of 3\n",
        ),
    ] {
        let faults = judge(&[report()], &read(values)).unwrap_err();
        assert_eq!(faults.to_string(), problem);
    }
}

#[test]
fn a_publisher_s_records_stand_in_one_partition() {
    let mut stored = read(&["p#0.0", "p#1.1", "p#2.0"]);
    stored[1].partition = 4;
    let faults = judge(&[report()], &stored).unwrap_err();
    assert_eq!(faults.disorder.len(), 1, "{faults}");
}

#[test]
fn a_payload_with_another_s_bytes_is_seen() {
    let payload = payload::of("p#1.0", 100);
    assert_eq!(payload::read(payload.as_bytes()).unwrap(), "p#1.0");
    let damaged = payload.replacen("p#1.0", "p#1.1", 1);
    payload::read(damaged.as_bytes()).unwrap_err();
    payload::read(b"nothing of ours").unwrap_err();
}
