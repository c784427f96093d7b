//! The group coordinator's task: one owner of the machine, a handle for connections.
//!
//! Offsets and generations are committed through the shard log, each group in the shard that its
//! name hashes to, and are answered in the order they were proposed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_batch::{Offset, TopicName};
use headwater_kafka::ErrorCode;
use headwater_kafka::group::{
    CommitToken, CommittedOffset, Coordinator, GroupConfig, GroupEffect, GroupEntry, GroupEvent,
    GroupRequest, GroupResponse, RequestToken,
};
use headwater_shard::{Entry, GroupOffset, Outcome};
use tokio::sync::{mpsc, oneshot};

use super::errors;
use crate::clock::Clock;
use crate::shardlog::{Pending, ProposeError, ShardLog};
use crate::shards::Shards;
use crate::tasks::Tasks;

/// Requests that wait for the coordinator; a connection beyond it waits for its turn.
const QUEUE: usize = 1024;

/// A handle to the coordinator.
#[derive(Debug, Clone)]
pub struct Groups {
    requests: mpsc::Sender<Asked>,
}

#[derive(Debug)]
struct Asked {
    request: GroupRequest,
    answer: oneshot::Sender<GroupResponse>,
}

impl Groups {
    /// Starts the coordinator from the applied state.
    pub fn start(
        config: GroupConfig,
        clock: Clock,
        log: Arc<dyn ShardLog>,
        shards: Arc<Shards>,
        deleted: mpsc::UnboundedReceiver<TopicName>,
        tasks: &Tasks,
    ) -> Groups {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (proposed, pending) = mpsc::unbounded_channel();
        let (settled_in, settled) = mpsc::unbounded_channel();
        tasks.spawn(settle(pending, settled_in));
        let worker = Worker {
            machine: Coordinator::new(config, clock.random()),
            clock,
            log,
            shards,
            waiting: HashMap::new(),
            next_token: 0,
            proposed,
        };
        tasks.spawn(worker.run(queue, settled, deleted));
        Groups { requests }
    }

    /// Asks the coordinator. `None` when the node stops. The request takes its place before the
    /// returned future is first polled to completion of the send.
    pub async fn ask(&self, request: GroupRequest) -> Option<GroupResponse> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Asked { request, answer }).await.ok()?;
        answered.await.ok()
    }
}

type Proposed = (CommitToken, Result<Pending, ProposeError>);
type Settled = (CommitToken, Result<(), ErrorCode>);

/// Waits for the outcomes in the order of proposals.
async fn settle(
    mut pending: mpsc::UnboundedReceiver<Proposed>,
    settled: mpsc::UnboundedSender<Settled>,
) {
    while let Some((token, proposed)) = pending.recv().await {
        let outcome = match proposed {
            Ok(pending) => pending.outcome().await,
            Err(error) => Err(error),
        };
        let result = match outcome {
            Ok(Outcome::Refused(refusal)) => Err(errors::of_refusal(&refusal).code),
            Ok(_) => Ok(()),
            // The same again would be as large.
            Err(ProposeError::TooLarge { .. }) => Err(ErrorCode::InvalidCommitOffsetSize),
            Err(_) => Err(ErrorCode::CoordinatorNotAvailable),
        };
        if settled.send((token, result)).is_err() {
            return;
        }
    }
}

struct Worker {
    machine: Coordinator,
    clock: Clock,
    log: Arc<dyn ShardLog>,
    shards: Arc<Shards>,
    waiting: HashMap<RequestToken, oneshot::Sender<GroupResponse>>,
    next_token: RequestToken,
    proposed: mpsc::UnboundedSender<Proposed>,
}

impl Worker {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Asked>,
        mut settled: mpsc::UnboundedReceiver<Settled>,
        mut deleted: mpsc::UnboundedReceiver<TopicName>,
    ) {
        self.restore().await;
        loop {
            let now = self.clock.monotonic_ms();
            let due = self
                .machine
                .deadline()
                .map(|at| Duration::from_millis(at.saturating_sub(now)));
            let event = tokio::select! {
                biased;
                Some((token, result)) = settled.recv() => match result {
                    Ok(()) => GroupEvent::Committed { token },
                    Err(error) => GroupEvent::CommitFailed { token, error },
                },
                Some(topic) = deleted.recv() => GroupEvent::TopicDeleted(topic),
                asked = queue.recv() => {
                    let Some(Asked { request, answer }) = asked else { return };
                    let token = self.next_token;
                    self.next_token += 1;
                    self.waiting.insert(token, answer);
                    GroupEvent::Request { token, request }
                },
                () = sleep_or_never(due) => GroupEvent::Timer,
            };
            self.handle(event).await;
        }
    }

    async fn handle(&mut self, event: GroupEvent) {
        let mut effects = Vec::new();
        self.machine
            .handle(self.clock.monotonic_ms(), event, &mut effects);
        for effect in effects {
            match effect {
                GroupEffect::Reply { token, response } => {
                    if let Some(answer) = self.waiting.remove(&token) {
                        // The client may have hung up.
                        let _ = answer.send(response);
                    }
                }
                GroupEffect::Commit { token, entry } => {
                    let (group, entry) = shard_entry(entry, self.clock.wall_ms());
                    let shard = self.shards.of_group(&group);
                    let proposed = self.log.propose(shard, entry, Bytes::new()).await;
                    let _ = self.proposed.send((token, proposed));
                }
            }
        }
    }

    async fn restore(&mut self) {
        for shard in self.shards.data() {
            let entries = group_entries(&self.shards, shard);
            for entry in entries {
                self.handle(GroupEvent::Restore(entry)).await;
            }
        }
    }
}

async fn sleep_or_never(after: Option<Duration>) {
    match after {
        Some(after) => tokio::time::sleep(after).await,
        None => std::future::pending().await,
    }
}

/// The group an entry belongs to, and the entry for its shard.
fn shard_entry(entry: GroupEntry, at_ms: i64) -> (String, Entry) {
    match entry {
        GroupEntry::Offsets {
            group,
            generation,
            offsets,
        } => {
            let stored = |o: CommittedOffset| GroupOffset {
                offset: Offset(o.offset),
                leader_epoch: o.leader_epoch,
                metadata: o.metadata,
            };
            let offsets = offsets.into_iter().map(|(tp, o)| (tp, stored(o))).collect();
            (
                group.clone(),
                Entry::CommitOffsets {
                    group,
                    generation,
                    offsets,
                    at_ms,
                },
            )
        }
        GroupEntry::Generation {
            group,
            generation,
            protocol_type,
        } => (
            group.clone(),
            Entry::GroupGeneration {
                group,
                generation,
                protocol_type,
                at_ms,
            },
        ),
        GroupEntry::DeleteGroup { group } => (group.clone(), Entry::DeleteGroup { group }),
    }
}

/// What a shard holds of groups, as the machine takes it back.
fn group_entries(shards: &Shards, id: crate::shardlog::ShardId) -> Vec<GroupEntry> {
    let shard = shards.read(id);
    let mut entries = Vec::new();
    for (name, group) in shard.groups() {
        if group.generation >= 0 {
            entries.push(GroupEntry::Generation {
                group: name.clone(),
                generation: group.generation,
                protocol_type: group.protocol_type.clone(),
            });
        }
        let offset = |c: &headwater_shard::Committed| CommittedOffset {
            offset: c.offset.0,
            leader_epoch: c.leader_epoch,
            metadata: c.metadata.clone(),
        };
        let offsets: Vec<_> = shard
            .offsets_of_group(name)
            .map(|(tp, c)| (tp.clone(), offset(c)))
            .collect();
        if !offsets.is_empty() {
            entries.push(GroupEntry::Offsets {
                group: name.clone(),
                generation: -1,
                offsets,
            });
        }
    }
    entries
}
