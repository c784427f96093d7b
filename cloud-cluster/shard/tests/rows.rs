//! Stored rows say what they are: bytes of this format are read for ever, those of others never by
//! accident.

// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Logged, batch, key, session, stream};
use headwater_proto::StreamEntry;
use headwater_shard::{Entry, Key, LoadError, ROW_FORMAT, Shard};

/// A shard with rows of most kinds, and a retired stream.
fn full() -> Shard {
    let mut log = Logged::new();
    log.open(0);
    log.produce(0, batch(0, &[1], Some((9, 0, 0))));
    let key = key("gw-1", 1, 0);
    for step in [session(4, 0), StreamEntry::Retire { at_ms: 6 }] {
        let (entry, bytes) = stream(0, &key, &step);
        log.apply(entry, bytes);
    }
    let add = Entry::AddEdge {
        name: "gw-1".into(),
        at_ms: 1,
    };
    log.apply(add, bytes::Bytes::new());
    log.shard
}

#[test]
fn a_row_of_another_format_is_named_and_not_taken() {
    let rows = full().snapshot(None, usize::MAX).rows;
    assert!(rows.len() > 4, "{} rows", rows.len());
    for (key, value) in rows {
        assert_eq!(value[0], ROW_FORMAT);
        let mut copy = Shard::new();
        let before = copy.state_hash();
        for format in [0, ROW_FORMAT + 1, 0xff] {
            let other = [&[format][..], &value[1..]].concat();
            let named = LoadError::Format {
                key: Box::new(Key::from_bytes(&key).unwrap()),
                format,
            };
            assert_eq!(copy.load(&key, &other), Err(named));
        }
        assert!(copy.load(&key, &[]).is_err());
        assert_eq!(copy.state_hash(), before, "nothing of it was taken");
        copy.load(&key, &value).unwrap();
    }
}

/// The table of an edge partition with a retired stream, as this format stores it.
#[test]
fn a_retired_stream_reads_back() {
    let shard = full();
    let edge = headwater_proto::EdgeName::new("gw-1").unwrap();
    let row = Key::Streams(edge.clone(), common::tp(0));
    let value = shard.row(&row).unwrap();
    let golden = [
        1, // format
        0, // no stream in use
        1, // one retired
        1, 0, 0, 1, 0, 0, 1,
        10, // incarnation, origin, next, epoch, last, boots, complete, at
    ];
    assert_eq!(value, golden);
    let mut copy = Shard::new();
    copy.load(&row.to_bytes(), &golden).unwrap();
    let streams = copy.streams_of(&edge, &common::tp(0)).unwrap();
    assert_eq!((streams.streams().len(), streams.retired().len()), (0, 1));
}
