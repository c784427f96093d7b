//! Metadata (key 3): brokers, topics, leaders.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_batch::TopicName;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::admin::{AutoCreatePlan, Proposal};
use super::cluster::CLUSTER_OPERATIONS;
use super::text;
use crate::ErrorCode;
use crate::node::{Node, Partition, Peer, Topic};
use crate::serve::Outcome;
use crate::wire::{Call, Reply};

/// Every operation on a topic, as a bit set of AclOperation codes: there are no ACLs yet.
const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// The first version in which a topic of the response may have no name.
const NULL_NAME_FROM: i16 = 12;

pub(crate) fn metadata(
    node: &dyn Node,
    peer: &Peer,
    call: Call,
    request: MetadataRequest,
) -> Outcome {
    let proposals = missing(node, &request);
    if proposals.is_empty() {
        return Outcome::Reply(answer(node, peer, &call, &request, false));
    }
    Outcome::AutoCreate(AutoCreatePlan {
        proposals,
        call,
        request,
    })
}

/// What may be made by being named. `allow_auto_topic_creation` is true before v4.
fn missing(node: &dyn Node, request: &MetadataRequest) -> Vec<Proposal> {
    let settings = node.settings();
    if !request.allow_auto_topic_creation || !settings.auto_create_topics {
        return Vec::new();
    }
    let named = request
        .topics
        .iter()
        .flatten()
        .filter(|t| t.topic_id.is_nil());
    let names: std::collections::BTreeSet<TopicName> = named
        .filter_map(|t| t.name.as_ref())
        .filter(|name| node.topic(name).is_none())
        .filter_map(|name| TopicName::new(name).ok())
        .collect();
    let proposal = |name| Proposal::CreateTopic {
        name,
        partitions: settings.default_partitions,
        replication: settings.default_replication,
        configs: BTreeMap::new(),
    };
    names.into_iter().map(proposal).collect()
}

/// The response from the node as it is now. `created`: topics that are not there are on their way.
pub(super) fn answer(
    node: &dyn Node,
    peer: &Peer,
    call: &Call,
    request: &MetadataRequest,
    created: bool,
) -> Reply {
    let all_brokers = node.brokers(&peer.listener);
    let brokers = all_brokers.iter().cloned().map(|b| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(b.id))
            .with_host(text(b.host))
            .with_port(i32::from(b.port))
            .with_rack(b.rack.map(text))
    });
    let operations = request.include_topic_authorized_operations;
    let live: Vec<i32> = all_brokers.iter().map(|b| b.id).collect();
    let describe = |topic: &Arc<Topic>| describe(topic, &live, operations);
    let topics = match &request.topics {
        // v0 has no null, and its empty list means all.
        None => node.topics().iter().map(describe).collect(),
        Some(list) if call.version == 0 && list.is_empty() => {
            node.topics().iter().map(describe).collect()
        }
        Some(list) => list
            .iter()
            .map(|asked| match find(node, asked) {
                Ok(topic) => describe(&topic),
                Err(error) => unknown(call, asked, error, created),
            })
            .collect(),
    };
    let mut response = MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(text(node.cluster_id())))
        .with_controller_id(BrokerId(node.controller_id()))
        .with_topics(topics);
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    call.reply(&response)
}

fn find(node: &dyn Node, asked: &MetadataRequestTopic) -> Result<Arc<Topic>, ErrorCode> {
    if !asked.topic_id.is_nil() {
        return node
            .topic_by_id(asked.topic_id)
            .ok_or(ErrorCode::UnknownTopicId);
    }
    let name = asked
        .name
        .as_ref()
        .ok_or(ErrorCode::InvalidTopicException)?;
    if let Some(topic) = node.topic(name) {
        return Ok(topic);
    }
    match TopicName::new(name) {
        Ok(_) => Err(ErrorCode::UnknownTopicOrPartition),
        Err(_) => Err(ErrorCode::InvalidTopicException),
    }
}

fn describe(topic: &Topic, live: &[i32], operations: bool) -> MetadataResponseTopic {
    let partitions = topic.partitions.iter().enumerate();
    let mut response = MetadataResponseTopic::default()
        .with_name(Some(StrBytes::from_string(topic.name.to_string()).into()))
        .with_topic_id(topic.id)
        .with_partitions(partitions.map(|(i, p)| partition(i, p, live)).collect());
    if operations {
        response.topic_authorized_operations = TOPIC_OPERATIONS;
    }
    response
}

fn partition(index: usize, partition: &Partition, live: &[i32]) -> MetadataResponsePartition {
    let ids = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect::<Vec<_>>();
    let offline: Vec<i32> = partition
        .replicas
        .iter()
        .copied()
        .filter(|id| !live.contains(id))
        .collect();
    let error = partition
        .leader
        .is_none()
        .then_some(ErrorCode::LeaderNotAvailable);
    MetadataResponsePartition::default()
        .with_error_code(super::code(error))
        .with_partition_index(i32::try_from(index).expect("partitions are bounded by settings"))
        .with_leader_id(BrokerId(partition.leader.unwrap_or(-1)))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(ids(&partition.replicas))
        .with_isr_nodes(ids(&partition.isr))
        .with_offline_replicas(ids(&offline))
}

fn unknown(
    call: &Call,
    asked: &MetadataRequestTopic,
    error: ErrorCode,
    created: bool,
) -> MetadataResponseTopic {
    let error = match error {
        ErrorCode::UnknownTopicOrPartition if created => ErrorCode::LeaderNotAvailable,
        error => error,
    };
    let by_id = !asked.topic_id.is_nil();
    let name = match &asked.name {
        Some(name) if !by_id => Some(name.clone()),
        _ if call.version >= NULL_NAME_FROM => None,
        _ => Some(StrBytes::new().into()),
    };
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(name)
        .with_topic_id(if by_id { asked.topic_id } else { Uuid::nil() })
}
