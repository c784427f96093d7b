//! CreateTopics, DeleteTopics and CreatePartitions.

use headwater_kafka::{AdminDone, ErrorCode, Outcome, Proposal};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::*;

use crate::common::requests::samples;
use crate::common::{FakeNode, READINGS_ID, decode, reply, serve, versions};
use crate::{name, raw, text};

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
