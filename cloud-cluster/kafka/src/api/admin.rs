//! CreateTopics (19), DeleteTopics (20), CreatePartitions (37), IncrementalAlterConfigs (44):
//! validated in `topics` and `configs`, proposed by the shell, answered here.

use std::collections::BTreeMap;

use headwater_batch::TopicName;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    CreatePartitionsResponse, CreateTopicsResponse, DeleteTopicsResponse,
    IncrementalAlterConfigsResponse, MetadataRequest, TopicName as WireTopic,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{config, message, metadata, text};
use crate::node::{Node, Peer};
use crate::wire::{Call, Reply};
use crate::{ErrorCode, KafkaError};

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
    /// May be empty when everything was refused or only to be validated: call `respond` then.
    pub proposals: Vec<Proposal>,
    /// After it REQUEST_TIMED_OUT is the answer for what is not done yet.
    pub timeout_ms: u32,
    pub(super) call: Call,
    pub(super) items: Items,
}

/// What became of one item of a request.
#[derive(Debug)]
pub(super) enum Planned {
    /// The index in `proposals`.
    Proposal(usize),
    /// Only to be validated, or nothing to do.
    Done,
    Refused(KafkaError),
}

/// The items of a request in their order, with what the response repeats of them.
#[derive(Debug)]
pub(super) enum Items {
    Create(Vec<(CreatedTopic, Planned)>),
    Delete(Vec<(Option<WireTopic>, Uuid, Planned)>),
    Partitions(Vec<(WireTopic, Planned)>),
    Configs(Vec<(i8, StrBytes, Planned)>),
}

#[derive(Debug)]
pub(super) struct CreatedTopic {
    pub name: WireTopic,
    pub partitions: i32,
    pub replication: i16,
    pub configs: BTreeMap<String, String>,
}

impl AdminPlan {
    /// `results[i]` is for `proposals[i]`; one that is missing is answered REQUEST_TIMED_OUT.
    pub fn respond(self, results: Vec<Result<AdminDone, KafkaError>>) -> Reply {
        let mut results: Vec<_> = results.into_iter().map(Some).collect();
        let mut outcome = |planned: Planned| match planned {
            Planned::Refused(error) => Err(error),
            Planned::Done => Ok(AdminDone::Done),
            Planned::Proposal(i) => {
                let result = results.get_mut(i).and_then(Option::take);
                result.unwrap_or_else(|| Err(ErrorCode::RequestTimedOut.into()))
            }
        };
        let version = self.call.version;
        match self.items {
            Items::Create(items) => {
                let topics = items
                    .into_iter()
                    .map(|(t, p)| created(version, t, outcome(p)));
                let response = CreateTopicsResponse::default().with_topics(topics.collect());
                self.call.reply(&response)
            }
            Items::Delete(items) => {
                let topics = items
                    .into_iter()
                    .map(|(name, id, p)| deleted(version, name, id, outcome(p)));
                let response = DeleteTopicsResponse::default().with_responses(topics.collect());
                self.call.reply(&response)
            }
            Items::Partitions(items) => {
                let topics = items.into_iter().map(|(name, p)| {
                    let (code, words) = words(outcome(p));
                    CreatePartitionsTopicResult::default()
                        .with_name(name)
                        .with_error_code(code)
                        .with_error_message(words)
                });
                let response = CreatePartitionsResponse::default().with_results(topics.collect());
                self.call.reply(&response)
            }
            Items::Configs(items) => {
                let resources = items.into_iter().map(|(kind, name, p)| {
                    let (code, words) = words(outcome(p));
                    AlterConfigsResourceResponse::default()
                        .with_resource_type(kind)
                        .with_resource_name(name)
                        .with_error_code(code)
                        .with_error_message(words)
                });
                let response =
                    IncrementalAlterConfigsResponse::default().with_responses(resources.collect());
                self.call.reply(&response)
            }
        }
    }
}

fn words(outcome: Result<AdminDone, KafkaError>) -> (i16, Option<StrBytes>) {
    match outcome {
        Ok(_) => (0, None),
        Err(error) => (error.code.code(), message(&error)),
    }
}

fn created(
    version: i16,
    topic: CreatedTopic,
    outcome: Result<AdminDone, KafkaError>,
) -> CreatableTopicResult {
    let mut result = CreatableTopicResult::default()
        .with_name(topic.name)
        .with_num_partitions(-1)
        .with_replication_factor(-1);
    match outcome {
        Ok(done) => {
            if let (AdminDone::Created { id }, true) = (done, version >= 7) {
                result.topic_id = id;
            }
            if version >= 5 {
                result.num_partitions = topic.partitions;
                result.replication_factor = topic.replication;
                result.configs = Some(created_configs(&topic.configs));
            }
        }
        Err(error) => {
            result.error_code = error.code.code();
            result.error_message = message(&error);
        }
    }
    result
}

fn created_configs(set: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let rows = config::TOPIC.iter().map(|row| {
        let (value, source) = row.effective(set);
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(row.name))
            .with_value(Some(text(value)))
            .with_config_source(source)
    });
    rows.collect()
}

fn deleted(
    version: i16,
    name: Option<WireTopic>,
    id: Uuid,
    outcome: Result<AdminDone, KafkaError>,
) -> DeletableTopicResult {
    let (code, words) = words(outcome);
    let mut result = DeletableTopicResult::default()
        .with_name(name)
        .with_error_code(code);
    if version >= 6 {
        result.topic_id = id;
    }
    if version >= 5 {
        result.error_message = words;
    }
    result
}

/// Topics that a Metadata request named, that are not there, and that may be made.
#[derive(Debug)]
pub struct AutoCreatePlan {
    /// All are `CreateTopic`.
    pub proposals: Vec<Proposal>,
    pub(super) call: Call,
    pub(super) request: MetadataRequest,
}

impl AutoCreatePlan {
    /// Answers the Metadata request from the node as it is now. A topic that is still missing
    /// gets the retriable LEADER_NOT_AVAILABLE.
    pub fn respond(self, node: &dyn Node, peer: &Peer) -> Reply {
        metadata::answer(node, peer, &self.call, &self.request, true)
    }
}
