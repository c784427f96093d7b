//! The requests of consumer groups' members: the classic protocol (KIP-62, KIP-394).
//!
//! The assignment is the members' own business: here the partitions, four bytes each.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest, OffsetCommitResponse,
    SyncGroupRequest, SyncGroupResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::requests::{OFFSET_COMMIT, answer, frame};

const JOIN_GROUP: i16 = 7;
const SYNC_GROUP: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE_GROUP: i16 = 4;
const ASSIGNOR: &str = "range";
const SESSION_TIMEOUT_MS: i32 = 6_000;
const REBALANCE_TIMEOUT_MS: i32 = 8_000;

/// Who asks, as the coordinator knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    pub group: String,
    /// Empty before the coordinator has given one.
    pub member: String,
    pub generation: i32,
}

/// What a join came to.
#[derive(Debug)]
pub struct Joined {
    pub error: i16,
    pub member: String,
    pub generation: i32,
    /// Of all members, for the leader alone.
    pub members: Vec<String>,
}

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

fn group(of: &Membership) -> GroupId {
    GroupId(text(&of.group))
}

pub fn join(correlation: i32, of: &Membership) -> Bytes {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text(ASSIGNOR))
        .with_metadata(Bytes::from_static(b"made"));
    let request = JoinGroupRequest::default()
        .with_group_id(group(of))
        .with_session_timeout_ms(SESSION_TIMEOUT_MS)
        .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
        .with_member_id(text(&of.member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    frame(ApiKey::JoinGroup, JOIN_GROUP, correlation, &request)
}

pub fn joined(correlation: i32, frame: &Bytes) -> Result<Joined, String> {
    let response: JoinGroupResponse = answer(JOIN_GROUP, correlation, frame)?;
    let member = response.member_id.to_string();
    let leads = response.error_code == 0 && *response.leader == *member;
    let members = response.members.iter().filter(|_| leads);
    Ok(Joined {
        error: response.error_code,
        generation: response.generation_id,
        members: members.map(|m| m.member_id.to_string()).collect(),
        member,
    })
}

/// `assignments`: from the leader, what each member is to have; from others nothing.
pub fn sync(correlation: i32, of: &Membership, assignments: &[(String, Vec<i32>)]) -> Bytes {
    let assignments = assignments.iter().map(|(member, partitions)| {
        let mut bytes = BytesMut::new();
        partitions.iter().for_each(|p| bytes.put_i32(*p));
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member))
            .with_assignment(bytes.freeze())
    });
    let request = SyncGroupRequest::default()
        .with_group_id(group(of))
        .with_generation_id(of.generation)
        .with_member_id(text(&of.member))
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text(ASSIGNOR)))
        .with_assignments(assignments.collect());
    frame(ApiKey::SyncGroup, SYNC_GROUP, correlation, &request)
}

/// The partitions, or the error.
pub fn synced(correlation: i32, frame: &Bytes) -> Result<Result<Vec<i32>, i16>, String> {
    let response: SyncGroupResponse = answer(SYNC_GROUP, correlation, frame)?;
    if response.error_code != 0 {
        return Ok(Err(response.error_code));
    }
    let numbers = response.assignment.chunks(4).map(|bytes| {
        let bytes: [u8; 4] = bytes.try_into().map_err(|_| "a torn assignment")?;
        Ok(i32::from_be_bytes(bytes))
    });
    let numbers: Result<Vec<i32>, &str> = numbers.collect();
    numbers.map(Ok).map_err(str::to_owned)
}

pub fn heartbeat(correlation: i32, of: &Membership) -> Bytes {
    let request = HeartbeatRequest::default()
        .with_group_id(group(of))
        .with_generation_id(of.generation)
        .with_member_id(text(&of.member));
    frame(ApiKey::Heartbeat, HEARTBEAT, correlation, &request)
}

pub fn beaten(correlation: i32, frame: &Bytes) -> Result<i16, String> {
    let response: HeartbeatResponse = answer(HEARTBEAT, correlation, frame)?;
    Ok(response.error_code)
}

pub fn leave(correlation: i32, of: &Membership) -> Bytes {
    let member = MemberIdentity::default().with_member_id(text(&of.member));
    let request = LeaveGroupRequest::default()
        .with_group_id(group(of))
        .with_members(vec![member]);
    frame(ApiKey::LeaveGroup, LEAVE_GROUP, correlation, &request)
}

pub fn left(correlation: i32, frame: &Bytes) -> Result<i16, String> {
    let response: LeaveGroupResponse = answer(LEAVE_GROUP, correlation, frame)?;
    Ok(response.error_code)
}

pub fn commit(correlation: i32, of: &Membership, topic: &str, partition: i32, at: i64) -> Bytes {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(at)
        .with_committed_leader_epoch(-1);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group(of))
        .with_generation_id_or_member_epoch(of.generation)
        .with_member_id(text(&of.member))
        .with_topics(vec![topic]);
    frame(ApiKey::OffsetCommit, OFFSET_COMMIT, correlation, &request)
}

pub fn committed(correlation: i32, frame: &Bytes) -> Result<i16, String> {
    let response: OffsetCommitResponse = answer(OFFSET_COMMIT, correlation, frame)?;
    let topic = response.topics.first();
    let found = topic.and_then(|topic| topic.partitions.first());
    let found = found.ok_or("OffsetCommit answers nothing")?;
    Ok(found.error_code)
}
