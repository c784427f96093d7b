//! The settings of an edge node: TOML in, checked values out.
//!
//! Every key has a default, and `config/edge-node.toml` shows all of them with that default; a test
//! holds the file to the code. An unknown key, a wrong type or a value out of range is an error
//! that names the key, its value and what would be valid.

mod check;
mod listener;

pub(crate) use check::socket;
pub use listener::{Access, Anonymous, CertificateUser, ClientCertificates, Listener};

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Everything an operator may set. `Config::default()` is what an empty file means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The edge's name in the record header `edge`. Empty: the bundle's, else "edge".
    pub name: String,
    /// Where journal, segments and checkpoints live.
    pub data_dir: PathBuf,
    /// What the log lines show, in `tracing`'s filter syntax; RUST_LOG overrides it.
    pub log_level: String,
    /// Where MQTT clients connect.
    pub listeners: Vec<Listener>,
    /// Who they are and what they may do.
    pub access: Access,
    /// Sessions and queues.
    pub mqtt: Mqtt,
    /// Disk and batches.
    pub log: Log,
    /// The link to the cloud.
    pub uplink: Uplink,
    /// The status page.
    pub status: Status,
    /// MQTT topic filters and the log topics they lead to; the first match decides.
    pub routes: Vec<Route>,
}

/// `[mqtt]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// Connections at most, over all listeners.
    pub connections_max: usize,
    /// Publishes of one client that may wait for their acknowledgement.
    pub receive_maximum: u16,
    /// Publishes under way to one client.
    pub inflight_max: u16,
    /// Messages that wait for one client.
    pub queue_messages_max: usize,
    /// The same in bytes.
    pub queue_bytes_max: usize,
    /// The same of all clients whose sessions outlive their connections.
    pub queues_bytes_max: usize,
    /// Retained messages, all together.
    pub retained_bytes_max: usize,
    /// Longest life of a session without a connection; 0 means for ever.
    pub session_expiry_max_s: u32,
    /// Longest keep-alive; 0 means whatever the client asks.
    pub keep_alive_max_s: u16,
    /// How often `$SYS` topics say what has changed, while anybody subscribes to them; 0: never.
    pub sys_interval_s: u16,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A batch is sealed at this size, before compression.
    pub batch_bytes: usize,
    /// A batch is sealed when its first record is this old.
    pub linger_ms: u64,
    /// With the link down a busy partition's batch may wait this long instead.
    pub hold_ms: u64,
    /// zstd's level, 1 to 19; 0 stores batches uncompressed.
    pub compression_level: i32,
    /// A segment file at most.
    pub segment_bytes: u64,
    /// One journal file.
    pub journal_file_bytes: u64,
    /// Journal, segments and checkpoints together.
    pub budget_bytes: u64,
    /// The part of the budget that new records cannot use.
    pub reserve_bytes: u64,
    /// Mirrored records older than this may go; 0: only when space is needed.
    pub retention_ms: u64,
    /// Mirrored records beyond this size per partition may go; 0: only when space is needed.
    pub retention_bytes: u64,
    /// What happens when the budget is used up.
    pub when_full: WhenFull,
    /// Longest wait for the disk of routes with durability `interval`.
    pub interval_ms: u64,
    /// Longest wait of a message for others that share its fsync.
    pub commit_gather_ms: u64,
    /// Records in memory that are not in a segment yet.
    pub memory_bytes: usize,
}

/// `log.when_full`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// New records are refused; nothing stored is lost.
    Refuse,
    /// The oldest records go, unsent ones too; the cloud's ledger names what is missing.
    DropOldest,
}

/// `[uplink]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uplink {
    /// The bundle that `cloud-cluster edge add` wrote; empty: no uplink.
    pub bundle: String,
    /// Instead of the bundle's addresses; empty: those.
    pub addresses: Vec<String>,
    /// A ping after this much silence; 0: never.
    pub keep_alive_s: u64,
    /// A connection that heard nothing for this long is dead.
    pub idle_timeout_s: u64,
    /// Longest pause between two attempts to connect.
    pub backoff_max_ms: u64,
    /// Bytes sent and not acknowledged by the peer's QUIC.
    pub send_window_bytes: u64,
    /// Hand the kernel several packets per call.
    pub segmentation_offload: bool,
}

/// `[status]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Status {
    /// Address of the page, `/status`, `/metrics` and `/healthz`; empty: none.
    pub listen: String,
}

/// `[[routes]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// An MQTT topic filter.
    pub filter: String,
    /// The log topic that matching messages go to.
    pub topic: String,
    /// The record's key: text with `{topic}`, `{client}`, `{level:N}` in it. Empty: no key.
    #[serde(default = "default_key")]
    pub key: String,
    /// Partitions of the log topic on this edge.
    #[serde(default = "default_partitions")]
    pub partitions: u32,
    /// When the publisher is answered.
    #[serde(default)]
    pub durability: RouteDurability,
}

/// `routes.durability`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteDurability {
    /// After its fdatasync.
    #[default]
    Fsync,
    /// At once; synced within `log.interval_ms`.
    Interval,
    /// Once the operating system has it.
    Os,
}

fn default_key() -> String {
    "{topic}".into()
}

const fn default_partitions() -> u32 {
    1
}

impl Default for Config {
    fn default() -> Config {
        Config {
            name: String::new(),
            data_dir: "headwater-edge".into(),
            log_level: "info".into(),
            listeners: vec![Listener::default()],
            access: Access::default(),
            mqtt: Mqtt::default(),
            log: Log::default(),
            uplink: Uplink::default(),
            status: Status::default(),
            routes: vec![Route::default()],
        }
    }
}

impl Default for Mqtt {
    fn default() -> Mqtt {
        let machine = headwater_mqtt::Config::default();
        Mqtt {
            connections_max: machine.connections_max,
            receive_maximum: machine.receive_maximum,
            inflight_max: machine.inflight_max,
            queue_messages_max: machine.queue_messages_max,
            queue_bytes_max: machine.queue_bytes_max,
            queues_bytes_max: machine.queues_bytes_max,
            retained_bytes_max: machine.retained_bytes_max,
            session_expiry_max_s: 0,
            keep_alive_max_s: machine.keep_alive_max_s,
            sys_interval_s: machine.sys_interval_s,
        }
    }
}

impl Default for Log {
    fn default() -> Log {
        let store = headwater_log::store::StoreConfig::new("");
        Log {
            batch_bytes: store.batch_bytes,
            linger_ms: store.linger_ms,
            hold_ms: store.hold_ms,
            compression_level: 3,
            segment_bytes: store.segment_bytes,
            journal_file_bytes: store.journal_file_bytes,
            budget_bytes: store.budget_bytes,
            reserve_bytes: store.reserve_bytes,
            retention_ms: 0,
            retention_bytes: 0,
            when_full: WhenFull::Refuse,
            interval_ms: store.interval_ms,
            commit_gather_ms: store.commit_gather_ms,
            memory_bytes: store.memory_bytes,
        }
    }
}

impl Default for Uplink {
    fn default() -> Uplink {
        let transport = headwater_quic::Transport::default();
        Uplink {
            bundle: String::new(),
            addresses: Vec::new(),
            keep_alive_s: transport.keep_alive.as_secs(),
            idle_timeout_s: transport.idle_timeout.as_secs(),
            backoff_max_ms: 2_000,
            send_window_bytes: transport.send_window_bytes,
            segmentation_offload: transport.segmentation_offload,
        }
    }
}

impl Default for Status {
    fn default() -> Status {
        Status {
            listen: "127.0.0.1:8081".into(),
        }
    }
}

impl Default for Route {
    /// Everything goes to one topic, in order per MQTT topic.
    fn default() -> Route {
        Route {
            filter: "#".into(),
            topic: "mqtt".into(),
            key: default_key(),
            partitions: default_partitions(),
            durability: RouteDurability::Fsync,
        }
    }
}

/// Why settings were refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("configuration {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key or a value of the wrong type.
    #[error("configuration {path}: {source}", path = path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Names line and key.
        source: Box<toml::de::Error>,
    },
    /// A value that cannot work.
    #[error("{key} = {value}: {valid}")]
    Value {
        /// The key with its table, such as `log.linger_ms`.
        key: String,
        /// As it was set.
        value: String,
        /// What would be valid.
        valid: String,
    },
    /// The bundle that `uplink.bundle` names.
    #[error("uplink.bundle = {path:?}: {source}")]
    Bundle {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: headwater_quic::BundleError,
    },
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let io = |source| ConfigError::Io {
            path: path.into(),
            source,
        };
        let text = std::fs::read_to_string(path).map_err(io)?;
        let config = Config::parse(&text, path)?;
        config.check()?;
        Ok(config)
    }

    /// Parses a text without checking the values; `path` is for the error.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        toml::from_str(text).map_err(|source| {
            let source = Box::new(source);
            ConfigError::Toml {
                path: path.into(),
                source,
            }
        })
    }

    /// The effective settings as TOML, for `--print-config`.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("all settings have a TOML form")
    }
}

#[cfg(test)]
mod tests;
