//! No line of a loss leaves the ledger, whatever else is entered.

// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Logged, copied, key, session, stream};
use headwater_batch::Offset;
use headwater_proto::stream::GapEntry;
use headwater_proto::{BootId, BootStart, Epoch, GapReason, StreamEntry, StreamKey};
use headwater_shard::bounds::{LEDGER_ENTRIES, LEDGER_FOLD_EVERY};
use headwater_shard::{Loss, Shard};

fn step(log: &mut Logged, key: &StreamKey, entry: &StreamEntry) {
    let (entry, bytes) = stream(0, key, entry);
    log.apply(entry, bytes);
    // The log itself is not needed here, and long.
    log.log.clear();
}

fn gap(from: i64, to: i64, reason: GapReason) -> StreamEntry {
    StreamEntry::Gap(GapEntry {
        epoch: Epoch(1),
        from: Offset(from),
        to: Offset(to),
        reason,
        lineage: vec![BootStart {
            boot: BootId(1),
            start: Offset(0),
        }],
        at_ms: 5,
    })
}

/// A session whose incarnation began elsewhere than the cloud knows: set aside, with an alarm.
fn impossible() -> StreamEntry {
    let StreamEntry::Session(mut entry) = session(9, 0) else {
        unreachable!()
    };
    entry.origin = Offset(3);
    StreamEntry::Session(entry)
}

/// Records that the ledger's lines say are gone, over all streams.
fn records(shard: &Shard) -> u64 {
    let lines = shard.ledger().map(|(_, line)| match &line.loss {
        Loss::Gap(gap) => gap.to.since(gap.from).unwrap(),
        Loss::Gaps { records, .. } => *records,
        _ => 0,
    });
    lines.sum()
}

#[test]
fn alarms_that_alternate_take_no_gap_with_them() {
    let mut log = Logged::new();
    log.open(0);
    let (loser, one, other) = (key("gw-0", 1, 0), key("gw-1", 1, 0), key("gw-2", 1, 0));
    for key in [&loser, &one, &other] {
        step(&mut log, key, &session(9, 0));
    }
    step(&mut log, &loser, &gap(0, 7, GapReason::Budget));
    for _ in 0..=LEDGER_ENTRIES {
        step(&mut log, &one, &impossible());
        step(&mut log, &other, &impossible());
    }
    let lines: Vec<_> = log.shard.ledger().map(|(_, line)| &line.stream).collect();
    assert_eq!(lines, [&loser, &one, &other]);
    assert_eq!(records(&log.shard), 7);
}

#[test]
fn gaps_of_two_streams_in_turn_are_a_line_each() {
    let mut log = Logged::new();
    log.open(0);
    let keys = [key("gw-1", 1, 0), key("gw-2", 1, 0)];
    for key in &keys {
        step(&mut log, key, &session(99, 0));
    }
    for n in 0..50 {
        for key in &keys {
            step(&mut log, key, &gap(n, n + 1, GapReason::Budget));
        }
    }
    assert_eq!(log.shard.ledger().count(), 2);
    assert_eq!(records(&log.shard), 100);
}

#[test]
fn a_full_ledger_folds_gaps_and_loses_none() {
    let mut log = Logged::new();
    log.open(0);
    let (quiet, loud) = (key("gw-0", 1, 0), key("gw-1", 1, 0));
    for key in [&quiet, &loud] {
        step(&mut log, key, &session(1 << 40, 0));
    }
    step(&mut log, &quiet, &gap(0, 7, GapReason::Corrupt));
    // Of two reasons in turn: none continues the one before.
    let reasons = [GapReason::Budget, GapReason::Corrupt];
    let entered = 2 * LEDGER_ENTRIES as i64;
    for n in 0..entered {
        step(&mut log, &loud, &gap(n, n + 1, reasons[n as usize % 2]));
    }
    let lines = log.shard.ledger().count();
    assert!(
        lines <= LEDGER_ENTRIES + LEDGER_FOLD_EVERY as usize,
        "{lines}"
    );
    assert_eq!(records(&log.shard), 7 + entered as u64);
    let of_quiet = log.shard.ledger().find(|(_, line)| line.stream == quiet);
    assert!(matches!(of_quiet.unwrap().1.loss, Loss::Gap(gap) if gap.to == Offset(7)));
    // What is derived is derived again from the rows: a copy goes on the same way.
    let mut copy = Logged::new();
    copy.shard = copied(&log.shard, 1 << 20);
    for log in [&mut log, &mut copy] {
        step(log, &loud, &gap(entered, entered + 1, reasons[1]));
    }
    assert_eq!(copy.shard.state_hash(), log.shard.state_hash());
}
