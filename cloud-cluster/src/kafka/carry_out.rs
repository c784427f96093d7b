//! What a request asks for, carried out.
//!
//! [`Service::begin`] does at once what depends on the order of requests: an append takes its place
//! in the log. What it returns waits for results and makes the reply.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use headwater_batch::set_log_append_time;
use headwater_kafka::{
    Acks, AdminDone, AdminPlan, Append, Appended, CloseReason, ErrorCode, KafkaError, Node,
    Outcome, Peer, ProducePlan, ProducerIdentity, Proposal, Reply, serve,
};
use headwater_shard::{Entry, Outcome as Applied};
use tokio::sync::oneshot;

use super::{Service, errors};
use crate::shardlog::{Pending, commit};

/// Makes a reply; `None`: the request has none.
pub type Answer = Pin<Box<dyn Future<Output = Result<Option<Reply>, CloseReason>> + Send>>;

/// The longest that a client's own timeout makes us wait.
const WAIT_MAX: Duration = Duration::from_secs(120);

impl Service {
    /// Serves one request from its bytes behind the length to its reply, without a connection. Of
    /// several at a time each has its place once this was polled as far as it goes.
    pub async fn request(&self, peer: &Peer, frame: Bytes) -> Result<Option<Reply>, CloseReason> {
        let outcome = serve(&*self.view, peer, frame);
        self.begin(peer, outcome).await.await
    }

    /// Starts what the request asks for and returns the rest of the way to its reply.
    pub async fn begin(&self, peer: &Peer, outcome: Outcome) -> Answer {
        let service = self.clone();
        match outcome {
            Outcome::Reply(reply) => Box::pin(async { Ok(Some(reply)) }),
            Outcome::Close(reason) => Box::pin(async { Err(reason) }),
            Outcome::Produce(plan) => self.begin_produce(plan).await,
            Outcome::Fetch(plan) => Box::pin(async move {
                let fetched = service.reader.fetch(&plan).await;
                Ok(Some(plan.respond(fetched)))
            }),
            Outcome::ListOffsets(plan) => Box::pin(async move {
                let mut found = Vec::with_capacity(plan.asks.len());
                for ask in &plan.asks {
                    found.push(service.reader.list_offset(ask).await);
                }
                Ok(Some(plan.respond(found)))
            }),
            Outcome::Epochs(plan) => Box::pin(async move {
                let ends = plan
                    .asks
                    .iter()
                    .map(|ask| service.reader.epoch_end(ask))
                    .collect();
                Ok(Some(plan.respond(ends)))
            }),
            Outcome::ProducerId(plan) => Box::pin(async move {
                let id = service.producer_id().await;
                Ok(Some(plan.respond(id)))
            }),
            Outcome::Admin(plan) => Box::pin(async move { Ok(Some(service.admin(plan).await)) }),
            Outcome::AutoCreate(plan) => {
                let peer = peer.clone();
                Box::pin(async move {
                    for proposal in plan.proposals.clone() {
                        if let Err(error) = service.change(proposal).await {
                            tracing::debug!(%error, "a topic was not made by its first use");
                        }
                    }
                    Ok(Some(plan.respond(&*service.view, &peer)))
                })
            }
            Outcome::Group(plan) => Box::pin(async move {
                match service.groups.ask(plan.request).await {
                    Some(response) => Ok(Some(plan.pending.respond(response))),
                    None => Err(CloseReason::SilentProduce(
                        ErrorCode::CoordinatorNotAvailable,
                    )),
                }
            }),
        }
    }

    /// Every append of the plan has its place when this returns.
    async fn begin_produce(&self, plan: ProducePlan) -> Answer {
        let mut waiting = Vec::with_capacity(plan.appends.len());
        for append in &plan.appends {
            waiting.push(self.propose_append(append).await);
        }
        // As in Kafka the client's time is for acks=all: some send 0 with the others.
        let wait = match plan.acks {
            Acks::All => Duration::from_millis(plan.timeout_ms.into()).min(WAIT_MAX),
            Acks::None | Acks::Leader => WAIT_MAX,
        };
        Box::pin(async move {
            let deadline = tokio::time::Instant::now() + wait;
            let mut results = Vec::with_capacity(waiting.len());
            for proposed in waiting {
                results.push(match proposed {
                    Ok((pending, time)) => appended(pending, time, deadline).await,
                    Err(error) => Err(error),
                });
            }
            plan.respond(results)
        })
    }

    /// The pending append, and the broker's time where the topic wants that in records.
    async fn propose_append(&self, append: &Append) -> Result<(Pending, i64), KafkaError> {
        let topic = self.view.topic(&append.tp.topic);
        let topic = topic.ok_or(KafkaError::from(ErrorCode::UnknownTopicOrPartition))?;
        let (mut batch, at_ms, mut time) = (append.batch.clone(), self.clock.wall_ms(), -1);
        if append.log_append_time {
            let mut stamped = batch.to_vec();
            set_log_append_time(&mut stamped, at_ms)
                .map_err(|e| KafkaError::new(ErrorCode::CorruptMessage, e.to_string()))?;
            (batch, time) = (stamped.into(), at_ms);
        }
        let shard = self.reader.shards.of(&append.tp);
        let topic_id = topic.id.as_u128();
        let entry = Entry::Produce {
            tp: append.tp.clone(),
            topic_id,
            at_ms,
        };
        let proposed = self.log.propose(shard, entry, batch).await;
        proposed
            .map(|pending| (pending, time))
            .map_err(|e| errors::of_propose(&e))
    }

    async fn producer_id(&self) -> Result<ProducerIdentity, KafkaError> {
        let meta = self.reader.shards.meta();
        match commit(&*self.log, meta, Entry::InitProducerId, Bytes::new()).await {
            Ok(Applied::ProducerId(id)) => Ok(ProducerIdentity { id, epoch: 0 }),
            Ok(_) => Err(ErrorCode::UnknownServerError.into()),
            // Retriable, unlike a time-out.
            Err(_) => Err(ErrorCode::CoordinatorNotAvailable.into()),
        }
    }

    async fn admin(&self, plan: AdminPlan) -> Reply {
        let deadline = tokio::time::Instant::now()
            + Duration::from_millis(plan.timeout_ms.into()).min(WAIT_MAX);
        let mut results = Vec::with_capacity(plan.proposals.len());
        for proposal in plan.proposals.clone() {
            // A change that was begun is finished, whether or not its client still waits.
            let service = self.clone();
            let (answer, answered) = oneshot::channel();
            self.tasks.spawn(async move {
                // The client may not wait any longer.
                let _ = answer.send(service.change(proposal).await);
            });
            match tokio::time::timeout_at(deadline, answered).await {
                Ok(Ok(result)) => results.push(result),
                Ok(Err(_)) => results.push(Err(ErrorCode::UnknownServerError.into())),
                Err(_) => break,
            }
        }
        plan.respond(results)
    }

    /// One change to topics.
    pub async fn change(&self, proposal: Proposal) -> Result<AdminDone, KafkaError> {
        let done = match proposal {
            Proposal::CreateTopic {
                name,
                partitions,
                configs,
                ..
            } => {
                let created = self.topics.create(name, partitions, configs).await;
                return created
                    .map(|id| AdminDone::Created { id })
                    .map_err(|e| errors::of_topic(&e));
            }
            Proposal::DeleteTopic { name, id } => self.topics.delete(name, Some(id)).await,
            Proposal::CreatePartitions { name, count } => self.topics.grow(name, count).await,
            Proposal::AlterTopicConfigs { name, changes } => self.topics.alter(name, changes).await,
        };
        done.map(|()| AdminDone::Done)
            .map_err(|e| errors::of_topic(&e))
    }
}

async fn appended(
    pending: Pending,
    log_append_time_ms: i64,
    deadline: tokio::time::Instant,
) -> Result<Appended, KafkaError> {
    let outcome = tokio::time::timeout_at(deadline, pending.outcome()).await;
    let outcome = outcome.map_err(|_| KafkaError::from(ErrorCode::RequestTimedOut))?;
    match outcome.map_err(|e| errors::of_propose(&e))? {
        Applied::Appended(there) | Applied::Duplicate(there) => Ok(Appended {
            base_offset: there.base.0,
            log_append_time_ms,
            log_start: there.log_start.0,
        }),
        Applied::Refused(refusal) => Err(errors::of_refusal(&refusal)),
        other => {
            tracing::error!(?other, "an append has another entry's outcome");
            Err(ErrorCode::UnknownServerError.into())
        }
    }
}
