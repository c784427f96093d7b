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

use std::path::PathBuf;

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};
use headwater_log::SimDisk;
use headwater_log::durable::Rules;
use headwater_log::store::Full;
use headwater_proto::{AlarmKind, Channel, EdgeName, Incarnation};

use crate::now::{Ms, Now};

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

/// See the module's docs.
pub struct SimEdge {}

impl SimEdge {
    /// Opens the data directory and starts. Recovery runs inside.
    pub fn start(setup: Setup, disk: SimDisk, now: Now) -> Result<SimEdge, StartError> {
        let _ = (setup, disk, now);
        Err(StartError::Refused("not built yet".into()))
    }

    /// A client's connection was accepted.
    pub fn mqtt_open(&mut self, now: Now, conn: MqttConn) {
        let _ = (now, conn);
    }

    pub fn mqtt_bytes(&mut self, now: Now, conn: MqttConn, bytes: Bytes) {
        let _ = (now, conn, bytes);
    }

    /// The socket took so many bytes.
    pub fn mqtt_written(&mut self, now: Now, conn: MqttConn, bytes: usize) {
        let _ = (now, conn, bytes);
    }

    /// The client or the network ended it.
    pub fn mqtt_closed(&mut self, now: Now, conn: MqttConn) {
        let _ = (now, conn);
    }

    /// The connection asked for by `Output::Dial` stands.
    pub fn link_up(&mut self, now: Now) {
        let _ = now;
    }

    pub fn link_bytes(&mut self, now: Now, channel: Channel, bytes: Bytes) {
        let _ = (now, channel, bytes);
    }

    /// The connection is gone, or the dial failed.
    pub fn link_down(&mut self, now: Now) {
        let _ = now;
    }

    /// Runs announced work. Unknown ids (of a session that is gone) are nothing.
    pub fn work(&mut self, now: Now, id: u64) {
        let _ = (now, id);
    }

    /// Asks for an orderly stop; the process is done when `is_stopped`.
    pub fn stop(&mut self, now: Now) {
        let _ = now;
    }

    pub fn is_stopped(&self) -> bool {
        false
    }

    /// The earliest time at which something is due.
    pub fn deadline(&self) -> Option<Ms> {
        None
    }

    /// Does what is due.
    pub fn timer(&mut self, now: Now) {
        let _ = now;
    }

    pub fn output(&mut self) -> Option<Output> {
        None
    }

    pub fn partitions(&self) -> Vec<PartitionView> {
        Vec::new()
    }
}
