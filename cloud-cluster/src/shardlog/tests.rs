//! What the log on a journal takes.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use headwater_batch::{Limits, Offset, TopicName, TopicPartition};
use headwater_log::durable::{FRAME_BYTES_MAX, Rules};
use headwater_shard::{Entry, GroupOffset, Outcome};

use super::{LocalLog, LocalLogConfig, Medium, ProposeError, Recovery, ShardId, commit};
use crate::clock::Clock;
use crate::machine::Machine;
use crate::tasks::Tasks;
use crate::topics::{TopicCache, Topics};

fn open(dir: &Path) -> (LocalLog, Arc<Machine>) {
    let config = LocalLogConfig {
        journal_dir: dir.join("journal"),
        checkpoint_dir: dir.join("checkpoints"),
        state_dir: dir.join("state"),
        file_bytes: 4 << 20,
        files_max: 8,
        data_shards: 1,
        hot_bytes: 4 << 20,
        group_bytes: FRAME_BYTES_MAX + 1024,
        rules: Rules::default(),
    };
    let topics = Arc::new(TopicCache::new(1));
    let opened = LocalLog::open(&config, &Medium::real(None), topics, 7);
    let Recovery {
        log,
        writer,
        machine,
        ..
    } = opened.unwrap();
    log.run_on_thread(writer);
    (log, machine)
}

/// U5: the largest batch that edges and producers may send gets through the journal, under the
/// longest name. Refused there it would be sent again for ever.
#[tokio::test]
async fn the_largest_batch_fits_a_frame() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    let topic: TopicName = "t".repeat(249).parse().unwrap();
    let kafka = headwater_kafka::Settings::default().batch_bytes_max as usize;
    for bytes in [Limits::UPLINK.batch_bytes_max, kafka] {
        let entry = Entry::Produce {
            tp: TopicPartition::new(topic.clone(), u32::MAX),
            topic_id: u128::MAX,
            at_ms: i64::MAX,
        };
        // No batch, and no partition: it is refused at apply, so it came that far.
        let outcome = commit(&log, ShardId(0), entry, Bytes::from(vec![0; bytes])).await;
        assert!(matches!(outcome, Ok(Outcome::Refused(_))), "{outcome:?}");
    }
    log.stop();
}

/// A deletion that a crash cut short left a group's offsets. In a topic of the same name, made by
/// the next edge that sends, the group would begin in the middle.
#[tokio::test]
async fn offsets_without_their_topic_go_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let (log, machine) = open(dir.path());
    let log = Arc::new(log);
    let (deleted, _) = tokio::sync::mpsc::unbounded_channel();
    let tasks = Tasks::default();
    let clock = Clock::system();
    let shards = machine.shards.clone();
    let topics = Topics::start(log.clone(), shards, deleted, clock, &tasks);
    let [kept, gone]: [TopicName; 2] = ["kept", "gone"].map(|name| name.parse().unwrap());
    topics.ensure(kept.clone(), 1).await.unwrap();
    let place = |topic: &TopicName| TopicPartition::new(topic.clone(), 0);
    let offset = GroupOffset {
        offset: Offset(7),
        leader_epoch: -1,
        metadata: String::new(),
    };
    let entry = Entry::CommitOffsets {
        group: "g".into(),
        generation: -1,
        offsets: [&kept, &gone]
            .map(|topic| (place(topic), offset.clone()))
            .into(),
        at_ms: 0,
    };
    let id = machine.shards.of_group("g");
    commit(&*log, id, entry, Bytes::new()).await.unwrap();
    topics.reconcile().await.unwrap();
    {
        let shard = machine.shards.read(id);
        assert!(shard.committed("g", &place(&kept)).is_some());
        assert!(shard.committed("g", &place(&gone)).is_none());
    }
    log.stop();
}

/// What clients ask for fills the journal while nothing is checkpointed; what makes room still gets in,
/// also after starts that each take a file.
#[tokio::test]
async fn a_full_journal_takes_what_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path());
    let commits = || Entry::CommitOffsets {
        group: "g".into(),
        generation: -1,
        offsets: vec![(
            "t-0".parse().unwrap(),
            GroupOffset {
                offset: Offset(7),
                leader_epoch: -1,
                metadata: "x".repeat(900_000),
            },
        )],
        at_ms: 0,
    };
    let mut taken = 0;
    // So much metadata is refused once it is applied: in the journal it is.
    while let Ok(_refused) = commit(&log, ShardId(0), commits(), Bytes::new()).await {
        taken += 1;
        assert!(taken < 100, "the journal has a bound");
    }
    for _ in 0..4 {
        log.stop();
        (log, _) = open(dir.path());
        let full = commit(&log, ShardId(0), commits(), Bytes::new()).await;
        assert!(matches!(full, Err(ProposeError::Full(_))), "{full:?}");
        for _ in 0..100 {
            let made = commit(&log, ShardId(0), Entry::NewTerm, Bytes::new()).await;
            assert!(made.is_ok(), "{made:?}");
        }
    }
    log.stop();
}
