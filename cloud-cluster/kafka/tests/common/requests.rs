//! Every served request at every served version, with `n` elements in each of its arrays.

use bytes::Bytes;
use headwater_kafka::wire::SERVED;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{
    FetchPartition, FetchTopic, ForgottenTopic, ReplicaState,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::{READINGS_ID, body};

/// One request of the table.
pub struct Sample {
    pub api: ApiKey,
    pub version: i16,
    pub body: Bytes,
}

pub fn text(s: &'static str) -> StrBytes {
    StrBytes::from_static_str(s)
}

fn times<T>(n: usize, make: impl Fn(i32) -> T) -> Vec<T> {
    (0..n as i32).map(make).collect()
}

/// All samples with `n` elements per array.
pub fn samples(n: usize) -> Vec<Sample> {
    let all = SERVED
        .iter()
        .flat_map(|row| (row.min..=row.max).map(|v| (row.api, v)));
    all.map(|(api, version)| Sample {
        api,
        version,
        body: sample(api, version, n),
    })
    .collect()
}

fn topics(n: usize) -> TopicName {
    TopicName(text(if n % 2 == 0 { "readings" } else { "elsewhere" }))
}

fn sample(api: ApiKey, v: i16, n: usize) -> Bytes {
    match api {
        ApiKey::Produce => body(&produce(n), v),
        ApiKey::Fetch => body(&fetch(v, n), v),
        ApiKey::ListOffsets => body(&list_offsets(v, n), v),
        ApiKey::Metadata => body(&metadata(v, n), v),
        ApiKey::OffsetCommit => body(&offset_commit(v, n), v),
        ApiKey::OffsetFetch => body(&offset_fetch(v, n), v),
        ApiKey::FindCoordinator => body(&find_coordinator(v, n), v),
        ApiKey::JoinGroup => body(&join_group(v, n), v),
        ApiKey::Heartbeat => body(&heartbeat(v), v),
        ApiKey::LeaveGroup => body(&leave_group(v, n), v),
        ApiKey::SyncGroup => body(&sync_group(v, n), v),
        ApiKey::DescribeGroups => {
            let groups = times(n, |_| GroupId(text("g")));
            body(&DescribeGroupsRequest::default().with_groups(groups), v)
        }
        ApiKey::ListGroups => body(&list_groups(v, n), v),
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest::default()
                .with_client_software_name(text(if v >= 3 { "rust" } else { "" }))
                .with_client_software_version(text(if v >= 3 { "1.0" } else { "" }));
            body(&request, v)
        }
        ApiKey::CreateTopics => body(&create_topics(n), v),
        ApiKey::DeleteTopics => body(&delete_topics(v, n), v),
        ApiKey::InitProducerId => body(
            &InitProducerIdRequest::default().with_transactional_id(None),
            v,
        ),
        ApiKey::OffsetForLeaderEpoch => body(&epochs(n), v),
        ApiKey::DescribeConfigs => body(&describe_configs(n), v),
        ApiKey::CreatePartitions => body(&create_partitions(n), v),
        ApiKey::DeleteGroups => {
            let groups = times(n, |_| GroupId(text("g")));
            body(&DeleteGroupsRequest::default().with_groups_names(groups), v)
        }
        ApiKey::IncrementalAlterConfigs => body(&alter_configs(n), v),
        ApiKey::DescribeCluster => body(&DescribeClusterRequest::default(), v),
        other => panic!("no sample for {other:?}"),
    }
}

fn produce(n: usize) -> ProduceRequest {
    let records = super::batch_of(2);
    let data = times(n, |t| {
        let partitions = times(n, |p| {
            PartitionProduceData::default()
                .with_index(p)
                .with_records(Some(records.clone()))
        });
        TopicProduceData::default()
            .with_name(topics(t as usize))
            .with_partition_data(partitions)
    });
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(1000)
        .with_topic_data(data)
}

fn fetch(v: i16, n: usize) -> FetchRequest {
    let partitions = |_| {
        times(n, |p| {
            let mut partition = FetchPartition::default()
                .with_partition(p)
                .with_fetch_offset(5)
                .with_partition_max_bytes(1000);
            if v >= 9 {
                partition.current_leader_epoch = 7;
            }
            if v >= 17 {
                partition.replica_directory_id = READINGS_ID;
            }
            partition
        })
    };
    let asked = times(n, |t| {
        let topic = FetchTopic::default().with_partitions(partitions(t));
        if v >= 13 {
            topic.with_topic_id(READINGS_ID)
        } else {
            topic.with_topic(topics(t as usize))
        }
    });
    let mut request = FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(asked);
    if v >= 7 {
        request.session_epoch = 0;
        request.forgotten_topics_data = times(n, |t| {
            let topic = ForgottenTopic::default().with_partitions(times(n, |p| p));
            if v >= 13 {
                topic.with_topic_id(READINGS_ID)
            } else {
                topic.with_topic(topics(t as usize))
            }
        });
    }
    if v >= 11 {
        request.rack_id = text("rack");
    }
    if v >= 12 {
        request.cluster_id = Some(text("headwater-test"));
    }
    if v >= 15 {
        request.replica_state = ReplicaState::default().with_replica_epoch(4);
    }
    request
}

fn list_offsets(v: i16, n: usize) -> ListOffsetsRequest {
    let asked = times(n, |t| {
        let partitions = times(n, |p| {
            let partition = ListOffsetsPartition::default()
                .with_partition_index(p)
                .with_timestamp(-1 - i64::from(p));
            if v >= 4 {
                partition.with_current_leader_epoch(7)
            } else {
                partition
            }
        });
        ListOffsetsTopic::default()
            .with_name(topics(t as usize))
            .with_partitions(partitions)
    });
    ListOffsetsRequest::default().with_topics(asked)
}

fn metadata(v: i16, n: usize) -> MetadataRequest {
    let asked = times(n, |t| {
        let topic = MetadataRequestTopic::default().with_name(Some(topics(t as usize)));
        if v >= 12 && t % 2 == 0 {
            topic.with_name(None).with_topic_id(READINGS_ID)
        } else {
            topic
        }
    });
    MetadataRequest::default()
        .with_topics(Some(asked))
        .with_allow_auto_topic_creation(true)
}

fn offset_commit(v: i16, n: usize) -> OffsetCommitRequest {
    let asked = times(n, |t| {
        let partitions = times(n, |p| {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(p)
                .with_committed_offset(9)
                .with_committed_metadata(Some(text("m")));
            if v >= 6 {
                partition.with_committed_leader_epoch(7)
            } else {
                partition
            }
        });
        OffsetCommitRequestTopic::default()
            .with_name(topics(t as usize))
            .with_partitions(partitions)
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(asked);
    if v >= 7 {
        request.with_group_instance_id(Some(text("i")))
    } else {
        request
    }
}

fn offset_fetch(v: i16, n: usize) -> OffsetFetchRequest {
    if v >= 8 {
        let groups = times(n, |_| {
            let topics = times(n, |t| {
                OffsetFetchRequestTopics::default()
                    .with_name(topics(t as usize))
                    .with_partition_indexes(times(n, |p| p))
            });
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(GroupId(text("g")))
                .with_topics(Some(topics));
            if v >= 9 {
                group.with_member_id(Some(text("m"))).with_member_epoch(3)
            } else {
                group
            }
        });
        return OffsetFetchRequest::default()
            .with_groups(groups)
            .with_require_stable(true);
    }
    let topics = times(n, |t| {
        OffsetFetchRequestTopic::default()
            .with_name(topics(t as usize))
            .with_partition_indexes(times(n, |p| p))
    });
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_topics(Some(topics));
    if v >= 7 {
        request.with_require_stable(true)
    } else {
        request
    }
}

fn find_coordinator(v: i16, n: usize) -> FindCoordinatorRequest {
    match v {
        4.. => FindCoordinatorRequest::default().with_coordinator_keys(times(n, |_| text("g"))),
        _ => FindCoordinatorRequest::default().with_key(text("g")),
    }
}

fn join_group(v: i16, n: usize) -> JoinGroupRequest {
    let protocols = times(n, |_| {
        JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(b"meta"))
    });
    let mut request = JoinGroupRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_session_timeout_ms(10_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols);
    if v >= 1 {
        request.rebalance_timeout_ms = 30_000;
    }
    if v >= 5 {
        request.group_instance_id = Some(text("i"));
    }
    if v >= 8 {
        request.reason = Some(text("because"));
    }
    request
}

fn heartbeat(v: i16) -> HeartbeatRequest {
    let request = HeartbeatRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_member_id(text("m"));
    if v >= 3 {
        request.with_group_instance_id(Some(text("i")))
    } else {
        request
    }
}

fn leave_group(v: i16, n: usize) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(GroupId(text("g")));
    if v < 3 {
        return request.with_member_id(text("m"));
    }
    request.with_members(times(n, |_| {
        let member = MemberIdentity::default()
            .with_member_id(text("m"))
            .with_group_instance_id(Some(text("i")));
        if v >= 5 {
            member.with_reason(Some(text("bye")))
        } else {
            member
        }
    }))
}

fn sync_group(v: i16, n: usize) -> SyncGroupRequest {
    let mut request = SyncGroupRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_member_id(text("m"))
        .with_assignments(times(n, |_| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text("m"))
                .with_assignment(Bytes::from_static(b"all"))
        }));
    if v >= 3 {
        request.group_instance_id = Some(text("i"));
    }
    if v >= 5 {
        request.protocol_type = Some(text("consumer"));
        request.protocol_name = Some(text("range"));
    }
    request
}

fn list_groups(v: i16, n: usize) -> ListGroupsRequest {
    let mut request = ListGroupsRequest::default();
    if v >= 4 {
        request.states_filter = times(n, |_| text("Stable"));
    }
    if v >= 5 {
        request.types_filter = times(n, |_| text("classic"));
    }
    request
}

fn create_topics(n: usize) -> CreateTopicsRequest {
    let topics = times(n, |t| {
        CreatableTopic::default()
            .with_name(TopicName(StrBytes::from_string(format!("new-{t}"))))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(times(n, |p| {
                CreatableReplicaAssignment::default()
                    .with_partition_index(p)
                    .with_broker_ids(times(n.min(2), |b| BrokerId(b + 1)))
            }))
            .with_configs(times(n.min(1), |_| {
                CreatableTopicConfig::default()
                    .with_name(text("retention.ms"))
                    .with_value(Some(text("60000")))
            }))
    });
    CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(1000)
}

fn delete_topics(v: i16, n: usize) -> DeleteTopicsRequest {
    let request = DeleteTopicsRequest::default().with_timeout_ms(1000);
    if v < 6 {
        return request.with_topic_names(times(n, |t| topics(t as usize)));
    }
    request.with_topics(times(n, |t| {
        let state = DeleteTopicState::default();
        match t % 2 {
            0 => state.with_name(None).with_topic_id(READINGS_ID),
            _ => state.with_name(Some(topics(1))),
        }
    }))
}

fn epochs(n: usize) -> OffsetForLeaderEpochRequest {
    OffsetForLeaderEpochRequest::default().with_topics(times(n, |t| {
        OffsetForLeaderTopic::default()
            .with_topic(topics(t as usize))
            .with_partitions(times(n, |p| {
                OffsetForLeaderPartition::default()
                    .with_partition(p)
                    .with_current_leader_epoch(7)
                    .with_leader_epoch(6)
            }))
    }))
}

fn describe_configs(n: usize) -> DescribeConfigsRequest {
    DescribeConfigsRequest::default().with_resources(times(n, |r| {
        DescribeConfigsResource::default()
            .with_resource_type(if r % 2 == 0 { 2 } else { 4 })
            .with_resource_name(text(if r % 2 == 0 { "readings" } else { "1" }))
            .with_configuration_keys((n > 1).then(|| times(n, |_| text("retention.ms"))))
    }))
}

fn create_partitions(n: usize) -> CreatePartitionsRequest {
    CreatePartitionsRequest::default()
        .with_timeout_ms(1000)
        .with_topics(times(n, |t| {
            CreatePartitionsTopic::default()
                .with_name(topics(t as usize))
                .with_count(3 + n as i32)
                .with_assignments(Some(times(n, |_| {
                    CreatePartitionsAssignment::default().with_broker_ids(times(n, |_| BrokerId(1)))
                })))
        }))
}

fn alter_configs(n: usize) -> IncrementalAlterConfigsRequest {
    IncrementalAlterConfigsRequest::default().with_resources(times(n, |_| {
        AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("readings"))
            .with_configs(times(n.min(1), |_| {
                AlterableConfig::default()
                    .with_name(text("retention.ms"))
                    .with_config_operation(0)
                    .with_value(Some(text("1000")))
            }))
    }))
}
