//! CreateTopics (19), DeleteTopics (20), CreatePartitions (37), IncrementalAlterConfigs (44):
//! validated here, proposed by the shell.

use std::collections::BTreeMap;

use headwater_batch::TopicName;
use uuid::Uuid;

use crate::KafkaError;
use crate::node::{Node, Peer};
use crate::wire::Reply;

/// A change to be proposed to the metadata group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposal {
    /// The proposer draws the topic's id. TOPIC_ALREADY_EXISTS if it lost a race.
    CreateTopic {
        name: TopicName,
        partitions: u32,
        replication: i16,
        configs: BTreeMap<String, String>,
    },
    /// UNKNOWN_TOPIC_ID if the topic was made anew meanwhile.
    DeleteTopic { name: TopicName, id: Uuid },
    /// `count` is the new total, larger than before.
    CreatePartitions { name: TopicName, count: u32 },
    /// Some sets, None goes back to the default.
    AlterTopicConfigs {
        name: TopicName,
        changes: BTreeMap<String, Option<String>>,
    },
}

/// What a proposal that went through has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminDone {
    /// CreateTopic.
    Created { id: Uuid },
    /// All others.
    Done,
}

/// Changes to propose, independent of each other.
#[derive(Debug)]
pub struct AdminPlan {
    pub proposals: Vec<Proposal>,
    /// After it REQUEST_TIMED_OUT is the answer for what is not done yet.
    pub timeout_ms: u32,
}

impl AdminPlan {
    /// `results[i]` is for `proposals[i]`; one that is missing is answered REQUEST_TIMED_OUT.
    pub fn respond(self, _results: Vec<Result<AdminDone, KafkaError>>) -> Reply {
        unimplemented!()
    }
}

/// Topics that a Metadata request named, that are not there, and that may be made.
#[derive(Debug)]
pub struct AutoCreatePlan {
    /// All are `CreateTopic`.
    pub proposals: Vec<Proposal>,
}

impl AutoCreatePlan {
    /// Answers the Metadata request from the node as it is now. A topic that is still missing
    /// gets the retriable LEADER_NOT_AVAILABLE.
    pub fn respond(self, _node: &dyn Node, _peer: &Peer) -> Reply {
        unimplemented!()
    }
}
