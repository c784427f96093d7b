//! The node without its listeners: what production, tests and the simulator all run.
//!
//! ```text
//! Core::open -> (Core, Writer)      files are read; blocks
//! run the writer                    LocalLog::run_on_thread, or Writer::serve as a task
//! Core::start -> Running            room is made, the term begins, the parts take their work
//! run Running's sealer, retention   as tasks
//! ```
//! Nothing here opens a socket, starts a thread, or reads a clock that was not handed in. To lose
//! power, call [`Running::abort`], abort the writer and the loops, and drop everything: only the disk
//! remains, and the cold store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use headwater_kafka::group::GroupConfig;
use headwater_shard::{Entry, LostReason};
use thiserror::Error;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use crate::clock::Clock;
use crate::cold::{ColdError, ColdStore, Patience, SealConfig, Sealer};
use crate::kafka::{Groups, Reader, Service, View};
use crate::machine::{Gone, Machine};
use crate::rebuild::Rebuild;
use crate::registry::Registered;
use crate::retention::{self, Retention};
use crate::shardlog::{
    LocalLog, LocalLogConfig, Medium, ProposeError, RecoverError, Remains, ShardLog, Writer, commit,
};
use crate::tasks::Tasks;
use crate::topics::{TopicCache, TopicError, Topics};
use crate::uplink::{Cluster, Receiver};

/// What the parts of a node are set to.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    pub node_id: i32,
    pub log: LocalLogConfig,
    pub seal: SealConfig,
    pub retention: Retention,
    pub retention_check: Duration,
    pub groups: GroupConfig,
    /// Partitions of a topic that an edge's data makes.
    pub default_partitions: u32,
    /// What edges are told for their next try.
    pub uplink_addresses: Vec<String>,
}

/// Why a node does not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("making room: {0}")]
    Room(String),
    /// Without its answer it is not known what there is: to start would be to lose it.
    #[error("the object store: {0}")]
    Cold(#[from] ColdError),
    #[error(transparent)]
    Topics(#[from] TopicError),
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// What is there once the files are read.
pub struct Core {
    pub log: Arc<LocalLog>,
    pub machine: Arc<Machine>,
    pub cold: Arc<ColdStore>,
    pub clock: Clock,
    config: CoreConfig,
    gone: UnboundedReceiver<Gone>,
    is_clean: bool,
    is_new: bool,
    remains: Remains,
    registered: Option<Registered>,
}

/// A node that takes work. Its parts live until [`Running::abort`].
pub struct Running {
    pub log: Arc<LocalLog>,
    pub machine: Arc<Machine>,
    pub topics: Topics,
    /// Where an uplink puts what edges send.
    pub receiver: Arc<Receiver>,
    /// Serves Kafka requests: [`Service::request`].
    pub service: Service,
    pub clock: Clock,
    pub sealing: Sealing,
    tasks: Tasks,
    config: CoreConfig,
}

impl Core {
    /// Reads the files of the last run. Blocks. The journal takes nothing until the writer runs.
    pub fn open(
        config: CoreConfig,
        medium: &Medium,
        cold: Arc<ColdStore>,
        clock: Clock,
    ) -> Result<(Core, Writer), RecoverError> {
        let topics = Arc::new(TopicCache::new(config.node_id));
        let recovery = LocalLog::open(&config.log, medium, topics, clock.random())?;
        let core = Core {
            log: Arc::new(recovery.log),
            machine: recovery.machine,
            cold,
            clock,
            config,
            gone: recovery.gone,
            is_clean: recovery.is_clean,
            is_new: recovery.is_new,
            remains: recovery.remains,
            registered: None,
        };
        Ok((core, recovery.writer))
    }

    /// Says which edges have bundles. A node that is not told lets no edge pass for a newcomer.
    pub fn with_edges(self, registered: Registered) -> Core {
        let registered = Some(registered);
        Core { registered, ..self }
    }

    /// Makes room in the journal, begins a term (C3) and starts the parts.
    pub async fn start(self, view: View) -> Result<Running, StartError> {
        let Core {
            log: local,
            machine,
            cold,
            clock,
            config,
            gone,
            mut is_clean,
            is_new,
            remains,
            registered,
        } = self;
        let mut sealer = Sealer::new(
            config.seal.clone(),
            machine.clone(),
            local.clone(),
            cold.clone(),
            gone,
            clock.clone(),
        );
        begin(&mut sealer, &local, &machine).await?;
        let rebuild = Rebuild {
            log: &*local,
            machine: &machine,
            cold: &cold,
            clock: &clock,
            registered: registered.as_ref(),
        };
        let mut reason = LostReason::Journal;
        if Rebuild::is_due(&machine) || (is_new && rebuild.finds_segments().await?) {
            is_clean = false;
            reason = LostReason::State;
            rebuild.run(&remains).await?;
        }
        rebuild.enter_losses(reason).await?;
        if reason == LostReason::State {
            sealer
                .store_all()
                .await
                .map_err(|e| StartError::Room(e.what))?;
        }
        if let Some(registered) = &registered {
            admit(registered, &*local, &machine).await?;
        }
        let tasks = Tasks::default();
        let (shards, log): (_, Arc<dyn ShardLog>) = (machine.shards.clone(), local.clone());
        let (deleted, deleted_seen) = mpsc::unbounded_channel();
        let topics = Topics::start(log.clone(), shards.clone(), deleted, clock.clone(), &tasks);
        topics.reconcile().await?;
        let cluster = Cluster {
            log: log.clone(),
            shards: shards.clone(),
            topics: topics.clone(),
            clock: clock.clone(),
            default_partitions: config.default_partitions,
        };
        let receiver = Receiver::start(cluster, config.uplink_addresses.clone(), &tasks);
        let groups = Groups::start(
            config.groups.clone(),
            clock.clone(),
            log.clone(),
            shards.clone(),
            deleted_seen,
            &tasks,
        );
        let reader = Reader {
            shards,
            hot: machine.hot.clone(),
            cold,
            budget: Default::default(),
            log: log.clone(),
            clock: clock.clone(),
        };
        let service = Service {
            view: Arc::new(view),
            log,
            reader,
            topics: topics.clone(),
            groups,
            clock: clock.clone(),
            tasks: tasks.clone(),
        };
        Ok(Running {
            log: local,
            machine,
            topics,
            receiver: Arc::new(receiver),
            service,
            clock,
            sealing: Sealing { sealer, is_clean },
            tasks,
            config,
        })
    }
}

impl Running {
    /// Looks for what is past its time, for ever. Does nothing until it is polled.
    pub fn retention(&self) -> impl Future<Output = ()> + Send + use<> {
        retention::run(
            self.service.log.clone(),
            self.machine.shards.clone(),
            self.config.retention,
            self.config.retention_check,
            self.clock.clone(),
        )
    }

    /// Ends the parts where they stand, without any clean-up.
    pub fn abort(&self) {
        self.tasks.abort();
    }

    /// Ends them later, also when `self` was taken apart.
    pub fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }
}

/// Makes room, and begins the term. Without a store that takes segments the node serves what it can
/// as long as the journal takes the term's entries: data waits for the sealer, reads do not.
async fn begin(sealer: &mut Sealer, log: &LocalLog, machine: &Machine) -> Result<(), StartError> {
    let mut patience = Patience::of_start();
    loop {
        let made = sealer.make_room().await;
        if let Err(error) = &made {
            if error.fatal {
                return Err(StartError::Room(error.what.clone()));
            }
            tracing::warn!(error = error.what, "no room is made in the journal yet");
        }
        match (begin_term(log, machine).await, made) {
            (Err(ProposeError::Full(_)), Err(error)) => {
                if !patience.pause().await {
                    return Err(StartError::Room(error.what));
                }
            }
            (begun, _) => return Ok(begun?),
        }
    }
}

/// Edges whose bundles were made while no node ran, or whose rows are lost.
async fn admit(
    registered: &Registered,
    log: &dyn ShardLog,
    machine: &Machine,
) -> Result<(), ProposeError> {
    let meta = machine.shards.meta();
    for (name, at_ms) in &registered.edges {
        if machine.shards.read(meta).edge(name).is_none() {
            let (name, at_ms) = (name.clone(), *at_ms);
            commit(log, meta, Entry::AddEdge { name, at_ms }, Bytes::new()).await?;
        }
    }
    Ok(())
}

/// C3: the leader of a new term answers once an entry of that term is applied.
async fn begin_term(log: &dyn ShardLog, machine: &Machine) -> Result<(), ProposeError> {
    let mut waiting = Vec::new();
    for shard in machine.shards.ids() {
        waiting.push(log.propose(shard, Entry::NewTerm, Bytes::new()).await?);
    }
    for pending in waiting {
        pending.outcome().await?;
    }
    let meta = machine.shards.meta();
    commit(log, meta, Entry::NewTerm, Bytes::new()).await?;
    Ok(())
}

/// The sealer and what it has to know of the recovery.
pub struct Sealing {
    pub sealer: Sealer,
    pub is_clean: bool,
}

impl Sealing {
    /// Compares manifest and store, then seals for ever. Returns the error that has to stop the node.
    pub async fn run(&mut self) -> String {
        if !self.is_clean {
            tracing::warn!("the recovery was not clean: unknown segments are kept");
        }
        if let Err(error) = self.sealer.compare(self.is_clean).await {
            tracing::warn!(%error, "the segments were not compared with the manifest");
        }
        self.sealer.run().await
    }
}
