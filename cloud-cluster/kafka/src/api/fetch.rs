//! Fetch (key 1): which partitions to read, when there is enough, and the reply around the bytes.
//!
//! Sessionless: every response says session 0, which all clients take as "send everything each
//! time" (KIP-227).

mod encode;

use std::sync::Arc;

use bytes::Bytes;
use headwater_batch::{Compression, TopicPartition, layout};
use kafka_protocol::messages::{FetchRequest, TopicName as WireTopic};
use uuid::Uuid;

use super::{led, partition_of};
use crate::node::{Broker, Node, Peer, Topic};
use crate::wire::{Call, Reply};
use crate::{ErrorCode, KafkaError};

/// The first version that asks by topic id.
const TOPIC_IDS_FROM: i16 = 13;
/// The first version that may carry zstd (KIP-110).
const ZSTD_FROM: i16 = 10;

/// One partition to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPartition {
    pub tp: TopicPartition,
    /// The topic that was named or meant. One of the same name that was made since is another:
    /// the offset says nothing about it.
    pub topic_id: Uuid,
    pub offset: i64,
    /// The most bytes from this partition, save that the first batch of a reply always goes.
    pub max_bytes: u32,
}

/// What was read of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Set for OFFSET_OUT_OF_RANGE, NOT_LEADER_OR_FOLLOWER, OFFSET_NOT_AVAILABLE and the like.
    /// Answer OFFSET_OUT_OF_RANGE only with a valid lease (rule C3): it resets consumers.
    pub error: Option<ErrorCode>,
    /// Offset of the next record to be committed; -1 with an error.
    pub high_watermark: i64,
    /// -1 when not known.
    pub log_start: i64,
    /// Whole batches, stamped; the first one may start below the asked offset. A chunk may hold
    /// several batches. They are written as they are, without another copy.
    pub records: Vec<Bytes>,
}

impl Fetched {
    pub fn failed(error: ErrorCode) -> Self {
        Self {
            error: Some(error),
            high_watermark: -1,
            log_start: -1,
            records: Vec::new(),
        }
    }

    pub fn byte_len(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

/// Partitions to read, in this order.
#[derive(Debug)]
pub struct FetchPlan {
    /// Those that this node leads; what is wrong with the others is already known.
    pub partitions: Vec<FetchPartition>,
    /// How long to wait for `min_bytes`; 0 if the reply is due at once.
    pub max_wait_ms: u32,
    pub min_bytes: u32,
    /// The most bytes of the whole reply, save that its first batch always goes.
    pub max_bytes: u32,
    pub read_committed: bool,
    call: Call,
    error: Option<ErrorCode>,
    topics: Vec<TopicSlots>,
    endpoints: Vec<Broker>,
}

/// A topic of the request, in its place in the response.
#[derive(Debug)]
struct TopicSlots {
    name: WireTopic,
    id: Uuid,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    partition: i32,
    /// The index in `partitions`, or why there is none.
    planned: Result<usize, ErrorCode>,
    /// (leader, epoch) to send with NOT_LEADER_OR_FOLLOWER (KIP-951).
    leader: Option<(i32, i32)>,
}

pub(crate) fn plan(node: &dyn Node, peer: &Peer, call: Call, request: FetchRequest) -> FetchPlan {
    let settings = node.settings();
    let error = session_error(&request);
    let mut partitions = Vec::new();
    let mut topics = Vec::new();
    // Invariant: with an error for the whole, the list of topics is empty.
    let asked = if error.is_some() {
        Vec::new()
    } else {
        request.topics
    };
    for asked in asked {
        let by_id = call.version >= TOPIC_IDS_FROM;
        let topic = if by_id {
            node.topic_by_id(asked.topic_id)
        } else {
            node.topic(&asked.topic)
        };
        let mut slots = Vec::with_capacity(asked.partitions.len());
        for part in &asked.partitions {
            let planned = match &topic {
                None if by_id => Err(ErrorCode::UnknownTopicId),
                topic => ready(node, topic.as_ref(), part).map(|tp| {
                    let topic = topic.as_ref().expect("a led partition has a topic");
                    let max_bytes = u32::try_from(part.partition_max_bytes).unwrap_or(0);
                    partitions.push(FetchPartition {
                        tp,
                        topic_id: topic.id,
                        offset: part.fetch_offset,
                        max_bytes,
                    });
                    partitions.len() - 1
                }),
            };
            let leader = leader_hint(topic.as_deref(), part.partition, &planned);
            slots.push(Slot {
                partition: part.partition,
                planned,
                leader,
            });
        }
        topics.push(TopicSlots {
            name: asked.topic,
            id: asked.topic_id,
            slots,
        });
    }
    let mut slots = topics.iter().flat_map(|t| &t.slots);
    let refused = slots.clone().any(|slot| slot.planned.is_err());
    let hints = slots.any(|slot| slot.leader.is_some());
    let wait = u32::try_from(request.max_wait_ms)
        .unwrap_or(0)
        .min(settings.fetch_wait_ms_max);
    let max_bytes = u32::try_from(request.max_bytes)
        .unwrap_or(0)
        .min(settings.fetch_bytes_max);
    let now = refused || partitions.is_empty();
    FetchPlan {
        max_wait_ms: if now { 0 } else { wait },
        // More than may be returned would never be there.
        min_bytes: u32::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        max_bytes,
        read_committed: request.isolation_level == 1,
        partitions,
        call,
        error,
        topics,
        endpoints: if hints {
            node.brokers(&peer.listener)
        } else {
            Vec::new()
        },
    }
}

/// We hand out no sessions, so a request that continues one is an error that has it start anew.
fn session_error(request: &FetchRequest) -> Option<ErrorCode> {
    match (request.session_id, request.session_epoch) {
        (0, -1 | 0) => None,
        (0, _) => Some(ErrorCode::InvalidFetchSessionEpoch),
        // Epoch -1 closes the session and asks for everything.
        (_, -1) => None,
        _ => Some(ErrorCode::FetchSessionIdNotFound),
    }
}

fn ready(
    node: &dyn Node,
    topic: Option<&Arc<Topic>>,
    asked: &kafka_protocol::messages::fetch_request::FetchPartition,
) -> Result<TopicPartition, ErrorCode> {
    let tp = led(node, topic, asked.partition, asked.current_leader_epoch)?;
    if asked.fetch_offset < 0 {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    Ok(tp)
}

fn leader_hint(
    topic: Option<&Topic>,
    partition: i32,
    planned: &Result<usize, ErrorCode>,
) -> Option<(i32, i32)> {
    match planned {
        Err(ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch) => {
            let (_, known) = partition_of(topic?, partition)?;
            Some((known.leader?, known.leader_epoch))
        }
        _ => None,
    }
}

impl FetchPlan {
    /// How many bytes partition number `i` may give when the ones before it gave `so_far`:
    /// (most bytes, whether one whole batch goes even if it is larger). (0, false): skip it, but
    /// do report its watermarks.
    pub fn allowance(&self, i: usize, so_far: usize) -> (usize, bool) {
        let left = (self.max_bytes as usize).saturating_sub(so_far);
        (left.min(self.partitions[i].max_bytes as usize), so_far == 0)
    }

    /// Whether to answer now: enough bytes, nothing to wait for, or an error that the client
    /// should see at once.
    pub fn is_satisfied(&self, fetched: &[Fetched]) -> bool {
        let bytes: usize = fetched.iter().map(Fetched::byte_len).sum();
        self.max_wait_ms == 0
            || bytes >= self.min_bytes as usize
            || fetched.iter().any(|f| f.error.is_some())
    }

    /// `fetched[i]` is for `partitions[i]`; one that is missing is answered with no records and
    /// OFFSET_NOT_AVAILABLE.
    pub fn respond(self, mut fetched: Vec<Fetched>) -> Reply {
        if self.call.version < ZSTD_FROM {
            fetched
                .iter_mut()
                .filter(|f| has_zstd(&f.records))
                .for_each(|f| {
                    f.error = Some(ErrorCode::UnsupportedCompressionType);
                    f.records.clear();
                });
        }
        encode::response(self, fetched)
    }

    /// Answers every partition with the same error.
    pub fn fail(self, error: KafkaError) -> Reply {
        let all = self
            .partitions
            .iter()
            .map(|_| Fetched::failed(error.code))
            .collect();
        self.respond(all)
    }
}

/// Whether any batch is zstd, by the headers alone. The batches are our own and whole.
fn has_zstd(chunks: &[Bytes]) -> bool {
    chunks.iter().any(|chunk| {
        let mut rest: &[u8] = chunk;
        while let Some(attributes) = rest.get(layout::ATTRIBUTES) {
            let bits = u16::from_be_bytes([attributes[0], attributes[1]]);
            if bits & layout::ATTRIBUTE_COMPRESSION == Compression::Zstd.bits() {
                return true;
            }
            let length = &rest[layout::BATCH_LENGTH];
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            rest = rest
                .get(length as usize + layout::LENGTH_PREFIX_BYTES..)
                .unwrap_or(&[]);
        }
        false
    })
}
