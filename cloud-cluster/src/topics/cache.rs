//! Topics as the Kafka handlers want them, kept ready: clients ask for all of them again and again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, RwLock};

use headwater_batch::TopicName;
use headwater_kafka::{Partition, Topic};
use uuid::Uuid;

/// All topics, by name and by id.
#[derive(Debug)]
pub struct TopicCache {
    node_id: i32,
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The term of every shard on this node, which is the leader epoch of every partition.
    epoch: i32,
    by_name: BTreeMap<TopicName, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

impl TopicCache {
    pub fn new(node_id: i32) -> TopicCache {
        TopicCache {
            node_id,
            inner: RwLock::default(),
        }
    }

    /// A new term began: every partition's epoch moves.
    pub fn set_epoch<'a>(
        &self,
        epoch: i32,
        topics: impl Iterator<Item = (&'a TopicName, &'a headwater_shard::Topic)>,
    ) {
        self.inner.write().expect("no holder panics").epoch = epoch;
        for (name, topic) in topics {
            self.refresh(name, Some(topic));
        }
    }

    /// Takes all topics over, and forgets those that are not among them.
    pub fn replace<'a>(
        &self,
        topics: impl Iterator<Item = (&'a TopicName, &'a headwater_shard::Topic)>,
    ) {
        {
            let mut inner = self.inner.write().expect("no holder panics");
            inner.by_name.clear();
            inner.by_id.clear();
        }
        for (name, topic) in topics {
            self.refresh(name, Some(topic));
        }
    }

    /// Takes a topic over as it is now; `None`: it is gone.
    pub fn refresh(&self, name: &TopicName, topic: Option<&headwater_shard::Topic>) {
        let mut inner = self.inner.write().expect("no holder panics");
        if let Some(old) = inner.by_name.remove(name) {
            inner.by_id.remove(&old.id);
        }
        let Some(topic) = topic else { return };
        let partition = Partition {
            leader: Some(self.node_id),
            leader_epoch: inner.epoch,
            replicas: vec![self.node_id],
            isr: vec![self.node_id],
        };
        let topic = Arc::new(Topic {
            name: name.clone(),
            id: Uuid::from_u128(topic.id),
            partitions: vec![partition; topic.partitions as usize],
            configs: topic.config.clone(),
        });
        inner.by_id.insert(topic.id, topic.clone());
        inner.by_name.insert(name.clone(), topic);
    }

    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.inner
            .read()
            .expect("no holder panics")
            .by_name
            .values()
            .cloned()
            .collect()
    }

    pub fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        self.inner
            .read()
            .expect("no holder panics")
            .by_name
            .get(name)
            .cloned()
    }

    pub fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.inner
            .read()
            .expect("no holder panics")
            .by_id
            .get(&id)
            .cloned()
    }
}
