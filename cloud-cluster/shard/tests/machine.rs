//! What the state machine promises, one test each.

mod common;

use bytes::Bytes;
use common::{Logged, TOPIC_ID, batch, copied, data, key, replay, session, stream, tp};
use headwater_batch::{BatchBuilder, Level, NewRecord, Offset, TopicName};
use headwater_proto::{Epoch, StreamOutcome};
use headwater_shard::{
    Effect, Entry, GroupOffset, Outcome, Refusal, Segment, Shard, decode, encode,
};

fn appended(outcome: &Outcome) -> (i64, i64) {
    match outcome {
        Outcome::Appended(a) | Outcome::Duplicate(a) => (a.base.0, a.end.0),
        other => panic!("not appended: {other:?}"),
    }
}

fn segment(end: i64) -> Segment {
    Segment {
        end: Offset(end),
        uuid: 1,
        log_bytes: 100,
        index_bytes: 0,
        time_index_bytes: 12,
        max_timestamp: 0,
        appended_ms: 0,
    }
}

fn add_segment(base: i64, end: i64) -> Entry {
    let (tp, base) = (tp(0), Offset(base));
    Entry::AddSegment {
        tp,
        topic_id: TOPIC_ID,
        base,
        segment: segment(end),
    }
}

#[test]
fn offsets_are_assigned_at_apply_without_holes() {
    let mut log = Logged::new();
    log.open(0);
    assert_eq!(
        appended(&log.produce(0, batch(900, &[1, 2, 3], None)).outcome),
        (0, 3)
    );
    let applied = log.produce(0, batch(0, &[4], None));
    assert_eq!(appended(&applied.outcome), (3, 4));
    let effect = Effect::Append {
        tp: tp(0),
        base: Offset(3),
        end: Offset(4),
        epoch: 1,
        at_ms: 5,
    };
    assert_eq!(applied.effects, vec![effect]);
}

#[test]
fn a_repeated_batch_keeps_its_first_offset() {
    let mut log = Logged::new();
    log.open(0);
    let first = batch(0, &[1, 2], Some((9, 0, 0)));
    assert_eq!(appended(&log.produce(0, first.clone()).outcome), (0, 2));
    log.produce(0, batch(0, &[3], None));
    let again = log.produce(0, first);
    assert!(matches!(again.outcome, Outcome::Duplicate(_)));
    assert_eq!(appended(&again.outcome), (0, 2));
    assert!(again.effects.is_empty());
    assert_eq!(log.shard.partition(&tp(0)).unwrap().next, Offset(3));
}

/// The first of two batches in flight was refused before it came here. Taking the second would have
/// the first, sent again, pass for a duplicate: acknowledged and lost.
#[test]
fn a_producer_begins_at_sequence_0_also_where_others_have_written() {
    let mut log = Logged::new();
    log.open(0);
    let refusal = Refusal::OutOfOrderSequence {
        expected: 0,
        got: 2,
    };
    let (first, second) = (
        batch(0, &[1, 2], Some((9, 0, 0))),
        batch(0, &[3], Some((9, 0, 2))),
    );
    let applied = log.produce(0, second.clone());
    assert_eq!(applied.outcome, Outcome::Refused(refusal.clone()));
    log.produce(0, batch(0, &[7], None));
    let applied = log.produce(0, second.clone());
    assert_eq!(applied.outcome, Outcome::Refused(refusal));
    assert_eq!(appended(&log.produce(0, first).outcome), (1, 3));
    assert_eq!(appended(&log.produce(0, second).outcome), (3, 4));
}

#[test]
fn a_batch_that_compresses_to_almost_nothing_is_taken() {
    let mut log = Logged::new();
    log.open(0);
    let mut builder = BatchBuilder::new(Offset(0), Level::Zstd(3));
    for _ in 0..1000 {
        builder
            .push(&NewRecord::new(1_000, "key", "the same"))
            .unwrap();
    }
    let batch = Bytes::from(builder.finish().to_vec());
    assert!(
        batch.len() < 7 * 1000,
        "{} bytes: no longer less than records take at least",
        batch.len()
    );
    assert_eq!(appended(&log.produce(0, batch).outcome), (0, 1000));
}

#[test]
fn epochs_follow_the_terms_of_entries() {
    let mut log = Logged::new();
    log.open(0);
    log.produce(0, batch(0, &[1, 2], None));
    log.term = 4;
    log.apply(Entry::NewTerm, Bytes::new());
    log.produce(0, batch(0, &[3], None));
    let partition = log.shard.partition(&tp(0)).unwrap();
    assert_eq!(partition.epochs, vec![(1, Offset(0)), (4, Offset(2))]);
    assert_eq!(partition.epoch_end(1), (1, Offset(2)));
}

#[test]
fn commits_of_an_older_generation_are_refused() {
    let mut log = Logged::new();
    let commit = |generation, offset| Entry::CommitOffsets {
        group: "g".into(),
        generation,
        offsets: vec![(
            tp(0),
            GroupOffset {
                offset: Offset(offset),
                leader_epoch: -1,
                metadata: String::new(),
            },
        )],
        at_ms: 5,
    };
    let generation = Entry::GroupGeneration {
        group: "g".into(),
        generation: 3,
        protocol_type: "consumer".into(),
        at_ms: 5,
    };
    log.apply(generation, Bytes::new());
    assert_eq!(
        log.apply(commit(3, 10), Bytes::new()).outcome,
        Outcome::Done
    );
    let stale = Refusal::StaleGeneration { current: 3, got: 2 };
    assert_eq!(
        log.apply(commit(2, 5), Bytes::new()).outcome,
        Outcome::Refused(stale)
    );
    assert_eq!(log.shard.committed("g", &tp(0)).unwrap().offset, Offset(10));
    assert_eq!(
        log.apply(commit(-1, 7), Bytes::new()).outcome,
        Outcome::Done
    );
    assert_eq!(log.shard.committed("g", &tp(0)).unwrap().offset, Offset(7));
    let topic = TopicName::new("readings").unwrap();
    log.apply(Entry::ForgetTopicOffsets { topic }, Bytes::new());
    assert!(log.shard.committed("g", &tp(0)).is_none());
}

#[test]
fn segments_are_entered_in_order_and_leave_with_the_log_start() {
    let mut log = Logged::new();
    log.open(0);
    for _ in 0..3 {
        log.produce(0, batch(0, &[1, 2], None));
    }
    let late = log.apply(add_segment(2, 4), Bytes::new());
    assert_eq!(
        late.outcome,
        Outcome::Refused(Refusal::SegmentNotNext(Offset(0)))
    );
    let past = log.apply(add_segment(0, 7), Bytes::new());
    assert_eq!(
        past.outcome,
        Outcome::Refused(Refusal::SegmentNotNext(Offset(0)))
    );
    let first = log.apply(add_segment(0, 2), Bytes::new());
    assert_eq!(first.effects, vec![Effect::Cold(tp(0), Offset(2))]);
    log.apply(add_segment(2, 4), Bytes::new());
    assert_eq!(
        log.shard.segment_at(&tp(0), Offset(3)).unwrap().0,
        Offset(2)
    );
    let moved = log.apply(
        Entry::LogStart {
            tp: tp(0),
            start: Offset(3),
        },
        Bytes::new(),
    );
    let gone = Effect::SegmentGone(tp(0), Offset(0), segment(2));
    assert_eq!(
        moved.effects,
        vec![Effect::LogStart(tp(0), Offset(3)), gone]
    );
    assert_eq!(log.shard.segments(&tp(0)).count(), 1);
}

#[test]
fn a_renewed_topic_starts_anew_and_old_entries_miss_it() {
    let mut log = Logged::new();
    log.open(0);
    log.produce(0, batch(0, &[1], Some((9, 0, 0))));
    let renewed = Entry::OpenPartition {
        tp: tp(0),
        topic_id: 8,
        epoch_base: 0,
    };
    log.apply(renewed, Bytes::new());
    assert_eq!(log.shard.partition(&tp(0)).unwrap().next, Offset(0));
    let stale = log.produce(0, batch(0, &[2], None));
    assert_eq!(stale.outcome, Outcome::Refused(Refusal::UnknownPartition));
    let close = Entry::ClosePartition {
        tp: tp(0),
        topic_id: TOPIC_ID,
    };
    let stale = log.apply(close, Bytes::new());
    assert_eq!(stale.outcome, Outcome::Refused(Refusal::UnknownPartition));
}

#[test]
fn a_stream_outlives_its_topic() {
    let mut log = Logged::new();
    log.open(0);
    let key = key("gw-1", 1, 0);
    let (entry, none) = stream(0, &key, &session(4, 0));
    assert!(matches!(
        log.apply(entry, none).outcome,
        Outcome::Stream(StreamOutcome::Opened(ref o)) if o.epoch == Epoch(1) && o.next == Offset(0)
    ));
    let (entry, bytes) = stream(0, &key, &data(Epoch(1), 0, 2));
    let outcome = log.apply(entry.clone(), bytes.clone()).outcome;
    assert_eq!(
        outcome,
        Outcome::Stream(StreamOutcome::Append { next: Offset(2) })
    );
    log.apply(
        Entry::ClosePartition {
            tp: tp(0),
            topic_id: TOPIC_ID,
        },
        Bytes::new(),
    );

    let (next, next_bytes) = stream(0, &key, &data(Epoch(1), 2, 4));
    let refused = log.apply(next.clone(), next_bytes.clone()).outcome;
    assert_eq!(refused, Outcome::Refused(Refusal::UnknownPartition));
    log.open(0);
    assert_eq!(
        log.apply(entry, bytes).outcome,
        Outcome::Stream(StreamOutcome::Duplicate { next: Offset(2) })
    );
    assert_eq!(
        log.apply(next, next_bytes).outcome,
        Outcome::Stream(StreamOutcome::Append { next: Offset(4) })
    );
    assert_eq!(log.shard.partition(&tp(0)).unwrap().next, Offset(2));
}

#[test]
fn a_batch_that_is_not_what_its_entry_says_is_rejected() {
    let mut log = Logged::new();
    log.open(0);
    let key = key("gw-1", 1, 0);
    let (entry, none) = stream(0, &key, &session(4, 0));
    log.apply(entry, none);
    let (entry, _) = stream(0, &key, &data(Epoch(1), 0, 3));
    let outcome = log.apply(entry, batch(0, &[0, 1], None)).outcome;
    assert!(
        matches!(outcome, Outcome::Stream(StreamOutcome::Rejected(_))),
        "{outcome:?}"
    );
    assert_eq!(log.shard.partition(&tp(0)).unwrap().next, Offset(0));
}

#[test]
fn pins_stay_and_revoked_names_are_not_used_again() {
    let mut log = Logged::new();
    let pin = |partition| Entry::PinStream {
        edge: "gw".into(),
        source: tp(0),
        partition,
    };
    assert_eq!(log.apply(pin(3), Bytes::new()).outcome, Outcome::Pinned(3));
    assert_eq!(log.apply(pin(5), Bytes::new()).outcome, Outcome::Pinned(3));
    let add = Entry::AddEdge {
        name: "gw".into(),
        at_ms: 1,
    };
    assert_eq!(log.apply(add.clone(), Bytes::new()).outcome, Outcome::Done);
    log.apply(
        Entry::RevokeEdge {
            name: "gw".into(),
            at_ms: 2,
        },
        Bytes::new(),
    );
    let refused = Outcome::Refused(Refusal::EdgeRevoked);
    assert_eq!(log.apply(add, Bytes::new()).outcome, refused);
}

#[test]
fn entries_read_back_and_damage_is_an_error() {
    let entry = Entry::Produce {
        tp: tp(3),
        topic_id: TOPIC_ID,
        at_ms: -1,
    };
    let bytes = Bytes::from(encode(&entry, b"batch"));
    assert_eq!(
        decode(&bytes).unwrap(),
        (entry, Bytes::from_static(b"batch"))
    );
    for cut in 0..bytes.len() - b"batch".len() {
        decode(&bytes.slice(..cut)).unwrap_err();
    }
    let mut long = bytes.to_vec();
    long[1..5].copy_from_slice(&u32::MAX.to_le_bytes());
    decode(&long.into()).unwrap_err();
}

#[test]
fn a_snapshot_holds_no_records_and_everything_else() {
    let mut log = Logged::new();
    log.open(0);
    log.produce(0, batch(0, &[1; 1000], Some((9, 0, 0))));
    let copy = copied(&log.shard, 1);
    assert_eq!(copy.state_hash(), log.shard.state_hash());
    let bytes: usize = log
        .shard
        .snapshot(None, usize::MAX)
        .rows
        .iter()
        .map(|(k, v)| k.len() + v.len())
        .sum();
    assert!(bytes < 300, "{bytes}");
    let mut again = Shard::new();
    replay(&mut again, &log.log);
    assert_eq!(again.state_hash(), log.shard.state_hash());
}
