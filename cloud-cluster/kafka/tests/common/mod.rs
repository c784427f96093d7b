//! What the tests of this crate share: a node that knows a few topics, and every request at every
//! version as a client would write it.
#![allow(dead_code)] // Each test file uses a part.

pub mod requests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use headwater_batch::TopicName;
use headwater_kafka::{Broker, ErrorCode, Node, Outcome, Partition, Peer, Reply, Settings, Topic};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable};
use uuid::Uuid;

pub const READINGS_ID: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888);

/// Broker 1 of two. Topics: `readings` (3 partitions), `elsewhere` (led by broker 2),
/// `compacted`, `stamped` (LogAppendTime), `small` (batches of at most 200 bytes).
#[derive(Debug)]
pub struct FakeNode {
    pub settings: Settings,
    pub topics: BTreeMap<String, Arc<Topic>>,
}

fn topic(name: &str, id: Uuid, leader: i32, configs: &[(&str, &str)]) -> (String, Arc<Topic>) {
    let partition = Partition {
        leader: Some(leader),
        leader_epoch: 7,
        replicas: vec![1, 2],
        isr: vec![1, 2],
    };
    let configs = configs
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    let name_ = TopicName::new(name).unwrap();
    (
        name.into(),
        Arc::new(Topic {
            name: name_,
            id,
            partitions: vec![partition; 3],
            configs,
        }),
    )
}

impl Default for FakeNode {
    fn default() -> Self {
        let settings = Settings {
            records_bytes_max: 1 << 20,
            broker_configs: BTreeMap::from([("log.dirs".into(), "/data".into())]),
            ..Settings::default()
        };
        let topics = BTreeMap::from([
            topic("readings", READINGS_ID, 1, &[]),
            topic("elsewhere", Uuid::from_u128(2), 2, &[]),
            topic(
                "compacted",
                Uuid::from_u128(3),
                1,
                &[("cleanup.policy", "compact,delete")],
            ),
            topic(
                "stamped",
                Uuid::from_u128(4),
                1,
                &[("message.timestamp.type", "LogAppendTime")],
            ),
            topic(
                "small",
                Uuid::from_u128(5),
                1,
                &[("max.message.bytes", "200")],
            ),
        ]);
        Self { settings, topics }
    }
}

impl Node for FakeNode {
    fn cluster_id(&self) -> &str {
        "headwater-test"
    }
    fn node_id(&self) -> i32 {
        1
    }
    fn controller_id(&self) -> i32 {
        1
    }
    fn brokers(&self, _listener: &str) -> Vec<Broker> {
        let broker = |id, port, rack| Broker {
            id,
            host: "127.0.0.1".into(),
            port,
            rack,
        };
        vec![broker(1, 9092, None), broker(2, 9093, Some("b".into()))]
    }
    fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.values().cloned().collect()
    }
    fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.get(name).cloned()
    }
    fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.topics.values().find(|t| t.id == id).cloned()
    }
    fn coordinator(&self, group: &str) -> Result<i32, ErrorCode> {
        match group {
            "loading" => Err(ErrorCode::CoordinatorLoadInProgress),
            "theirs" => Ok(2),
            _ => Ok(1),
        }
    }
    fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// A request frame without its length, as a client writes it.
pub fn frame(api: ApiKey, version: i16, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(api as i16);
    frame.put_i16(version);
    frame.put_i32(77);
    frame.put_i16(4);
    frame.put_slice(b"test");
    if api.request_header_version(version) >= 2 {
        // A tagged field that nobody knows.
        frame.put_slice(&[1, 9, 2, 0xaa, 0xbb]);
    }
    frame.put_slice(body);
    frame.freeze()
}

pub fn body<M: Encodable>(message: &M, version: i16) -> Bytes {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

pub fn serve<M: Encodable>(node: &FakeNode, api: ApiKey, version: i16, message: &M) -> Outcome {
    let peer = Peer {
        host: "10.0.0.9".into(),
        listener: "PLAINTEXT".into(),
    };
    headwater_kafka::serve(node, &peer, frame(api, version, &body(message, version)))
}

/// Decodes a whole response as a client does: length, header, body, and nothing left over.
pub fn decode<M: Decodable>(api: ApiKey, version: i16, reply: &Reply) -> M {
    let mut bytes = reply.to_bytes();
    let length = u32::from_be_bytes(bytes.split_to(4)[..].try_into().unwrap());
    assert_eq!(
        length as usize,
        bytes.len(),
        "{api:?} v{version}: frame length"
    );
    assert_eq!(
        bytes.split_to(4)[..],
        77i32.to_be_bytes(),
        "{api:?} v{version}: correlation id"
    );
    if api.response_header_version(version) >= 1 {
        assert_eq!(
            bytes.split_to(1)[..],
            [0],
            "{api:?} v{version}: header tags"
        );
    }
    let message = M::decode(&mut bytes, version)
        .unwrap_or_else(|e| panic!("{api:?} v{version}: {e}: {:?}", reply.to_bytes()));
    assert!(
        bytes.is_empty(),
        "{api:?} v{version}: {} bytes left over",
        bytes.len()
    );
    message
}

pub fn versions(api: ApiKey) -> std::ops::RangeInclusive<i16> {
    let row = headwater_kafka::wire::served(api as i16).unwrap();
    row.min..=row.max
}

/// The reply of an outcome that needs nothing of the shell.
pub fn reply(outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Reply(reply) => reply,
        Outcome::Admin(plan) if plan.proposals.is_empty() => plan.respond(Vec::new()),
        other => panic!("not a reply: {other:?}"),
    }
}

/// A batch of `n` records as a producer sends it, zstd-compressed.
pub fn batch_of(n: usize) -> Bytes {
    use headwater_batch::{BatchBuilder, Level, NewRecord, Offset};
    // Long enough that zstd is worth it: the builder stores small batches as they are.
    let value = "value".repeat(40);
    let mut builder = BatchBuilder::new(Offset(0), Level::Zstd(3));
    for i in 0..n {
        builder
            .push(&NewRecord::new(
                1_700_000_000_000 + i as i64,
                "key",
                value.clone(),
            ))
            .unwrap();
    }
    Bytes::from(builder.finish().to_vec())
}
