//! The cloud's node: the real core on a simulated disk and object store, without listeners.
//!
//! A life begins with [`Cloud::power_on`] and ends with [`Cloud::stop`]: its tasks are aborted, and a
//! fence keeps what is left of it off the disk and the object store, as a dead process is.

mod backup;
mod conns;
mod disk;
mod ledger;
mod retire;
mod store;
mod trouble;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cloud_cluster::clock::{Clock, Simulated};
use cloud_cluster::cold::{ColdStore, SealConfig};
use cloud_cluster::core::{Core, CoreConfig, Running};
use cloud_cluster::kafka::{Service, View};
use cloud_cluster::machine::Machine;
use cloud_cluster::retention::Retention;
use cloud_cluster::shardlog::{LocalLogConfig, Medium, Writer};
use cloud_cluster::tasks::Tasks;
use cloud_cluster::uplink::Receiver;
use headwater_kafka::Settings;
use headwater_kafka::group::GroupConfig;
use headwater_log::durable::Rules;
use headwater_log::{Disk, SimDisk};
use headwater_proto::{Channel, EdgeName, Incarnation, StreamKey, StreamOutcome};
use object_store::memory::InMemory;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::kafka::consumer::KafkaConn;
use crate::now::Ms;
use crate::payload::Id;
use crate::rng::Rng;
pub use backup::Backup;
pub use disk::Fence;
use disk::FencedDisk;
pub use retire::Held;
use store::SimStore;
pub use trouble::{Spell, Trouble};

/// Names an uplink connection. The world never uses one twice.
pub type LinkConn = u64;

/// What the node does to the outside, in the order it does it.
pub enum CloudOut {
    /// Ready for work.
    Started(Box<Running>),
    /// It does not start, or has to stop (J6).
    Failed(String),
    Uplink(LinkConn, Bytes),
    UplinkClosed(LinkConn, String),
    /// An entry's outcome, for the counters.
    Outcome(StreamOutcome),
    /// Records of a stream were appended, by their offsets on the edge.
    Appended(StreamKey, Vec<(i64, Id)>),
    Alarm(String),
    /// What came of giving an incarnation up.
    Retired(Incarnation, StreamOutcome),
    Kafka(KafkaConn, Bytes),
    KafkaClosed(KafkaConn, String),
}

/// What worlds vary.
#[derive(Debug, Clone)]
pub struct CloudSettings {
    pub data_shards: u8,
    pub partitions: u32,
    pub file_bytes: u64,
    pub files_max: usize,
    pub group_bytes: usize,
    pub hot_bytes: u64,
    pub interval_ms: u64,
    pub partition_bytes_min: u64,
    pub partition_age_ms: i64,
    pub segment_bytes: u64,
    pub retention_bytes: i64,
    pub retention_ms: i64,
    pub sync_ms_max: u64,
    pub reserve_bytes: u64,
    pub rules: Rules,
}

enum State {
    Off,
    Starting,
    Up(Box<Parts>),
}

/// What is left of a running node once its loops run.
struct Parts {
    machine: Arc<Machine>,
    receiver: Arc<Receiver>,
    service: Service,
    clock: Clock,
    tasks: Tasks,
}

pub struct Cloud {
    pub disk: SimDisk,
    pub settings: CloudSettings,
    objects: Arc<InMemory>,
    state: State,
    /// Counts lives; what a past life says is not heard.
    life: u64,
    fence: Fence,
    tasks: Vec<AbortHandle>,
    out: UnboundedSender<(u64, CloudOut)>,
    uplinks: BTreeMap<LinkConn, UnboundedSender<(Channel, Bytes)>>,
    clients: BTreeMap<KafkaConn, UnboundedSender<Bytes>>,
    /// The journal's device answers nothing before this.
    stalled_until: Arc<AtomicU64>,
    pub trouble: Trouble,
    epoch: Instant,
    source: Option<Arc<Simulated>>,
    /// Objects whose writing was cut by the end of a life.
    pub store_faults: Arc<AtomicU64>,
}

impl Cloud {
    pub fn new(
        seed: u64,
        settings: CloudSettings,
        trouble: Trouble,
        epoch: Instant,
    ) -> (Cloud, UnboundedReceiver<(u64, CloudOut)>) {
        let (out, outputs) = mpsc::unbounded_channel();
        let cloud = Cloud {
            disk: SimDisk::new(seed),
            settings,
            objects: Arc::new(InMemory::new()),
            state: State::Off,
            life: 0,
            fence: Fence::default(),
            tasks: Vec::new(),
            out,
            uplinks: BTreeMap::new(),
            clients: BTreeMap::new(),
            stalled_until: Arc::default(),
            trouble,
            epoch,
            source: None,
            store_faults: Arc::default(),
        };
        (cloud, outputs)
    }

    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up(_))
    }

    pub fn is_off(&self) -> bool {
        matches!(self.state, State::Off)
    }

    /// Whether an output comes from the life that runs.
    pub fn hears(&self, life: u64) -> bool {
        life == self.life && !self.is_off()
    }

    /// Starts a life: recovery runs at once, the rest as tasks.
    pub fn power_on(&mut self, rng: &mut Rng, wall_ms: i64) {
        self.life += 1;
        self.fence = Fence::default();
        self.state = State::Starting;
        let source = Arc::new(Simulated::new(rng.u64(), wall_ms));
        self.source = Some(source.clone());
        let clock = Clock::new(source);
        let disk: Arc<dyn Disk> = Arc::new(FencedDisk::new(self.disk.clone(), self.fence.clone()));
        let store = SimStore::new(
            self.objects.clone(),
            self.fence.clone(),
            rng.fork(),
            self.store_faults.clone(),
        );
        let cold = Arc::new(ColdStore::of(Arc::new(store)));
        let config = config(&self.settings);
        let out = Out {
            life: self.life,
            fence: self.fence.clone(),
            sender: self.out.clone(),
        };
        match Core::open(config, &Medium::files(disk), cold, clock) {
            Err(error) => out.send(CloudOut::Failed(error.to_string())),
            Ok((core, writer)) => {
                let view = view(&core);
                self.keep(self.write(writer, rng.fork()));
                let task = tokio::spawn(async move {
                    match core.start(view).await {
                        Ok(running) => out.send(CloudOut::Started(Box::new(running))),
                        Err(error) => out.send(CloudOut::Failed(error.to_string())),
                    }
                });
                self.tasks.push(task.abort_handle());
            }
        }
    }

    /// The journal's thread, on a disk that takes its time.
    fn write(&self, mut writer: Writer, mut rng: Rng) -> impl Future<Output = ()> + use<> {
        let (stalled, epoch) = (self.stalled_until.clone(), self.epoch);
        let sync_ms_max = self.settings.sync_ms_max;
        async move {
            while let Some(asked) = writer.next().await {
                let wait = Duration::from_millis(rng.below(sync_ms_max + 1));
                let stall = Duration::from_millis(stalled.load(Ordering::Relaxed));
                let until = (Instant::now() + wait).max(epoch + stall);
                tokio::time::sleep_until(until).await;
                if !writer.round(asked) {
                    return;
                }
            }
        }
    }

    /// The node has begun its term: its loops begin.
    pub fn started(&mut self, running: Box<Running>) {
        let out = self.out();
        let (log, failed) = (running.log.clone(), out.clone());
        self.keep(async move { failed.send(CloudOut::Failed(log.failed().await)) });
        self.keep(running.retention());
        let (log, disk, reserve) = (
            running.log.clone(),
            self.disk.clone(),
            self.settings.reserve_bytes,
        );
        self.keep(async move {
            loop {
                // C5, as the node's own loop does it.
                if let Ok(free) = disk.free_bytes(&PathBuf::from("/")) {
                    log.set_disk_full(free < reserve);
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        let tasks = running.tasks();
        let Running {
            machine,
            receiver,
            service,
            clock,
            mut sealing,
            ..
        } = *running;
        self.keep(async move { out.send(CloudOut::Failed(sealing.run().await)) });
        self.state = State::Up(Box::new(Parts {
            machine,
            receiver,
            service,
            clock,
            tasks,
        }));
    }

    /// The process is gone, from one instruction to the next.
    pub fn stop(&mut self) {
        self.fence.close();
        if let State::Up(parts) = std::mem::replace(&mut self.state, State::Off) {
            parts.tasks.abort();
        }
        self.tasks.drain(..).for_each(|task| task.abort());
        self.uplinks.clear();
        self.clients.clear();
    }

    pub fn stall_until(&self, at: Ms) {
        self.stalled_until.store(at, Ordering::Relaxed);
    }

    pub fn set_wall_ms(&self, wall_ms: i64) {
        if let Some(source) = &self.source {
            source.set_wall_ms(wall_ms);
        }
    }

    fn keep(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        // Those that ended by themselves; else they would gather.
        self.tasks.retain(|task| !task.is_finished());
        self.tasks.push(tokio::spawn(task).abort_handle());
    }

    fn out(&self) -> Out {
        Out {
            life: self.life,
            fence: self.fence.clone(),
            sender: self.out.clone(),
        }
    }

    /// An edge's connection stands. False: nobody listens.
    pub fn link_opened(&mut self, conn: LinkConn, edge: &EdgeName) -> bool {
        let State::Up(parts) = &self.state else {
            return false;
        };
        let (sender, inbound) = mpsc::unbounded_channel();
        let (sink, clock) = (parts.receiver.clone(), parts.clock.clone());
        let sink = conns::Troubled {
            sink,
            trouble: self.trouble.clone(),
            epoch: self.epoch,
        };
        let task = conns::uplink(conn, edge.clone(), inbound, sink, clock, self.out());
        self.keep(task);
        self.uplinks.insert(conn, sender);
        true
    }

    pub fn link_bytes(&mut self, conn: LinkConn, channel: Channel, bytes: Bytes) {
        if let Some(sender) = self.uplinks.get(&conn) {
            let _ = sender.send((channel, bytes));
        }
    }

    /// The node learns that the connection is gone.
    pub fn link_closed(&mut self, conn: LinkConn) {
        self.uplinks.remove(&conn);
    }

    pub fn client_opened(&mut self, conn: KafkaConn) -> bool {
        let State::Up(parts) = &self.state else {
            return false;
        };
        let (sender, inbound) = mpsc::unbounded_channel();
        let task = conns::kafka(conn, inbound, parts.service.clone(), self.out());
        self.keep(task);
        self.clients.insert(conn, sender);
        true
    }

    pub fn client_frame(&mut self, conn: KafkaConn, frame: Bytes) {
        if let Some(sender) = self.clients.get(&conn) {
            let _ = sender.send(frame);
        }
    }

    pub fn client_closed(&mut self, conn: KafkaConn) {
        self.clients.remove(&conn);
    }
}

/// Where a life speaks; silent once the life is over.
#[derive(Clone)]
struct Out {
    life: u64,
    fence: Fence,
    sender: UnboundedSender<(u64, CloudOut)>,
}

impl Out {
    fn send(&self, out: CloudOut) {
        if !self.fence.is_closed() {
            let _ = self.sender.send((self.life, out));
        }
    }
}

fn config(settings: &CloudSettings) -> CoreConfig {
    let journal_bytes = settings.file_bytes * settings.files_max as u64;
    CoreConfig {
        node_id: 1,
        log: LocalLogConfig {
            journal_dir: "/journal".into(),
            checkpoint_dir: "/checkpoints".into(),
            state_dir: "/state".into(),
            file_bytes: settings.file_bytes,
            files_max: settings.files_max,
            data_shards: settings.data_shards,
            hot_bytes: settings.hot_bytes,
            group_bytes: settings.group_bytes,
            rules: settings.rules,
        },
        seal: SealConfig {
            hot_bytes: settings.hot_bytes,
            journal_bytes: journal_bytes / 4,
            room_bytes: journal_bytes / 2,
            interval: Duration::from_millis(settings.interval_ms),
            partition_bytes_min: settings.partition_bytes_min,
            partition_age_ms_max: settings.partition_age_ms,
            segment_bytes: settings.segment_bytes,
        },
        retention: Retention {
            ms: settings.retention_ms,
            bytes: settings.retention_bytes,
        },
        retention_check: Duration::from_secs(3),
        groups: GroupConfig::default(),
        default_partitions: settings.partitions,
        uplink_addresses: vec!["cloud:4433".into()],
    }
}

fn view(core: &Core) -> View {
    View {
        cluster_id: "sim".into(),
        node_id: 1,
        host: "cloud".into(),
        port: 9092,
        topics: core.machine.topics.clone(),
        settings: Settings::default(),
    }
}
