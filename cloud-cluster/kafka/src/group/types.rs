//! What goes into the coordinator and what comes out.

use std::collections::BTreeMap;

use bytes::Bytes;
use headwater_batch::{TopicName, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::ErrorCode;

/// Names a request; chosen by the shell, unique among those not answered yet.
pub type RequestToken = u64;
/// Names a commit; chosen by the machine, rising.
pub type CommitToken = u64;

/// The longest group id that is taken, in bytes: what every version can repeat.
pub const GROUP_ID_BYTES_MAX: usize = 32_000;

#[derive(Debug)]
pub enum GroupEvent {
    Request {
        token: RequestToken,
        request: GroupRequest,
    },
    /// The entry is committed and applied.
    Committed { token: CommitToken },
    /// The entry was refused and will not be applied later: NOT_COORDINATOR when leadership is
    /// lost, COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE for anything else.
    CommitFailed {
        token: CommitToken,
        error: ErrorCode,
    },
    /// The deadline has come.
    Timer,
    /// After a start, before the first request: what the applied state holds, in any order.
    Restore(GroupEntry),
    /// The topic is gone: its offsets go too, without a commit of their own.
    TopicDeleted(TopicName),
}

#[derive(Debug, PartialEq, Eq)]
pub enum GroupEffect {
    Reply {
        token: RequestToken,
        response: GroupResponse,
    },
    /// Propose this entry; answer with `Committed` or `CommitFailed`, in the order given.
    Commit {
        token: CommitToken,
        entry: GroupEntry,
    },
}

/// What is made durable. Applied in order; a later entry of a group replaces an earlier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupEntry {
    /// `generation` fences at apply (rule C3): an entry of a generation older than the group's
    /// last `Generation` entry is refused (ILLEGAL_GENERATION). -1 is not fenced.
    Offsets {
        group: String,
        generation: i32,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    },
    /// A rebalance has ended. After a restart generations go on from here.
    Generation {
        group: String,
        generation: i32,
        protocol_type: String,
    },
    /// The group and all its offsets are gone.
    DeleteGroup { group: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    pub offset: i64,
    /// -1 if the client gave none.
    pub leader_epoch: i32,
    pub metadata: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRequest {
    Join(Join),
    Sync(Sync),
    Heartbeat(Heartbeat),
    Leave(Leave),
    CommitOffsets(CommitOffsets),
    /// One per group; the list is never empty.
    FetchOffsets(Vec<FetchOffsets>),
    Describe {
        groups: Vec<String>,
    },
    /// Empty filters match everything. States and types compare without case.
    List {
        states: Vec<String>,
        types: Vec<String>,
    },
    Delete {
        groups: Vec<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    pub group: String,
    /// Empty on the first join.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    /// In the member's order of preference; the metadata is opaque.
    pub protocols: Vec<(String, Bytes)>,
    /// v4 and later: a member without an id gets one and joins again (79).
    pub requires_known_member_id: bool,
    /// v9: a static leader that comes back may be told to skip the assignment.
    pub supports_skip_assignment: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sync {
    pub group: String,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// From the leader only: (member id, assignment).
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    pub group: String,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    pub group: String,
    /// (member id, instance id); a member may be named by its instance id alone.
    pub members: Vec<(String, Option<String>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffsets {
    pub group: String,
    /// -1 with an empty member id: a commit from outside the group, legal while it is empty.
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub offsets: Vec<(TopicPartition, CommittedOffset)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchOffsets {
    pub group: String,
    /// None: all that the group has committed.
    pub partitions: Option<Vec<TopicPartition>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupResponse {
    Join(Joined),
    Sync(Synced),
    /// None: fine.
    Heartbeat(Option<ErrorCode>),
    /// For the whole, then (member id, instance id, error) for each.
    Leave {
        error: Option<ErrorCode>,
        members: Vec<(String, Option<String>, Option<ErrorCode>)>,
    },
    /// In the order of the request.
    CommitOffsets(Vec<(TopicPartition, Option<ErrorCode>)>),
    FetchOffsets(Vec<FetchedOffsets>),
    Describe(Vec<GroupDescription>),
    List(Vec<GroupListing>),
    Delete(Vec<(String, Option<ErrorCode>)>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joined {
    pub error: Option<ErrorCode>,
    /// -1 with an error.
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub skip_assignment: bool,
    pub member_id: String,
    /// For the leader only: (member id, instance id, metadata).
    pub members: Vec<(String, Option<String>, Bytes)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    pub error: Option<ErrorCode>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedOffsets {
    pub group: String,
    pub error: Option<ErrorCode>,
    /// None for a partition without a committed offset.
    pub offsets: BTreeMap<TopicPartition, Option<CommittedOffset>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    pub group: String,
    pub error: Option<ErrorCode>,
    pub state: &'static str,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<MemberDescription>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    pub group: String,
    pub protocol_type: String,
    pub state: &'static str,
}

/// The states of a group as clients see them.
pub const STATE_EMPTY: &str = "Empty";
pub const STATE_PREPARING: &str = "PreparingRebalance";
pub const STATE_COMPLETING: &str = "CompletingRebalance";
pub const STATE_STABLE: &str = "Stable";
/// Of a group that is not there.
pub const STATE_DEAD: &str = "Dead";

impl GroupRequest {
    /// The group of a request that is about one; None for lists.
    pub fn group(&self) -> Option<&str> {
        match self {
            GroupRequest::Join(r) => Some(&r.group),
            GroupRequest::Sync(r) => Some(&r.group),
            GroupRequest::Heartbeat(r) => Some(&r.group),
            GroupRequest::Leave(r) => Some(&r.group),
            GroupRequest::CommitOffsets(r) => Some(&r.group),
            GroupRequest::FetchOffsets(_)
            | GroupRequest::Describe { .. }
            | GroupRequest::List { .. }
            | GroupRequest::Delete { .. } => None,
        }
    }

    /// The response that says `error` to all of the request.
    pub fn refused(&self, error: ErrorCode) -> GroupResponse {
        match self {
            GroupRequest::Join(r) => GroupResponse::Join(Joined::refused(error, &r.member_id)),
            GroupRequest::Sync(_) => GroupResponse::Sync(Synced {
                error: Some(error),
                ..Synced::default()
            }),
            GroupRequest::Heartbeat(_) => GroupResponse::Heartbeat(Some(error)),
            GroupRequest::Leave(_) => GroupResponse::Leave {
                error: Some(error),
                members: Vec::new(),
            },
            GroupRequest::CommitOffsets(r) => {
                let all = r.offsets.iter().map(|(tp, _)| (tp.clone(), Some(error)));
                GroupResponse::CommitOffsets(all.collect())
            }
            GroupRequest::FetchOffsets(groups) => {
                let all = groups.iter().map(|g| FetchedOffsets {
                    group: g.group.clone(),
                    error: Some(error),
                    offsets: BTreeMap::new(),
                });
                GroupResponse::FetchOffsets(all.collect())
            }
            GroupRequest::Describe { groups } => {
                let all = groups.iter().map(|g| GroupDescription::refused(g, error));
                GroupResponse::Describe(all.collect())
            }
            GroupRequest::List { .. } => GroupResponse::List(Vec::new()),
            GroupRequest::Delete { groups } => {
                let all = groups.iter().map(|g| (g.clone(), Some(error)));
                GroupResponse::Delete(all.collect())
            }
        }
    }
}

impl Joined {
    pub fn refused(error: ErrorCode, member_id: &str) -> Joined {
        Joined {
            error: Some(error),
            generation: -1,
            member_id: member_id.to_owned(),
            ..Joined::default()
        }
    }
}

impl GroupDescription {
    pub fn refused(group: &str, error: ErrorCode) -> GroupDescription {
        GroupDescription {
            error: Some(error),
            ..GroupDescription::dead(group)
        }
    }

    /// What is said of a group that is not there.
    pub fn dead(group: &str) -> GroupDescription {
        GroupDescription {
            group: group.to_owned(),
            error: None,
            state: STATE_DEAD,
            protocol_type: String::new(),
            protocol: String::new(),
            members: Vec::new(),
        }
    }
}
