//! CreateTopics (19), DeleteTopics (20) and CreatePartitions (37): what is checked before a
//! change is proposed.

use std::collections::{BTreeMap, BTreeSet};

use headwater_batch::TopicName;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, TopicName as WireTopic,
};
use uuid::Uuid;

use super::admin::{AdminPlan, CreatedTopic, Items, Planned, Proposal};
use super::config;
use crate::node::Node;
use crate::wire::Call;
use crate::{ErrorCode, KafkaError};

/// "Take the broker's default."
const DEFAULT: i32 = -1;

pub(crate) fn create_topics(
    node: &dyn Node,
    call: Call,
    request: CreateTopicsRequest,
) -> AdminPlan {
    let twice = repeated(request.topics.iter().map(|t| &t.name));
    let mut proposals = Vec::new();
    let mut left = node.settings().partitions_max;
    let mut items = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let checked = if twice.contains(&topic.name) {
            Err(invalid("a topic may appear once in a request"))
        } else {
            check_create(node, &topic, &mut left)
        };
        let mut item = CreatedTopic {
            name: topic.name,
            partitions: -1,
            replication: -1,
            configs: BTreeMap::new(),
        };
        let planned = match checked {
            Err(error) => Planned::Refused(error),
            Ok((name, partitions, replication, configs)) => {
                item.partitions = partitions as i32;
                item.replication = replication;
                item.configs = configs.clone();
                let proposal = Proposal::CreateTopic {
                    name,
                    partitions,
                    replication,
                    configs,
                };
                propose(&mut proposals, proposal, request.validate_only)
            }
        };
        items.push((item, planned));
    }
    let timeout_ms = timeout(request.timeout_ms);
    AdminPlan {
        proposals,
        timeout_ms,
        call,
        items: Items::Create(items),
    }
}

type NewTopic = (TopicName, u32, i16, BTreeMap<String, String>);

fn check_create(
    node: &dyn Node,
    topic: &CreatableTopic,
    left: &mut u32,
) -> Result<NewTopic, KafkaError> {
    let name = TopicName::new(&topic.name)
        .map_err(|e| KafkaError::new(ErrorCode::InvalidTopicException, e.to_string()))?;
    if node.topic(&name).is_some() {
        let words = format!("topic {name} exists already");
        return Err(KafkaError::new(ErrorCode::TopicAlreadyExists, words));
    }
    let (partitions, replication) = match topic.assignments.len() {
        0 => (topic.num_partitions, topic.replication_factor),
        _ => assigned(topic)?,
    };
    let settings = node.settings();
    let partitions = match partitions {
        DEFAULT => settings.default_partitions,
        n => u32::try_from(n).unwrap_or(0),
    };
    if partitions == 0 || partitions > *left {
        let words = format!("{partitions} partitions; between 1 and {left} are possible");
        return Err(KafkaError::new(ErrorCode::InvalidPartitions, words));
    }
    let nodes = node.brokers("").len();
    let replication = match replication {
        -1 => settings.default_replication,
        n if n >= 1 && n as usize <= nodes => n,
        n => {
            let words = format!("replication factor {n}; the cluster has {nodes} nodes");
            return Err(KafkaError::new(ErrorCode::InvalidReplicationFactor, words));
        }
    };
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        // A null value asks for the default.
        if let Some(value) = &config.value {
            config::check(&config.name, value)?;
            configs.insert(config.name.to_string(), value.to_string());
        } else {
            config::known(&config.name)?;
        }
    }
    *left -= partitions;
    Ok((name, partitions, replication, configs))
}

/// A client may place replicas itself; the placement is checked, and then left to us.
fn assigned(topic: &CreatableTopic) -> Result<(i32, i16), KafkaError> {
    if topic.num_partitions != DEFAULT || topic.replication_factor != -1 {
        return Err(invalid("both a replica assignment and numbers are given"));
    }
    let wrong = |words: &str| KafkaError::new(ErrorCode::InvalidReplicaAssignment, words);
    let mut indexes: Vec<i32> = topic
        .assignments
        .iter()
        .map(|a| a.partition_index)
        .collect();
    indexes.sort_unstable();
    if indexes
        .iter()
        .enumerate()
        .any(|(i, index)| i64::from(*index) != i as i64)
    {
        return Err(wrong("partitions must be assigned from 0 on, each once"));
    }
    let replicas = topic.assignments[0].broker_ids.len();
    if topic
        .assignments
        .iter()
        .any(|a| a.broker_ids.len() != replicas)
    {
        return Err(wrong(
            "all partitions must have the same number of replicas",
        ));
    }
    Ok((
        indexes.len() as i32,
        i16::try_from(replicas).unwrap_or(i16::MAX),
    ))
}

pub(crate) fn delete_topics(
    node: &dyn Node,
    call: Call,
    request: DeleteTopicsRequest,
) -> AdminPlan {
    let asked: Vec<(Option<WireTopic>, Uuid)> = if call.version >= 6 {
        request
            .topics
            .into_iter()
            .map(|t| (t.name, t.topic_id))
            .collect()
    } else {
        request
            .topic_names
            .into_iter()
            .map(|name| (Some(name), Uuid::nil()))
            .collect()
    };
    let mut proposals = Vec::new();
    let mut seen = BTreeSet::new();
    let mut items = Vec::with_capacity(asked.len());
    for (name, id) in asked {
        let found = match &name {
            Some(_) if !id.is_nil() => Err(invalid("both a topic's name and its id are given")),
            Some(name) => node
                .topic(name)
                .ok_or(ErrorCode::UnknownTopicOrPartition.into()),
            None => node.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId.into()),
        };
        items.push(match found {
            Err(error) => (name, id, Planned::Refused(error)),
            Ok(topic) => {
                let planned = if seen.insert(topic.id) {
                    let delete = Proposal::DeleteTopic {
                        name: topic.name.clone(),
                        id: topic.id,
                    };
                    propose(&mut proposals, delete, false)
                } else {
                    Planned::Refused(invalid("a topic may appear once in a request"))
                };
                (
                    Some(super::text(topic.name.as_str()).into()),
                    topic.id,
                    planned,
                )
            }
        });
    }
    let timeout_ms = timeout(request.timeout_ms);
    AdminPlan {
        proposals,
        timeout_ms,
        call,
        items: Items::Delete(items),
    }
}

pub(crate) fn create_partitions(
    node: &dyn Node,
    call: Call,
    request: CreatePartitionsRequest,
) -> AdminPlan {
    let twice = repeated(request.topics.iter().map(|t| &t.name));
    let mut proposals = Vec::new();
    let mut items = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let checked = if twice.contains(&asked.name) {
            Err(invalid("a topic may appear once in a request"))
        } else {
            let new = asked.assignments.as_ref().map(Vec::len);
            check_partitions(node, &asked.name, asked.count, new)
        };
        let planned = match checked {
            Err(error) => Planned::Refused(error),
            Ok(proposal) => propose(&mut proposals, proposal, request.validate_only),
        };
        items.push((asked.name, planned));
    }
    let timeout_ms = timeout(request.timeout_ms);
    AdminPlan {
        proposals,
        timeout_ms,
        call,
        items: Items::Partitions(items),
    }
}

fn check_partitions(
    node: &dyn Node,
    name: &WireTopic,
    count: i32,
    assigned: Option<usize>,
) -> Result<Proposal, KafkaError> {
    let topic = node.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let before = topic.partitions.len();
    let wanted = u32::try_from(count).unwrap_or(0);
    let max = node.settings().partitions_max;
    if wanted as usize <= before || wanted > max {
        let words = format!(
            "{count} partitions; between {} and {max} are possible",
            before + 1
        );
        return Err(KafkaError::new(ErrorCode::InvalidPartitions, words));
    }
    if assigned.is_some_and(|new| new != wanted as usize - before) {
        let words = "assignments for other than the new partitions";
        return Err(KafkaError::new(ErrorCode::InvalidReplicaAssignment, words));
    }
    Ok(Proposal::CreatePartitions {
        name: topic.name.clone(),
        count: wanted,
    })
}

pub(super) fn propose(
    proposals: &mut Vec<Proposal>,
    proposal: Proposal,
    validate_only: bool,
) -> Planned {
    if validate_only {
        return Planned::Done;
    }
    proposals.push(proposal);
    Planned::Proposal(proposals.len() - 1)
}

fn repeated<'a>(names: impl Iterator<Item = &'a WireTopic>) -> BTreeSet<WireTopic> {
    let mut seen = BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).cloned().collect()
}

pub(super) fn timeout(ms: i32) -> u32 {
    u32::try_from(ms).unwrap_or(0)
}

pub(super) fn invalid(words: &str) -> KafkaError {
    KafkaError::new(ErrorCode::InvalidRequest, words)
}
