//! From Kafka's messages to what the coordinator understands.

use bytes::Bytes;
use headwater_batch::{TopicName, TopicPartition};
use kafka_protocol::messages as k;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::StrBytes;

use super::{FetchMemo, Memo, ours};
use crate::ErrorCode;
use crate::api::partition_of;
use crate::group::{
    CommitOffsets, CommittedOffset, FetchOffsets, GroupRequest, Heartbeat, Join, Leave, Sync,
};
use crate::node::{Node, Peer};
use crate::wire::{Call, WireError};

/// Versions from which JoinGroup makes members join with an id (KIP-394), and may tell a static
/// leader to skip the assignment (KIP-814).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;
const SKIP_ASSIGNMENT_FROM: i16 = 9;

pub(super) fn request(
    node: &dyn Node,
    peer: &Peer,
    call: &Call,
    body: Bytes,
) -> Result<(GroupRequest, Memo), WireError> {
    let plain = |request| (request, Memo::Nothing);
    Ok(match call.api {
        ApiKey::JoinGroup => plain(join(peer, call, call.decode(body)?)),
        ApiKey::SyncGroup => plain(sync(call.decode(body)?)),
        ApiKey::Heartbeat => plain(heartbeat(call.decode(body)?)),
        ApiKey::LeaveGroup => plain(leave(call, call.decode(body)?)),
        ApiKey::OffsetCommit => commit(node, call.decode(body)?),
        ApiKey::OffsetFetch => fetch(node, call, call.decode(body)?),
        ApiKey::DescribeGroups => {
            let request: k::DescribeGroupsRequest = call.decode(body)?;
            let names = request.groups.iter().map(|g| g.to_string()).collect();
            let (groups, refused) = split(node, names);
            let operations = request.include_authorized_operations;
            (
                GroupRequest::Describe { groups },
                Memo::Groups {
                    refused,
                    operations,
                },
            )
        }
        ApiKey::DeleteGroups => {
            let request: k::DeleteGroupsRequest = call.decode(body)?;
            let names = request.groups_names.iter().map(|g| g.to_string()).collect();
            let (groups, refused) = split(node, names);
            (
                GroupRequest::Delete { groups },
                Memo::Groups {
                    refused,
                    operations: false,
                },
            )
        }
        ApiKey::ListGroups => {
            let request: k::ListGroupsRequest = call.decode(body)?;
            let texts = |list: Vec<StrBytes>| list.iter().map(|s| s.to_string()).collect();
            let (states, types) = (texts(request.states_filter), texts(request.types_filter));
            plain(GroupRequest::List { states, types })
        }
        api => {
            return Err(WireError::Unsupported {
                key: api as i16,
                version: call.version,
            });
        }
    })
}

fn split(node: &dyn Node, names: Vec<String>) -> (Vec<String>, Vec<(String, ErrorCode)>) {
    let mut mine = Vec::new();
    let mut refused = Vec::new();
    for name in names {
        match ours(node, &name) {
            Ok(()) => mine.push(name),
            Err(error) => refused.push((name, error)),
        }
    }
    (mine, refused)
}

fn optional(s: Option<StrBytes>) -> Option<String> {
    s.map(|s| s.to_string())
}

fn join(peer: &Peer, call: &Call, request: k::JoinGroupRequest) -> GroupRequest {
    let rebalance_timeout_ms = match call.version {
        0 => request.session_timeout_ms,
        _ => request.rebalance_timeout_ms,
    };
    GroupRequest::Join(Join {
        group: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        instance_id: optional(request.group_instance_id),
        client_id: call.client_id.clone(),
        client_host: format!("/{}", peer.host),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .into_iter()
            .map(|p| (p.name.to_string(), Bytes::copy_from_slice(&p.metadata)))
            .collect(),
        requires_known_member_id: call.version >= MEMBER_ID_REQUIRED_FROM,
        supports_skip_assignment: call.version >= SKIP_ASSIGNMENT_FROM,
    })
}

fn sync(request: k::SyncGroupRequest) -> GroupRequest {
    GroupRequest::Sync(Sync {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: optional(request.group_instance_id),
        protocol_type: optional(request.protocol_type),
        protocol: optional(request.protocol_name),
        // Copied: a slice would keep the whole request alive for as long as the group.
        assignments: request
            .assignments
            .into_iter()
            .map(|a| {
                (
                    a.member_id.to_string(),
                    Bytes::copy_from_slice(&a.assignment),
                )
            })
            .collect(),
    })
}

fn heartbeat(request: k::HeartbeatRequest) -> GroupRequest {
    GroupRequest::Heartbeat(Heartbeat {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: optional(request.group_instance_id),
    })
}

fn leave(call: &Call, request: k::LeaveGroupRequest) -> GroupRequest {
    let members = match call.version {
        0..=2 => vec![(request.member_id.to_string(), None)],
        _ => request
            .members
            .into_iter()
            .map(|m| (m.member_id.to_string(), optional(m.group_instance_id)))
            .collect(),
    };
    GroupRequest::Leave(Leave {
        group: request.group_id.to_string(),
        members,
    })
}

fn commit(node: &dyn Node, request: k::OffsetCommitRequest) -> (GroupRequest, Memo) {
    let mut offsets = Vec::new();
    let mut memo = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let known = node.topic(&topic.name);
        let slots = topic.partitions.into_iter().map(|part| {
            let found = known.as_ref().and_then(|topic| {
                let (index, _) = partition_of(topic, part.partition_index)?;
                Some(TopicPartition::new(topic.name.clone(), index))
            });
            let tp = found.ok_or(ErrorCode::UnknownTopicOrPartition);
            if let Ok(tp) = &tp {
                let committed = CommittedOffset {
                    offset: part.committed_offset,
                    leader_epoch: part.committed_leader_epoch,
                    metadata: optional(part.committed_metadata).unwrap_or_default(),
                };
                offsets.push((tp.clone(), committed));
            }
            (part.partition_index, tp)
        });
        let slots = slots.collect();
        memo.push((topic.name, slots));
    }
    let request = GroupRequest::CommitOffsets(CommitOffsets {
        group: request.group_id.to_string(),
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id.to_string(),
        instance_id: optional(request.group_instance_id),
        offsets,
    });
    (request, Memo::Commit(memo))
}

type Topics = Option<Vec<(k::TopicName, Vec<i32>)>>;

fn fetch(node: &dyn Node, call: &Call, request: k::OffsetFetchRequest) -> (GroupRequest, Memo) {
    let groups: Vec<(String, Topics)> = if call.version >= 8 {
        let groups = request.groups.into_iter().map(|group| {
            let topics = group.topics.map(|topics| {
                topics
                    .into_iter()
                    .map(|t| (t.name, t.partition_indexes))
                    .collect()
            });
            (group.group_id.to_string(), topics)
        });
        groups.collect()
    } else {
        let topics = request.topics.map(|topics| {
            topics
                .into_iter()
                .map(|t| (t.name, t.partition_indexes))
                .collect()
        });
        vec![(request.group_id.to_string(), topics)]
    };
    let mut asks = Vec::new();
    let mut memo = Vec::with_capacity(groups.len());
    for (group, topics) in groups {
        let refused = ours(node, &group).err();
        if refused.is_none() {
            let partitions = topics.as_ref().map(|topics| {
                let all = topics.iter().flat_map(|(name, indexes)| {
                    let name = TopicName::new(name).ok();
                    indexes
                        .iter()
                        .filter_map(move |index| partition(name.as_ref(), *index))
                });
                all.collect()
            });
            asks.push(FetchOffsets {
                group: group.clone(),
                partitions,
            });
        }
        memo.push(FetchMemo {
            group,
            topics,
            refused,
        });
    }
    (GroupRequest::FetchOffsets(asks), Memo::Fetch(memo))
}

/// None for what cannot exist: it has no committed offset.
pub(super) fn partition(topic: Option<&TopicName>, index: i32) -> Option<TopicPartition> {
    Some(TopicPartition::new(
        topic?.clone(),
        u32::try_from(index).ok()?,
    ))
}
