//! ApiVersions (18), FindCoordinator (10) and DescribeCluster (60).

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, DescribeClusterRequest, DescribeClusterResponse,
    FindCoordinatorRequest, FindCoordinatorResponse,
};

use super::{message, text};
use crate::node::{Broker, Node, Peer};
use crate::wire::{Call, Reply, SERVED};
use crate::{ErrorCode, KafkaError};

/// Every operation on the cluster, as a bit set of AclOperation codes: there are no ACLs yet.
pub(super) const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
const KEY_TYPE_GROUP: i8 = 0;
const KEY_TYPE_TRANSACTION: i8 = 1;
const ENDPOINT_BROKERS: i8 = 1;

pub(crate) fn api_versions(call: &Call) -> Reply {
    let rows = SERVED.iter().map(|row| {
        ApiVersion::default()
            .with_api_key(row.api as i16)
            .with_min_version(row.advertised_min)
            .with_max_version(row.max)
    });
    // No features: `transaction.version` 2 and `group.version` would switch on what is not here.
    call.reply(&ApiVersionsResponse::default().with_api_keys(rows.collect()))
}

/// Error 35 in version 0, with the one row that the client needs to ask again (KIP-511).
pub(crate) fn future_api_versions(call: &Call) -> Reply {
    let rows = SERVED
        .iter()
        .filter(|row| row.api == ApiKey::ApiVersions)
        .map(|row| {
            ApiVersion::default()
                .with_api_key(row.api as i16)
                .with_min_version(row.advertised_min)
                .with_max_version(row.max)
        });
    let response = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_api_keys(rows.collect());
    call.reply(&response)
}

pub(crate) fn find_coordinator(
    node: &dyn Node,
    peer: &Peer,
    call: &Call,
    request: FindCoordinatorRequest,
) -> Reply {
    if call.version >= 4 {
        let found = request.coordinator_keys.into_iter().map(|key| {
            let answer = Coordinator::default().with_key(key.clone());
            match coordinator(node, peer, request.key_type, &key) {
                Ok(broker) => answer
                    .with_node_id(BrokerId(broker.id))
                    .with_host(text(broker.host))
                    .with_port(i32::from(broker.port)),
                Err(error) => answer
                    .with_node_id(BrokerId(-1))
                    .with_port(-1)
                    .with_error_code(error.code.code())
                    .with_error_message(message(&error)),
            }
        });
        return call.reply(&FindCoordinatorResponse::default().with_coordinators(found.collect()));
    }
    let response = match coordinator(node, peer, request.key_type, &request.key) {
        Ok(broker) => FindCoordinatorResponse::default()
            .with_node_id(BrokerId(broker.id))
            .with_host(text(broker.host))
            .with_port(i32::from(broker.port)),
        Err(error) => {
            let words = if call.version >= 1 {
                message(&error)
            } else {
                None
            };
            FindCoordinatorResponse::default()
                .with_node_id(BrokerId(-1))
                .with_port(-1)
                .with_error_code(error.code.code())
                .with_error_message(words)
        }
    };
    call.reply(&response)
}

/// Invariant: node -1 never goes out without an error.
fn coordinator(
    node: &dyn Node,
    peer: &Peer,
    key_type: i8,
    key: &str,
) -> Result<Broker, KafkaError> {
    match key_type {
        KEY_TYPE_GROUP if key.is_empty() => Err(ErrorCode::InvalidGroupId.into()),
        KEY_TYPE_GROUP => {
            let id = node.coordinator(key)?;
            let brokers = node.brokers(&peer.listener);
            let found = brokers.into_iter().find(|b| b.id == id);
            found.ok_or_else(|| ErrorCode::CoordinatorNotAvailable.into())
        }
        // Fatal to the client at once, where COORDINATOR_NOT_AVAILABLE would have it ask for ever.
        KEY_TYPE_TRANSACTION => Err(KafkaError::new(
            ErrorCode::TransactionalIdAuthorizationFailed,
            "transactions are not supported",
        )),
        _ => Err(KafkaError::new(
            ErrorCode::InvalidRequest,
            "unknown coordinator key type",
        )),
    }
}

pub(crate) fn describe_cluster(
    node: &dyn Node,
    peer: &Peer,
    call: &Call,
    request: &DescribeClusterRequest,
) -> Reply {
    let mut response = DescribeClusterResponse::default();
    if call.version >= 1 && request.endpoint_type != ENDPOINT_BROKERS {
        response.endpoint_type = request.endpoint_type;
        response.error_code = ErrorCode::MismatchedEndpointType.code();
        response.error_message = Some(text("this is a broker, not a controller"));
        return call.reply(&response);
    }
    response.cluster_id = text(node.cluster_id());
    response.controller_id = BrokerId(node.controller_id());
    response.brokers = node
        .brokers(&peer.listener)
        .into_iter()
        .map(|b| {
            DescribeClusterBroker::default()
                .with_broker_id(BrokerId(b.id))
                .with_host(text(b.host))
                .with_port(i32::from(b.port))
                .with_rack(b.rack.map(text))
        })
        .collect();
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    call.reply(&response)
}
