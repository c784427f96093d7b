//! What a client learns of the cluster: Metadata, FindCoordinator, DescribeCluster and
//! InitProducerId.

use headwater_kafka::{ErrorCode, Outcome, Peer, ProducerIdentity, Proposal};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::*;
use uuid::Uuid;

use crate::common::{FakeNode, READINGS_ID, decode, reply, serve, versions};
use crate::{name, text};

fn metadata(version: i16, request: &MetadataRequest) -> MetadataResponse {
    let reply = reply(serve(
        &FakeNode::default(),
        ApiKey::Metadata,
        version,
        request,
    ));
    decode(ApiKey::Metadata, version, &reply)
}

#[test]
fn metadata_at_every_version() {
    for version in versions(ApiKey::Metadata) {
        let all = MetadataRequest::default()
            .with_topics((version == 0).then(Vec::new))
            .with_allow_auto_topic_creation(true);
        let response = metadata(version, &all);
        assert_eq!(response.topics.len(), 5);
        assert_eq!(response.brokers.len(), 2);
        assert_eq!(
            (response.brokers[1].port, &*response.brokers[0].host),
            (9093, "127.0.0.1")
        );
        if version >= 2 {
            assert_eq!(response.cluster_id.as_deref(), Some("headwater-test"));
        }
        if version >= 1 {
            assert_eq!(response.controller_id, BrokerId(1));
            let none = metadata(version, &all.clone().with_topics(Some(Vec::new())));
            assert!(none.topics.is_empty());
        }
        let readings = response
            .topics
            .iter()
            .find(|t| t.name == Some(name("readings")))
            .unwrap();
        assert_eq!(readings.partitions.len(), 3);
        assert_eq!(readings.partitions[2].leader_id, BrokerId(1));
        if version >= 7 {
            assert_eq!(readings.partitions[0].leader_epoch, 7);
        }
        if version >= 10 {
            assert_eq!(readings.topic_id, READINGS_ID);
        }
    }
}

#[test]
fn metadata_makes_topics_only_when_asked_and_allowed() {
    let asked = |topic: &str| MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![
        asked("fresh"),
        asked("bad/name"),
        asked("readings"),
    ]));
    let node = FakeNode::default();
    let Outcome::AutoCreate(plan) = serve(&node, ApiKey::Metadata, 4, &request) else {
        panic!()
    };
    assert!(
        matches!(&plan.proposals[..], [Proposal::CreateTopic { name, partitions: 8, .. }] if &**name == "fresh")
    );
    let response: MetadataResponse =
        decode(ApiKey::Metadata, 4, &plan.respond(&node, &Peer::default()));
    let codes: Vec<_> = response.topics.iter().map(|t| t.error_code).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::LeaderNotAvailable.code(),
            ErrorCode::InvalidTopicException.code(),
            0
        ]
    );

    let response = metadata(4, &request.with_allow_auto_topic_creation(false));
    assert_eq!(
        response.topics[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
}

#[test]
fn metadata_by_id() {
    let by_id = |id| {
        MetadataRequestTopic::default()
            .with_name(None)
            .with_topic_id(id)
    };
    let request = MetadataRequest::default()
        .with_topics(Some(vec![by_id(READINGS_ID), by_id(Uuid::from_u128(99))]));
    let response = metadata(12, &request);
    assert_eq!(response.topics[0].name, Some(name("readings")));
    assert_eq!(
        response.topics[1].error_code,
        ErrorCode::UnknownTopicId.code()
    );
    assert_eq!(response.topics[1].name, None);
}

#[test]
fn find_coordinator_at_every_version() {
    for version in versions(ApiKey::FindCoordinator) {
        let find = |key: &str, kind: i8| {
            let mut request = FindCoordinatorRequest::default();
            if version >= 1 {
                request.key_type = kind;
            }
            if version >= 4 {
                request.coordinator_keys = vec![text(key)];
            } else {
                request.key = text(key);
            }
            let reply = reply(serve(
                &FakeNode::default(),
                ApiKey::FindCoordinator,
                version,
                &request,
            ));
            let response: FindCoordinatorResponse =
                decode(ApiKey::FindCoordinator, version, &reply);
            match response.coordinators.first() {
                Some(c) => (c.error_code, c.node_id.0, c.port),
                None => (response.error_code, response.node_id.0, response.port),
            }
        };
        assert_eq!(find("g", 0), (0, 1, 9092));
        assert_eq!(find("theirs", 0), (0, 2, 9093));
        assert_eq!(find("loading", 0), (14, -1, -1));
        assert_eq!(find("", 0), (24, -1, -1));
        if version >= 1 {
            assert_eq!(find("tx", 1), (53, -1, -1));
            assert_eq!(find("x", 7), (42, -1, -1));
        }
    }
}

#[test]
fn describe_cluster_at_every_version() {
    for version in versions(ApiKey::DescribeCluster) {
        let request =
            DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        let reply = reply(serve(
            &FakeNode::default(),
            ApiKey::DescribeCluster,
            version,
            &request,
        ));
        let response: DescribeClusterResponse = decode(ApiKey::DescribeCluster, version, &reply);
        assert_eq!((response.error_code, response.brokers.len()), (0, 2));
        assert_eq!(&*response.cluster_id, "headwater-test");
        assert!(response.cluster_authorized_operations > 0);
    }
}

#[test]
fn producer_ids_at_every_version() {
    for version in versions(ApiKey::InitProducerId) {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let Outcome::ProducerId(plan) = serve(
            &FakeNode::default(),
            ApiKey::InitProducerId,
            version,
            &request,
        ) else {
            panic!()
        };
        let answer = plan.respond(Ok(ProducerIdentity { id: 1000, epoch: 0 }));
        let response: InitProducerIdResponse = decode(ApiKey::InitProducerId, version, &answer);
        assert_eq!(
            (
                response.error_code,
                response.producer_id.0,
                response.producer_epoch
            ),
            (0, 1000, 0)
        );

        let request = request.with_transactional_id(Some(TransactionalId(text("tx"))));
        let reply = reply(serve(
            &FakeNode::default(),
            ApiKey::InitProducerId,
            version,
            &request,
        ));
        let response: InitProducerIdResponse = decode(ApiKey::InitProducerId, version, &reply);
        assert_eq!((response.error_code, response.producer_id.0), (53, -1));
    }
}
