//! What the cloud's journal and checkpoints hold: entries and their application, stream entries, and
//! rows of a shard's state.
//!
//! Asserted: what decodes is written again the same, and a state that was built from any entries
//! survives its own snapshot.
//!
//! Memory: a list's stated length may make serde reserve 1 MiB.

use bytes::Bytes;
use headwater_batch::TopicName;
use headwater_proto::StreamEntry;
use headwater_shard::{At, Entry, Shard, decode, encode};

use super::cloud_session::tp;
use super::{batch, named};
use crate::Target;
use crate::input::{Input, Script};

pub const TARGET: Target = Target {
    name: "entries",
    run,
    seeds,
    input_bytes_max: 16 << 10,
    memory_bytes_max: 32 << 20,
};

const APPLY: u8 = 0;
const RAW: u8 = 1;
const ROW: u8 = 2;
const STREAM: u8 = 3;
const STEPS: u8 = 4;

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut shard = Shard::new();
    while !input.is_empty() {
        match input.byte() % STEPS {
            APPLY => {
                let (head, batch) = (input.bytes(), input.bytes());
                apply(&mut shard, head, batch);
            }
            RAW => {
                let bytes = Bytes::copy_from_slice(input.bytes());
                if let Ok((entry, batch)) = decode(&bytes) {
                    encode(&entry, &batch);
                }
            }
            ROW => {
                let (key, value) = (input.bytes(), input.bytes());
                let _ = Shard::new().load(key, value);
            }
            _ => {
                let (head, batch) = (input.bytes(), Bytes::copy_from_slice(input.bytes()));
                if let Ok(entry) = StreamEntry::decode(head, batch) {
                    let (head, batch) = entry.encode();
                    assert_eq!(StreamEntry::decode(&head, batch), Ok(entry));
                }
            }
        }
    }
    shard.changes();
    let mut copy = Shard::new();
    for (key, value) in shard.snapshot(None, usize::MAX).rows {
        copy.load(&key, &value).expect("a snapshot loads");
    }
    assert_eq!(copy.state_hash(), shard.state_hash());
}

fn apply(shard: &mut Shard, head: &[u8], batch: &[u8]) {
    let Ok(entry) = postcard::from_bytes::<Entry>(head) else {
        return;
    };
    let bytes = Bytes::from(encode(&entry, batch));
    let (again, batch) = decode(&bytes).expect("what was encoded decodes");
    assert_eq!(again, entry);
    let index = shard.applied().index + 1;
    shard.apply(At { index, term: 1 }, &entry, &batch);
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let name = || TopicName::new("mqtt").expect("a valid name");
    let (topic_id, at_ms) = (7, 5);
    let entries = [
        Entry::CreateTopic {
            name: name(),
            id: topic_id,
            partitions: 2,
            config: vec![("retention.ms".into(), "5".into())],
            at_ms,
        },
        Entry::CreatePartitions {
            name: name(),
            total: 4,
        },
        Entry::AlterConfig {
            name: name(),
            changes: vec![("retention.ms".into(), None)],
        },
        Entry::InitProducerId,
        Entry::AddEdge {
            name: "gw-1".into(),
            at_ms,
        },
        Entry::PinStream {
            edge: "gw-1".into(),
            source: tp(0),
            partition: 1,
        },
        Entry::OpenPartition {
            tp: tp(0),
            topic_id,
            epoch_base: 0,
        },
        Entry::Produce {
            tp: tp(0),
            topic_id,
            at_ms,
        },
        Entry::Produce {
            tp: tp(0),
            topic_id,
            at_ms,
        },
        Entry::LogStart {
            tp: tp(0),
            start: headwater_batch::Offset(3),
        },
        Entry::GroupGeneration {
            group: "g".into(),
            generation: 1,
            protocol_type: "consumer".into(),
            at_ms,
        },
        Entry::CommitOffsets {
            group: "g".into(),
            generation: 1,
            offsets: vec![],
            at_ms,
        },
        Entry::ForgetTopicOffsets { topic: name() },
        Entry::DeleteGroup { group: "g".into() },
        Entry::ClosePartition {
            tp: tp(0),
            topic_id,
        },
        Entry::DeleteTopic { name: name() },
        Entry::RevokeEdge {
            name: "gw-1".into(),
            at_ms,
        },
        Entry::SetRules { version: 1 },
        Entry::NewTerm,
    ];
    let mut all = Script::default();
    let mut raw = Script::default();
    for entry in &entries {
        let head = postcard::to_stdvec(entry).expect("plain data always encodes");
        let batch = match entry {
            Entry::Produce { .. } => batch::GOLDEN[0].1,
            _ => &[],
        };
        all.byte(APPLY).bytes(&head).bytes(batch);
        raw.byte(RAW).bytes(&encode(entry, &[]));
    }
    let probe = StreamEntry::Probe {
        epoch: headwater_proto::Epoch(3),
    }
    .encode()
    .0;
    raw.byte(STREAM).bytes(&probe).bytes(&[]);
    let mut shard = Shard::new();
    apply(
        &mut shard,
        &postcard::to_stdvec(&entries[0]).expect("plain data"),
        &[],
    );
    apply(
        &mut shard,
        &postcard::to_stdvec(&entries[4]).expect("plain data"),
        &[],
    );
    for (key, value) in shard.snapshot(None, usize::MAX).rows {
        raw.byte(ROW).bytes(&key).bytes(&value);
    }
    vec![named("applied", all.0), named("raw", raw.0)]
}
