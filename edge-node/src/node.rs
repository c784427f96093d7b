//! A running node: which threads there are and how they end.
//!
//! ```text
//! edge-mqtt   listeners, connections, the MQTT machine     one tokio runtime, this thread only
//! edge-store  the log                                       blocking
//! edge-sync   write + fdatasync                             blocking
//! edge-net    uplink and status page                        one tokio runtime, this thread only
//! edge-files  looks for changed certificates and the like   blocking; if there are such files
//! edge-logins checks passwords                              blocking; if there is a password file
//! ```

use std::convert::Infallible;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use headwater_batch::TopicError;
use headwater_log::{ErrorKind, LogError, RealDisk};
use headwater_proto::{EdgeConfig, EdgeName};
use headwater_quic::client::{self, ClientConfig, LinkStatus};
use headwater_quic::{Bundle, BundleError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use crate::access::files::{FileError, Files, News};
use crate::broker::{self, BrokerView, DoorSetup};
use crate::clock::TimeSource;
use crate::config::{Config, ConfigError, Listener};
use crate::control::Control;
use crate::lock::DirLock;
use crate::mirror::Mirror;
use crate::notify::Notifier;
use crate::pulse::Pulse;
use crate::routes::Routes;
use crate::status::{Report, Sources};
use crate::store;
use crate::{core, http, random};

/// Name of a node that has neither a name nor a bundle.
const DEFAULT_NAME: &str = "edge";
/// How often a node that found no room to start looks again.
const ROOM_LOOK: Duration = Duration::from_secs(1);
/// What the uplink may take for its good-bye.
const GOOD_BYE: Duration = Duration::from_millis(100);
/// Stacks of this node's own threads: address space, touched only as far as needed.
const STACK_BYTES: usize = 1 << 20;

/// Why a node did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The settings cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory.
    #[error("data directory {path}: {source}", path = path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another node runs on the same directory.
    #[error("data directory {} is in use by another edge-node", .0.display())]
    InUse(PathBuf),
    /// A file of a listener or of access.
    #[error(transparent)]
    File(#[from] FileError),
    /// A port is taken, or an address is not this machine's.
    #[error("{what} address {address}: {source}")]
    Bind {
        /// Which listener.
        what: &'static str,
        /// Its address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The log did not open.
    #[error("opening the log: {0}")]
    Log(#[from] LogError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A route's topic.
    #[error("routes: {0}")]
    Topic(#[from] TopicError),
    /// No thread or no randomness: the system is out of something.
    #[error("starting: {0}")]
    System(#[from] std::io::Error),
    /// The node ended by itself.
    #[error("the node stopped: {0}")]
    Failed(String),
}

/// A running node. [`Node::stop`] ends it in good order and waits; dropped, it ends in its own time.
pub struct Node {
    mqtt: Vec<SocketAddr>,
    status: Option<SocketAddr>,
    sources: Sources,
    read_now: Option<std::sync::mpsc::Sender<()>>,
    stop_mqtt: Option<oneshot::Sender<()>>,
    stop_net: Option<oneshot::Sender<()>>,
    ended: watch::Receiver<Option<String>>,
    threads: Vec<JoinHandle<()>>,
    _lock: DirLock,
}

impl NodeError {
    /// Whether it was for want of room on the medium, which others may give back.
    fn is_full(&self) -> bool {
        match self {
            NodeError::Log(error) => error.kind() == ErrorKind::Full,
            NodeError::DataDir { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

/// Runs a node until `shutdown` is ready or the node fails. One that finds no room at all to start
/// waits for it.
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()>,
    notifier: &Notifier,
) -> Result<(), NodeError> {
    tokio::pin!(shutdown);
    let mut is_told = false;
    let node = loop {
        match Node::start(config.clone()) {
            Err(error) if error.is_full() => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::error!(%error, "no room to start; waiting for it");
                }
                notifier.waiting(&format!("waiting for room to start: {error}"));
                tokio::select! {
                    () = &mut shutdown => return Ok(()),
                    () = tokio::time::sleep(ROOM_LOOK) => {}
                }
            }
            started => break started?,
        }
    };
    notifier.ready(&node);
    let reload = async {
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            hangup.recv().await;
            tracing::info!("SIGHUP: reading certificates, passwords and access rules again");
            node.reload();
        }
    };
    let reload: std::io::Result<Infallible> = tokio::select! {
        () = shutdown => {
            tracing::info!("stopping");
            notifier.stopping("stopping");
            return node.stop().await;
        }
        reason = node.failed() => {
            notifier.stopping(&reason);
            return Err(NodeError::Failed(reason));
        }
        never = notifier.keep_alive(&node) => match never {},
        failed = reload => failed,
    };
    match reload {
        Ok(never) => match never {},
        Err(error) => Err(error.into()),
    }
}

impl Node {
    /// Opens the log and starts all threads. Blocks while the log recovers.
    pub fn start(config: Config) -> Result<Node, NodeError> {
        config.check()?;
        let bundle = config.bundle()?;
        let dir = config.data_dir.clone();
        let in_dir = |source| NodeError::DataDir {
            path: dir.clone(),
            source,
        };
        std::fs::create_dir_all(&dir).map_err(in_dir)?;
        let lock = DirLock::take(&dir).map_err(|source| match source.kind() {
            std::io::ErrorKind::WouldBlock => NodeError::InUse(dir.clone()),
            _ => in_dir(source),
        })?;
        // Ports first: a taken one should be told before the log is touched.
        let files = Files::of(&config);
        let read = files.read()?;
        let doors = doors(&config, &read)?;
        let status_address = Some(config.status.listen.clone()).filter(|a| !a.is_empty());
        let status = bind_all("status.listen", status_address.as_slice())?.pop();

        let name = name_of(&config, bundle.as_ref());
        let setup = core::Setup {
            store: config.store_config(&dir),
            routes: Routes::new(&config.routes, &name)?,
            broker: config.broker_config(random::number()?),
            boot: random::number()?,
            incarnation_if_new: random::number()?,
        };
        let disk = Arc::new(RealDisk);
        let reserve_bytes = config.log.reserve_bytes;
        let checkpoints = |dir: &Path| store::sled_checkpoints(dir, reserve_bytes);
        let core = core::open(setup, disk, TimeSource::system(), &checkpoints)?;
        let (clock, mirror) = (core.clock, core.mirror);
        let (log, counters) = (core.worker.view(), core.worker.counters());
        let (link_out, link) = watch::channel(LinkStatus::default());
        let sources = Sources {
            name: name.into(),
            started_ms: clock.now_ms(),
            clock: clock.clone(),
            broker: Arc::new(Mutex::new(BrokerView::default())),
            log,
            counters,
            mirror: mirror.clone(),
            link,
            uplink_configured: bundle.is_some(),
            pulse: Pulse::new(core.store.clone()),
            taps: Arc::default(),
            control: Arc::new(Control::create(&dir)),
            data_dir: std::path::absolute(&dir).map_err(in_dir)?.into(),
            when_full: config.log.when_full,
        };

        let addresses = doors
            .iter()
            .map(|door| door.socket.local_addr())
            .collect::<Result<_, _>>()?;
        let status_at = status.as_ref().map(TcpListener::local_addr).transpose()?;
        let (ended_in, ended) = watch::channel(None);
        let (stop_mqtt, mqtt_stopped) = oneshot::channel();
        let (stop_net, net_stopped) = oneshot::channel();
        let (to_broker, from_store) = mpsc::unbounded_channel();
        let (to_hub, news) = mpsc::unbounded_channel();
        let (read_now, asked) = std::sync::mpsc::channel();
        let setup = broker::Setup {
            doors,
            files: read,
            news,
            broker: core.broker,
            connections_max: config.mqtt.connections_max,
            clock,
            store: core.store,
            from_store,
            stop: mqtt_stopped,
            view: sources.broker.clone(),
            taps: sources.taps.clone(),
        };
        let uplink = bundle
            .map(|bundle| client_config(&config, &bundle))
            .transpose()?;
        let net = Net {
            uplink,
            mirror,
            link_out,
            status,
            sources: sources.clone(),
        };
        let (worker, to_store) = (core.worker, core.to_store);
        let failed = ended_in.clone();
        let mut threads = vec![
            spawn("edge-store", ended_in.clone(), move || {
                worker.run(&to_store, to_broker)
            })?,
            spawn("edge-mqtt", ended_in, move || broker::run(setup))?,
            spawn("edge-net", failed.clone(), move || net.run(net_stopped))?,
        ];
        if !files.is_empty() {
            threads.push(spawn("edge-files", failed, move || {
                files.watch(&asked, &to_hub);
                Ok(())
            })?);
        }
        tracing::info!(mqtt = ?addresses, status = ?status_at, name = &*sources.name, "edge node runs");
        Ok(Node {
            mqtt: addresses,
            status: status_at,
            sources,
            read_now: Some(read_now),
            stop_mqtt: Some(stop_mqtt),
            stop_net: Some(stop_net),
            ended,
            threads,
            _lock: lock,
        })
    }

    /// Reads certificates, passwords and access rules again, changed or not.
    pub fn reload(&self) {
        if let Some(read_now) = &self.read_now {
            // Without files nobody listens.
            let _ = read_now.send(());
        }
    }

    /// Where MQTT clients connect.
    pub fn mqtt_addresses(&self) -> &[SocketAddr] {
        &self.mqtt
    }

    /// Where the status page is.
    pub fn status_address(&self) -> Option<SocketAddr> {
        self.status
    }

    /// The node's state, as `/status` shows it.
    pub fn report(&self) -> Report {
        self.sources.report()
    }

    /// One line about the node's state.
    pub fn summary(&self) -> String {
        self.sources.summary()
    }

    /// Whether the node's threads still turn.
    pub fn pulse(&self) -> &Pulse {
        &self.sources.pulse
    }

    /// For another task that shows the node's state.
    pub fn sources(&self) -> Sources {
        self.sources.clone()
    }

    /// Ready with the reason when the node failed by itself.
    pub fn failed(&self) -> impl Future<Output = String> + Send + 'static {
        let mut ended = self.ended.clone();
        async move {
            let reason = ended
                .wait_for(Option::is_some)
                .await
                .map(|reason| reason.clone());
            match reason {
                Ok(reason) => reason.unwrap_or_default(),
                // All threads ended in good order: there is nothing to report.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Ends in good order: clients are told, everything taken is durable. Takes less than 2 s.
    pub async fn stop(mut self) -> Result<(), NodeError> {
        drop(self.read_now.take());
        drop(self.stop_mqtt.take());
        drop(self.stop_net.take());
        let threads = std::mem::take(&mut self.threads);
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        let _ = joined.await;
        match self.ended.borrow().clone() {
            Some(reason) => Err(NodeError::Failed(reason)),
            None => Ok(()),
        }
    }
}

fn spawn(
    name: &'static str,
    ended: watch::Sender<Option<String>>,
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let report = move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let outcome = outcome.unwrap_or_else(|_| Err(format!("thread {name} panicked")));
        if let Err(reason) = outcome {
            // The first reason is the cause; what follows is its consequence.
            ended.send_if_modified(|first| {
                let is_first = first.is_none();
                first.get_or_insert(reason);
                is_first
            });
        }
    };
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(STACK_BYTES)
        .spawn(report)
}

fn bind_all(what: &'static str, addresses: &[String]) -> Result<Vec<TcpListener>, NodeError> {
    let bind = |text: &String| {
        let address = crate::config::socket(what, text)?;
        broker::bind(address).map_err(|source| NodeError::Bind {
            what,
            address,
            source,
        })
    };
    addresses.iter().map(bind).collect()
}

/// Whether the files of listeners and of access that the settings name can be read.
pub fn check_files(config: &Config) -> Result<(), NodeError> {
    Files::of(config).read()?;
    Ok(())
}

/// The listeners with what their files said, bound.
fn doors(config: &Config, read: &[News]) -> Result<Vec<DoorSetup>, NodeError> {
    let addresses: Vec<String> = config.listeners.iter().map(|l| l.address.clone()).collect();
    let sockets = bind_all("listeners", &addresses)?;
    let tls_of = |number: u16| {
        read.iter().find_map(|news| match news {
            News::Tls { listener, tls } if *listener == number => Some(tls.clone()),
            _ => None,
        })
    };
    let doors = sockets.into_iter().zip(&config.listeners).zip(0..);
    let door = |((socket, listener), number): ((_, &Listener), u16)| DoorSetup {
        socket,
        listener: listener.clone(),
        tls: tls_of(number),
    };
    Ok(doors.map(door).collect())
}

fn name_of(config: &Config, bundle: Option<&Bundle>) -> String {
    match bundle {
        _ if !config.name.is_empty() => config.name.clone(),
        Some(bundle) => bundle.name.to_string(),
        None => DEFAULT_NAME.to_owned(),
    }
}

fn client_config(config: &Config, bundle: &Bundle) -> Result<ClientConfig, NodeError> {
    let edge: EdgeName = bundle.name.clone();
    let addresses = match &config.uplink.addresses[..] {
        [] => bundle.addresses.clone(),
        addresses => addresses.to_vec(),
    };
    let mut session = EdgeConfig::new(edge.clone());
    session.level = config.log.compression_level;
    Ok(ClientConfig {
        edge,
        identity: bundle.identity()?,
        addresses,
        transport: config.transport(),
        session,
        backoff_max: Duration::from_millis(config.uplink.backoff_max_ms),
        seed: random::number()?,
    })
}

/// What runs on the network thread.
struct Net {
    uplink: Option<ClientConfig>,
    mirror: Arc<Mirror>,
    link_out: watch::Sender<LinkStatus>,
    status: Option<TcpListener>,
    sources: Sources,
}

impl Net {
    fn run(self, stop: oneshot::Receiver<()>) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(4)
            .thread_stack_size(STACK_BYTES)
            .build()
            .map_err(|e| format!("network runtime: {e}"))?;
        let Net {
            uplink,
            mirror,
            link_out,
            status,
            sources,
        } = self;
        let uplink = async {
            match uplink {
                Some(config) => match client::run(config, mirror, link_out).await {
                    Ok(never) => match never {},
                    Err(error) => Err(error.to_string()),
                },
                None => {
                    // The sender is kept: its receivers show "not connected".
                    let _kept = link_out;
                    std::future::pending().await
                }
            }
        };
        let status = async {
            match status {
                Some(listener) => http::serve(listener, sources)
                    .await
                    .map_err(|e| e.to_string()),
                None => std::future::pending().await,
            }
        };
        let ended = runtime.block_on(async {
            tokio::select! {
                _ = stop => Ok(()),
                failed = uplink => failed,
                failed = status => failed,
            }
        });
        // Dropping the uplink closed its connection; this lets the packet out.
        runtime.block_on(async { tokio::time::sleep(GOOD_BYE).await });
        runtime.shutdown_timeout(GOOD_BYE);
        ended
    }
}
