//! The group APIs (8, 9, 11 to 16, 42) between the wire and the coordinator.

mod decode;
mod encode;

use bytes::Bytes;
use headwater_batch::TopicPartition;
use kafka_protocol::messages::TopicName as WireTopic;

use crate::ErrorCode;
use crate::group::{GroupRequest, GroupResponse};
use crate::node::{Node, Peer};
use crate::serve::Outcome;
use crate::wire::{Call, Reply, WireError};

/// A request for the group coordinator. Give `request` to [`crate::group::Coordinator::handle`]
/// under a token of your own, keep `pending` under that token, and answer with it when
/// [`crate::group::GroupEffect::Reply`] comes.
#[derive(Debug)]
pub struct GroupPlan {
    pub request: GroupRequest,
    pub pending: GroupPending,
}

/// Turns the coordinator's response into a reply.
#[derive(Debug)]
pub struct GroupPending {
    pub call: Call,
    memo: Memo,
}

/// What the response repeats of the request, and what was refused before the coordinator saw it.
#[derive(Debug)]
enum Memo {
    Nothing,
    Commit(CommitMemo),
    Fetch(Vec<FetchMemo>),
    /// For Describe and Delete: groups that are not ours.
    Groups {
        refused: Vec<(String, ErrorCode)>,
        operations: bool,
    },
}

/// The partitions of an OffsetCommit in their order, and those that were refused.
type CommitMemo = Vec<(WireTopic, Vec<(i32, Result<TopicPartition, ErrorCode>)>)>;

/// One group of an OffsetFetch. None for the topics: all.
#[derive(Debug)]
struct FetchMemo {
    group: String,
    topics: Option<Vec<(WireTopic, Vec<i32>)>>,
    refused: Option<ErrorCode>,
}

/// Whether this node coordinates `group` now.
fn ours(node: &dyn Node, group: &str) -> Result<(), ErrorCode> {
    match node.coordinator(group)? {
        id if id == node.node_id() => Ok(()),
        _ => Err(ErrorCode::NotCoordinator),
    }
}

pub(crate) fn route(
    node: &dyn Node,
    peer: &Peer,
    call: Call,
    body: Bytes,
) -> Result<Outcome, WireError> {
    let (request, memo) = decode::request(node, peer, &call, body)?;
    let pending = GroupPending { call, memo };
    // A request for one group that is not ours is answered here; lists carry their own errors.
    if let Some(group) = request.group() {
        if let Err(error) = ours(node, group) {
            let response = request.refused(error);
            return Ok(Outcome::Reply(pending.respond(response)));
        }
    }
    Ok(Outcome::Group(GroupPlan { request, pending }))
}

impl GroupPending {
    pub fn respond(self, response: GroupResponse) -> Reply {
        encode::reply(self.call, self.memo, response)
    }
}
