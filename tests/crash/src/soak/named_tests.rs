//! What is named against what is missing, in a log of two topics in two partitions.

use serde_json::json;

use super::*;

/// Two publishers' messages in turn, and one publisher's alone.
const TURNS: u32 = 200;

fn at(publisher: u16, message: u32) -> Attempt {
    Attempt::new(publisher, message, 0)
}

fn known() -> Known {
    let all = (0..TURNS).flat_map(|n| [at(1, n), at(2, n), at(3, n)]);
    let mut known = Known {
        acked: all.collect(),
        ..Known::default()
    };
    known.sort();
    known
}

fn row(partition: usize, from: u64, to: u64) -> Value {
    json!({
        "kind": "gap", "partition": format!("{TOPIC}-{partition}"),
        "detail": { "from": from, "to": to, "reason": "Budget" },
    })
}

/// Two ranges of partition 0 and one of partition 1, in edge offsets.
const DROPPED: [(usize, u64, u64); 3] = [(0, 100, 150), (0, 300, 310), (1, 20, 60)];

/// What is left, and what the judge says when the ledger names `named`.
fn judged(named: &[(usize, u64, u64)]) -> Faults {
    let mut log: Vec<Vec<Found>> = vec![Vec::new(); 2];
    log[0].extend((0..TURNS).flat_map(|n| [Some(at(1, n)), Some(at(2, n))]));
    log[1].extend((0..TURNS).map(|n| Some(at(3, n))));
    for (partition, from, to) in DROPPED.iter().rev() {
        log[*partition].drain(*from as usize..*to as usize);
    }
    let rows: Vec<Value> = named
        .iter()
        .map(|(p, from, to)| row(*p, *from, *to))
        .collect();
    let mut faults = Faults::default();
    known().named(&log, &Named::read(&rows).unwrap(), &mut faults);
    faults
}

#[test]
fn what_is_named_as_it_was_dropped_passes() {
    let faults = judged(&DROPPED);
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn a_range_that_is_left_out_or_is_another_partitions_is_seen() {
    for left_out in 0..DROPPED.len() {
        let mut named = DROPPED.to_vec();
        named.remove(left_out);
        let faults = judged(&named);
        assert!(faults.of("missing where nothing is named") > 0, "{faults}");
    }
    let mut named = DROPPED;
    named[2].0 = 2;
    assert!(judged(&named).of("missing where nothing is named") > 0);
    assert!(judged(&named).of("named and missing differ") > 0);
}

#[test]
fn a_range_that_is_longer_shorter_or_elsewhere_is_seen() {
    for (from, to) in [
        (100, 151),
        (100, 149),
        (99, 150),
        (101, 150),
        (170, 220),
        (0, 50),
    ] {
        let mut named = DROPPED;
        (named[0].1, named[0].2) = (from, to);
        let faults = judged(&named);
        assert!(!faults.is_empty(), "[{from}, {to})");
    }
}

#[test]
fn records_that_may_never_have_been_there_do_not_count_against_a_range() {
    let mut known = known();
    // QoS 0: some are in the range and some never came. What is surely missing is still there.
    known.unknown = known.acked.extract_if(.., |a| a.publisher() == 2).collect();
    known.unknown.extend((TURNS..TURNS + 50).map(|n| at(2, n)));
    known.sort();
    let log: Vec<Vec<Found>> = vec![
        (0..TURNS)
            .filter(|n| !(50..75).contains(n))
            .flat_map(|n| [Some(at(1, n)), Some(at(2, n))])
            .collect(),
        (0..TURNS).map(|n| Some(at(3, n))).collect(),
    ];
    let says = |from, to| {
        let mut faults = Faults::default();
        let named = Named::read(&[row(0, from, to)]).unwrap();
        known.named(&log, &named, &mut faults);
        faults
    };
    assert!(says(100, 150).is_empty(), "{}", says(100, 150));
    // One too many is no longer made up for by what never came.
    assert!(!says(100, 151).is_empty() && !says(100, 124).is_empty());
}

#[test]
fn rows_of_another_kind_and_ranges_over_one_another_are_errors() {
    let mut lost = row(0, 1, 2);
    lost["kind"] = "lost".into();
    assert!(Named::read(&[lost]).is_err());
    let mut rot = row(0, 1, 2);
    rot["detail"]["reason"] = "Corrupt".into();
    assert!(Named::read(&[rot]).is_err());
    assert!(Named::read(&[row(0, 1, 5), row(0, 4, 6)]).is_err());
    let named = Named::read(&[row(0, 5, 7), row(3, 1, 5), row(0, 1, 4)]).unwrap();
    assert_eq!((named.records(), named.of(0), named.of(1)), (9, 5, 0));
    assert_eq!(named.places(0, 4), [0, 4, 7, 8]);
}
