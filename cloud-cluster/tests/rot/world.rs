//! One node on a simulated disk, what was acknowledged to its clients, and the comparison.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::store::{Faults, Faulty};
use bytes::Bytes;
use cloud_cluster::clock::{Clock, Simulated};
use cloud_cluster::cold::{ColdStore, SealConfig};
use cloud_cluster::core::{Core, CoreConfig, Running};
use cloud_cluster::kafka::View;
use cloud_cluster::registry::Registered;
use cloud_cluster::retention::Retention;
use cloud_cluster::shardlog::{LocalLogConfig, Medium, commit};
use headwater_batch::{BatchBuilder, Level, NewRecord, Offset, TopicPartition};
use headwater_kafka::Settings;
use headwater_kafka::group::GroupConfig;
use headwater_log::SimDisk;
use headwater_log::disk::{Crash, Disk, Open};
use headwater_log::durable::{FRAME_BYTES_MAX, Rules};
use headwater_proto::stream::SessionEntry;
use headwater_proto::{
    BootSpan, BootStart, Digest, EdgeName, Epoch, Incarnation, StreamEntry, StreamKey,
    StreamOutcome, stream::DataEntry,
};
use headwater_shard::{Entry, GroupOffset, Outcome};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tokio::task::JoinHandle;

pub const TOPIC: &str = "t";
pub const PARTITIONS: u32 = 3;
pub const GROUP: &str = "readers";
pub const BOOT: u64 = 77;

/// What survives a power cut, and what clients know.
pub struct World {
    pub seed: u64,
    pub disk: SimDisk,
    pub objects: Arc<InMemory>,
    /// The register of edges, where there is one.
    pub registered: Option<Registered>,
    /// What the store's next requests come to.
    pub faults: Arc<Faults>,
    pub model: Model,
    starts: u64,
}

/// What was acknowledged.
#[derive(Default, Clone)]
pub struct Model {
    /// Per partition: base offset to end and value.
    pub batches: BTreeMap<TopicPartition, BTreeMap<i64, (i64, String)>>,
    pub stream_next: i64,
    pub committed: i64,
    made: i64,
}

pub struct Node {
    pub running: Running,
    writer: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.running.abort();
        self.writer.abort();
    }
}

pub fn tp(partition: u32) -> TopicPartition {
    TopicPartition::new(TOPIC.parse().unwrap(), partition)
}

pub fn stream() -> StreamKey {
    StreamKey {
        edge: EdgeName::new("gw-1").unwrap(),
        incarnation: Incarnation(9),
        tp: "edge-0".parse().unwrap(),
    }
}

fn batch(base: i64, count: i64, value: &str) -> Bytes {
    let mut batch = BatchBuilder::new(Offset(base), Level::None);
    for i in 0..count {
        let value = format!("{value}.{i}");
        batch.push(&NewRecord::new(1000 + i, "k", value)).unwrap();
    }
    batch.finish().into()
}

fn config(hot_only: bool) -> CoreConfig {
    CoreConfig {
        node_id: 1,
        log: LocalLogConfig {
            journal_dir: "data/journal".into(),
            checkpoint_dir: "data/checkpoints".into(),
            state_dir: "data/state".into(),
            file_bytes: 2 << 20,
            files_max: 16,
            data_shards: 2,
            hot_bytes: 64 << 20,
            group_bytes: FRAME_BYTES_MAX + 1024,
            rules: Rules::default(),
        },
        seal: SealConfig {
            hot_bytes: 64 << 20,
            journal_bytes: 1 << 30,
            room_bytes: 1 << 20,
            interval: Duration::from_secs(3600),
            partition_bytes_min: if hot_only { u64::MAX } else { 2_000 },
            partition_age_ms_max: i64::MAX,
            segment_bytes: 4_000,
        },
        retention: Retention { ms: -1, bytes: -1 },
        retention_check: Duration::from_secs(3600),
        groups: GroupConfig::default(),
        default_partitions: 1,
        uplink_addresses: Vec::new(),
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        World {
            seed,
            disk: SimDisk::new(seed),
            objects: Arc::new(InMemory::new()),
            registered: None,
            faults: Arc::default(),
            model: Model::default(),
            starts: 0,
        }
    }

    /// A node always starts: that is part of every test here.
    pub async fn start(&mut self) -> Node {
        self.starts += 1;
        let source = Simulated::new(self.seed * 1000 + self.starts, 1_700_000_000_000);
        let store = Faulty {
            objects: self.objects.clone(),
            faults: self.faults.clone(),
        };
        let cold = Arc::new(ColdStore::of(Arc::new(store)));
        let medium = Medium::files(Arc::new(self.disk.clone()));
        let clock = Clock::new(Arc::new(source));
        let opened = Core::open(config(false), &medium, cold, clock);
        let (core, writer) = opened.unwrap_or_else(|e| panic!("the node does not start: {e}"));
        let core = match self.registered.clone() {
            Some(registered) => core.with_edges(registered),
            None => core,
        };
        let writer = tokio::spawn(writer.serve());
        let view = View {
            cluster_id: "c".into(),
            node_id: 1,
            host: "h".into(),
            port: 1,
            topics: core.machine.topics.clone(),
            settings: Settings::default(),
        };
        let started = tokio::time::timeout(Duration::from_secs(600), core.start(view)).await;
        let running = started.expect("the start gets through");
        let running = running.unwrap_or_else(|e| panic!("the node does not start: {e}"));
        Node { running, writer }
    }

    /// Power goes, and comes back.
    pub fn cut(&self, node: Node) {
        drop(node);
        self.disk.crash(Crash::Power);
        self.disk.restart();
    }

    pub async fn create(&self, node: &Node) {
        let topics = &node.running.topics;
        let name = TOPIC.parse().unwrap();
        topics
            .create(name, PARTITIONS, BTreeMap::new())
            .await
            .unwrap();
    }

    /// `count` appends at once; they share groups.
    pub async fn produce(&mut self, node: &Node, count: usize) {
        let mut waiting = Vec::new();
        for _ in 0..count {
            self.model.made += 1;
            let to = tp((self.model.made % i64::from(PARTITIONS)) as u32);
            let records = 1 + self.model.made % 4;
            let value = format!("v{}", self.model.made);
            let shards = &node.running.machine.shards;
            let topic_id = shards
                .read(shards.of(&to))
                .partition(&to)
                .map(|p| p.topic_id)
                .expect("the partition is there");
            let entry = Entry::Produce {
                tp: to.clone(),
                topic_id,
                at_ms: 5,
            };
            let log = &node.running.service.log;
            let bytes = batch(0, records, &value);
            let pending = log.propose(shards.of(&to), entry, bytes).await.unwrap();
            waiting.push((to, value, pending));
        }
        for (to, value, pending) in waiting {
            let Ok(Outcome::Appended(there)) = pending.outcome().await else {
                panic!("an append is refused");
            };
            let of = self.model.batches.entry(to).or_default();
            let last = of.values().map(|(end, _)| *end).max().unwrap_or(0);
            assert!(
                there.base.0 >= last,
                "offset {} is given out again",
                there.base.0
            );
            of.insert(there.base.0, (there.end.0, value));
        }
    }

    pub async fn session(&self, node: &Node, acked: i64) -> StreamOutcome {
        let end = self.model.stream_next + 1_000;
        self.session_of(node, stream(), acked, end).await
    }

    /// Of any stream, with a log `[0, end)`.
    pub async fn session_of(
        &self,
        node: &Node,
        key: StreamKey,
        acked: i64,
        end: i64,
    ) -> StreamOutcome {
        let end = Offset(end);
        let session = StreamEntry::Session(SessionEntry {
            partitions: 1,
            origin: Offset(0),
            parent: None,
            start: Offset(0),
            end,
            acked: Offset(acked),
            spans: vec![BootSpan {
                boot: headwater_proto::BootId(BOOT),
                start: Offset(0),
                end,
            }],
            at_ms: 1,
        });
        self.send_as(node, key, session).await
    }

    pub async fn send(&self, node: &Node, entry: StreamEntry) -> StreamOutcome {
        self.send_as(node, stream(), entry).await
    }

    pub async fn send_as(&self, node: &Node, key: StreamKey, entry: StreamEntry) -> StreamOutcome {
        let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel();
        use headwater_quic::server::{Reply, Sink};
        let ticket = headwater_proto::cloud::Ticket(1);
        let reply = Reply::new(ticket, answers);
        node.running.receiver.commit(key, entry, reply);
        let (_, outcome) = answered.recv().await.expect("a reply always comes");
        outcome.expect("the log works")
    }

    /// One batch of the edge, acknowledged or known as there.
    pub async fn edge(&mut self, node: &Node) {
        let StreamOutcome::Opened(opened) = self.session(node, self.model.stream_next).await else {
            panic!("the stream does not open");
        };
        let base = self.model.stream_next;
        assert_eq!(opened.next.0, base, "the stream goes on where it was");
        let outcome = self.send(node, data(opened.epoch, base, 2)).await;
        assert!(
            matches!(outcome, StreamOutcome::Append { .. }),
            "{outcome:?}"
        );
        self.model.stream_next += 2;
        let shards = &node.running.machine.shards;
        let to = stream().tp;
        let next = shards.read(shards.of(&to)).partition(&to).map(|p| p.next.0);
        let next = next.expect("the partition is there");
        let of = self.model.batches.entry(to).or_default();
        of.insert(next - 2, (next, "vedge".into()));
    }

    pub async fn commit_offset(&mut self, node: &Node) {
        self.model.committed += 1;
        let offset = GroupOffset {
            offset: Offset(self.model.committed),
            leader_epoch: -1,
            metadata: String::new(),
        };
        let entry = Entry::CommitOffsets {
            group: GROUP.into(),
            generation: -1,
            offsets: vec![(tp(0), offset)],
            at_ms: 1,
        };
        let shards = &node.running.machine.shards;
        let log = &*node.running.service.log;
        let done = commit(log, shards.of_group(GROUP), entry, Bytes::new()).await;
        assert_eq!(done, Ok(Outcome::Done));
    }

    /// Everything at once, with checkpoints and segments where `seals` says so.
    pub async fn work(&mut self, node: &mut Node, rounds: usize, seals: &[usize]) {
        for round in 0..rounds {
            self.produce(node, 1 + round % 5).await;
            self.edge(node).await;
            self.commit_offset(node).await;
            if seals.contains(&round) {
                node.running.sealing.sealer.round().await.unwrap();
            }
        }
    }

    /// Files below a directory that are there.
    pub fn files(&self, below: &str) -> Vec<PathBuf> {
        let mut files = self.disk.files();
        files.retain(|path| path.starts_with(below));
        files
    }

    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let file = self.disk.open(path, Open::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    pub fn write(&self, path: &Path, bytes: &[u8]) {
        let file = self.disk.open(path, Open::Write).unwrap();
        file.write_at(bytes, 0).unwrap();
        file.sync_data().unwrap();
    }

    /// The operator trusts the edge.
    pub async fn trust(&self, node: &Node) {
        let shards = &node.running.machine.shards;
        let log = &*node.running.service.log;
        for shard in shards.data() {
            let entry = Entry::TrustStream {
                edge: stream().edge.as_str().into(),
                source: stream().tp,
            };
            let done = commit(log, shard, entry, Bytes::new()).await;
            assert_eq!(done, Ok(Outcome::Done));
        }
    }

    /// (file, place of the group, its bytes) of every journal group, oldest file first.
    pub fn groups(&self) -> Vec<(PathBuf, u64, u64)> {
        let mut groups = Vec::new();
        for path in self.files("data/journal") {
            let name = path.file_name().unwrap().to_str().unwrap();
            if !name.starts_with('0') {
                continue;
            }
            let bytes = self.bytes(&path);
            for at in (0..bytes.len() - 48).step_by(8) {
                if bytes[at..at + 4] == *b"HWGR" {
                    let stored = u32::from_le_bytes(bytes[at + 44..at + 48].try_into().unwrap());
                    groups.push((path.clone(), at as u64, 48 + u64::from(stored)));
                }
            }
        }
        groups
    }

    /// (kind, payload bytes) of every journal frame.
    pub fn frames(&self) -> Vec<(u8, usize)> {
        let mut frames = Vec::new();
        for (path, at, bytes) in self.groups() {
            let file = self.bytes(&path);
            let body = &file[at as usize + 48..(at + bytes) as usize];
            let mut i = 0;
            while i < body.len() {
                let (kind, mut len, mut shift) = (body[i], 0, 0);
                loop {
                    i += 1;
                    len |= usize::from(body[i] & 0x7f) << shift;
                    shift += 7;
                    if body[i] < 0x80 {
                        break;
                    }
                }
                frames.push((kind, len));
                i += 1 + len;
            }
        }
        frames
    }

    /// Every acknowledged record is read back at its offset, or the ledger says that it is gone.
    /// Returns how many batches are gone.
    pub async fn check(&self, node: &Node) -> usize {
        let mut gone = 0;
        for (tp, batches) in &self.model.batches {
            let reader = &node.running.service.reader;
            let log = reader.hot.partition(tp).expect("the partition is there");
            for (base, (end, value)) in batches {
                let read = reader.read(tp, &log, Offset(*base), 1 << 20, true).await;
                let read = read.unwrap_or_else(|e| panic!("{tp} at {base}: {e:?}"));
                // Afterwards: a rotten segment is found by reading it.
                let lost = {
                    let shard = reader.shards.read(reader.shards.of(tp));
                    shard.lost_end(tp, Offset(*base)).0
                };
                if lost > *base {
                    assert!(lost >= *end, "{tp}: half of the batch at {base} is lost");
                    gone += 1;
                    // Served as a gap: what comes first lies behind it.
                    if let Some(found) = first(&read) {
                        assert!(found.0 >= lost, "{tp}: {found:?} in the gap at {base}");
                    }
                    continue;
                }
                let found = first(&read).unwrap_or_else(|| panic!("{tp}: nothing at {base}"));
                assert_eq!(found, (*base, *end, value.clone()), "{tp}");
            }
        }
        gone
    }

    pub fn ledger(&self, node: &Node) -> Vec<(TopicPartition, i64, i64)> {
        let shards = &node.running.machine.shards;
        let mut lines = Vec::new();
        for id in shards.data() {
            let shard = shards.read(id);
            lines.extend(
                shard
                    .lost()
                    .map(|(tp, from, r)| (tp.clone(), from.0, r.to.0)),
            );
        }
        lines
    }

    pub fn committed(&self, node: &Node) -> i64 {
        let shards = &node.running.machine.shards;
        let shard = shards.read(shards.of_group(GROUP));
        shard.committed(GROUP, &tp(0)).map_or(0, |c| c.offset.0)
    }

    /// All objects of segments.
    pub async fn objects(&self) -> Vec<object_store::path::Path> {
        let (mut paths, mut dirs) = (Vec::new(), vec![None]);
        while let Some(dir) = dirs.pop() {
            let listed = self
                .objects
                .list_with_delimiter(dir.as_ref())
                .await
                .unwrap();
            dirs.extend(listed.common_prefixes.into_iter().map(Some));
            paths.extend(listed.objects.into_iter().map(|found| found.location));
        }
        paths.sort();
        paths
    }
}

pub fn data(epoch: Epoch, base: i64, count: i64) -> StreamEntry {
    StreamEntry::Data(DataEntry {
        epoch,
        base: Offset(base),
        next: Offset(base + count),
        lineage: vec![BootStart {
            boot: headwater_proto::BootId(BOOT),
            start: Offset(0),
        }],
        digest: Digest(0),
        at_ms: 1,
        batch: batch(base, count, "vedge"),
    })
}

/// Base, end and value of the first batch.
fn first(read: &[Bytes]) -> Option<(i64, i64, String)> {
    let found = cloud_cluster::cold::batches(read.first()?).next()?;
    let limits = headwater_batch::Limits::new(1 << 20);
    let batch = headwater_batch::BatchView::parse(&found.bytes, &limits).unwrap();
    batch.verify_crc().expect("no damaged batch is served");
    let text = String::from_utf8_lossy(&found.bytes[headwater_batch::HEADER_BYTES..]).into_owned();
    let from = text.find('v')?;
    let value = text[from..].split('.').next()?.to_owned();
    Some((found.meta.base.0, found.meta.end().0, value))
}
