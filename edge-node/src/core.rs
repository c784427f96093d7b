//! What a node is without threads and sockets: log, broker machine and mirror, opened together.
//!
//! [`Node`](crate::Node) puts them on threads. A simulation drives the same parts itself:
//! [`Running`](crate::store::Running), [`Hub`](crate::broker::Hub) and [`Mirror`].

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use headwater_log::LogError;
use headwater_log::disk::{Disk, create_dirs};
use headwater_log::store::{CheckpointStore, StoreConfig};
use headwater_mqtt::{Broker, RestoreReport};

use crate::clock::{Clock, ClockFile, TimeSource};
use crate::mirror::Mirror;
use crate::node::NodeError;
use crate::routes::Routes;
use crate::store::{self, StoreHandle, ToStore, Worker};

/// What a core is told.
pub struct Setup {
    /// The log's settings. Its directory is the data directory.
    pub store: StoreConfig,
    /// Message to record.
    pub routes: Routes,
    /// The broker machine's settings.
    pub broker: headwater_mqtt::Config,
    /// Random, new at every start (U1).
    pub boot: u64,
    /// Random, new at every start (U1).
    pub incarnation_if_new: u128,
}

/// Opens the place of checkpoints in the data directory.
pub type OpenCheckpoints<'a> = &'a dyn Fn(&Path) -> Result<Box<dyn CheckpointStore>, LogError>;

/// The opened parts, connected to each other.
pub struct Core {
    /// The node's clock.
    pub clock: Clock,
    /// The restored machine.
    pub broker: Broker,
    /// What was restored of it.
    pub restored: RestoreReport,
    /// The opened log.
    pub worker: Worker,
    /// The log as the uplink sees it.
    pub mirror: Arc<Mirror>,
    /// What is sent here arrives at `to_store`.
    pub store: StoreHandle,
    /// For who runs the worker.
    pub to_store: Receiver<ToStore>,
    /// What recovery met, one line each.
    pub notes: Vec<String>,
}

/// Opens a data directory and recovers it. Blocks meanwhile.
pub fn open(
    setup: Setup,
    disk: Arc<dyn Disk>,
    time: TimeSource,
    checkpoints: OpenCheckpoints<'_>,
) -> Result<Core, NodeError> {
    let dir = setup.store.dir.clone();
    let in_dir = |source| NodeError::DataDir {
        path: dir.clone(),
        source,
    };
    create_dirs(&*disk, &dir).map_err(in_dir)?;
    let (clock_file, clock) = ClockFile::open(disk.clone(), &dir, time).map_err(in_dir)?;
    let (store, to_store) = StoreHandle::channel();
    let partitions = setup.routes.partitions();
    let settings = store::Settings {
        checkpoints: checkpoints(&dir)?,
        store: setup.store,
        routes: setup.routes,
        disk: disk.clone(),
        clock: clock.clone(),
        clock_file,
        boot: setup.boot,
        incarnation_if_new: setup.incarnation_if_new,
    };
    let opened = store::open(settings, store.clone())?;
    for note in &opened.notes {
        tracing::info!(note, "recovery");
    }
    let (broker, restored) = restore(setup.broker, &opened, clock.now_ms());
    let mirror = Mirror::new(
        opened.worker.view(),
        store.clone(),
        disk,
        clock.clone(),
        &dir,
        partitions,
    );
    Ok(Core {
        clock,
        broker,
        restored,
        worker: opened.worker,
        mirror: Arc::new(mirror),
        store,
        to_store,
        notes: opened.notes,
    })
}

fn restore(
    config: headwater_mqtt::Config,
    opened: &store::Opened,
    now: u64,
) -> (Broker, RestoreReport) {
    let kv = opened
        .kv
        .iter()
        .map(|(key, value)| (key.as_slice(), value.as_slice()));
    let ops = opened.ops.iter().map(Vec::as_slice);
    let (broker, report) = Broker::restore(config, now, kv, ops);
    for problem in &report.problems {
        tracing::warn!(problem, "session state");
    }
    tracing::info!(
        sessions = report.sessions,
        retained = report.retained,
        ops = report.ops_applied,
        dropped = report.dropped,
        "session state restored"
    );
    (broker, report)
}
