//! This node as the Kafka handlers see it.

use std::sync::Arc;

use headwater_kafka::{Broker, ErrorCode, Node, Settings, Topic};
use uuid::Uuid;

use crate::topics::TopicCache;

/// A cluster of one.
#[derive(Debug)]
pub struct View {
    pub cluster_id: String,
    pub node_id: i32,
    /// What clients are told to connect to.
    pub host: String,
    pub port: u16,
    pub topics: Arc<TopicCache>,
    pub settings: Settings,
}

impl Node for View {
    fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    fn node_id(&self) -> i32 {
        self.node_id
    }

    fn controller_id(&self) -> i32 {
        self.node_id
    }

    fn brokers(&self, _listener: &str) -> Vec<Broker> {
        vec![Broker {
            id: self.node_id,
            host: self.host.clone(),
            port: self.port,
            rack: None,
        }]
    }

    fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.all()
    }

    fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.by_name(name)
    }

    fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.topics.by_id(id)
    }

    fn coordinator(&self, _group: &str) -> Result<i32, ErrorCode> {
        Ok(self.node_id)
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }
}
