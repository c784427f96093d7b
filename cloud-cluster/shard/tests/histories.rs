//! Random histories: replay is deterministic, a checkpoint plus the rest of the log is the whole
//! log, and whatever is repeated, by whomever, lands once.

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{Logged, TOPIC_ID, batch, copied, data, key, replay, session, stream, tp};
use headwater_batch::Offset;
use headwater_proto::{Epoch, StreamOutcome};
use headwater_shard::{Entry, GroupOffset, Outcome, Segment, Shard};
use proptest::prelude::*;

const PARTITIONS: u32 = 2;

fn any_entry() -> impl Strategy<Value = (Entry, Bytes)> {
    let plain = |entry: Entry| (entry, Bytes::new());
    prop_oneof![
        6 => (0..PARTITIONS, 1..4usize, 0..3i64, 0..2i16, 0..6i32).prop_map(|(p, n, id, epoch, seq)| {
            let producer = (id > 0).then_some((id, epoch, seq));
            let entry = Entry::Produce { tp: tp(p), topic_id: TOPIC_ID, at_ms: i64::from(seq) };
            (entry, batch(0, &vec![1; n], producer))
        }),
        4 => (0..PARTITIONS, 0..2u128, 0..3u64, 0..8i64, 1..4i64).prop_map(|(p, inc, epoch, base, n)| {
            stream(p, &key("gw", inc, p), &data(Epoch(epoch), base, base + n))
        }),
        2 => (0..PARTITIONS, 0..2u128, 0..8i64).prop_map(|(p, inc, end)| {
            stream(p, &key("gw", inc, p), &session(end, 0))
        }),
        1 => (0..PARTITIONS, 0..3u128).prop_map(move |(p, id)| {
            plain(Entry::OpenPartition { tp: tp(p), topic_id: TOPIC_ID + id / 2, epoch_base: 0 })
        }),
        1 => (0..PARTITIONS).prop_map(move |p| {
            plain(Entry::ClosePartition { tp: tp(p), topic_id: TOPIC_ID })
        }),
        1 => (0..PARTITIONS, 0..9i64).prop_map(move |(p, start)| {
            plain(Entry::LogStart { tp: tp(p), start: Offset(start) })
        }),
        2 => (0..PARTITIONS, 0..9i64, 1..4i64).prop_map(move |(p, base, n)| {
            let segment = Segment {
                end: Offset(base + n), uuid: 1, log_bytes: 1, index_bytes: 1, time_index_bytes: 1,
                max_timestamp: 1, appended_ms: 1,
            };
            plain(Entry::AddSegment { tp: tp(p), topic_id: TOPIC_ID, base: Offset(base), segment })
        }),
        1 => (0..3i32, 0..9i64).prop_map(move |(generation, offset)| {
            let wanted = GroupOffset {
                offset: Offset(offset), leader_epoch: -1, metadata: String::new(),
            };
            let offsets = vec![(tp(0), wanted)];
            plain(Entry::CommitOffsets { group: "g".into(), generation, offsets, at_ms: offset })
        }),
        1 => Just(plain(Entry::DeleteGroup { group: "g".into() })),
        1 => Just(plain(Entry::InitProducerId)),
    ]
}

/// A store of rows, as a checkpoint is: fed with changes only.
#[derive(Default)]
struct Rows(BTreeMap<Vec<u8>, Vec<u8>>);

impl Rows {
    fn take(&mut self, shard: &mut Shard) {
        for (key, value) in shard.changes() {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }

    fn shard(&self) -> Shard {
        let mut shard = Shard::new();
        for (key, value) in &self.0 {
            shard.load(key, value).expect("a row that was just taken");
        }
        shard
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn checkpoint_plus_suffix_is_full_replay(
        entries in proptest::collection::vec(any_entry(), 1..60),
        checkpoints in proptest::collection::vec(0..60usize, 0..4),
        chunk in 1..400usize,
    ) {
        let (mut log, mut rows, mut kept) = (Logged::new(), Rows::default(), Vec::new());
        log.open(0);
        log.open(1);
        for (i, (entry, batch)) in entries.into_iter().enumerate() {
            if checkpoints.contains(&i) {
                rows.take(&mut log.shard);
                kept.push(rows.shard());
            }
            log.apply(entry, batch);
        }
        let hash = log.shard.state_hash();
        let mut whole = Shard::new();
        replay(&mut whole, &log.log);
        prop_assert_eq!(whole.state_hash(), hash);
        for mut shard in kept {
            replay(&mut shard, &log.log);
            prop_assert_eq!(shard.state_hash(), hash);
        }
        prop_assert_eq!(copied(&log.shard, chunk).state_hash(), hash);
    }

    /// An edge that forgets what was acknowledged, repeats at random and meets a shard that is
    /// rebuilt from its checkpoint at random: the partition gets records 0, 1, 2, ... once each.
    #[test]
    fn every_record_of_a_stream_lands_once_and_in_order(
        steps in proptest::collection::vec((0..8u8, 0..12i64, 1..6i64), 1..120),
    ) {
        let (mut log, mut rows) = (Logged::new(), Rows::default());
        log.open(0);
        let key = key("gw", 1, 0);
        let (mut epoch, mut landed, mut next) = (Epoch(0), Vec::new(), 0i64);
        for (kind, back, n) in steps {
            match kind {
                0 => rows.take(&mut log.shard),
                1 => {
                    log.shard = rows.shard();
                    replay(&mut log.shard, &log.log);
                }
                2 => {
                    let (entry, none) = stream(0, &key, &session(10_000, 0));
                    match log.apply(entry, none).outcome {
                        Outcome::Stream(StreamOutcome::Opened(opened)) => {
                            epoch = opened.epoch;
                            prop_assert_eq!(opened.next.0, next);
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                _ => {
                    let base = (next - back + 6).max(0);
                    let (entry, bytes) = stream(0, &key, &data(epoch, base, base + n));
                    let applied = log.apply(entry, bytes);
                    if let Outcome::Stream(StreamOutcome::Append { next: now }) = applied.outcome {
                        prop_assert_eq!(applied.effects.len(), 1);
                        landed.extend(base..base + n);
                        next = now.0;
                    } else {
                        prop_assert!(applied.effects.is_empty());
                    }
                }
            }
        }
        prop_assert_eq!(&landed, &(0..landed.len() as i64).collect::<Vec<_>>());
        prop_assert_eq!(log.shard.partition(&tp(0)).unwrap().next.0, landed.len() as i64);
    }

    /// The same for an idempotent Kafka producer with up to five batches in flight.
    #[test]
    fn an_idempotent_producer_lands_once_and_in_order(
        steps in proptest::collection::vec((0..6u8, 0..5usize, 1..4usize), 1..120),
    ) {
        let (mut log, mut rows) = (Logged::new(), Rows::default());
        log.open(0);
        let (mut sent, mut sequence, mut expected_next): (Vec<(Bytes, i64)>, i32, i64) =
            (Vec::new(), 0, 0);
        for (kind, back, n) in steps {
            match kind {
                0 => rows.take(&mut log.shard),
                1 => {
                    log.shard = rows.shard();
                    replay(&mut log.shard, &log.log);
                }
                2 | 3 if sent.len() > back => {
                    let (bytes, base) = sent[sent.len() - 1 - back].clone();
                    match log.produce(0, bytes).outcome {
                        Outcome::Duplicate(there) => prop_assert_eq!(there.base.0, base),
                        other => prop_assert!(false, "{:?}", other),
                    }
                }
                _ => {
                    let bytes = batch(0, &vec![1; n], Some((4, 0, sequence)));
                    sequence += n as i32;
                    sent.push((bytes.clone(), expected_next));
                    expected_next += n as i64;
                    let outcome = log.produce(0, bytes).outcome;
                    prop_assert!(matches!(outcome, Outcome::Appended(_)), "{:?}", outcome);
                }
            }
            prop_assert_eq!(log.shard.partition(&tp(0)).unwrap().next.0, expected_next);
        }
    }
}
