//! Entries as a node would propose them, from small numbers that proptest draws.
// Helpers of tests are tests, which clippy does not see; not every test file uses them all.
#![allow(clippy::unwrap_used, dead_code)]

use bytes::Bytes;
use headwater_batch::{BatchBuilder, Level, NewRecord, Offset, TopicName, TopicPartition};
use headwater_proto::stream::{DataEntry, SessionEntry};
use headwater_proto::{
    BootId, BootSpan, BootStart, Digest, EdgeName, Epoch, Incarnation, StreamEntry, StreamKey,
};
use headwater_shard::{Applied, At, Entry, Shard};

pub const TOPIC_ID: u128 = 7;

pub fn tp(partition: u32) -> TopicPartition {
    TopicPartition::new(TopicName::new("readings").unwrap(), partition)
}

/// A batch of `values`; with a producer `(id, epoch, first sequence)` when given.
pub fn batch(base: i64, values: &[u64], producer: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(Offset(base), Level::None);
    for value in values {
        builder
            .push(&NewRecord::new(1_000, "key", value.to_string()))
            .unwrap();
    }
    let mut bytes = builder.finish().to_vec();
    if let Some((id, epoch, sequence)) = producer {
        // Inside the CRC; the state machine does not look at that.
        bytes[43..51].copy_from_slice(&id.to_be_bytes());
        bytes[51..53].copy_from_slice(&epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
    }
    bytes.into()
}

/// A shard with its log, so that it can be rebuilt.
#[derive(Default)]
pub struct Logged {
    pub shard: Shard,
    pub log: Vec<(At, Entry, Bytes)>,
    pub term: u64,
}

impl Logged {
    pub fn new() -> Self {
        Self {
            shard: Shard::new(),
            log: Vec::new(),
            term: 1,
        }
    }

    pub fn apply(&mut self, entry: Entry, batch: Bytes) -> Applied {
        let at = At {
            index: self.shard.applied().index + 1,
            term: self.term,
        };
        let applied = self.shard.apply(at, &entry, &batch);
        self.log.push((at, entry, batch));
        applied
    }

    pub fn open(&mut self, partition: u32) {
        let open = Entry::OpenPartition {
            tp: tp(partition),
            topic_id: TOPIC_ID,
            epoch_base: 0,
        };
        self.apply(open, Bytes::new());
    }

    pub fn produce(&mut self, partition: u32, batch: Bytes) -> Applied {
        let entry = Entry::Produce {
            tp: tp(partition),
            topic_id: TOPIC_ID,
            at_ms: 5,
        };
        self.apply(entry, batch)
    }
}

/// Applies a log from its start, or from where `shard` stands.
pub fn replay(shard: &mut Shard, log: &[(At, Entry, Bytes)]) {
    for (at, entry, batch) in log {
        if *at > shard.applied() {
            shard.apply(*at, entry, batch);
        }
    }
}

/// A copy made through snapshot chunks of about `chunk` bytes.
pub fn copied(shard: &Shard, chunk: usize) -> Shard {
    let (mut copy, mut after) = (Shard::new(), None);
    loop {
        let piece = shard.snapshot(after.as_ref(), chunk);
        for (key, value) in &piece.rows {
            copy.load(key, value).unwrap();
        }
        match piece.resume_after {
            Some(key) => after = Some(key),
            None => return copy,
        }
    }
}

pub fn key(edge: &str, incarnation: u128, partition: u32) -> StreamKey {
    StreamKey {
        edge: EdgeName::new(edge).unwrap(),
        incarnation: Incarnation(incarnation),
        tp: tp(partition),
    }
}

pub fn session(end: i64, acked: i64) -> StreamEntry {
    StreamEntry::Session(SessionEntry {
        partitions: 1,
        origin: Offset(0),
        parent: None,
        start: Offset(0),
        end: Offset(end),
        acked: Offset(acked),
        spans: vec![BootSpan {
            boot: BootId(1),
            start: Offset(0),
            end: Offset(end),
        }],
        at_ms: 5,
    })
}

/// Records `[base, next)` of an edge whose record at offset n has the value n.
pub fn data(epoch: Epoch, base: i64, next: i64) -> StreamEntry {
    let values: Vec<u64> = (base..next).map(|n| n as u64).collect();
    let batch = batch(base, &values, None);
    StreamEntry::Data(DataEntry {
        epoch,
        base: Offset(base),
        next: Offset(next),
        lineage: vec![BootStart {
            boot: BootId(1),
            start: Offset(0),
        }],
        digest: Digest(next as u64),
        at_ms: 5,
        batch,
    })
}

pub fn stream(to: u32, key: &StreamKey, entry: &StreamEntry) -> (Entry, Bytes) {
    let (head, batch) = entry.encode();
    (
        Entry::Stream {
            to: tp(to),
            key: key.clone(),
            head,
            at_ms: 5,
        },
        batch,
    )
}
