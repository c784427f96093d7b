//! Topics: names, ids, partition counts and configuration. Lives in the metadata shard.

use std::collections::BTreeMap;

use headwater_batch::TopicName;
use serde::{Deserialize, Serialize};

use crate::bounds::{PARTITIONS_PER_TOPIC, TOPICS};
use crate::key::Key;
use crate::outcome::{Outcome, Refusal};
use crate::state::Shard;

/// One topic. A topic that is deleted and created again has another id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    pub id: u128,
    pub partitions: u32,
    pub config: BTreeMap<String, String>,
    pub created_ms: i64,
}

impl Shard {
    pub(crate) fn create_topic(&mut self, name: &TopicName, topic: Topic) -> Outcome {
        if self.topics.contains_key(name) {
            return Outcome::Refused(Refusal::TopicExists);
        }
        if topic.partitions == 0 || topic.partitions > PARTITIONS_PER_TOPIC {
            return Outcome::Refused(Refusal::InvalidPartitions(topic.partitions));
        }
        if self.topics.len() >= TOPICS {
            return Outcome::Refused(Refusal::TooManyTopics);
        }
        self.topics.insert(name.clone(), topic);
        self.touch(Key::Topic(name.clone()));
        Outcome::Done
    }

    pub(crate) fn delete_topic(&mut self, name: &TopicName) -> Outcome {
        if self.topics.remove(name).is_none() {
            return Outcome::Refused(Refusal::UnknownTopic);
        }
        self.touch(Key::Topic(name.clone()));
        Outcome::Done
    }

    pub(crate) fn create_partitions(&mut self, name: &TopicName, total: u32) -> Outcome {
        let Some(topic) = self.topics.get_mut(name) else {
            return Outcome::Refused(Refusal::UnknownTopic);
        };
        if total <= topic.partitions || total > PARTITIONS_PER_TOPIC {
            return Outcome::Refused(Refusal::InvalidPartitions(total));
        }
        topic.partitions = total;
        self.touch(Key::Topic(name.clone()));
        Outcome::Done
    }

    pub(crate) fn alter_config(
        &mut self,
        name: &TopicName,
        changes: &[(String, Option<String>)],
    ) -> Outcome {
        let Some(topic) = self.topics.get_mut(name) else {
            return Outcome::Refused(Refusal::UnknownTopic);
        };
        for (key, value) in changes {
            match value {
                Some(value) => topic.config.insert(key.clone(), value.clone()),
                None => topic.config.remove(key),
            };
        }
        self.touch(Key::Topic(name.clone()));
        Outcome::Done
    }
}
