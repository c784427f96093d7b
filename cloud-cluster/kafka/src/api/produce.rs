//! Produce (key 0): from a request to batches that may be appended as they are.
//!
//! A batch is refused before it is proposed if Kafka would refuse it: see `check`. What needs the
//! partition's state (sequences, epochs of producers) is the shard's.

mod check;

use std::collections::BTreeSet;

use bytes::Bytes;
use headwater_batch::TopicPartition;
use kafka_protocol::messages::produce_request::ProduceRequest;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ProduceResponse, TopicName as WireTopic};

use super::{code, led, message, partition_of, text};
use crate::node::{Broker, Node, Peer, Topic};
use crate::wire::{Call, Reply};
use crate::{CloseReason, ErrorCode, KafkaError};

/// When the client wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Never: `respond` gives nothing to send.
    None,
    /// Answered at apply, as `All` (rule C3).
    Leader,
    All,
}

/// What the shard has to know of a batch, read once from its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchInfo {
    /// -1 for a producer that is not idempotent; then epoch and sequence are -1 too.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    /// At least 1; offset deltas are 0..records, with no gaps.
    pub records: u32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub codec: u8,
}

/// One validated batch for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    pub tp: TopicPartition,
    /// Exactly one RecordBatch v2; a slice of the request, not a copy. Its base offset and leader
    /// epoch are the client's and have to be stamped.
    pub batch: Bytes,
    pub info: BatchInfo,
    /// The topic has `message.timestamp.type=LogAppendTime`: the proposer stamps the time.
    pub log_append_time: bool,
}

/// Where an append went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The first record's offset; of the original batch if this was a duplicate.
    pub base_offset: i64,
    /// -1 unless the topic uses LogAppendTime.
    pub log_append_time_ms: i64,
    pub log_start: i64,
}

/// Batches to append, at most one per partition.
#[derive(Debug)]
pub struct ProducePlan {
    pub acks: Acks,
    /// How long the client waits; after it REQUEST_TIMED_OUT is the answer, which means that the
    /// outcome is not known.
    pub timeout_ms: u32,
    /// May be empty when every partition was refused; call `respond` with no results then.
    pub appends: Vec<Append>,
    call: Call,
    topics: Vec<(WireTopic, Vec<Slot>)>,
    endpoints: Vec<Broker>,
}

/// A partition of the request, in its place in the response.
#[derive(Debug)]
struct Slot {
    partition: i32,
    /// The index in `appends`, or why there is none.
    planned: Result<usize, KafkaError>,
    /// (leader, epoch) to send with NOT_LEADER_OR_FOLLOWER (KIP-951).
    leader: Option<(i32, i32)>,
}

pub(crate) fn plan(
    node: &dyn Node,
    peer: &Peer,
    call: Call,
    request: ProduceRequest,
) -> ProducePlan {
    let whole = refuse_all(&request);
    let mut appends = Vec::new();
    let mut seen = BTreeSet::new();
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for data in request.topic_data {
        let topic = node.topic(&data.name);
        let mut slots = Vec::with_capacity(data.partition_data.len());
        for part in data.partition_data {
            let planned = match &whole {
                Some(error) => Err(error.clone()),
                None => led(node, topic.as_ref(), part.index, -1)
                    .map_err(KafkaError::from)
                    .and_then(|tp| {
                        let topic = topic.as_deref().expect("a led partition has a topic");
                        if !seen.insert(tp.clone()) {
                            return Err(twice());
                        }
                        let records = part.records.unwrap_or_default();
                        check::batch(node.settings(), topic, tp, records, call.version)
                    })
                    .map(|append| {
                        appends.push(append);
                        appends.len() - 1
                    }),
            };
            let leader = leader_hint(topic.as_deref(), part.index, &planned);
            slots.push(Slot {
                partition: part.index,
                planned,
                leader,
            });
        }
        topics.push((data.name, slots));
    }
    let hints = topics
        .iter()
        .flat_map(|(_, slots)| slots)
        .any(|slot| slot.leader.is_some());
    let endpoints = if hints {
        node.brokers(&peer.listener)
    } else {
        Vec::new()
    };
    let acks = match request.acks {
        0 => Acks::None,
        1 => Acks::Leader,
        _ => Acks::All,
    };
    let timeout_ms = u32::try_from(request.timeout_ms).unwrap_or(0);
    ProducePlan {
        acks,
        timeout_ms,
        appends,
        call,
        topics,
        endpoints,
    }
}

/// What is wrong with the request as a whole; every partition is told.
fn refuse_all(request: &ProduceRequest) -> Option<KafkaError> {
    if request.transactional_id.is_some() {
        return Some(no_transactions());
    }
    if !(-1..=1).contains(&request.acks) {
        return Some(ErrorCode::InvalidRequiredAcks.into());
    }
    None
}

/// What Kafka says to a transactional id that the client may not use: fatal at once.
pub(super) fn no_transactions() -> KafkaError {
    KafkaError::new(
        ErrorCode::TransactionalIdAuthorizationFailed,
        "transactions are not supported",
    )
}

fn twice() -> KafkaError {
    KafkaError::new(
        ErrorCode::InvalidRequest,
        "a partition may appear once in a request",
    )
}

fn leader_hint<T>(
    topic: Option<&Topic>,
    partition: i32,
    planned: &Result<T, KafkaError>,
) -> Option<(i32, i32)> {
    match planned {
        Err(error) if error.code == ErrorCode::NotLeaderOrFollower => {
            let (_, known) = partition_of(topic?, partition)?;
            Some((known.leader?, known.leader_epoch))
        }
        _ => None,
    }
}

impl ProducePlan {
    /// `results[i]` is for `appends[i]`; one that is missing is answered REQUEST_TIMED_OUT.
    /// Gives None for acks=0, and Err if such a request failed somewhere: close the connection.
    pub fn respond(
        self,
        results: Vec<Result<Appended, KafkaError>>,
    ) -> Result<Option<Reply>, CloseReason> {
        let mut results: Vec<_> = results.into_iter().map(Some).collect();
        let mut failure = None;
        let version = self.call.version;
        let mut responses = Vec::with_capacity(self.topics.len());
        for (name, slots) in self.topics {
            let mut partitions = Vec::with_capacity(slots.len());
            for slot in slots {
                let result = slot.planned.and_then(|i| {
                    let result = results.get_mut(i).and_then(Option::take);
                    result.unwrap_or_else(|| Err(ErrorCode::RequestTimedOut.into()))
                });
                if let Err(error) = &result {
                    failure.get_or_insert(error.code);
                }
                partitions.push(partition_response(
                    version,
                    slot.partition,
                    slot.leader,
                    result,
                ));
            }
            let topic = TopicProduceResponse::default().with_name(name);
            responses.push(topic.with_partition_responses(partitions));
        }
        match (self.acks, failure) {
            (Acks::None, None) => return Ok(None),
            (Acks::None, Some(error)) => return Err(CloseReason::SilentProduce(error)),
            _ => {}
        }
        let mut response = ProduceResponse::default().with_responses(responses);
        if version >= 10 {
            response.node_endpoints = self.endpoints.into_iter().map(endpoint).collect();
        }
        Ok(Some(self.call.reply(&response)))
    }
}

fn partition_response(
    version: i16,
    index: i32,
    leader: Option<(i32, i32)>,
    result: Result<Appended, KafkaError>,
) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse::default()
        .with_index(index)
        .with_base_offset(-1)
        .with_log_append_time_ms(-1)
        .with_log_start_offset(-1);
    match result {
        Ok(appended) => {
            response.base_offset = appended.base_offset;
            response.log_append_time_ms = appended.log_append_time_ms;
            response.log_start_offset = appended.log_start;
        }
        Err(error) => {
            response.error_code = code(Some(error.code));
            if version >= 8 {
                response.error_message = message(&error);
            }
        }
    }
    if let (Some((id, epoch)), true) = (leader, version >= 10) {
        response.current_leader = LeaderIdAndEpoch::default()
            .with_leader_id(BrokerId(id))
            .with_leader_epoch(epoch);
    }
    response
}

fn endpoint(broker: Broker) -> NodeEndpoint {
    NodeEndpoint::default()
        .with_node_id(BrokerId(broker.id))
        .with_host(text(broker.host))
        .with_port(i32::from(broker.port))
        .with_rack(broker.rack.map(text))
}
