//! Changing topics: one entry in the metadata shard, then one per partition in the data shards.
//!
//! One task does it, one change at a time, so that a topic that is deleted and made again never has
//! its partitions' entries out of order. A crash in between is repaired at the next start
//! ([`Topics::reconcile`]): the metadata shard says what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use headwater_batch::{TopicName, TopicPartition};
use headwater_shard::{Entry, Outcome, Refusal};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::clock::Clock;
use crate::shardlog::{ProposeError, ShardId, ShardLog, commit};
use crate::shards::Shards;
use crate::tasks::Tasks;

/// Changes that wait; a caller beyond it waits for its turn.
const QUEUE: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopicError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Log(#[from] ProposeError),
}

/// A handle to the task that changes topics.
#[derive(Debug, Clone)]
pub struct Topics {
    changes: mpsc::Sender<Change>,
}

#[derive(Debug)]
enum What {
    Create {
        name: TopicName,
        partitions: u32,
        configs: BTreeMap<String, String>,
    },
    Delete {
        name: TopicName,
        id: Option<Uuid>,
    },
    Grow {
        name: TopicName,
        total: u32,
    },
    Alter {
        name: TopicName,
        changes: BTreeMap<String, Option<String>>,
    },
    Reconcile,
}

#[derive(Debug)]
struct Change {
    what: What,
    answer: oneshot::Sender<Result<Uuid, TopicError>>,
}

impl Topics {
    /// Starts the task. `deleted` hears of every topic that went.
    pub fn start(
        log: Arc<dyn ShardLog>,
        shards: Arc<Shards>,
        deleted: mpsc::UnboundedSender<TopicName>,
        clock: Clock,
        tasks: &Tasks,
    ) -> Topics {
        let (changes, queue) = mpsc::channel(QUEUE);
        tasks.spawn(
            Worker {
                log,
                shards,
                deleted,
                clock,
            }
            .run(queue),
        );
        Topics { changes }
    }

    /// Makes a topic and gives its id.
    pub async fn create(
        &self,
        name: TopicName,
        partitions: u32,
        configs: BTreeMap<String, String>,
    ) -> Result<Uuid, TopicError> {
        self.ask(What::Create {
            name,
            partitions,
            configs,
        })
        .await
    }

    /// Makes a topic unless it is there.
    pub async fn ensure(&self, name: TopicName, partitions: u32) -> Result<(), TopicError> {
        match self.create(name, partitions, BTreeMap::new()).await {
            Ok(_) | Err(TopicError::Refused(Refusal::TopicExists)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes a topic; if `id` is given, only while it has that id.
    pub async fn delete(&self, name: TopicName, id: Option<Uuid>) -> Result<(), TopicError> {
        self.ask(What::Delete { name, id }).await.map(|_| ())
    }

    pub async fn grow(&self, name: TopicName, total: u32) -> Result<(), TopicError> {
        self.ask(What::Grow { name, total }).await.map(|_| ())
    }

    pub async fn alter(
        &self,
        name: TopicName,
        changes: BTreeMap<String, Option<String>>,
    ) -> Result<(), TopicError> {
        self.ask(What::Alter { name, changes }).await.map(|_| ())
    }

    /// Gives every partition of every topic its place, and takes it from those without a topic.
    pub async fn reconcile(&self) -> Result<(), TopicError> {
        self.ask(What::Reconcile).await.map(|_| ())
    }

    async fn ask(&self, what: What) -> Result<Uuid, TopicError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.changes.send(Change { what, answer }).await;
        sent.map_err(|_| ProposeError::Stopped)?;
        answered.await.map_err(|_| ProposeError::Stopped)?
    }
}

struct Worker {
    log: Arc<dyn ShardLog>,
    shards: Arc<Shards>,
    deleted: mpsc::UnboundedSender<TopicName>,
    clock: Clock,
}

impl Worker {
    async fn run(self, mut queue: mpsc::Receiver<Change>) {
        while let Some(Change { what, answer }) = queue.recv().await {
            let result = match what {
                What::Create {
                    name,
                    partitions,
                    configs,
                } => self.create(name, partitions, configs).await,
                What::Delete { name, id } => self.delete(name, id).await,
                What::Grow { name, total } => self.grow(name, total).await,
                What::Alter { name, changes } => {
                    let changes = changes.into_iter().collect();
                    self.meta(Entry::AlterConfig { name, changes })
                        .await
                        .map(|()| Uuid::nil())
                }
                What::Reconcile => self.reconcile().await,
            };
            // Who asked may have hung up.
            let _ = answer.send(result);
        }
    }

    async fn create(
        &self,
        name: TopicName,
        partitions: u32,
        configs: BTreeMap<String, String>,
    ) -> Result<Uuid, TopicError> {
        let (id, config) = (self.clock.uuid(), configs.into_iter().collect());
        let entry = Entry::CreateTopic {
            name: name.clone(),
            id: id.as_u128(),
            partitions,
            config,
            at_ms: self.clock.wall_ms(),
        };
        self.meta(entry).await?;
        self.open(&name, id.as_u128(), 0..partitions).await?;
        tracing::info!(topic = %name, %id, partitions, "topic created");
        Ok(id)
    }

    async fn delete(&self, name: TopicName, wanted: Option<Uuid>) -> Result<Uuid, TopicError> {
        let (id, partitions) = self.find(&name)?;
        if wanted.is_some_and(|wanted| wanted != id) {
            return Err(Refusal::UnknownTopic.into());
        }
        self.meta(Entry::DeleteTopic { name: name.clone() }).await?;
        for partition in 0..partitions {
            let tp = TopicPartition::new(name.clone(), partition);
            self.close(tp, id.as_u128()).await?;
        }
        for shard in self.shards.data() {
            let entry = Entry::ForgetTopicOffsets {
                topic: name.clone(),
            };
            commit(&*self.log, shard, entry, Bytes::new()).await?;
        }
        // Nobody listens on a node that stops.
        let _ = self.deleted.send(name.clone());
        tracing::info!(topic = %name, %id, "topic deleted");
        Ok(id)
    }

    async fn grow(&self, name: TopicName, total: u32) -> Result<Uuid, TopicError> {
        let (id, before) = self.find(&name)?;
        self.meta(Entry::CreatePartitions {
            name: name.clone(),
            total,
        })
        .await?;
        self.open(&name, id.as_u128(), before..total).await?;
        Ok(id)
    }

    async fn reconcile(&self) -> Result<Uuid, TopicError> {
        let topics: BTreeMap<TopicName, (u128, u32)> = {
            let meta = self.shards.read(self.shards.meta());
            meta.topics()
                .map(|(name, t)| (name.clone(), (t.id, t.partitions)))
                .collect()
        };
        for (name, (id, partitions)) in &topics {
            self.open(name, *id, 0..*partitions).await?;
        }
        for shard in self.shards.data() {
            let orphans: Vec<(TopicPartition, u128)> = {
                let shard = self.shards.read(shard);
                let has_topic = |tp: &TopicPartition, id: u128| {
                    topics
                        .get(&tp.topic)
                        .is_some_and(|t| t.0 == id && tp.partition < t.1)
                };
                let of = shard
                    .partitions()
                    .filter(|(tp, p)| !has_topic(tp, p.topic_id));
                of.map(|(tp, p)| (tp.clone(), p.topic_id)).collect()
            };
            for (tp, id) in orphans {
                self.close(tp, id).await?;
            }
            self.forget_offsets_without_topic(shard, &topics).await?;
        }
        Ok(Uuid::nil())
    }

    /// A deletion that was cut short left them; in a topic of that name that comes later they would
    /// have consumers begin in the middle, or behind its end.
    async fn forget_offsets_without_topic(
        &self,
        id: ShardId,
        topics: &BTreeMap<TopicName, (u128, u32)>,
    ) -> Result<(), TopicError> {
        let gone: BTreeSet<TopicName> = {
            let shard = self.shards.read(id);
            let groups = shard.groups().map(|(name, _)| name);
            let held = groups.flat_map(|name| shard.offsets_of_group(name));
            held.map(|(tp, _)| &tp.topic)
                .filter(|topic| !topics.contains_key(*topic))
                .cloned()
                .collect()
        };
        for topic in gone {
            let entry = Entry::ForgetTopicOffsets { topic };
            commit(&*self.log, id, entry, Bytes::new()).await?;
        }
        Ok(())
    }

    fn find(&self, name: &TopicName) -> Result<(Uuid, u32), Refusal> {
        let meta = self.shards.read(self.shards.meta());
        let topic = meta.topic(name).ok_or(Refusal::UnknownTopic)?;
        Ok((Uuid::from_u128(topic.id), topic.partitions))
    }

    async fn meta(&self, entry: Entry) -> Result<(), TopicError> {
        done(commit(&*self.log, self.shards.meta(), entry, Bytes::new()).await?)
    }

    /// Opens those that are not open yet, all in one go: they share a sync.
    async fn open(
        &self,
        name: &TopicName,
        topic_id: u128,
        partitions: std::ops::Range<u32>,
    ) -> Result<(), TopicError> {
        let mut waiting = Vec::new();
        for partition in partitions {
            let tp = TopicPartition::new(name.clone(), partition);
            let shard = self.shards.of(&tp);
            let known = self.shards.read(shard).partition(&tp).map(|p| p.topic_id);
            if known == Some(topic_id) {
                continue;
            }
            let entry = Entry::OpenPartition {
                tp,
                topic_id,
                epoch_base: 0,
            };
            waiting.push(self.log.propose(shard, entry, Bytes::new()).await?);
        }
        for pending in waiting {
            done(pending.outcome().await?)?;
        }
        Ok(())
    }

    async fn close(&self, tp: TopicPartition, topic_id: u128) -> Result<(), TopicError> {
        let shard = self.shards.of(&tp);
        let entry = Entry::ClosePartition { tp, topic_id };
        match done(commit(&*self.log, shard, entry, Bytes::new()).await?) {
            // It was never opened, or is gone: a repair of a repair.
            Err(TopicError::Refused(Refusal::UnknownPartition)) => Ok(()),
            other => other,
        }
    }
}

fn done(outcome: Outcome) -> Result<(), TopicError> {
    match outcome {
        Outcome::Refused(refusal) => Err(refusal.into()),
        _ => Ok(()),
    }
}
