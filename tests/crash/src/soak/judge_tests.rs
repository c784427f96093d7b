//! Each rule of the judge against a fault that breaks it and no other.

use super::*;

const QOS1: u16 = 1;
const QOS2: u16 = 2;

fn at(publisher: u16, message: u32) -> Attempt {
    Attempt::new(publisher, message, 0)
}

fn known() -> Known {
    let mut known = Known {
        acked: (0..5).flat_map(|n| [at(QOS1, n), at(QOS2, n)]).collect(),
        unknown: vec![at(QOS1, 5), at(QOS1, 6)],
        deletes: (1, 1),
        exactly_once: vec![QOS2],
        topics: HashMap::new(),
        with_wills: Vec::new(),
    };
    known.sort();
    known
}

fn log() -> Vec<Vec<Found>> {
    let first = (0..6).map(|n| Some(at(QOS1, n))).collect();
    let mut second: Vec<Found> = (0..5).map(|n| Some(at(QOS2, n))).collect();
    second.push(None);
    vec![first, second]
}

/// What the judge says of the log after `change`.
fn stored(change: impl FnOnce(&mut Vec<Vec<Found>>), ledger: u64) -> (u64, Faults) {
    let mut log = log();
    change(&mut log);
    let mut faults = Faults::default();
    let missing = known().stored(&log, ledger, &mut faults);
    (missing, faults)
}

fn only(faults: &Faults, kind: &str) {
    assert_eq!(faults.0.keys().collect::<Vec<_>>(), [&kind], "{faults}");
}

#[test]
fn a_right_log_passes() {
    let (missing, faults) = stored(|_| {}, 0);
    assert!(faults.is_empty() && missing == 0, "{faults}");
}

#[test]
fn a_missing_record_is_seen_unless_the_ledger_has_it() {
    let remove = |log: &mut Vec<Vec<Found>>| {
        log[0].remove(2);
    };
    let (missing, faults) = stored(remove, 0);
    assert_eq!(missing, 1);
    only(&faults, "acknowledged and not stored");
    let (missing, faults) = stored(remove, 1);
    assert!(faults.is_empty() && missing == 1, "{faults}");
    // An attempt that nobody acknowledged may be missing.
    let (missing, faults) = stored(|log| log[0].truncate(5), 0);
    assert!(faults.is_empty() && missing == 0, "{faults}");
}

#[test]
fn doubles_strangers_disorder_and_lost_deletions_are_seen() {
    let again = |log: &mut Vec<Vec<Found>>| log[1].insert(5, Some(at(QOS2, 4).again()));
    only(&stored(again, 0).1, "stored without being sent, or refused");
    let (_, faults) = stored(|log| log[1].push(Some(at(QOS2, 4))), 0);
    assert_eq!(faults.of("stored twice"), 1);
    only(&stored(|log| log[0].swap(1, 2), 0).1, "out of order");
    let (_, faults) = stored(|log| log[1].truncate(5), 0);
    only(&faults, "deletions of retained messages");
    let (_, faults) = stored(|log| log[1].extend([None, None]), 0);
    only(&faults, "deletions of retained messages");
}

/// What the judge says of a subscriber to both publishers.
fn delivered(change: impl FnOnce(&mut Vec<Attempt>), dropped: u64, since: u32) -> Faults {
    let mut delivered: Vec<Attempt> = log().into_iter().flatten().flatten().collect();
    change(&mut delivered);
    let mut faults = Faults::default();
    let due = Due {
        who: "s",
        delivered: &delivered,
        wants: &|_| true,
        since: &[0, since, since],
        exactly_once: true,
        at_most_once: false,
        in_order: true,
        dropped,
    };
    known().delivered(&due, &mut faults);
    faults
}

#[test]
fn a_right_subscriber_passes_with_doubles_at_qos_1() {
    let faults = delivered(|all| all.push(at(QOS1, 3)), 0, 0);
    assert!(faults.is_empty(), "{faults}");
}

#[test]
fn a_missing_delivery_is_seen_unless_it_was_dropped_or_before_the_suback() {
    let remove = |all: &mut Vec<Attempt>| {
        all.remove(1);
    };
    only(&delivered(remove, 0, 0), "acknowledged and not delivered");
    assert!(delivered(remove, 1, 0).is_empty());
    assert!(delivered(remove, 0, 2).is_empty());
}

#[test]
fn doubles_at_qos_2_strangers_and_disorder_of_deliveries_are_seen() {
    only(
        &delivered(|all| all.push(at(QOS2, 1)), 0, 0),
        "delivered twice",
    );
    let stranger = |all: &mut Vec<Attempt>| all.push(at(QOS1, 9));
    let kind = "delivered without being sent, or refused";
    only(&delivered(stranger, 0, 0), kind);
    only(&delivered(|all| all.swap(0, 1), 0, 0), "out of order");
}

#[test]
fn another_retained_message_is_seen() {
    let due = BTreeMap::from([("a".into(), Some(at(1, 1))), ("b".into(), None)]);
    let right = BTreeMap::from([("a".to_owned(), at(1, 1))]);
    for (got, count) in [
        (right, 0),
        (BTreeMap::new(), 1),
        (BTreeMap::from([("a".to_owned(), at(1, 0))]), 1),
        (
            BTreeMap::from([("a".to_owned(), at(1, 1)), ("b".to_owned(), at(1, 0))]),
            1,
        ),
        (
            BTreeMap::from([("a".to_owned(), at(1, 1)), ("c".to_owned(), at(1, 0))]),
            1,
        ),
    ] {
        let mut faults = Faults::default();
        retained(&due, &got, &mut faults);
        assert_eq!(faults.of("retained"), count, "{faults}");
    }
}
