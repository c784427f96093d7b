//! What the handlers may know about the node that they run on: a read-only view that the shell
//! implements over its own state.
//!
//! Nothing here is about records: offsets, watermarks and bytes come back with the results of a
//! plan, from whoever owns the partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use headwater_batch::TopicName;
use uuid::Uuid;

use crate::ErrorCode;

/// A node of the cluster, as clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    /// The address that clients are told, for the listener they came in by.
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

/// A topic as the metadata group knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: TopicName,
    /// Stable for the life of the topic; a topic that is created again has another.
    pub id: Uuid,
    /// Indexed by partition number; never empty.
    pub partitions: Vec<Partition>,
    /// Configs that were set on the topic; what is absent has its default.
    pub configs: BTreeMap<String, String>,
}

/// A partition as the metadata group knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// None while there is no leader: clients get LEADER_NOT_AVAILABLE and ask again.
    pub leader: Option<i32>,
    /// Invariant: never goes backwards for a topic id, or clients drop "older" metadata.
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
}

/// Settings of the node that the handlers apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Partitions of a topic that asks for the default (-1), or that is made by its first use.
    pub default_partitions: u32,
    /// Replicas of a topic that asks for the default (-1).
    pub default_replication: i16,
    pub auto_create_topics: bool,
    /// The most partitions one topic may have, and all topics of one request together.
    pub partitions_max: u32,
    /// The most bytes that one Fetch returns, whatever the client asks for.
    pub fetch_bytes_max: u32,
    /// The longest that a Fetch is parked, whatever the client asks for.
    pub fetch_wait_ms_max: u32,
    /// The largest batch that Produce takes from topics without `max.message.bytes`, in bytes.
    pub batch_bytes_max: u32,
    /// The most bytes that the records of one produced batch may take when decompressed.
    pub records_bytes_max: u32,
    /// Broker configs that DescribeConfigs adds to, or shows in place of, the built-in ones.
    pub broker_configs: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_partitions: 8,
            default_replication: 1,
            auto_create_topics: true,
            partitions_max: 10_000,
            fetch_bytes_max: 55 << 20,
            fetch_wait_ms_max: 60_000,
            batch_bytes_max: (1 << 20) + 12,
            records_bytes_max: 64 << 20,
            broker_configs: BTreeMap::new(),
        }
    }
}

/// The node as the handlers see it.
pub trait Node {
    /// Stable for the life of the cluster; at most 249 characters.
    fn cluster_id(&self) -> &str;
    /// This node's id.
    fn node_id(&self) -> i32;
    /// A live node: admin clients spin on NOT_CONTROLLER otherwise.
    fn controller_id(&self) -> i32;
    /// All live nodes by the addresses of `listener`, this one included. With an empty name any
    /// listener will do: only ids are wanted.
    fn brokers(&self, listener: &str) -> Vec<Broker>;
    /// Every topic, in the order of names.
    fn topics(&self) -> Vec<Arc<Topic>>;
    fn topic(&self, name: &str) -> Option<Arc<Topic>>;
    fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>>;
    /// The node that coordinates consumer group `group`, or the retriable error to give:
    /// COORDINATOR_LOAD_IN_PROGRESS or COORDINATOR_NOT_AVAILABLE.
    fn coordinator(&self, group: &str) -> Result<i32, ErrorCode>;
    fn settings(&self) -> &Settings;
}

/// Who sent the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peer {
    /// The client's address without the port, as DescribeGroups shows it.
    pub host: String,
    /// The name of the listener that the connection came in by.
    pub listener: String,
}
