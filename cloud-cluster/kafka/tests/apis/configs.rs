//! DescribeConfigs and IncrementalAlterConfigs.

use headwater_kafka::{AdminDone, Outcome, Proposal};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::*;

use crate::common::{FakeNode, decode, reply, serve, versions};
use crate::text;

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
