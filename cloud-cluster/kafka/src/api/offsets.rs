//! ListOffsets (key 2) and OffsetForLeaderEpoch (key 23).

use headwater_batch::TopicPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, TopicName as WireTopic,
};

use super::led;
use crate::ErrorCode;
use crate::node::Node;
use crate::wire::{Call, Reply};

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// -1: the high watermark. Timestamp -1.
    Latest,
    /// -2 (and -4): the log start. Timestamp -1.
    Earliest,
    /// -3: the record with the largest timestamp, with that timestamp; None for an empty log.
    MaxTimestamp,
    /// The first record at or after this time in ms, with its own timestamp. Per record: find the
    /// batch by the time index, then look into that one batch. None if there is none.
    Time(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAsk {
    pub tp: TopicPartition,
    pub at: OffsetAt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    pub offset: i64,
    /// -1 for Latest and Earliest.
    pub timestamp: i64,
    /// Leader epoch of the record (of the leader for Latest); -1 if not known.
    pub leader_epoch: i32,
}

/// A partition of the request, in its place in the response: the index of its ask, None if it is
/// answered without asking (as not found), or the error.
type Slots = Vec<(WireTopic, Vec<(i32, Result<Option<usize>, ErrorCode>)>)>;

/// Offsets to look up.
#[derive(Debug)]
pub struct ListOffsetsPlan {
    pub asks: Vec<OffsetAsk>,
    call: Call,
    topics: Slots,
}

pub(crate) fn plan(node: &dyn Node, call: Call, request: ListOffsetsRequest) -> ListOffsetsPlan {
    let mut asks = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = node.topic(&asked.name);
        let slots = asked.partitions.iter().map(|part| {
            let known = led(
                node,
                topic.as_ref(),
                part.partition_index,
                part.current_leader_epoch,
            );
            let ask = known.and_then(|tp| {
                let Some(at) = offset_at(call.version, part.timestamp)? else {
                    return Ok(None);
                };
                asks.push(OffsetAsk { tp, at });
                Ok(Some(asks.len() - 1))
            });
            (part.partition_index, ask)
        });
        topics.push((asked.name, slots.collect()));
    }
    ListOffsetsPlan { asks, call, topics }
}

/// None: nothing is tiered, so -5 finds nothing.
fn offset_at(version: i16, timestamp: i64) -> Result<Option<OffsetAt>, ErrorCode> {
    Ok(Some(match timestamp {
        -1 => OffsetAt::Latest,
        -2 => OffsetAt::Earliest,
        -3 if version >= 7 => OffsetAt::MaxTimestamp,
        -4 if version >= 8 => OffsetAt::Earliest,
        -5 if version >= 9 => return Ok(None),
        ms if ms >= 0 => OffsetAt::Time(ms),
        _ => return Err(ErrorCode::UnsupportedVersion),
    }))
}

impl ListOffsetsPlan {
    /// `found[i]` is for `asks[i]`; Ok(None): no such record, answered as offset -1. One that is
    /// missing is answered OFFSET_NOT_AVAILABLE.
    pub fn respond(self, found: Vec<Result<Option<FoundOffset>, ErrorCode>>) -> Reply {
        let answer = |(index, ask): (i32, Result<Option<usize>, ErrorCode>)| {
            let response = ListOffsetsPartitionResponse::default()
                .with_partition_index(index)
                .with_offset(-1)
                .with_timestamp(-1);
            let result = ask.and_then(|ask| match ask {
                None => Ok(None),
                Some(i) => found
                    .get(i)
                    .copied()
                    .unwrap_or(Err(ErrorCode::OffsetNotAvailable)),
            });
            match result {
                Ok(None) => response,
                Ok(Some(found)) => {
                    let epoch = if self.call.version >= 4 {
                        found.leader_epoch
                    } else {
                        -1
                    };
                    response
                        .with_offset(found.offset)
                        .with_timestamp(found.timestamp)
                        .with_leader_epoch(epoch)
                }
                Err(error) => response.with_error_code(error.code()),
            }
        };
        let topics = self.topics.into_iter().map(|(name, slots)| {
            ListOffsetsTopicResponse::default()
                .with_name(name)
                .with_partitions(slots.into_iter().map(answer).collect())
        });
        self.call
            .reply(&ListOffsetsResponse::default().with_topics(topics.collect()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochAsk {
    pub tp: TopicPartition,
    pub leader_epoch: i32,
}

/// The largest known epoch at or below the one asked for, and where it ends: the start of the
/// next, or the high watermark for the current one. An epoch below all known ones ends where the
/// first of those starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    pub leader_epoch: i32,
    pub end_offset: i64,
}

/// Leader epochs to look up in the partitions' epoch tables.
#[derive(Debug)]
pub struct EpochPlan {
    pub asks: Vec<EpochAsk>,
    call: Call,
    topics: Slots,
}

pub(crate) fn plan_epochs(
    node: &dyn Node,
    call: Call,
    request: OffsetForLeaderEpochRequest,
) -> EpochPlan {
    let mut asks = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let topic = node.topic(&asked.topic);
        let slots = asked.partitions.iter().map(|part| {
            let known = led(
                node,
                topic.as_ref(),
                part.partition,
                part.current_leader_epoch,
            );
            let ask = known.map(|tp| {
                asks.push(EpochAsk {
                    tp,
                    leader_epoch: part.leader_epoch,
                });
                Some(asks.len() - 1)
            });
            (part.partition, ask)
        });
        topics.push((asked.topic, slots.collect()));
    }
    EpochPlan { asks, call, topics }
}

impl EpochPlan {
    /// `ends[i]` is for `asks[i]`; Ok(None): no epoch was named, answered as -1. To clients that is
    /// a truncation, as an end below their position is: they reset, perhaps past what they have not
    /// read. One that is missing is answered OFFSET_NOT_AVAILABLE, which they ask again for.
    pub fn respond(self, ends: Vec<Result<Option<EpochEnd>, ErrorCode>>) -> Reply {
        let answer = |(index, ask): (i32, Result<Option<usize>, ErrorCode>)| {
            let response = EpochEndOffset::default()
                .with_partition(index)
                .with_leader_epoch(-1)
                .with_end_offset(-1);
            let result = ask.and_then(|ask| match ask {
                None => Ok(None),
                Some(i) => ends
                    .get(i)
                    .copied()
                    .unwrap_or(Err(ErrorCode::OffsetNotAvailable)),
            });
            match result {
                Ok(None) => response,
                Ok(Some(end)) => response
                    .with_leader_epoch(end.leader_epoch)
                    .with_end_offset(end.end_offset),
                Err(error) => response.with_error_code(error.code()),
            }
        };
        let topics = self.topics.into_iter().map(|(name, slots)| {
            OffsetForLeaderTopicResult::default()
                .with_topic(name)
                .with_partitions(slots.into_iter().map(answer).collect())
        });
        self.call
            .reply(&OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
    }
}
