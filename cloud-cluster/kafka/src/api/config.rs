//! Topic configs: every one that Kafka 4.1 knows is accepted and stored, whether or not it has an
//! effect here, so that tools that set them work.

use std::collections::BTreeMap;

use crate::{ErrorCode, KafkaError};

/// Where a shown value comes from (ConfigSource).
pub const SOURCE_TOPIC: i8 = 1;
pub const SOURCE_STATIC_BROKER: i8 = 4;
pub const SOURCE_DEFAULT: i8 = 5;

/// The longest value that is stored: what fits a string in every version.
pub const VALUE_BYTES_MAX: usize = 32_000;

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    Bool,
    Int(i32, i32),
    Long(i64, i64),
    Ratio,
    OneOf(&'static [&'static str]),
    /// A list of these, separated by commas.
    ListOf(&'static [&'static str]),
    Text,
    List,
}

/// A config, its default and its rule.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub name: &'static str,
    pub default: &'static str,
    pub rule: Rule,
}

const fn row(name: &'static str, default: &'static str, rule: Rule) -> Row {
    Row {
        name,
        default,
        rule,
    }
}

const FOREVER: &str = "9223372036854775807";
const ANY: Rule = Rule::Long(0, i64::MAX);
const UNLIMITED: Rule = Rule::Long(-1, i64::MAX);
const AS_REMOTE: Rule = Rule::Long(-2, i64::MAX);
const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
const POLICIES: &[&str] = &["compact", "delete"];

/// All topic configs, by name (TopicConfig of Kafka 4.1, and two that 4.0 took away but that
/// older tools still send).
pub const TOPIC: &[Row] = &[
    row("cleanup.policy", "delete", Rule::ListOf(POLICIES)),
    row("compression.gzip.level", "-1", Rule::Int(-1, 9)),
    row("compression.lz4.level", "9", Rule::Int(1, 17)),
    row("compression.type", "producer", Rule::OneOf(CODECS)),
    row("compression.zstd.level", "3", Rule::Int(-131_072, 22)),
    row("delete.retention.ms", "86400000", ANY),
    row("file.delete.delay.ms", "60000", ANY),
    row("flush.messages", FOREVER, Rule::Long(1, i64::MAX)),
    row("flush.ms", FOREVER, ANY),
    row("follower.replication.throttled.replicas", "", Rule::List),
    row("index.interval.bytes", "4096", Rule::Int(0, i32::MAX)),
    row("leader.replication.throttled.replicas", "", Rule::List),
    row("local.retention.bytes", "-2", AS_REMOTE),
    row("local.retention.ms", "-2", AS_REMOTE),
    row("max.compaction.lag.ms", FOREVER, Rule::Long(1, i64::MAX)),
    row("max.message.bytes", "1048588", Rule::Int(0, i32::MAX)),
    row("message.downconversion.enable", "true", Rule::Bool),
    row("message.format.version", "3.0-IV1", Rule::Text),
    row("message.timestamp.after.max.ms", "3600000", ANY),
    row("message.timestamp.before.max.ms", FOREVER, ANY),
    row(
        "message.timestamp.type",
        "CreateTime",
        Rule::OneOf(&["CreateTime", "LogAppendTime"]),
    ),
    row("min.cleanable.dirty.ratio", "0.5", Rule::Ratio),
    row("min.compaction.lag.ms", "0", ANY),
    row("min.insync.replicas", "1", Rule::Int(1, i32::MAX)),
    row("preallocate", "false", Rule::Bool),
    row("remote.log.copy.disable", "false", Rule::Bool),
    row("remote.log.delete.on.disable", "false", Rule::Bool),
    row("remote.storage.enable", "false", Rule::Bool),
    row("retention.bytes", "-1", UNLIMITED),
    row("retention.ms", "604800000", UNLIMITED),
    row(
        "segment.bytes",
        "1073741824",
        Rule::Int(1_048_576, i32::MAX),
    ),
    row("segment.index.bytes", "10485760", Rule::Int(4, i32::MAX)),
    row("segment.jitter.ms", "0", ANY),
    row("segment.ms", "604800000", Rule::Long(1, i64::MAX)),
    row("unclean.leader.election.enable", "false", Rule::Bool),
];

/// The row of `name`, or INVALID_CONFIG.
pub fn known(name: &str) -> Result<&'static Row, KafkaError> {
    let found = TOPIC.iter().find(|row| row.name == name);
    found.ok_or_else(|| refused(format!("unknown topic config {name}")))
}

/// Whether `value` may stand in config `name`; INVALID_CONFIG says what would be valid.
pub fn check(name: &str, value: &str) -> Result<(), KafkaError> {
    let row = known(name)?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(refused(format!(
            "{name} is longer than {VALUE_BYTES_MAX} bytes"
        )));
    }
    let valid = match row.rule {
        Rule::Bool => matches!(value, "true" | "false"),
        Rule::Int(min, max) => value.parse().is_ok_and(|n: i32| (min..=max).contains(&n)),
        Rule::Long(min, max) => value.parse().is_ok_and(|n: i64| (min..=max).contains(&n)),
        Rule::Ratio => value.parse().is_ok_and(|n: f64| (0.0..=1.0).contains(&n)),
        Rule::OneOf(values) => values.contains(&value),
        Rule::ListOf(values) => items(value).all(|item| values.contains(&item)),
        Rule::Text | Rule::List => true,
    };
    if valid {
        return Ok(());
    }
    Err(refused(format!(
        "{name} cannot be {value:?}: {}",
        row.rule.words()
    )))
}

fn refused(words: String) -> KafkaError {
    KafkaError::new(ErrorCode::InvalidConfig, words)
}

/// The items of a list value, without spaces and empty ones.
pub fn items(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

impl Rule {
    fn words(&self) -> String {
        match self {
            Rule::Bool => "true or false".into(),
            Rule::Int(min, max) => format!("a whole number from {min} to {max}"),
            Rule::Long(min, max) => format!("a whole number from {min} to {max}"),
            Rule::Ratio => "a number from 0 to 1".into(),
            Rule::OneOf(values) => format!("one of {}", values.join(", ")),
            Rule::ListOf(values) => format!("a list of {}", values.join(", ")),
            Rule::Text | Rule::List => "any text".into(),
        }
    }

    pub fn is_list(&self) -> bool {
        matches!(self, Rule::List | Rule::ListOf(_))
    }

    /// ConfigType of DescribeConfigs v3.
    pub fn code(&self) -> i8 {
        match self {
            Rule::Bool => 1,
            Rule::Text | Rule::OneOf(_) => 2,
            Rule::Int(..) => 3,
            Rule::Long(..) => 5,
            Rule::Ratio => 6,
            Rule::List | Rule::ListOf(_) => 7,
        }
    }
}

impl Row {
    /// The value in force for a topic, and where it comes from.
    pub fn effective<'a>(&self, set: &'a BTreeMap<String, String>) -> (&'a str, i8)
    where
        'static: 'a,
    {
        match set.get(self.name) {
            Some(value) => (value, SOURCE_TOPIC),
            None => (self.default, SOURCE_DEFAULT),
        }
    }
}

/// `message.timestamp.type=LogAppendTime`.
pub fn log_append_time(set: &BTreeMap<String, String>) -> bool {
    set.get("message.timestamp.type")
        .is_some_and(|value| value == "LogAppendTime")
}

/// `cleanup.policy` names compact.
pub fn is_compacted(set: &BTreeMap<String, String>) -> bool {
    set.get("cleanup.policy")
        .is_some_and(|value| items(value).any(|item| item == "compact"))
}

/// `max.message.bytes`, or the node's bound.
pub fn batch_bytes_max(set: &BTreeMap<String, String>, default: u32) -> usize {
    let own = set
        .get("max.message.bytes")
        .and_then(|value| value.parse::<u32>().ok());
    own.unwrap_or(default) as usize
}
