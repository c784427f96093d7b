//! Where streams are pinned (U6).

use headwater_batch::{BatchBuilder, Level, NewRecord, Offset};
use headwater_proto::cloud::Ticket;
use headwater_proto::stream::{DataEntry, SessionEntry};
use headwater_proto::{Digest, Epoch, Incarnation};
use headwater_shard::{At, Shard};
use tokio::sync::oneshot;

use super::*;
use crate::shardlog::{Proposed, ShardId};

/// Applies at once.
#[derive(Debug)]
struct AtOnce(Arc<Shards>);

impl ShardLog for AtOnce {
    fn propose(&self, shard: ShardId, entry: Entry, batch: Bytes) -> Proposed<'_> {
        let mut state = self.0.write(shard);
        let index = state.applied().index + 1;
        let applied = state.apply(At { index, term: 1 }, &entry, &batch);
        let (answer, pending) = oneshot::channel();
        answer.send(Ok(applied.outcome)).unwrap();
        Box::pin(async { Ok(Pending(pending)) })
    }
}

fn cluster(default_partitions: u32) -> Cluster {
    let shards = Arc::new(Shards::new(vec![Shard::new(); 3]));
    let log = Arc::new(AtOnce(shards.clone()));
    let (deleted, _) = mpsc::unbounded_channel();
    Cluster {
        topics: Topics::start(
            log.clone(),
            shards.clone(),
            deleted,
            Clock::system(),
            // Ends with the test's process.
            Box::leak(Box::default()),
        ),
        log,
        shards,
        clock: Clock::system(),
        default_partitions,
    }
}

fn key(partition: u32) -> StreamKey {
    StreamKey {
        edge: EdgeName::new("gw-1").unwrap(),
        incarnation: Incarnation(1),
        tp: TopicPartition::new("mqtt".parse().unwrap(), partition),
    }
}

/// Where the session of an edge partition leads, of so many on the edge.
async fn pinned(cluster: &Cluster, partition: u32, of: u32) -> u32 {
    let session = StreamEntry::Session(SessionEntry {
        partitions: of,
        origin: Offset(0),
        parent: None,
        start: Offset(0),
        end: Offset(0),
        acked: Offset(0),
        spans: Vec::new(),
        at_ms: 0,
    });
    let key = key(partition);
    cluster.pinned(&key, &session).await.unwrap().partition
}

async fn all_pinned(edge: u32, cloud: u32) -> Vec<u32> {
    let cluster = cluster(cloud);
    let mut all = Vec::new();
    for partition in 0..edge {
        all.push(pinned(&cluster, partition, edge).await);
    }
    all
}

fn hashed(edge: u32, cloud: u32) -> Vec<u32> {
    let edge_name = key(0).edge;
    let hash = |partition| map_partition(&edge_name, partition, 1, cloud);
    (0..edge).map(hash).collect()
}

#[tokio::test]
async fn equal_counts_keep_every_number_and_others_hash() {
    assert_eq!(all_pinned(3, 3).await, [0, 1, 2]);
    // Numbers that the hash gives, so that "kept" and "hashed" cannot be taken for each other.
    assert_eq!(hashed(3, 8), [5, 4, 6]);
    assert_eq!(all_pinned(1, 8).await, [5]);
    assert_eq!(all_pinned(2, 8).await, [5, 4]);
    assert_eq!(all_pinned(3, 2).await, hashed(3, 2));
}

#[tokio::test]
async fn a_pin_does_not_move_when_counts_change() {
    let cluster = cluster(3);
    for partition in 0..3 {
        assert_eq!(pinned(&cluster, partition, 3).await, partition);
    }
    cluster.topics.grow(key(0).tp.topic, 8).await.unwrap();
    for partition in 0..3 {
        assert_eq!(pinned(&cluster, partition, 3).await, partition, "here");
        assert_eq!(pinned(&cluster, partition, 5).await, partition, "there");
    }
    // First used now: by the counts of now, 5 and 8.
    let (edge, later) = (key(0).edge, pinned(&cluster, 4, 5).await);
    assert_eq!(later, map_partition(&edge, 4, 5, 8));
}

/// Nothing but a session says the count, so nothing else may pin.
#[tokio::test]
async fn only_a_session_pins() {
    let (cluster, key) = (cluster(8), key(0));
    let probe = StreamEntry::Probe { epoch: Epoch(1) };
    cluster.pinned(&key, &probe).await.unwrap_err();
    let to = pinned(&cluster, 0, 1).await;
    let found = cluster.pinned(&key, &probe).await.unwrap();
    assert_eq!(found.partition, to);
}

/// U5: a topic whose making stopped half-way must not hold its streams up until the next start.
#[tokio::test]
async fn a_partition_that_was_never_opened_is_opened_by_data() {
    let cluster = cluster(3);
    let topic = Entry::CreateTopic {
        name: key(0).tp.topic,
        id: 9,
        partitions: 3,
        config: Vec::new(),
        at_ms: 0,
    };
    let meta = cluster.shards.meta();
    commit(&*cluster.log, meta, topic, Bytes::new())
        .await
        .unwrap();
    let tp = TopicPartition::new(key(0).tp.topic, 2);
    cluster.ensure(&tp).await.unwrap();
    assert!(cluster.is_open(&tp));
}

/// Takes entries without data, and keeps data waiting for ever.
#[derive(Debug)]
struct Stalled(AtOnce);

impl ShardLog for Stalled {
    fn propose(&self, shard: ShardId, entry: Entry, batch: Bytes) -> Proposed<'_> {
        match batch.is_empty() {
            true => self.0.propose(shard, entry, batch),
            false => Box::pin(std::future::pending()),
        }
    }
}

/// What edges send while nothing is taken, again after each time-out of their sessions, must not
/// gather here.
#[tokio::test]
async fn a_stalled_lane_holds_a_bounded_amount_and_says_retry() {
    let mut cluster = cluster(1);
    pinned(&cluster, 0, 1).await;
    cluster.log = Arc::new(Stalled(AtOnce(cluster.shards.clone())));
    let receiver = Receiver::start(cluster, Vec::new(), Box::leak(Box::default()));
    let mut builder = BatchBuilder::new(Offset(0), Level::None);
    builder
        .push(&NewRecord::new(0, "k", vec![7; 1_000_000]))
        .unwrap();
    let batch = Bytes::from(builder.finish().to_vec());
    let data = || {
        StreamEntry::Data(DataEntry {
            epoch: Epoch(1),
            base: Offset(0),
            next: Offset(1),
            lineage: Vec::new(),
            digest: Digest(0),
            at_ms: 0,
            batch: batch.clone(),
        })
    };
    let (answers, mut answered) = mpsc::unbounded_channel();
    for ticket in 0..100 {
        let reply = Reply::new(Ticket(ticket), answers.clone());
        receiver.commit(key(0), data(), reply);
    }
    let held = LANE_BYTES / batch.len() + 1;
    for ticket in held..100 {
        assert_eq!(
            answered.try_recv().ok(),
            Some((Ticket(ticket as u64), None)),
            "retry, at once"
        );
    }
    assert!(answered.try_recv().is_err());
}
