//! From a frame to what has to be done for it.

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use crate::api;
use crate::api::admin::{AdminPlan, AutoCreatePlan};
use crate::api::fetch::FetchPlan;
use crate::api::groups::GroupPlan;
use crate::api::offsets::{EpochPlan, ListOffsetsPlan};
use crate::api::produce::ProducePlan;
use crate::api::producer_id::ProducerIdPlan;
use crate::node::{Node, Peer};
use crate::wire::{self, Incoming, Reply, WireError};

/// What a request asks of the shell. Every plan has a `respond` that makes the reply.
#[derive(Debug)]
pub enum Outcome {
    /// Send this; nothing else to do.
    Reply(Reply),
    /// Send nothing and close the connection, as Kafka does; log the reason once.
    Close(CloseReason),
    /// Append batches to partitions.
    Produce(ProducePlan),
    /// Read partitions, waiting for more if the plan says so.
    Fetch(FetchPlan),
    /// Look offsets up, by time or at the ends.
    ListOffsets(ListOffsetsPlan),
    /// Look up where leader epochs end.
    Epochs(EpochPlan),
    /// Hand out a producer id.
    ProducerId(ProducerIdPlan),
    /// Change topics, partitions or configs.
    Admin(AdminPlan),
    /// Make topics that Metadata named, then answer it.
    AutoCreate(AutoCreatePlan),
    /// Ask the group coordinator.
    Group(GroupPlan),
}

/// Why a connection has to be closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    #[error(transparent)]
    Wire(#[from] WireError),
    /// acks=0 has no reply that could carry an error; the close makes the client look again.
    #[error("a produce request with acks=0 failed: {0}")]
    SilentProduce(crate::ErrorCode),
}

/// Decodes and validates one request and says what to do for it. `frame` is the request without
/// its length. Reads no clock and touches no record beyond validating produced batches; that may
/// decompress up to `Settings::records_bytes_max` bytes, so large Produce frames are better
/// served off the reactor.
pub fn serve(node: &dyn Node, peer: &Peer, frame: Bytes) -> Outcome {
    match route(node, peer, frame) {
        Ok(Outcome::Reply(reply)) if reply.is_empty() => {
            Outcome::Close(CloseReason::Wire(WireError::Response {
                key: -1,
                version: -1,
                why: "a text is too long for this version".into(),
            }))
        }
        Ok(outcome) => outcome,
        Err(error) => Outcome::Close(CloseReason::Wire(error)),
    }
}

fn route(node: &dyn Node, peer: &Peer, frame: Bytes) -> Result<Outcome, WireError> {
    let (call, body) = match wire::parse_header(frame)? {
        Incoming::Call(call, body) => (call, body),
        Incoming::FutureApiVersions(call) => {
            return Ok(Outcome::Reply(api::future_api_versions(&call)));
        }
    };
    Ok(match call.api {
        ApiKey::Produce => {
            let request = call.decode(body)?;
            Outcome::Produce(api::produce::plan(node, peer, call, request))
        }
        ApiKey::Fetch => {
            let request = call.decode(body)?;
            Outcome::Fetch(api::fetch::plan(node, peer, call, request))
        }
        ApiKey::ListOffsets => {
            let request = call.decode(body)?;
            Outcome::ListOffsets(api::offsets::plan(node, call, request))
        }
        ApiKey::OffsetForLeaderEpoch => {
            let request = call.decode(body)?;
            Outcome::Epochs(api::offsets::plan_epochs(node, call, request))
        }
        ApiKey::InitProducerId => {
            let request = call.decode(body)?;
            api::producer_id::plan(call, request)
        }
        ApiKey::Metadata => {
            let request = call.decode(body)?;
            api::metadata(node, peer, call, request)
        }
        ApiKey::ApiVersions => {
            call.decode::<kafka_protocol::messages::ApiVersionsRequest>(body)?;
            Outcome::Reply(api::api_versions(&call))
        }
        ApiKey::FindCoordinator => {
            let request = call.decode(body)?;
            Outcome::Reply(api::find_coordinator(node, peer, &call, request))
        }
        ApiKey::DescribeCluster => {
            let request = call.decode(body)?;
            Outcome::Reply(api::describe_cluster(node, peer, &call, &request))
        }
        ApiKey::DescribeConfigs => {
            let request = call.decode(body)?;
            Outcome::Reply(api::describe_configs(node, &call, request))
        }
        ApiKey::CreateTopics => {
            let request = call.decode(body)?;
            Outcome::Admin(api::create_topics(node, call, request))
        }
        ApiKey::DeleteTopics => {
            let request = call.decode(body)?;
            Outcome::Admin(api::delete_topics(node, call, request))
        }
        ApiKey::CreatePartitions => {
            let request = call.decode(body)?;
            Outcome::Admin(api::create_partitions(node, call, request))
        }
        ApiKey::IncrementalAlterConfigs => {
            let request = call.decode(body)?;
            Outcome::Admin(api::incremental_alter_configs(node, call, request))
        }
        _ => return api::groups::route(node, peer, call, body),
    })
}
