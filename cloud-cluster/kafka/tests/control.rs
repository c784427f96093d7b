//! ApiVersions, Metadata, the admin APIs and the group APIs' messages, by kafka-protocol's client
//! side at every served version.
#![allow(clippy::unwrap_used)] // A test may.

mod common;

use std::collections::BTreeMap;

use common::requests::samples;
use common::{FakeNode, READINGS_ID, decode, frame, reply, serve, versions};
use headwater_kafka::group::{
    CommittedOffset, FetchedOffsets, GroupDescription, GroupListing, GroupRequest, GroupResponse,
    Joined, MemberDescription, STATE_STABLE, Synced,
};
use headwater_kafka::{AdminDone, ErrorCode, Outcome, Peer, ProducerIdentity, Proposal, wire};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.into())
}

fn name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

fn raw(api: ApiKey, version: i16, body: &[u8]) -> Outcome {
    headwater_kafka::serve(
        &FakeNode::default(),
        &Peer::default(),
        frame(api, version, body),
    )
}

#[test]
fn api_versions() {
    for version in versions(ApiKey::ApiVersions) {
        let sample = samples(0)
            .into_iter()
            .find(|s| s.api == ApiKey::ApiVersions && s.version == version);
        let reply = reply(raw(ApiKey::ApiVersions, version, &sample.unwrap().body));
        let response: ApiVersionsResponse = decode(ApiKey::ApiVersions, version, &reply);
        assert_eq!(response.api_keys.len(), wire::SERVED.len());
        let produce = response.api_keys.iter().find(|k| k.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 11));
        assert!(response.finalized_features.is_empty());
    }
}

#[test]
fn a_future_api_versions_is_answered_in_version_0() {
    let reply = reply(raw(ApiKey::ApiVersions, 9, &[1, 2, 3]));
    let response: ApiVersionsResponse = decode(ApiKey::ApiVersions, 0, &reply);
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(response.api_keys[0].api_key, 18);
}

#[test]
fn what_is_not_served_closes() {
    for (key, version) in [
        (ApiKey::Metadata, 14),
        (ApiKey::Fetch, 3),
        (ApiKey::SaslHandshake, 0),
    ] {
        assert!(
            matches!(raw(key, version, &[]), Outcome::Close(_)),
            "{key:?}"
        );
    }
    for junk in [&[][..], &[0; 7], &[0, 3, 0, 1, 0, 0, 0, 0, 0x7f, 0xff]] {
        let outcome =
            headwater_kafka::serve(&FakeNode::default(), &Peer::default(), junk.to_vec().into());
        assert!(matches!(outcome, Outcome::Close(_)));
    }
    assert!(wire::frame_bytes([0x7f, 0, 0, 0], wire::REQUEST_BYTES_MAX).is_err());
    assert!(wire::frame_bytes([0xff, 0, 0, 0], wire::REQUEST_BYTES_MAX).is_err());
    assert_eq!(
        wire::frame_bytes([0, 0, 1, 0], wire::REQUEST_BYTES_MAX).unwrap(),
        256
    );
}

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

fn new_topic(topic: &str, partitions: i32, replication: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(replication)
}

fn config(key: &str, value: &str) -> CreatableTopicConfig {
    CreatableTopicConfig::default()
        .with_name(text(key))
        .with_value(Some(text(value)))
}

#[test]
fn create_topics_at_every_version() {
    for version in versions(ApiKey::CreateTopics) {
        let topics = vec![
            new_topic("fresh", -1, -1).with_configs(vec![config("cleanup.policy", "compact")]),
            new_topic("readings", 1, 1),
            new_topic("bad name", 1, 1),
            new_topic("zero", 0, 1),
            new_topic("many", 1, 3),
            new_topic("odd", 1, 1).with_configs(vec![config("no.such.config", "1")]),
            new_topic("wrong", 1, 1).with_configs(vec![config("retention.ms", "soon")]),
            new_topic("twice", 1, 1),
            new_topic("twice", 1, 1),
            new_topic("huge", 20_000, 1),
        ];
        let request = CreateTopicsRequest::default()
            .with_topics(topics)
            .with_timeout_ms(700);
        let Outcome::Admin(plan) = serve(
            &FakeNode::default(),
            ApiKey::CreateTopics,
            version,
            &request,
        ) else {
            panic!()
        };
        assert_eq!((plan.proposals.len(), plan.timeout_ms), (1, 700));
        assert!(
            matches!(&plan.proposals[0], Proposal::CreateTopic { partitions: 8, replication: 1, configs, .. }
            if configs["cleanup.policy"] == "compact")
        );
        let answer = plan.respond(vec![Ok(AdminDone::Created { id: READINGS_ID })]);
        let response: CreateTopicsResponse = decode(ApiKey::CreateTopics, version, &answer);
        let codes: Vec<_> = response.topics.iter().map(|t| t.error_code).collect();
        assert_eq!(codes, [0, 36, 17, 37, 38, 40, 40, 42, 42, 37]);
        if version >= 5 {
            assert_eq!(response.topics[0].num_partitions, 8);
            let configs = response.topics[0].configs.as_ref().unwrap();
            let policy = configs
                .iter()
                .find(|c| &*c.name == "cleanup.policy")
                .unwrap();
            assert_eq!(
                (policy.value.as_deref(), policy.config_source),
                (Some("compact"), 1)
            );
        }
        if version >= 7 {
            assert_eq!(response.topics[0].topic_id, READINGS_ID);
        }
        let dry = request.with_validate_only(true);
        let reply = reply(serve(
            &FakeNode::default(),
            ApiKey::CreateTopics,
            version,
            &dry,
        ));
        let response: CreateTopicsResponse = decode(ApiKey::CreateTopics, version, &reply);
        assert_eq!(response.topics[0].error_code, 0);
    }
}

#[test]
fn delete_topics_and_create_partitions_at_every_version() {
    for sample in samples(3) {
        let Outcome::Admin(plan) = raw(sample.api, sample.version, &sample.body) else {
            continue;
        };
        match sample.api {
            ApiKey::DeleteTopics => {
                // Two of the three samples name the same topic.
                assert_eq!(plan.proposals.len(), 2, "v{}", sample.version);
                let answer = plan.respond(vec![
                    Ok(AdminDone::Done),
                    Err(ErrorCode::NotController.into()),
                ]);
                let response: DeleteTopicsResponse = decode(sample.api, sample.version, &answer);
                let mut codes: Vec<_> = response.responses.iter().map(|t| t.error_code).collect();
                codes.sort_unstable();
                assert_eq!(codes, [0, 41, 42]);
            }
            ApiKey::CreatePartitions => {
                let answer = plan.respond(Vec::new());
                let response: CreatePartitionsResponse =
                    decode(sample.api, sample.version, &answer);
                let codes: Vec<_> = response.results.iter().map(|t| t.error_code).collect();
                // `readings` twice, `elsewhere` once and unanswered.
                assert_eq!(codes, [42, 7, 42]);
            }
            _ => {}
        }
    }
}

#[test]
fn configs_at_every_version() {
    for version in versions(ApiKey::DescribeConfigs) {
        let resource = |kind, name: &str| {
            DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configuration_keys(None)
        };
        let request = DescribeConfigsRequest::default().with_resources(vec![
            resource(2, "compacted"),
            resource(4, "1"),
            resource(2, "nowhere"),
            resource(4, "9"),
            resource(4, ""),
            resource(2, "readings").with_configuration_keys(Some(vec![text("retention.ms")])),
        ]);
        let reply = reply(serve(
            &FakeNode::default(),
            ApiKey::DescribeConfigs,
            version,
            &request,
        ));
        let response: DescribeConfigsResponse = decode(ApiKey::DescribeConfigs, version, &reply);
        let codes: Vec<_> = response.results.iter().map(|r| r.error_code).collect();
        assert_eq!(codes, [0, 0, 3, 42, 0, 0]);
        let find = |i: usize, key: &str| {
            let config = response.results[i]
                .configs
                .iter()
                .find(|c| &*c.name == key)
                .unwrap();
            assert!(config.synonyms.is_empty());
            (
                config.value.as_deref().unwrap().to_owned(),
                config.config_source,
            )
        };
        assert_eq!(find(0, "cleanup.policy"), ("compact,delete".into(), 1));
        assert_eq!(find(0, "retention.ms"), ("604800000".into(), 5));
        assert_eq!(find(1, "default.replication.factor"), ("1".into(), 5));
        assert_eq!(find(1, "log.dirs"), ("/data".into(), 4));
        assert_eq!(response.results[5].configs.len(), 1);
    }
}

#[test]
fn alter_configs_at_every_version() {
    for version in versions(ApiKey::IncrementalAlterConfigs) {
        let change = |op, key: &str, value: Option<&str>| {
            AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(op)
                .with_value(value.map(text))
        };
        let resource = |kind, name: &str, configs| {
            AlterConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configs(configs)
        };
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![
            resource(
                2,
                "compacted",
                vec![
                    change(0, "retention.ms", Some("1000")),
                    change(1, "segment.bytes", None),
                    change(3, "cleanup.policy", Some("delete")),
                ],
            ),
            resource(2, "readings", vec![change(2, "retention.ms", Some("1"))]),
            resource(2, "nowhere", vec![]),
            resource(4, "1", vec![change(0, "log.retention.ms", Some("1"))]),
            resource(2, "small", vec![change(0, "max.message.bytes", Some("-4"))]),
            resource(
                2,
                "stamped",
                vec![change(2, "cleanup.policy", Some("compact"))],
            ),
        ]);
        let Outcome::Admin(plan) = serve(
            &FakeNode::default(),
            ApiKey::IncrementalAlterConfigs,
            version,
            &request,
        ) else {
            panic!()
        };
        let changes: Vec<_> = plan
            .proposals
            .iter()
            .map(|p| match p {
                Proposal::AlterTopicConfigs { changes, .. } => changes.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(changes[0]["retention.ms"].as_deref(), Some("1000"));
        assert_eq!(changes[0]["segment.bytes"], None);
        assert_eq!(changes[0]["cleanup.policy"].as_deref(), Some("compact"));
        assert_eq!(
            changes[1]["cleanup.policy"].as_deref(),
            Some("delete,compact")
        );
        let answer = plan.respond(vec![Ok(AdminDone::Done), Ok(AdminDone::Done)]);
        let response: IncrementalAlterConfigsResponse =
            decode(ApiKey::IncrementalAlterConfigs, version, &answer);
        let codes: Vec<_> = response.responses.iter().map(|r| r.error_code).collect();
        assert_eq!(codes, [0, 40, 3, 42, 40, 0]);
    }
}

fn member() -> MemberDescription {
    MemberDescription {
        member_id: "m".into(),
        instance_id: Some("i".into()),
        client_id: "c".into(),
        client_host: "/1.2.3.4".into(),
        metadata: "meta".into(),
        assignment: "all".into(),
    }
}

/// A full response for each group request.
fn answer(request: &GroupRequest) -> GroupResponse {
    match request {
        GroupRequest::Join(_) => GroupResponse::Join(Joined {
            error: None,
            generation: 3,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            leader: "m".into(),
            skip_assignment: true,
            member_id: "m".into(),
            members: vec![("m".into(), Some("i".into()), "meta".into())],
        }),
        GroupRequest::Sync(_) => GroupResponse::Sync(Synced {
            error: None,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignment: "all".into(),
        }),
        GroupRequest::Heartbeat(_) => {
            GroupResponse::Heartbeat(Some(ErrorCode::RebalanceInProgress))
        }
        GroupRequest::Leave(leave) => GroupResponse::Leave {
            error: None,
            members: leave
                .members
                .iter()
                .map(|(id, i)| (id.clone(), i.clone(), None))
                .collect(),
        },
        GroupRequest::CommitOffsets(commit) => GroupResponse::CommitOffsets(
            commit
                .offsets
                .iter()
                .map(|(tp, _)| (tp.clone(), None))
                .collect(),
        ),
        GroupRequest::FetchOffsets(asks) => GroupResponse::FetchOffsets(
            asks.iter()
                .map(|ask| FetchedOffsets {
                    group: ask.group.clone(),
                    error: None,
                    offsets: ask
                        .partitions
                        .iter()
                        .flatten()
                        .map(|tp| {
                            let offset = CommittedOffset {
                                offset: 42,
                                leader_epoch: 7,
                                metadata: "m".into(),
                            };
                            (tp.clone(), (tp.partition != 1).then_some(offset))
                        })
                        .collect::<BTreeMap<_, _>>(),
                })
                .collect(),
        ),
        GroupRequest::Describe { groups } => GroupResponse::Describe(
            groups
                .iter()
                .map(|group| GroupDescription {
                    group: group.clone(),
                    error: None,
                    state: STATE_STABLE,
                    protocol_type: "consumer".into(),
                    protocol: "range".into(),
                    members: vec![member()],
                })
                .chain([GroupDescription::dead("gone")])
                .collect(),
        ),
        GroupRequest::List { .. } => GroupResponse::List(vec![GroupListing {
            group: "g".into(),
            protocol_type: "consumer".into(),
            state: STATE_STABLE,
        }]),
        GroupRequest::Delete { groups } => {
            GroupResponse::Delete(groups.iter().map(|g| (g.clone(), None)).collect())
        }
    }
}

#[test]
fn group_apis_at_every_version() {
    for sample in samples(2) {
        let (api, v) = (sample.api, sample.version);
        let Outcome::Group(plan) = raw(api, v, &sample.body) else {
            continue;
        };
        let reply = plan.pending.respond(answer(&plan.request));
        let at = format!("{api:?} v{v}");
        match api {
            ApiKey::JoinGroup => {
                let GroupRequest::Join(join) = &plan.request else {
                    panic!()
                };
                assert_eq!(
                    join.rebalance_timeout_ms,
                    if v == 0 { 10_000 } else { 30_000 }
                );
                assert_eq!(join.requires_known_member_id, v >= 4);
                let response: JoinGroupResponse = decode(api, v, &reply);
                assert_eq!(
                    (response.generation_id, response.members.len()),
                    (3, 1),
                    "{at}"
                );
                assert_eq!(response.protocol_name.as_deref(), Some("range"));
                assert_eq!(response.skip_assignment, v >= 9);
            }
            ApiKey::SyncGroup => {
                let response: SyncGroupResponse = decode(api, v, &reply);
                assert_eq!(&response.assignment[..], b"all");
            }
            ApiKey::Heartbeat => {
                let response: HeartbeatResponse = decode(api, v, &reply);
                assert_eq!(response.error_code, 27);
            }
            ApiKey::LeaveGroup => {
                let response: LeaveGroupResponse = decode(api, v, &reply);
                assert_eq!(response.members.len(), if v >= 3 { 2 } else { 0 }, "{at}");
            }
            ApiKey::OffsetCommit => {
                let response: OffsetCommitResponse = decode(api, v, &reply);
                let all: Vec<_> = response.topics.iter().flat_map(|t| &t.partitions).collect();
                assert_eq!(all.len(), 4, "{at}");
                assert!(all.iter().all(|p| p.error_code == 0));
            }
            ApiKey::OffsetFetch => {
                let response: OffsetFetchResponse = decode(api, v, &reply);
                let offsets: Vec<i64> = if v >= 8 {
                    response.groups[0].topics[0]
                        .partitions
                        .iter()
                        .map(|p| p.committed_offset)
                        .collect()
                } else {
                    response.topics[0]
                        .partitions
                        .iter()
                        .map(|p| p.committed_offset)
                        .collect()
                };
                assert_eq!(offsets, [42, -1], "{at}");
            }
            ApiKey::DescribeGroups => {
                let response: DescribeGroupsResponse = decode(api, v, &reply);
                assert_eq!(&*response.groups[0].members[0].client_host, "/1.2.3.4");
                let dead = response.groups.last().unwrap();
                assert_eq!(
                    (&*dead.group_state, dead.error_code),
                    ("Dead", if v >= 6 { 69 } else { 0 })
                );
            }
            ApiKey::ListGroups => {
                let response: ListGroupsResponse = decode(api, v, &reply);
                assert_eq!(&*response.groups[0].group_id.0, "g");
            }
            ApiKey::DeleteGroups => {
                let response: DeleteGroupsResponse = decode(api, v, &reply);
                assert_eq!(response.results.len(), 2);
            }
            other => panic!("{other:?} went to the coordinator"),
        }
    }
}

#[test]
fn groups_of_others_are_refused() {
    for (group, error) in [("theirs", 16), ("loading", 14)] {
        for version in versions(ApiKey::Heartbeat) {
            let request = HeartbeatRequest::default().with_group_id(GroupId(text(group)));
            let reply = reply(serve(
                &FakeNode::default(),
                ApiKey::Heartbeat,
                version,
                &request,
            ));
            let response: HeartbeatResponse = decode(ApiKey::Heartbeat, version, &reply);
            assert_eq!(response.error_code, error);
        }
        for version in versions(ApiKey::DescribeGroups) {
            let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
            let Outcome::Group(plan) = serve(
                &FakeNode::default(),
                ApiKey::DescribeGroups,
                version,
                &request,
            ) else {
                panic!()
            };
            assert_eq!(plan.request, GroupRequest::Describe { groups: Vec::new() });
            let reply = plan.pending.respond(GroupResponse::Describe(Vec::new()));
            let response: DescribeGroupsResponse = decode(ApiKey::DescribeGroups, version, &reply);
            assert_eq!(response.groups[0].error_code, error);
        }
    }
}
