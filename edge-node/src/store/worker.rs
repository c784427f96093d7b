//! Opening the log, and the thread that then owns it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use headwater_batch::TopicPartition;
use headwater_log::checkpoint::{CheckpointStore, Reserved, SledStore};
use headwater_log::disk::Disk;
use headwater_log::store::{Store, StoreConfig};
use headwater_log::{LogError, RealDisk};
use headwater_proto::{Incarnation, Parent};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::running::Running;
use super::sync::SyncThread;
use super::{Counters, FromStore, LogView, StoreHandle, ToStore};
use crate::clock::{Clock, ClockFile};
use crate::routes::Routes;

/// The last byte of an op says whose it is: here, the broker's.
pub(super) const OP_BROKER: u8 = 0;
/// An op that says where a fork came from.
pub(super) const OP_PARENT: u8 = 1;
/// First byte of checkpoint keys: the broker's, and forks' parents.
pub(super) const KEY_BROKER: u8 = b'b';
/// See [`KEY_BROKER`].
pub(super) const KEY_PARENT: u8 = b'p';

/// Messages handled before the loop looks at commits and deadlines again.
const MESSAGES_PER_TURN: usize = 256;

/// What the thread works with.
pub struct Settings {
    /// The log's settings, its directory included.
    pub store: StoreConfig,
    /// Message to record.
    pub routes: Routes,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Where checkpoints go: [`sled_checkpoints`] on a real disk.
    pub checkpoints: Box<dyn CheckpointStore>,
    /// The node's clock and its file.
    pub clock: Clock,
    /// See `clock`.
    pub clock_file: ClockFile,
    /// Random, new at every start (U1).
    pub boot: u64,
    /// Random, new at every start (U1).
    pub incarnation_if_new: u128,
}

/// The opened log.
pub struct Opened {
    /// To be run on its thread.
    pub worker: Worker,
    /// The broker's checkpointed state.
    pub kv: Vec<(Vec<u8>, Vec<u8>)>,
    /// The broker's ops since.
    pub ops: Vec<Vec<u8>>,
    /// What recovery met, one line each.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ParentOp {
    pub(super) tp: TopicPartition,
    pub(super) incarnation: Incarnation,
    pub(super) parent: Parent,
}

/// The directory of checkpoints, where the budget finds it.
pub const CHECKPOINTS: &str = "checkpoints";

/// Checkpoints in sled, under the data directory of a real disk, with `reserve_bytes` laid aside
/// for when others have filled it.
pub fn sled_checkpoints(
    dir: &Path,
    reserve_bytes: u64,
) -> Result<Box<dyn CheckpointStore>, LogError> {
    let store = || -> Result<Box<dyn CheckpointStore>, LogError> {
        Ok(Box::new(SledStore::open(&dir.join(CHECKPOINTS))?))
    };
    let reserved = Reserved::open(Arc::new(RealDisk), dir, reserve_bytes, store)?;
    Ok(Box::new(reserved))
}

/// Opens the log and recovers it.
pub fn open(settings: Settings, store: StoreHandle) -> Result<Opened, LogError> {
    let Settings {
        routes,
        disk,
        checkpoints,
        clock,
        clock_file,
        boot,
        incarnation_if_new,
        ..
    } = settings;
    let now = clock.now_ms();
    let (log, recovered) = Store::open(
        disk,
        checkpoints,
        settings.store,
        now,
        boot,
        incarnation_if_new,
    )?;
    let mut parents = BTreeMap::new();
    let mut remember = |bytes: &[u8]| match postcard::from_bytes::<ParentOp>(bytes) {
        Ok(op) => drop(parents.insert(op.tp, (op.incarnation, op.parent))),
        Err(error) => tracing::warn!(%error, "a fork's parent cannot be read; the fork stands"),
    };
    let mut kv = Vec::new();
    for (mut key, value) in recovered.kv {
        match key.first() {
            Some(&KEY_BROKER) => kv.push((key.split_off(1), value)),
            Some(&KEY_PARENT) => remember(&value),
            _ => tracing::warn!("a checkpoint entry of an unknown kind was left out"),
        }
    }
    let mut ops = Vec::new();
    for mut op in recovered.ops {
        match op.pop() {
            Some(OP_BROKER) => ops.push(op),
            Some(OP_PARENT) => remember(&op),
            _ => tracing::warn!("a journal op of an unknown kind was left out"),
        }
    }
    // Those from ops are in no checkpoint yet, and the next one trims their ops.
    let parents_changed = parents.keys().cloned().collect();
    let worker = Worker {
        log,
        routes,
        clock,
        clock_file,
        handle: store,
        view: Arc::new(LogView::new()),
        counters: Arc::new(Counters::default()),
        parents,
        parents_changed,
        lineage_stale: Vec::new(),
    };
    Ok(Opened {
        worker,
        kv,
        ops,
        notes: recovered.notes,
    })
}

/// The opened log with what belongs to it, before and while its thread runs.
pub struct Worker {
    pub(super) log: Store,
    pub(super) routes: Routes,
    pub(super) clock: Clock,
    pub(super) clock_file: ClockFile,
    pub(super) handle: StoreHandle,
    pub(super) view: Arc<LogView>,
    pub(super) counters: Arc<Counters>,
    pub(super) parents: BTreeMap<TopicPartition, (Incarnation, Parent)>,
    pub(super) parents_changed: Vec<TopicPartition>,
    /// Partitions whose lineage changed since it was last shown.
    pub(super) lineage_stale: Vec<TopicPartition>,
}

impl Worker {
    /// What other threads may read.
    pub fn view(&self) -> Arc<LogView> {
        self.view.clone()
    }

    /// What is counted.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Runs until [`ToStore::Stop`] or a failure, which the broker hears of as well.
    pub fn run(
        self,
        messages: &Receiver<ToStore>,
        to_broker: mpsc::UnboundedSender<FromStore>,
    ) -> Result<(), String> {
        let failed = to_broker.clone();
        let result = self.run_to_end(messages, to_broker);
        result.map_err(|error| {
            let text = error.to_string();
            tracing::error!(error = text, "the log failed; the node stops");
            let _ = failed.send(FromStore::Failed(text.clone()));
            text
        })
    }

    fn run_to_end(
        self,
        messages: &Receiver<ToStore>,
        to_broker: mpsc::UnboundedSender<FromStore>,
    ) -> Result<(), LogError> {
        let sync = SyncThread::start(self.handle.clone(), self.counters.clone())
            .map_err(LogError::io("start a thread for", Path::new("the journal")))?;
        let clock = self.clock.clone();
        let mut running = Running::start(self, Box::new(sync), to_broker);
        loop {
            let pause = running.deadline().saturating_sub(clock.now_ms());
            match messages.recv_timeout(Duration::from_millis(pause)) {
                Ok(message) => {
                    running.take(message)?;
                    for message in messages.try_iter().take(MESSAGES_PER_TURN) {
                        running.take(message)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Every handle is gone without a Stop: the node was dropped.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if running.step()? {
                return Ok(());
            }
        }
    }
}
