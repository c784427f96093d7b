//! A node: everything started in order, and stopped in order.

mod datadir;
mod disk;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use headwater_kafka::Settings;
use headwater_kafka::group::GroupConfig;
use headwater_log::ErrorKind;
use headwater_log::durable::{FRAME_BYTES_MAX, Rules};
use headwater_quic::server::{Server, ServerConfig, ServerError};
use headwater_quic::{CaError, cloud_identity};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use datadir::{DataDir, DataDirError, ca_of, in_use, revoke, revoked_of};

use crate::admin;
use crate::clock::Clock;
use crate::cold::{ColdError, ColdStore, SealConfig};
use crate::config::{Config, ConfigError};
use crate::core::{Core, CoreConfig, StartError};
use crate::kafka::{KafkaConfig, Listener, View};
use crate::registry::{self, Registered};
use crate::retention::Retention;
use crate::shardlog::local::GROUP_BYTES;
use crate::shardlog::{LocalLog, LocalLogConfig, Medium, ProposeError, RecoverError, Reserve};
use crate::tasks::Tasks;
use crate::uplink::Receiver;

/// How often a node that found no room to start looks again.
const ROOM_LOOK: Duration = Duration::from_secs(1);

/// Why a node does not run, or runs no longer.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("{key} = {address}: {source}")]
    Bind {
        key: &'static str,
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error("cold segments: {0}")]
    Cold(#[from] ColdError),
    #[error("certificates: {0}")]
    Ca(#[from] CaError),
    #[error(transparent)]
    Uplink(#[from] ServerError),
    #[error("at start: {0}")]
    Start(#[from] StartError),
    #[error("the node stopped: {0}")]
    Failed(String),
}

/// A running node.
pub struct Node {
    /// Where clients reach it; ports that were 0 are the real ones.
    pub kafka: SocketAddr,
    pub uplink: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<LocalLog>,
    server: Arc<Server>,
    sealer: JoinHandle<String>,
    tasks: Vec<JoinHandle<()>>,
    parts: Tasks,
    /// Holds the lock.
    _data: DataDir,
}

impl NodeError {
    /// Whether it was for want of room on the disk, which others may give back.
    fn is_full(&self) -> bool {
        use std::io::ErrorKind::StorageFull;
        match self {
            NodeError::DataDir(DataDirError::Io { source, .. }) => source.kind() == StorageFull,
            NodeError::Recover(RecoverError::Log(error)) => error.kind() == ErrorKind::Full,
            NodeError::Cold(ColdError::Io { source, .. }) => source.kind() == StorageFull,
            NodeError::Start(StartError::Propose(error)) => matches!(error, ProposeError::Full(_)),
            _ => false,
        }
    }
}

/// Runs a node until `shutdown` resolves or something fails that has to stop it. One that finds no
/// room at all to start waits for it.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), NodeError> {
    tokio::pin!(shutdown);
    let mut is_told = false;
    let mut node = loop {
        match Node::start(config.clone()).await {
            Err(error) if error.is_full() => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::error!(%error, "no room to start; waiting for it");
                }
                tokio::select! {
                    () = &mut shutdown => return Ok(()),
                    () = tokio::time::sleep(ROOM_LOOK) => {}
                }
            }
            started => break started?,
        }
    };
    let failed = tokio::select! {
        () = &mut shutdown => None,
        why = node.failed() => Some(why),
    };
    node.stop().await;
    match failed {
        Some(why) => Err(NodeError::Failed(why)),
        None => Ok(()),
    }
}

/// A node that listens everywhere has to be told what it is called from outside.
fn warn_of_unreachable(config: &Config) {
    let kafka = config.kafka.listen.ip().is_unspecified() && config.kafka.advertised.is_empty();
    let uplink = config.uplink.listen.ip().is_unspecified() && config.uplink.advertised.is_empty();
    for (key, flag, wrong) in [
        ("kafka.advertised", "--kafka-advertised", kafka),
        ("uplink.advertised", "--uplink-advertised", uplink),
    ] {
        if wrong {
            tracing::warn!("{key} is empty: peers are told 127.0.0.1; set it, or {flag} HOST:PORT");
        }
    }
}

impl Node {
    /// Recovers and starts to listen.
    pub async fn start(config: Config) -> Result<Node, NodeError> {
        config.check()?;
        warn_of_unreachable(&config);
        let data = DataDir::open(&config.data_dir, config.log.shards)?;
        // Before the recovery, which may take a while: a port that is taken is said at once.
        let kafka = bind("kafka.listen", config.kafka.listen).await?;
        let admin = bind("admin.listen", config.admin.listen).await?;
        let core = open(&config, &data).await?;
        let kafka_at = local(&kafka, config.kafka.listen);
        let view = view(&config, &data, &core, kafka_at);
        let log = core.log.clone();
        let core = match core.start(view).await {
            Ok(core) => core,
            Err(error) => {
                // The journal is closed before anybody opens it again.
                let _ = tokio::task::spawn_blocking(move || log.stop()).await;
                return Err(error.into());
            }
        };
        let server = Arc::new(uplink(&config, &data, core.receiver.clone())?);
        let state = admin::State::new(&config, &data, &core, &server);
        let admin_at = local(&admin, config.admin.listen);
        let uplink_at = server.local_addr().unwrap_or(config.uplink.listen);
        let listener = Listener {
            listener: kafka,
            service: core.service.clone(),
            config: Arc::new(kafka_config(&config)),
        };
        let tasks = vec![
            tokio::spawn(listener.run()),
            tokio::spawn(admin::serve(admin, state)),
            tokio::spawn(disk::watch(
                core.log.clone(),
                config.data_dir.clone(),
                config.log.reserve_bytes,
            )),
            tokio::spawn(core.retention()),
        ];
        let (log, parts, mut sealing) = (core.log.clone(), core.tasks(), core.sealing);
        let sealer = tokio::spawn(async move { sealing.run().await });
        tracing::info!(kafka = %kafka_at, uplink = %uplink_at, admin = %admin_at, "ready");
        let (kafka, uplink, admin) = (kafka_at, uplink_at, admin_at);
        Ok(Node {
            kafka,
            uplink,
            admin,
            log,
            server,
            sealer,
            tasks,
            parts,
            _data: data,
        })
    }

    /// Waits for what has to stop the node (J6).
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            why = self.log.failed() => why,
            why = &mut self.sealer => why.unwrap_or_else(|e| e.to_string()),
        }
    }

    /// Stops: no new requests, edges are told, what was proposed is answered.
    pub async fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.sealer.abort();
        if let Some(server) = Arc::into_inner(self.server) {
            server.shutdown().await;
        }
        let log = self.log.clone();
        let stopped = tokio::task::spawn_blocking(move || log.stop());
        let _ = tokio::time::timeout(Duration::from_millis(900), stopped).await;
        self.parts.abort();
        tracing::info!("stopped");
    }
}

/// Reads the data directory and gives the journal its thread.
async fn open(config: &Config, data: &DataDir) -> Result<Core, NodeError> {
    let cold = Arc::new(ColdStore::local(&data.segments())?);
    let core = core_config(config, data);
    let (dir, bytes) = (config.data_dir.clone(), config.log.reserve_bytes);
    let medium = Medium::real(Some(Reserve { dir, bytes }));
    let opened =
        tokio::task::spawn_blocking(move || Core::open(core, &medium, cold, Clock::system()));
    let (core, writer) = opened
        .await
        .map_err(|e| NodeError::Failed(e.to_string()))??;
    core.log.run_on_thread(writer);
    let registered = registry::begin(data.root()).and_then(|()| registry::read(data.root()));
    Ok(core.with_edges(registered.unwrap_or_else(|error| {
        tracing::error!(%error, path = %registry::path_of(data.root()).display(), "not readable");
        Registered::default()
    })))
}

fn core_config(config: &Config, data: &DataDir) -> CoreConfig {
    let journal_bytes = config.log.journal_file_bytes * config.log.journal_files_max as u64;
    CoreConfig {
        node_id: config.node_id,
        log: LocalLogConfig {
            journal_dir: data.journal(),
            checkpoint_dir: data.checkpoints(),
            state_dir: data.state(),
            file_bytes: config.log.journal_file_bytes,
            files_max: config.log.journal_files_max,
            data_shards: data.shards,
            hot_bytes: config.log.hot_bytes,
            // The largest frame must fit too, not only what is gathered at most.
            group_bytes: GROUP_BYTES.max(FRAME_BYTES_MAX + 1024),
            rules: Rules::default(),
        },
        seal: SealConfig {
            hot_bytes: config.log.hot_bytes,
            journal_bytes: journal_bytes / 4,
            room_bytes: journal_bytes / 2,
            interval: Duration::from_secs(config.log.checkpoint_interval_s),
            partition_bytes_min: config.log.segment_bytes_min,
            partition_age_ms_max: (config.log.segment_age_s * 1000) as i64,
            segment_bytes: config.log.segment_bytes,
        },
        retention: Retention {
            ms: config.topics.retention_ms,
            bytes: config.topics.retention_bytes,
        },
        retention_check: Duration::from_secs(config.log.retention_check_s),
        groups: GroupConfig {
            initial_rebalance_delay_ms: config.kafka.initial_rebalance_delay_ms,
            ..GroupConfig::default()
        },
        default_partitions: config.topics.partitions,
        uplink_addresses: config.uplink_advertised(),
    }
}

fn view(config: &Config, data: &DataDir, core: &Core, at: SocketAddr) -> View {
    let (host, port) = config.kafka_advertised();
    let settings = Settings {
        default_partitions: config.topics.partitions,
        auto_create_topics: config.topics.auto_create,
        fetch_bytes_max: config.kafka.fetch_bytes_max,
        broker_configs: BTreeMap::from([
            (
                "log.retention.ms".into(),
                config.topics.retention_ms.to_string(),
            ),
            (
                "log.retention.bytes".into(),
                config.topics.retention_bytes.to_string(),
            ),
        ]),
        ..Settings::default()
    };
    View {
        cluster_id: data.cluster_id.clone(),
        node_id: config.node_id,
        host,
        port: if port == 0 { at.port() } else { port },
        topics: core.machine.topics.clone(),
        settings,
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, NodeError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|source| NodeError::Bind {
        key,
        address,
        source,
    })
}

fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

fn uplink(config: &Config, data: &DataDir, sink: Arc<Receiver>) -> Result<Server, NodeError> {
    let identity = cloud_identity(&data.ca())?;
    let server = ServerConfig {
        connections_max: config.uplink.connections_max,
        revoked: Some(data.revoked()),
        ..ServerConfig::new(config.uplink.listen)
    };
    Ok(Server::bind(server, &identity, sink)?)
}

fn kafka_config(config: &Config) -> KafkaConfig {
    KafkaConfig {
        connections_max: config.kafka.connections_max,
        request_bytes_max: config.kafka.request_bytes_max,
        in_flight_bytes: config.kafka.in_flight_bytes_max,
        idle: Duration::from_secs(config.kafka.idle_timeout_s),
    }
}
