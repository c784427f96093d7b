//! DescribeConfigs (32) and IncrementalAlterConfigs (44).

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
};

use super::admin::{AdminPlan, Items, Planned, Proposal};
use super::config::{self, Row, SOURCE_DEFAULT, SOURCE_STATIC_BROKER};
use super::topics::{invalid, propose};
use super::{message, text};
use crate::node::{Node, Settings};
use crate::wire::{Call, Reply};
use crate::{ErrorCode, KafkaError};

const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;
/// The first version that tells types.
const TYPES_FROM: i16 = 3;
/// How long a config change may take; the request has no timeout of its own.
const ALTER_TIMEOUT_MS: u32 = 30_000;

const OP_SET: i8 = 0;
const OP_DELETE: i8 = 1;
const OP_APPEND: i8 = 2;
const OP_SUBTRACT: i8 = 3;

pub(crate) fn describe_configs(
    node: &dyn Node,
    call: &Call,
    request: DescribeConfigsRequest,
) -> Reply {
    let results = request.resources.into_iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe(node, call.version, &resource) {
            Ok(configs) => result.with_configs(configs),
            Err(error) => result
                .with_error_code(error.code.code())
                .with_error_message(message(&error)),
        }
    });
    call.reply(&DescribeConfigsResponse::default().with_results(results.collect()))
}

fn describe(
    node: &dyn Node,
    version: i16,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, KafkaError> {
    let keys = resource.configuration_keys.as_ref();
    let keys: Option<BTreeSet<&str>> = keys.map(|keys| keys.iter().map(|k| &**k).collect());
    let wanted = |name: &str| keys.as_ref().is_none_or(|keys| keys.contains(name));
    match resource.resource_type {
        RESOURCE_TOPIC => {
            let topic = node
                .topic(&resource.resource_name)
                .ok_or(ErrorCode::UnknownTopicOrPartition)?;
            let rows = config::TOPIC.iter().filter(|row| wanted(row.name));
            let shown = rows.map(|row| {
                let (value, source) = row.effective(&topic.configs);
                shown(version, row.name, value, source, row.rule.code(), false)
            });
            Ok(shown.collect())
        }
        // The empty name stands for what is set for all brokers at run time: nothing.
        RESOURCE_BROKER if resource.resource_name.is_empty() => Ok(Vec::new()),
        RESOURCE_BROKER => {
            let id = resource.resource_name.parse::<i32>().ok();
            if !node.brokers("").iter().any(|b| Some(b.id) == id) {
                return Err(invalid("no broker has this id"));
            }
            let all = broker_configs(node.settings(), id.unwrap_or_default());
            let rows = all.into_iter().filter(|(name, ..)| wanted(name));
            Ok(rows
                .map(|(name, value, source, kind)| {
                    shown(version, &name, &value, source, kind, true)
                })
                .collect())
        }
        _ => Err(invalid("this type of resource has no configs here")),
    }
}

fn shown(
    version: i16,
    name: &str,
    value: &str,
    source: i8,
    kind: i8,
    read_only: bool,
) -> DescribeConfigsResourceResult {
    let result = DescribeConfigsResourceResult::default()
        .with_name(text(name))
        .with_value(Some(text(value)))
        .with_config_source(source)
        .with_read_only(read_only);
    if version >= TYPES_FROM {
        result.with_config_type(kind)
    } else {
        result
    }
}

/// What tools read from brokers: ksqlDB delete.topic.enable, Debezium default.replication.factor.
fn broker_configs(settings: &Settings, id: i32) -> Vec<(String, String, i8, i8)> {
    const BOOL: i8 = 1;
    const TEXT: i8 = 2;
    const INT: i8 = 3;
    const LONG: i8 = 5;
    let id = id.to_string();
    let partitions = settings.default_partitions.to_string();
    let replication = settings.default_replication.to_string();
    let batch = settings.batch_bytes_max.to_string();
    let auto = settings.auto_create_topics.to_string();
    let built_in: &[(&str, &str, i8)] = &[
        ("auto.create.topics.enable", &auto, BOOL),
        ("broker.id", &id, INT),
        ("compression.type", "producer", TEXT),
        ("default.replication.factor", &replication, INT),
        ("delete.topic.enable", "true", BOOL),
        ("log.cleanup.policy", "delete", TEXT),
        ("log.message.timestamp.type", "CreateTime", TEXT),
        ("log.retention.bytes", "-1", LONG),
        ("log.retention.ms", "604800000", LONG),
        ("log.segment.bytes", "1073741824", INT),
        ("message.max.bytes", &batch, INT),
        ("min.insync.replicas", "1", INT),
        ("node.id", &id, INT),
        ("num.partitions", &partitions, INT),
        ("offsets.retention.minutes", "10080", INT),
    ];
    let mut rows: BTreeMap<String, (String, i8, i8)> = built_in
        .iter()
        .map(|(name, value, kind)| (name.to_string(), (value.to_string(), SOURCE_DEFAULT, *kind)))
        .collect();
    for (name, value) in &settings.broker_configs {
        let kind = rows.get(name).map_or(TEXT, |row| row.2);
        rows.insert(name.clone(), (value.clone(), SOURCE_STATIC_BROKER, kind));
    }
    rows.into_iter()
        .map(|(name, (value, source, kind))| (name, value, source, kind))
        .collect()
}

pub(crate) fn incremental_alter_configs(
    node: &dyn Node,
    call: Call,
    request: IncrementalAlterConfigsRequest,
) -> AdminPlan {
    let mut proposals = Vec::new();
    let mut seen = BTreeSet::new();
    let mut items = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let first = seen.insert((resource.resource_type, resource.resource_name.clone()));
        let checked = if first {
            alter(node, &resource)
        } else {
            Err(invalid("a resource may appear once in a request"))
        };
        let planned = match checked {
            Err(error) => Planned::Refused(error),
            Ok(proposal) => propose(&mut proposals, proposal, request.validate_only),
        };
        items.push((resource.resource_type, resource.resource_name, planned));
    }
    AdminPlan {
        proposals,
        timeout_ms: ALTER_TIMEOUT_MS,
        call,
        items: Items::Configs(items),
    }
}

fn alter(node: &dyn Node, resource: &AlterConfigsResource) -> Result<Proposal, KafkaError> {
    if resource.resource_type != RESOURCE_TOPIC {
        return Err(invalid(
            "only topics have configs that can be altered; brokers have a file",
        ));
    }
    let topic = node
        .topic(&resource.resource_name)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let mut changes = BTreeMap::new();
    for change in &resource.configs {
        let row = config::known(&change.name)?;
        let value = altered(row, change, &topic.configs)?;
        if changes.insert(row.name.to_owned(), value).is_some() {
            return Err(invalid("a config may appear once in a resource"));
        }
    }
    Ok(Proposal::AlterTopicConfigs {
        name: topic.name.clone(),
        changes,
    })
}

/// The new value; None for the default.
fn altered(
    row: &Row,
    change: &AlterableConfig,
    set: &BTreeMap<String, String>,
) -> Result<Option<String>, KafkaError> {
    if change.config_operation == OP_DELETE {
        return Ok(None);
    }
    let Some(given) = change.value.as_deref() else {
        return Err(KafkaError::new(
            ErrorCode::InvalidConfig,
            "a null value cannot be set",
        ));
    };
    let value = match change.config_operation {
        OP_SET => given.to_owned(),
        OP_APPEND | OP_SUBTRACT if !row.rule.is_list() => {
            let words = format!("{} is not a list", row.name);
            return Err(KafkaError::new(ErrorCode::InvalidConfig, words));
        }
        OP_APPEND => {
            let mut list: Vec<&str> = config::items(row.effective(set).0).collect();
            for item in config::items(given) {
                if !list.contains(&item) {
                    list.push(item);
                }
            }
            list.join(",")
        }
        OP_SUBTRACT => {
            let gone: Vec<&str> = config::items(given).collect();
            let list = config::items(row.effective(set).0).filter(|item| !gone.contains(item));
            list.collect::<Vec<_>>().join(",")
        }
        _ => return Err(invalid("unknown config operation")),
    };
    config::check(row.name, &value)?;
    Ok(Some(value))
}
