//! The uplink's sink: what edges send becomes entries of the shards.
//!
//! An edge's entries go through one lane, in their order: the lane finds the pinned cloud partition
//! (U6), makes the topic when it is missing (U5) and gives the entry its place in the shard's log; a
//! second task answers in the same order once they are applied. What is not known to be committed is
//! answered with retry, which is always harmless: the stream's table knows what it has.
//!
//! Bounds: [`LANE_BYTES`] wait in a lane, and what comes beyond is answered with retry at once. The
//! session's own `pending_bytes_max` does not bound it: a session forgets what was not answered in
//! time and has the edge send again, while the lane still holds it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use headwater_batch::{Header, Limits, TopicPartition, murmur2};
use headwater_proto::{
    AlarmKind, EdgeName, RejectCode, StreamEntry, StreamKey, StreamOutcome, map_partition,
};
use headwater_quic::server::{Reply, Sink};
use headwater_shard::{Entry, Outcome, Refusal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::clock::Clock;
use crate::shardlog::{Pending, ProposeError, ShardId, ShardLog, commit};
use crate::shards::Shards;
use crate::tasks::Tasks;
use crate::topics::Topics;

#[cfg(test)]
mod tests;

/// Edges share this many lanes.
const LANES: u32 = 16;
/// What may wait in one lane.
const LANE_BYTES: usize = 16 << 20;
/// What an entry costs beside its batch.
const WORK_OVERHEAD_BYTES: usize = 256;
/// Alarms that the status page shows; older ones are in the log.
const ALARMS: usize = 100;

/// Takes what edges send.
#[derive(Debug)]
pub struct Receiver {
    lanes: Vec<LaneIn>,
    addresses: Vec<String>,
    clock: Clock,
    alarms: Mutex<VecDeque<Alarm>>,
}

/// Something the operator must hear of.
#[derive(Debug, Clone)]
pub struct Alarm {
    pub at_ms: i64,
    pub stream: StreamKey,
    pub kind: AlarmKind,
}

#[derive(Debug)]
enum Work {
    Commit(StreamKey, Box<StreamEntry>, Reply, Waiting),
    Connected(EdgeName),
}

/// Where a lane takes its work, and the bytes of what waits there.
#[derive(Debug)]
struct LaneIn {
    work: UnboundedSender<Work>,
    waiting: Arc<AtomicUsize>,
}

/// An entry's share of [`LANE_BYTES`], given back when the lane is done with it.
#[derive(Debug)]
struct Waiting {
    total: Arc<AtomicUsize>,
    bytes: usize,
}

impl Waiting {
    /// `None` when too much waits already.
    fn enter(total: &Arc<AtomicUsize>, bytes: usize) -> Option<Waiting> {
        let total = total.clone();
        let before = total.fetch_add(bytes, Ordering::Relaxed);
        let waiting = Waiting { total, bytes };
        (before < LANE_BYTES).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a lane works with.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub log: Arc<dyn ShardLog>,
    pub shards: Arc<Shards>,
    pub topics: Topics,
    pub clock: Clock,
    /// Partitions of a topic that an edge's data makes.
    pub default_partitions: u32,
}

impl Receiver {
    /// Starts the lanes. `addresses` are what edges are told for their next try.
    pub fn start(cluster: Cluster, addresses: Vec<String>, tasks: &Tasks) -> Receiver {
        let clock = cluster.clock.clone();
        let lane = |_| {
            let (sender, queue) = mpsc::unbounded_channel();
            let (proposed, waiting) = mpsc::unbounded_channel();
            tasks.spawn(answer(cluster.clone(), waiting));
            tasks.spawn(
                Lane {
                    cluster: cluster.clone(),
                    proposed,
                }
                .run(queue),
            );
            LaneIn {
                work: sender,
                waiting: Arc::default(),
            }
        };
        let lanes = (0..LANES).map(lane).collect();
        Receiver {
            lanes,
            addresses,
            clock,
            alarms: Mutex::default(),
        }
    }

    /// The newest alarms, oldest first.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.alarms
            .lock()
            .expect("no holder panics")
            .iter()
            .cloned()
            .collect()
    }

    fn lane(&self, edge: &EdgeName) -> &LaneIn {
        let number = (murmur2(edge.as_str().as_bytes()) & 0x7fff_ffff) % LANES;
        &self.lanes[number as usize]
    }
}

impl Sink for Receiver {
    fn commit(&self, key: StreamKey, entry: StreamEntry, reply: Reply) {
        let lane = self.lane(&key.edge);
        let bytes = entry.batch().map_or(0, Bytes::len) + WORK_OVERHEAD_BYTES;
        let Some(waiting) = Waiting::enter(&lane.waiting, bytes) else {
            return reply.retry();
        };
        // A lane that is gone drops the reply, which says retry.
        let _ = lane
            .work
            .send(Work::Commit(key, Box::new(entry), reply, waiting));
    }

    fn alarm(&self, stream: StreamKey, kind: AlarmKind) {
        metrics::counter!("headwater_uplink_alarms_total").increment(1);
        let mut alarms = self.alarms.lock().expect("no holder panics");
        if alarms.len() >= ALARMS {
            alarms.pop_front();
        }
        alarms.push_back(Alarm {
            at_ms: self.clock.wall_ms(),
            stream,
            kind,
        });
    }

    fn connected(&self, edge: &EdgeName, _remote: SocketAddr) {
        metrics::gauge!("headwater_uplink_connections").increment(1.0);
        let _ = self.lane(edge).work.send(Work::Connected(edge.clone()));
    }

    fn disconnected(&self, _edge: &EdgeName, _reason: &str) {
        metrics::gauge!("headwater_uplink_connections").decrement(1.0);
    }

    fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }
}

/// A proposed entry, and the partition it is meant for.
type Proposed = (TopicPartition, Pending, Reply);

struct Lane {
    cluster: Cluster,
    proposed: UnboundedSender<Proposed>,
}

impl Lane {
    async fn run(self, mut queue: UnboundedReceiver<Work>) {
        while let Some(work) = queue.recv().await {
            match work {
                Work::Commit(key, entry, reply, _waiting) => self.commit(key, *entry, reply).await,
                Work::Connected(edge) => self.cluster.register(&edge).await,
            }
        }
    }

    async fn commit(&self, key: StreamKey, entry: StreamEntry, reply: Reply) {
        if let Some(code) = entry.batch().and_then(unacceptable) {
            return reply.committed(StreamOutcome::Rejected(code));
        }
        let to = match self.cluster.pinned(&key, &entry).await {
            Ok(to) => to,
            Err(error) => {
                tracing::warn!(stream = %key, error, "no partition for a stream; tried again");
                return reply.retry();
            }
        };
        let shard = self.cluster.shards.of(&to);
        if matches!(entry, StreamEntry::Session(_)) {
            if let Err(error) = self.cluster.introduce(shard, &key.edge).await {
                tracing::warn!(stream = %key, %error, "a session waits");
                return reply.retry();
            }
        }
        let (head, batch) = entry.encode();
        let entry = Entry::Stream {
            to: to.clone(),
            key,
            head,
            at_ms: self.cluster.clock.wall_ms(),
        };
        match self.cluster.log.propose(shard, entry, batch).await {
            Ok(pending) => {
                let _ = self.proposed.send((to, pending, reply));
            }
            Err(ProposeError::TooLarge { .. }) => {
                reply.committed(StreamOutcome::Rejected(RejectCode::TooLarge));
            }
            Err(_) => reply.retry(),
        }
    }
}

/// Answers in the order of proposals.
async fn answer(cluster: Cluster, mut waiting: UnboundedReceiver<Proposed>) {
    while let Some((to, pending, reply)) = waiting.recv().await {
        match pending.outcome().await {
            Ok(Outcome::Stream(outcome)) => reply.committed(outcome),
            Ok(Outcome::Refused(Refusal::UnknownPartition)) => {
                // The topic was deleted: data makes it again (U5), and the edge sends it again.
                if let Err(error) = cluster.ensure(&to).await {
                    tracing::warn!(partition = %to, error, "not made again yet");
                }
                reply.retry();
            }
            Ok(other) => {
                tracing::error!(partition = %to, ?other, "a stream entry was refused");
                reply.committed(StreamOutcome::Rejected(RejectCode::Unacceptable));
            }
            Err(ProposeError::TooLarge { .. }) => {
                reply.committed(StreamOutcome::Rejected(RejectCode::TooLarge));
            }
            Err(_) => reply.retry(),
        }
    }
}

/// Transactions and control records are the cloud's own; an edge has none.
fn unacceptable(batch: &Bytes) -> Option<RejectCode> {
    match Header::parse(batch, &Limits::UPLINK) {
        Ok(header) if header.attributes.is_control() || header.attributes.is_transactional() => {
            Some(RejectCode::Unacceptable)
        }
        Ok(_) => None,
        Err(_) => Some(RejectCode::Malformed),
    }
}

impl Cluster {
    /// The cloud partition of a stream; pinned now if it never was. Counts that change later move
    /// nothing (U6).
    async fn pinned(&self, key: &StreamKey, entry: &StreamEntry) -> Result<TopicPartition, String> {
        let known = {
            let meta = self.shards.read(self.shards.meta());
            meta.pinned(key.edge.as_str(), &key.tp)
        };
        if let Some(partition) = known {
            return Ok(TopicPartition::new(key.tp.topic.clone(), partition));
        }
        // A stream begins with its session, and only that says how many partitions the edge has.
        let StreamEntry::Session(session) = entry else {
            return Err("no session came before it".into());
        };
        let first = TopicPartition::new(key.tp.topic.clone(), 0);
        self.ensure(&first).await?;
        let count = self
            .partitions_of(&first)
            .ok_or("the topic went as it was made")?;
        let entry = Entry::PinStream {
            edge: key.edge.as_str().to_owned(),
            source: key.tp.clone(),
            partition: map_partition(&key.edge, key.tp.partition, session.partitions, count),
        };
        match commit(&*self.log, self.shards.meta(), entry, Bytes::new()).await {
            Ok(Outcome::Pinned(partition)) => {
                Ok(TopicPartition::new(key.tp.topic.clone(), partition))
            }
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn partitions_of(&self, tp: &TopicPartition) -> Option<u32> {
        let meta = self.shards.read(self.shards.meta());
        meta.topic(&tp.topic).map(|topic| topic.partitions)
    }

    fn is_open(&self, tp: &TopicPartition) -> bool {
        self.shards.read(self.shards.of(tp)).partition(tp).is_some()
    }

    /// Makes the partition if it is not there.
    async fn ensure(&self, tp: &TopicPartition) -> Result<(), String> {
        let (name, wanted) = (tp.topic.clone(), tp.partition + 1);
        let made = match self.partitions_of(tp) {
            // Its topic's making was cut short, or it is being made right now.
            Some(have) if have >= wanted && !self.is_open(tp) => self.topics.reconcile().await,
            Some(have) if have >= wanted => return Ok(()),
            Some(_) => self.topics.grow(name, wanted).await,
            None => {
                self.topics
                    .ensure(name, self.default_partitions.max(wanted))
                    .await
            }
        };
        made.map_err(|e| e.to_string())
    }

    /// Tells a shard that lost its state that this edge came later.
    async fn introduce(&self, shard: ShardId, edge: &EdgeName) -> Result<(), ProposeError> {
        let is_due = {
            let shard = self.shards.read(shard);
            let doubt = shard.doubt();
            doubt.is_some_and(|doubt| !doubt.newcomers.contains(edge.as_str()))
        };
        let is_newcomer = || {
            let meta = self.shards.read(self.shards.meta());
            meta.edge(edge.as_str())
                .is_some_and(|edge| edge.is_newcomer)
        };
        if is_due && is_newcomer() {
            let edge = edge.as_str().to_owned();
            commit(&*self.log, shard, Entry::Newcomer { edge }, Bytes::new()).await?;
        }
        Ok(())
    }

    /// An edge whose bundle was made offline is known from its first connection on.
    async fn register(&self, edge: &EdgeName) {
        let name = edge.as_str().to_owned();
        if self.shards.read(self.shards.meta()).edge(&name).is_some() {
            return;
        }
        let entry = Entry::AddEdge {
            name,
            at_ms: self.clock.wall_ms(),
        };
        if let Err(error) = commit(&*self.log, self.shards.meta(), entry, Bytes::new()).await {
            tracing::warn!(%edge, %error, "the edge is not registered yet");
        }
    }
}
