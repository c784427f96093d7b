//! One device's process, from its start to its end: the real store, broker and uplink session of
//! `edge-node`, stepped by the world instead of by threads and sockets.
//!
//! The contract with the world:
//! - Every call takes [`Now`]; no clock is read. All randomness comes from [`Setup::seed`].
//! - After every call the world drains [`SimEdge::output`] and asks for [`SimEdge::deadline`].
//! - What would run on another thread (the commit's write and fdatasync, the uplink's reads, forks
//!   and dead letters) is announced as [`Output::Work`] and runs when the world calls
//!   [`SimEdge::work`], which may be much later, in another order, or never.
//! - A power cut or a kill drops the `SimEdge`; the world has crashed its disk before. A disk that
//!   goes down inside a call is found by the world with `SimDisk::is_down` after the call; the edge
//!   must not panic then, whatever its disk answers.

mod clients;
mod facts;
mod process;
mod sealed;
mod tap;
mod tape;
mod time;
mod uplink;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use bytes::Bytes;
use edge_node::config::{Route, RouteDurability};
use edge_node::routes::Routes;
use headwater_batch::{Level, Offset, TopicPartition};
use headwater_log::durable::Rules;
use headwater_log::store::{Full, Gap, StoreConfig};
use headwater_proto::{AlarmKind, Channel, EdgeConfig, EdgeName, Incarnation};

pub use process::SimEdge;

use crate::payload::Id;
use crate::rng::Rng;

/// Part of the budget that new records cannot use: four journal files, as the product's default. It
/// has to hold what a checkpoint may grow by, twice: as much as one journal file told of.
pub const RESERVE_BYTES: u64 = 256 << 10;
/// Records that are not in a segment yet.
const MEMORY_BYTES: usize = 64 << 10;

/// What a start needs. Everything but `seed` may stay the same over the lives of a device.
#[derive(Debug, Clone)]
pub struct Setup {
    pub name: EdgeName,
    /// The data directory on `disk`.
    pub dir: PathBuf,
    pub settings: Settings,
    pub rules: Rules,
    /// Fresh for each start: boot, incarnation, back-off, session ids are drawn from it.
    pub seed: u128,
}

/// The part of edge-node's configuration that worlds vary. Small, so that files roll and budgets fill.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `(filter, log topic, partitions)`, as in the config's routes.
    pub routes: Vec<(String, String, u32)>,
    pub budget_bytes: u64,
    pub full: Full,
    pub journal_file_bytes: u64,
    pub segment_bytes: u64,
    pub batch_bytes: usize,
    pub linger_ms: u64,
    /// Every route's publishes are answered before their sync, which comes within `interval_ms`.
    pub interval: bool,
    pub interval_ms: u64,
    pub retention_bytes: Option<u64>,
    pub retention_ms: Option<u64>,
    /// Of the uplink's machine.
    pub window_bytes: usize,
    pub read_bytes: usize,
    pub zstd_level: i32,
}

/// Why a start gave no process.
#[derive(Debug)]
pub enum StartError {
    /// The disk went down in the middle.
    Crashed,
    /// The node says that it cannot start, as its operator would read it.
    Refused(String),
}

/// Names a network connection of an MQTT client. The world never uses one twice.
pub type MqttConn = u64;

/// What another thread would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkKind {
    /// The sync thread: write and fdatasync of one commit.
    Sync,
    /// A blocking thread of the uplink: read, fork, dead letter.
    Uplink,
}

/// What the process does to the outside.
#[derive(Debug)]
pub enum Output {
    /// To a client. The world answers with `mqtt_written` when the socket took it.
    Mqtt { conn: MqttConn, bytes: Bytes },
    /// The socket is closed after what was sent.
    MqttClose { conn: MqttConn },
    /// Back-pressure: the world delivers nothing more to this connection until `false`.
    MqttPause { conn: MqttConn, paused: bool },
    /// The uplink wants a connection; the world answers `link_up` or `link_down`, once.
    Dial,
    /// On the uplink's connection.
    Uplink { channel: Channel, bytes: Bytes },
    /// The edge ended the connection. No `link_down` follows.
    UplinkClose { reason: String },
    /// To be run by `work`.
    Work { id: u64, kind: WorkKind },
    /// As the status page shows it.
    Alarm { tp: TopicPartition, kind: AlarmKind },
    /// Something worth counting or tracing: `("recovery", ...)`, `("checkpoint", "")`,
    /// `("refused full", "")`, `("gap", "mqtt-0 [3, 7) Dropped")`.
    Note { what: &'static str, detail: String },
    /// A log holds these records, by offset, and can send them.
    Sealed {
        tp: TopicPartition,
        incarnation: Incarnation,
        records: Vec<(i64, Id)>,
    },
    /// A log names records that it will never send.
    Gap { tp: TopicPartition, gap: Gap },
    /// The node ended by itself (J6). The process is gone; drop it.
    Failed(String),
}

/// One partition, for the world's quiet-check and its traces. Not for the oracle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    pub tp: TopicPartition,
    pub incarnation: Incarnation,
    pub start: Offset,
    /// The end of what can be sent.
    pub sealed_end: Offset,
    /// The offset that the next record gets.
    pub next: Offset,
    pub acked: Offset,
}

impl Settings {
    /// While there is no link.
    pub fn hold_ms(&self) -> u64 {
        self.linger_ms * 4
    }
}

impl Setup {
    fn core(&self, rng: &mut Rng) -> Result<edge_node::core::Setup, String> {
        let settings = &self.settings;
        let route = |(filter, topic, partitions): &(String, String, u32)| Route {
            filter: filter.clone(),
            topic: topic.clone(),
            partitions: *partitions,
            durability: match settings.interval {
                true => RouteDurability::Interval,
                false => RouteDurability::Fsync,
            },
            ..Route::default()
        };
        let routes: Vec<Route> = settings.routes.iter().map(route).collect();
        let routes = Routes::new(&routes, self.name.as_str()).map_err(|e| e.to_string())?;
        let broker = headwater_mqtt::Config {
            hash_seed: rng.u64(),
            assigned_id_seed: rng.u64(),
            // As the node shares out its budget.
            queues_bytes_max: (settings.budget_bytes / 8) as usize,
            ..headwater_mqtt::Config::default()
        };
        Ok(edge_node::core::Setup {
            store: StoreConfig {
                journal_file_bytes: settings.journal_file_bytes,
                budget_bytes: settings.budget_bytes,
                reserve_bytes: RESERVE_BYTES,
                batch_bytes: settings.batch_bytes,
                linger_ms: settings.linger_ms,
                hold_ms: settings.hold_ms(),
                interval_ms: settings.interval_ms,
                level: match settings.zstd_level {
                    0 => Level::None,
                    level => Level::Zstd(level),
                },
                segment_bytes: settings.segment_bytes,
                retention_ms: settings.retention_ms,
                retention_bytes: settings.retention_bytes,
                full: settings.full,
                memory_bytes: settings.batch_bytes.max(MEMORY_BYTES),
                rules: self.rules,
                ..StoreConfig::new(&self.dir)
            },
            routes,
            broker,
            boot: rng.u64(),
            incarnation_if_new: rng.u128(),
        })
    }

    fn edge_config(&self) -> EdgeConfig {
        let settings = &self.settings;
        let mut config = EdgeConfig::new(self.name.clone());
        config.window_bytes = settings.window_bytes;
        config.stream_window_bytes = settings.window_bytes / 2 + 1;
        config.read_bytes = settings.read_bytes;
        config.level = settings.zstd_level;
        config
    }
}
