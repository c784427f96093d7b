//! From the coordinator's answers to Kafka's messages.

use std::collections::BTreeMap;

use headwater_batch::{TopicName, TopicPartition};
use kafka_protocol::messages as k;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, TopicName as WireTopic};

use super::decode::partition;
use super::{CommitMemo, FetchMemo, Memo};
use crate::ErrorCode;
use crate::api::{code, text};
use crate::group::{
    CommittedOffset, FetchedOffsets, GroupDescription, GroupListing, GroupResponse, Joined,
    MemberDescription, STATE_DEAD, Synced,
};
use crate::wire::{Call, Reply};

/// Every operation on a group, as a bit set of AclOperation codes: there are no ACLs yet.
const GROUP_OPERATIONS: i32 = 0b1_0100_1000;
const NO_OPERATIONS: i32 = i32::MIN;

pub(super) fn reply(call: Call, memo: Memo, response: GroupResponse) -> Reply {
    let version = call.version;
    match (response, memo) {
        (GroupResponse::Join(joined), _) => call.reply(&join(version, joined)),
        (GroupResponse::Sync(synced), _) => call.reply(&sync(version, synced)),
        (GroupResponse::Heartbeat(error), _) => {
            call.reply(&k::HeartbeatResponse::default().with_error_code(code(error)))
        }
        (GroupResponse::Leave { error, members }, _) => call.reply(&leave(version, error, members)),
        (GroupResponse::CommitOffsets(results), Memo::Commit(memo)) => {
            call.reply(&commit(memo, results))
        }
        (GroupResponse::FetchOffsets(fetched), Memo::Fetch(memo)) => {
            call.reply(&fetch(version, memo, fetched))
        }
        (
            GroupResponse::Describe(groups),
            Memo::Groups {
                refused,
                operations,
            },
        ) => call.reply(&describe(version, groups, refused, operations)),
        (GroupResponse::List(groups), _) => call.reply(&list(version, groups)),
        (GroupResponse::Delete(groups), Memo::Groups { refused, .. }) => {
            let refused = refused
                .into_iter()
                .map(|(group, error)| (group, Some(error)));
            let results = groups.into_iter().chain(refused).map(|(group, error)| {
                DeletableGroupResult::default()
                    .with_group_id(GroupId(text(group)))
                    .with_error_code(code(error))
            });
            call.reply(&k::DeleteGroupsResponse::default().with_results(results.collect()))
        }
        (response, _) => {
            debug_assert!(false, "{response:?} for {:?}", call.api);
            Reply::default()
        }
    }
}

fn join(version: i16, joined: Joined) -> k::JoinGroupResponse {
    let members = joined.members.into_iter().map(|(id, instance, metadata)| {
        let member = JoinGroupResponseMember::default()
            .with_member_id(text(id))
            .with_metadata(metadata);
        if version >= 5 {
            member.with_group_instance_id(instance.map(text))
        } else {
            member
        }
    });
    let mut response = k::JoinGroupResponse::default()
        .with_error_code(code(joined.error))
        .with_generation_id(joined.generation)
        .with_leader(text(joined.leader))
        .with_member_id(text(joined.member_id))
        .with_members(members.collect());
    // The protocol's name may be null from v7 on only.
    response.protocol_name = match version {
        7.. => joined.protocol.map(text),
        _ => Some(text(joined.protocol.unwrap_or_default())),
    };
    if version >= 7 {
        response.protocol_type = joined.protocol_type.map(text);
    }
    if version >= 9 {
        response.skip_assignment = joined.skip_assignment;
    }
    response
}

fn sync(version: i16, synced: Synced) -> k::SyncGroupResponse {
    let response = k::SyncGroupResponse::default()
        .with_error_code(code(synced.error))
        .with_assignment(synced.assignment);
    match version {
        5.. => response
            .with_protocol_type(synced.protocol_type.map(text))
            .with_protocol_name(synced.protocol.map(text)),
        _ => response,
    }
}

type Left = (String, Option<String>, Option<ErrorCode>);

fn leave(version: i16, error: Option<ErrorCode>, members: Vec<Left>) -> k::LeaveGroupResponse {
    if version < 3 {
        let error = error.or_else(|| members.first().and_then(|m| m.2));
        return k::LeaveGroupResponse::default().with_error_code(code(error));
    }
    let members = members.into_iter().map(|(id, instance, error)| {
        MemberResponse::default()
            .with_member_id(text(id))
            .with_group_instance_id(instance.map(text))
            .with_error_code(code(error))
    });
    k::LeaveGroupResponse::default()
        .with_error_code(code(error))
        .with_members(members.collect())
}

/// The coordinator's results come in the order of the partitions that were not refused before.
fn commit(
    memo: CommitMemo,
    results: Vec<(TopicPartition, Option<ErrorCode>)>,
) -> k::OffsetCommitResponse {
    let mut results = results.into_iter();
    let topics = memo.into_iter().map(|(name, slots)| {
        let partitions = slots.into_iter().map(|(index, slot)| {
            let error = match slot {
                Err(error) => Some(error),
                Ok(_) => results
                    .next()
                    .map_or(Some(ErrorCode::UnknownServerError), |r| r.1),
            };
            OffsetCommitResponsePartition::default()
                .with_partition_index(index)
                .with_error_code(code(error))
        });
        OffsetCommitResponseTopic::default()
            .with_name(name)
            .with_partitions(partitions.collect())
    });
    k::OffsetCommitResponse::default().with_topics(topics.collect())
}

fn fetch(
    version: i16,
    memo: Vec<FetchMemo>,
    fetched: Vec<FetchedOffsets>,
) -> k::OffsetFetchResponse {
    let mut fetched = fetched.into_iter();
    let mut groups = memo.into_iter().map(|memo| {
        let (error, offsets) = match memo.refused {
            Some(error) => (Some(error), BTreeMap::new()),
            None => match fetched.next() {
                Some(group) => (group.error, group.offsets),
                None => (Some(ErrorCode::UnknownServerError), BTreeMap::new()),
            },
        };
        (memo.group, error, topics(memo.topics, error, offsets))
    });
    if version >= 8 {
        let groups = groups.map(|(group, error, topics)| {
            OffsetFetchResponseGroup::default()
                .with_group_id(GroupId(text(group)))
                .with_error_code(code(error))
                .with_topics(topics.into_iter().map(new_topic).collect())
        });
        return k::OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let (_, error, topics) = groups.next().expect("versions before 8 ask for one group");
    let old_error = if version < 2 { error } else { None };
    let topics = topics.into_iter().map(|t| old_topic(version, t, old_error));
    let response = k::OffsetFetchResponse::default().with_topics(topics.collect());
    if version >= 2 {
        response.with_error_code(code(error))
    } else {
        response
    }
}

type Offsets = (WireTopic, Vec<(i32, Option<CommittedOffset>)>);

/// What was asked, in its order; or everything there is.
fn topics(
    asked: Option<Vec<(WireTopic, Vec<i32>)>>,
    error: Option<ErrorCode>,
    mut offsets: BTreeMap<TopicPartition, Option<CommittedOffset>>,
) -> Vec<Offsets> {
    match asked {
        // Before v2 the error goes into the partitions; later versions may repeat them too.
        Some(asked) => {
            let topics = asked.into_iter().map(|(name, indexes)| {
                let valid = TopicName::new(&name).ok();
                let found = indexes.into_iter().map(|index| {
                    let tp = partition(valid.as_ref(), index);
                    (index, tp.and_then(|tp| offsets.remove(&tp).flatten()))
                });
                let found = found.collect();
                (name, found)
            });
            topics.collect()
        }
        None if error.is_some() => Vec::new(),
        None => {
            let mut all: BTreeMap<TopicName, Vec<(i32, Option<CommittedOffset>)>> = BTreeMap::new();
            for (tp, offset) in offsets {
                let index = i32::try_from(tp.partition).expect("it was an i32 when committed");
                all.entry(tp.topic).or_default().push((index, offset));
            }
            all.into_iter()
                .map(|(name, list)| (text(name.as_str()).into(), list))
                .collect()
        }
    }
}

fn new_topic((name, partitions): Offsets) -> OffsetFetchResponseTopics {
    let partitions = partitions.into_iter().map(|(index, found)| {
        let partition = OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(-1)
            .with_metadata(Some(text("")));
        match found {
            None => partition,
            Some(found) => partition
                .with_committed_offset(found.offset)
                .with_committed_leader_epoch(found.leader_epoch)
                .with_metadata(Some(text(found.metadata))),
        }
    });
    OffsetFetchResponseTopics::default()
        .with_name(name)
        .with_partitions(partitions.collect())
}

fn old_topic(
    version: i16,
    (name, partitions): Offsets,
    error: Option<ErrorCode>,
) -> OffsetFetchResponseTopic {
    let partitions = partitions.into_iter().map(|(index, found)| {
        let mut partition = OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(-1)
            .with_metadata(Some(text("")))
            .with_error_code(code(error));
        if let Some(found) = found {
            partition.committed_offset = found.offset;
            partition.metadata = Some(text(found.metadata));
            if version >= 5 {
                partition.committed_leader_epoch = found.leader_epoch;
            }
        }
        partition
    });
    OffsetFetchResponseTopic::default()
        .with_name(name)
        .with_partitions(partitions.collect())
}

fn describe(
    version: i16,
    groups: Vec<GroupDescription>,
    refused: Vec<(String, ErrorCode)>,
    operations: bool,
) -> k::DescribeGroupsResponse {
    let described = groups.into_iter().map(|group| {
        // From v6 on a group that is not there is an error (KIP-1043); before, it is "Dead".
        let missing = version >= 6 && group.state == STATE_DEAD;
        let error = group
            .error
            .or(missing.then_some(ErrorCode::GroupIdNotFound));
        let mut described = DescribedGroup::default()
            .with_error_code(code(error))
            .with_group_id(GroupId(text(group.group)))
            .with_group_state(text(group.state))
            .with_protocol_type(text(group.protocol_type))
            .with_protocol_data(text(group.protocol))
            .with_members(
                group
                    .members
                    .into_iter()
                    .map(|m| member(version, m))
                    .collect(),
            )
            .with_authorized_operations(NO_OPERATIONS);
        if operations && version >= 3 && error.is_none() {
            described.authorized_operations = GROUP_OPERATIONS;
        }
        described
    });
    let refused = refused.into_iter().map(|(group, error)| {
        DescribedGroup::default()
            .with_group_id(GroupId(text(group)))
            .with_error_code(error.code())
            .with_authorized_operations(NO_OPERATIONS)
    });
    k::DescribeGroupsResponse::default().with_groups(described.chain(refused).collect())
}

fn member(version: i16, member: MemberDescription) -> DescribedGroupMember {
    let described = DescribedGroupMember::default()
        .with_member_id(text(member.member_id))
        .with_client_id(text(member.client_id))
        .with_client_host(text(member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment);
    match version {
        4.. => described.with_group_instance_id(member.instance_id.map(text)),
        _ => described,
    }
}

fn list(version: i16, groups: Vec<GroupListing>) -> k::ListGroupsResponse {
    let groups = groups.into_iter().map(|group| {
        let mut listed = ListedGroup::default()
            .with_group_id(GroupId(text(group.group)))
            .with_protocol_type(text(group.protocol_type));
        if version >= 4 {
            listed.group_state = text(group.state);
        }
        if version >= 5 {
            listed.group_type = text("classic");
        }
        listed
    });
    k::ListGroupsResponse::default().with_groups(groups.collect())
}
