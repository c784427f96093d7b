//! The handlers, one file per group of APIs. Each decodes a request, checks it against the node,
//! and answers or plans.

pub mod admin;
mod cluster;
pub mod config;
mod configs;
pub mod fetch;
pub mod groups;
mod metadata;
pub mod offsets;
pub mod produce;
pub mod producer_id;
mod topics;

pub(crate) use cluster::{api_versions, describe_cluster, find_coordinator, future_api_versions};
pub(crate) use configs::{describe_configs, incremental_alter_configs};
pub(crate) use metadata::metadata;
pub(crate) use topics::{create_partitions, create_topics, delete_topics};

use std::sync::Arc;

use headwater_batch::TopicPartition;
use kafka_protocol::protocol::StrBytes;

use crate::node::{Node, Partition, Topic};
use crate::{ErrorCode, KafkaError};

/// The code of a result; 0 when all is well.
pub(crate) fn code(error: Option<ErrorCode>) -> i16 {
    error.map_or(0, |e| e.code())
}

pub(crate) fn text(s: impl Into<String>) -> StrBytes {
    StrBytes::from_string(s.into())
}

/// The message of an error, cut so that every version can carry it.
pub(crate) fn message(error: &KafkaError) -> Option<StrBytes> {
    let words = error.message.as_ref()?;
    let end = words
        .char_indices()
        .map(|(i, c)| i + c.len_utf8())
        .take_while(|e| *e <= 1_000)
        .last();
    Some(text(&words[..end.unwrap_or(0)]))
}

/// The partition that a client named, if this node leads it.
///
/// `current_epoch` is the leader epoch that the client knows, -1 if it does not say.
pub(crate) fn led(
    node: &dyn Node,
    topic: Option<&Arc<Topic>>,
    partition: i32,
    current_epoch: i32,
) -> Result<TopicPartition, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let (index, known) =
        partition_of(topic, partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    match known.leader {
        None => return Err(ErrorCode::LeaderNotAvailable),
        Some(leader) if leader != node.node_id() => return Err(ErrorCode::NotLeaderOrFollower),
        Some(_) => {}
    }
    match current_epoch {
        e if e < 0 || e == known.leader_epoch => {}
        e if e < known.leader_epoch => return Err(ErrorCode::FencedLeaderEpoch),
        _ => return Err(ErrorCode::UnknownLeaderEpoch),
    }
    Ok(TopicPartition::new(topic.name.clone(), index))
}

pub(crate) fn partition_of(topic: &Topic, partition: i32) -> Option<(u32, &Partition)> {
    let index = u32::try_from(partition).ok()?;
    Some((index, topic.partitions.get(index as usize)?))
}
