//! Both nodes, the link, the small disk, and what is done to them.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use e2e::kafka::Consumer;
use e2e::link::Link;
use e2e::nodes::{Cloud, Edge};
use e2e::process::{Process, binary};

use super::lives::{Lives, Orders, Tally};
use super::memory::Memory;
use super::scrape::{EDGE, Page, edge_queues};
use super::watch::Queues;
use crate::room::Room;

/// Where the edge routes everything.
pub const TOPIC: &str = "mqtt";
/// Topics of the edge and of the cloud have as many.
pub const PARTITIONS: i32 = 4;
/// A file system that outages fill within half a minute.
const ROOM_BYTES: u64 = 80 << 20;
pub const QUEUE_BYTES_MAX: u64 = 512 << 10;

const CLOUD: &str = "
[topics]
partitions = 4
[log]
journal_file_bytes = 4194304
journal_files_max = 32
hot_bytes = 8388608
segment_bytes_min = 65536
checkpoint_interval_s = 5
reserve_bytes = 33554432
";

fn edge_settings(drop_oldest: bool) -> String {
    let when_full = if drop_oldest { "drop-oldest" } else { "refuse" };
    format!(
        "
[mqtt]
queue_bytes_max = {QUEUE_BYTES_MAX}
[log]
journal_file_bytes = 2097152
segment_bytes = 1048576
memory_bytes = 2097152
budget_bytes = 58720256
reserve_bytes = 8388608
when_full = \"{when_full}\"
[[routes]]
filter = \"#\"
topic = \"{TOPIC}\"
key = \"{{topic}}\"
partitions = {PARTITIONS}
durability = \"fsync\"
"
    )
}

/// How often what was done.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    pub edge_kills: u64,
    pub edge_terms: u64,
    pub cloud_kills: u64,
    pub cloud_terms: u64,
    pub cuts: u64,
    pub outages: u64,
    /// Outages in which the edge's log was full; where it drops its oldest, in which it did.
    pub filled: u64,
    pub disk_fills: u64,
    pub censuses: u64,
}

pub struct Stage {
    pub cloud: Cloud,
    pub edge: Edge,
    pub link: Link,
    pub room: Room,
    pub lives: Arc<Lives>,
    pub orders: Arc<Orders>,
    pub memory: Memory,
    pub queues: Queues,
    pub done: Done,
    /// The edge drops its oldest records when its log is full.
    pub drop_oldest: bool,
    /// The edge's process, and whether it listens.
    edge_process: Option<Process>,
    pub edge_up: bool,
    cloud_process: Option<Process>,
    pub is_cut: bool,
    life: u32,
    started: Instant,
    /// What the cloud's counters and offsets were when its process began.
    pub cloud_base: Option<(Page, i64)>,
}

impl Stage {
    pub fn new(
        root: &Path,
        drop_oldest: bool,
        lives: Arc<Lives>,
        orders: Arc<Orders>,
    ) -> Result<Stage, String> {
        let room = Room::mount(&root.join("edge/data"), ROOM_BYTES)?;
        let cloud = Cloud::new(&root.join("cloud")).with_config(CLOUD);
        let link = Link::to(cloud.uplink);
        let cloud = cloud.behind(&link);
        let cloud_process = Some(cloud.start());
        let bundle = cloud.add_edge("gateway-1", link.address());
        let edge = Edge::new(&root.join("edge"), Some(bundle));
        let edge = edge.with_config(&edge_settings(drop_oldest));
        let mut stage = Stage {
            cloud,
            edge,
            link,
            room,
            lives,
            orders,
            memory: Memory::default(),
            queues: Queues::default(),
            done: Done::default(),
            drop_oldest,
            edge_process: None,
            edge_up: false,
            cloud_process,
            is_cut: false,
            life: 0,
            started: Instant::now(),
            cloud_base: None,
        };
        stage.cloud_base = Some(stage.cloud_now()?);
        stage.start_edge();
        Ok(stage)
    }

    /// A place for a file beside the nodes' logs.
    pub fn root(&self) -> PathBuf {
        let parent = self.edge.dir.parent();
        parent.expect("the edge lies below the root").to_owned()
    }

    /// What is to be done now and then: looks after processes, samples memory. Call it often.
    pub fn tick(&mut self, messages: u64) {
        if let Some(status) = self.edge_process.as_mut().and_then(Process::status) {
            self.orders
                .fault(format!("the edge ended by itself: {status}"));
            self.lives.ending();
            self.lives.ended();
            self.edge_process = None;
            self.edge_up = false;
            self.start_edge();
        }
        if let Some(status) = self.cloud_process.as_mut().and_then(Process::status) {
            let what = format!("the cloud node ended by itself: {status}");
            self.orders.fault(what);
            self.cloud_process = None;
            self.start_cloud();
        }
        if !self.edge_up && self.edge_process.is_some() {
            self.look_for_edge();
        }
        if self.memory.is_due() {
            let edge = self.edge_process.as_ref().filter(|_| self.edge_up);
            self.memory
                .sample(self.life, edge, self.cloud_process.as_ref(), messages);
            if self.edge_up {
                self.queues.sample(self.life, edge_queues(self.edge.status));
            }
        }
    }

    fn look_for_edge(&mut self) {
        if TcpStream::connect(self.edge.mqtt).is_err() {
            return;
        }
        let Ok(page) = Page::read(EDGE, self.edge.status) else {
            return;
        };
        for name in [
            "mqtt_connects_total",
            "mqtt_connects_refused_total",
            "mqtt_published_total{qos=\"0\"}",
            "mqtt_published_total{qos=\"1\"}",
            "mqtt_published_total{qos=\"2\"}",
            "mqtt_delivered_total{qos=\"1\"}",
            "mqtt_dropped_total",
            "mqtt_received_bytes_total",
            "mqtt_sent_bytes_total",
            "log_records_total",
            "log_refused_total",
        ] {
            let value = page.value(name);
            if value != Some(0.0) {
                let life = self.life;
                let what = format!("life {life} of the edge starts with {name} at {value:?}");
                self.orders.fault(what);
            }
        }
        self.edge_up = true;
        self.lives.begin(Arc::new(Tally {
            number: self.life,
            ..Tally::default()
        }));
    }

    fn start_edge(&mut self) {
        self.life += 1;
        self.edge_process = Some(self.edge.spawn(&binary("edge-node")));
    }

    /// SIGKILL or SIGTERM of the edge, and a start at once.
    pub fn end_edge(&mut self, kill: bool) {
        self.queues.ends(self.life);
        self.lives.ending();
        let process = self.edge_process.take().expect("the edge has a process");
        if kill {
            process.kill();
            self.done.edge_kills += 1;
        } else {
            process.stop();
            self.done.edge_terms += 1;
        }
        self.lives.ended();
        self.edge_up = false;
        self.start_edge();
    }

    /// Stops it for good, when all is over.
    pub fn stop_edge(&mut self) {
        self.lives.ending();
        self.edge_process.take().map(Process::stop);
        self.lives.ended();
        self.edge_up = false;
    }

    pub fn cloud_is_up(&self) -> bool {
        self.cloud_process.is_some()
    }

    pub fn end_cloud(&mut self, kill: bool) {
        let Some(process) = self.cloud_process.take() else {
            return;
        };
        self.cloud_base = None;
        if kill {
            process.kill();
            self.done.cloud_kills += 1;
        } else {
            process.stop();
            self.done.cloud_terms += 1;
        }
    }

    /// Starts it behind a link that is cut for a moment, to see its numbers before anything comes.
    pub fn start_cloud(&mut self) {
        if self.cloud_is_up() {
            return;
        }
        self.link.cut();
        self.cloud_process = Some(self.cloud.start());
        self.cloud_base = match self.cloud_now() {
            Ok(base) => Some(base),
            Err(error) => {
                self.orders
                    .fault(format!("the cloud node after a start: {error}"));
                None
            }
        };
        if !self.is_cut {
            self.link.heal();
        }
    }

    /// Its counters, and how many records its topic holds by its end offsets.
    pub fn cloud_now(&self) -> Result<(Page, i64), String> {
        let page = Page::read("headwater_", self.cloud.admin).map_err(|e| e.to_string())?;
        Ok((page, self.end_offsets()?.iter().sum()))
    }

    /// Next offsets of all partitions.
    pub fn end_offsets(&self) -> Result<Vec<i64>, String> {
        let mut consumer = Consumer::connect(self.cloud.kafka).map_err(|e| e.to_string())?;
        let partitions = consumer.partitions(TOPIC).map_err(|e| e.to_string())?;
        let end = |partition| consumer.offset(TOPIC, partition, -1);
        let ends = (0..partitions).map(end).collect::<Result<_, _>>();
        ends.map_err(|error| error.to_string())
    }

    pub fn cut(&mut self) {
        self.is_cut = true;
        self.link.cut();
    }

    pub fn heal(&mut self) {
        self.is_cut = false;
        self.link.heal();
    }

    /// The edge's page, while it has one.
    pub fn edge_page(&self) -> Option<Page> {
        let page = self.edge_up.then(|| Page::read(EDGE, self.edge.status));
        page?.ok()
    }

    /// Whether the log is as full as an outage is to make it: new records are refused, or unsent ones
    /// are gone.
    pub fn log_is_full(&self) -> bool {
        let page = self.edge_page().unwrap_or_default();
        let of = |name, partition| page.of_partition(name, partition).unwrap_or(0);
        match self.drop_oldest {
            false => page.whole("log_full") == Some(1),
            true => (0..PARTITIONS as usize)
                .any(|p| of("partition_start_offset", p) > of("partition_acked_offset", p)),
        }
    }

    pub fn life(&self) -> u32 {
        self.life
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn edge_rss(&self) -> u64 {
        self.edge_process.as_ref().map_or(0, Process::rss_bytes)
    }

    pub fn cloud_rss(&self) -> u64 {
        self.cloud_process.as_ref().map_or(0, Process::rss_bytes)
    }

    /// The tally of the life that is now.
    pub fn tally(&self) -> Option<Arc<Tally>> {
        self.lives.current().filter(|t| !t.ending.load(Relaxed))
    }
}
