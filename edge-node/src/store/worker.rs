//! The store thread's loop.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use headwater_batch::{Offset, TopicPartition};
use headwater_log::checkpoint::SledStore;
use headwater_log::disk::Disk;
use headwater_log::store::{Entry, Refused, Store, StoreConfig, Token as StoreToken};
use headwater_log::{ErrorKind, LogError};
use headwater_mqtt::{Append, Refusal, Token};
use headwater_proto::{Incarnation, Parent};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::sync::SyncThread;
use super::{Answer, Changes, Counters, FromStore, LogView, PartitionView, StoreHandle, ToStore};
use crate::clock::{Clock, ClockFile};
use crate::routes::Routes;

/// The last byte of an op says whose it is: here, the broker's.
const OP_BROKER: u8 = 0;
/// An op that says where a fork came from.
const OP_PARENT: u8 = 1;
/// First byte of checkpoint keys: the broker's, and forks' parents.
const KEY_BROKER: u8 = b'b';
const KEY_PARENT: u8 = b'p';
/// Messages handled before the loop looks at commits and deadlines again.
const MESSAGES_PER_TURN: usize = 256;
/// The status page's numbers are at most this old.
const VIEW_EVERY_MS: u64 = 500;

/// What the thread works with.
pub struct Settings {
    /// The log's settings, its directory included.
    pub store: StoreConfig,
    /// Message to record.
    pub routes: Routes,
    /// Files.
    pub disk: Arc<dyn Disk>,
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
struct ParentOp {
    tp: TopicPartition,
    incarnation: Incarnation,
    parent: Parent,
}

/// Opens the log and recovers it.
pub fn open(settings: Settings, store: StoreHandle) -> Result<Opened, LogError> {
    let Settings {
        routes,
        disk,
        clock,
        clock_file,
        boot,
        incarnation_if_new,
        ..
    } = settings;
    let checkpoints: PathBuf = settings.store.dir.join("checkpoints");
    let checkpoints = Box::new(SledStore::open(&checkpoints)?);
    let now = clock.now_ms();
    let (log, recovered) = Store::open(
        disk,
        checkpoints,
        settings.store,
        now,
        boot,
        incarnation_if_new,
    )?;
    let mut parents = HashMap::new();
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
    let worker = Worker {
        log,
        routes,
        clock,
        clock_file,
        handle: store,
        view: Arc::new(LogView::new()),
        counters: Arc::new(Counters::default()),
        parents,
        parents_changed: Vec::new(),
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
    log: Store,
    routes: Routes,
    clock: Clock,
    clock_file: ClockFile,
    handle: StoreHandle,
    view: Arc<LogView>,
    counters: Arc<Counters>,
    parents: HashMap<TopicPartition, (Incarnation, Parent)>,
    parents_changed: Vec<TopicPartition>,
    /// Partitions whose lineage changed since it was last shown.
    lineage_stale: Vec<TopicPartition>,
}

/// A frame that waits for its turn to be staged.
struct Waiting {
    append: Append,
    arrived_ms: i64,
}

/// A staged frame whose acknowledgement waits.
struct Unacked {
    token: Token,
    needs: StoreToken,
    ack_now: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Checkpointing {
    No,
    /// Nothing is staged until everything staged is durable.
    Draining,
    /// The broker was asked.
    Asked,
}

struct Running {
    worker: Worker,
    sync: SyncThread,
    to_broker: mpsc::UnboundedSender<FromStore>,
    waiting: VecDeque<Waiting>,
    unacked: VecDeque<Unacked>,
    answers: Vec<(StoreToken, Answer)>,
    staged: StoreToken,
    in_flight: bool,
    checkpointing: Checkpointing,
    tick_at: u64,
    view_at: u64,
    stopping: Option<Changes>,
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
        let result = self
            .start(to_broker)
            .and_then(|running| running.run(messages));
        result.map_err(|error| {
            let text = error.to_string();
            tracing::error!(error = text, "the log failed; the node stops");
            let _ = failed.send(FromStore::Failed(text.clone()));
            text
        })
    }

    fn start(self, to_broker: mpsc::UnboundedSender<FromStore>) -> Result<Running, LogError> {
        let sync = SyncThread::start(self.handle.clone(), self.counters.clone()).map_err(
            LogError::io("start a thread for", std::path::Path::new("the journal")),
        )?;
        let staged = self.log.durable();
        let mut running = Running {
            worker: self,
            sync,
            to_broker,
            waiting: VecDeque::new(),
            unacked: VecDeque::new(),
            answers: Vec::new(),
            staged,
            in_flight: false,
            checkpointing: Checkpointing::No,
            tick_at: 0,
            view_at: 0,
            stopping: None,
        };
        running.show();
        Ok(running)
    }
}

impl Running {
    fn run(mut self, messages: &Receiver<ToStore>) -> Result<(), LogError> {
        loop {
            match messages.recv_timeout(self.pause()) {
                Ok(message) => {
                    self.take(message)?;
                    for message in messages.try_iter().take(MESSAGES_PER_TURN) {
                        self.take(message)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Every handle is gone without a Stop: the node was dropped.
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.step()?;
            if self.stopping.is_some() && self.idle() {
                return self.finish();
            }
        }
    }

    fn pause(&self) -> Duration {
        let now = self.worker.clock.now_ms();
        let commit = self.worker.log.commit_due().filter(|_| !self.in_flight);
        let next = self
            .tick_at
            .min(self.view_at)
            .min(commit.unwrap_or(u64::MAX));
        let idle_stop = self.stopping.is_some() && self.idle();
        Duration::from_millis(if idle_stop {
            0
        } else {
            next.saturating_sub(now)
        })
    }

    fn idle(&self) -> bool {
        !self.in_flight && self.waiting.is_empty() && self.log().durable() >= self.staged
    }

    fn log(&self) -> &Store {
        &self.worker.log
    }

    fn take(&mut self, message: ToStore) -> Result<(), LogError> {
        let now = self.worker.clock.now_ms();
        match message {
            ToStore::Append {
                appends,
                arrived_ms,
            } => {
                let frames = appends
                    .into_iter()
                    .map(|append| Waiting { append, arrived_ms });
                self.waiting.extend(frames);
            }
            ToStore::Committed(done) => {
                self.in_flight = false;
                let durable = self.worker.log.finish_commit(done, now)?;
                self.answer(durable);
                self.tick_at = now;
            }
            ToStore::Acked(tp, offset) => {
                self.worker.log.set_acked(&tp, offset, now);
                let mut partitions = self.worker.view.partitions();
                if let Some(view) = partitions.get_mut(&tp) {
                    view.acked = view.acked.max(offset);
                }
            }
            ToStore::Link(up) => self.worker.log.set_link(up),
            ToStore::Fork(fork, answer) => self.fork(&fork, answer, now),
            ToStore::Gap(tp, gap, answer) => match self.worker.log.add_gap(&tp, gap, now) {
                Ok(token) => self.await_durable(token, answer),
                Err(error) => return refuse(answer, error),
            },
            ToStore::Checkpoint(changes) => self.checkpoint(changes, now)?,
            ToStore::Stop(changes) => {
                // The broker answers no more questions.
                self.checkpointing = Checkpointing::No;
                self.stopping = Some(changes);
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), LogError> {
        let now = self.worker.clock.now_ms();
        if self.checkpointing == Checkpointing::No {
            if self.worker.log.wants_checkpoint() && self.stopping.is_none() {
                self.checkpointing = Checkpointing::Draining;
            } else {
                self.stage_waiting(now)?;
            }
        }
        let due = self.worker.log.commit_due().is_some_and(|at| at <= now);
        let drain = self.checkpointing == Checkpointing::Draining || self.stopping.is_some();
        if !self.in_flight && (due || (drain && self.log().durable() < self.staged)) {
            if let Some(job) = self.worker.log.begin_commit(now)? {
                self.in_flight = true;
                self.sync.run(job);
            }
        }
        if self.tick_at <= now {
            self.tick_at = self.worker.log.tick(now)?.max(now + 1);
            self.show_ranges();
        }
        if self.checkpointing == Checkpointing::Draining
            && !self.in_flight
            && self.log().durable() >= self.staged
        {
            self.checkpointing = Checkpointing::Asked;
            let _ = self.to_broker.send(FromStore::WantCheckpoint);
        }
        if self.view_at <= now {
            self.show();
            let kept = self.worker.clock_file.keep_ahead(now);
            kept.map_err(LogError::io("write", std::path::Path::new("clock")))?;
            self.view_at = now + VIEW_EVERY_MS;
        }
        Ok(())
    }

    /// Stages in order, until everything is staged or the log must first commit.
    fn stage_waiting(&mut self, now: u64) -> Result<(), LogError> {
        while let Some(Waiting {
            mut append,
            arrived_ms,
        }) = self.waiting.pop_front()
        {
            let mut entry = Entry::default();
            let mut bytes = 0;
            // Cloning is cheap (shared bytes) and only the Busy case needs what it keeps.
            let kept = append.clone();
            if let Some(publish) = append.publish.take() {
                match self.worker.routes.route(publish, arrived_ms) {
                    Some(routed) => {
                        bytes = routed.record.bytes_bound() as u64;
                        entry.durability = routed.durability;
                        entry.records.push((routed.partition, routed.record));
                    }
                    None => drop(self.worker.counters.unrouted.fetch_add(1, Relaxed)),
                }
            }
            if !append.op.is_empty() {
                append.op.push(OP_BROKER);
                entry.op = append.op;
            }
            let token = append.token;
            let records = entry.records.len() as u64;
            if records == 0 && entry.op.is_empty() {
                self.unacked.push_back(Unacked {
                    token,
                    needs: self.staged,
                    ack_now: true,
                });
                continue;
            }
            match self.worker.log.stage(entry, now) {
                Ok(staged) => {
                    self.worker.counters.records.fetch_add(records, Relaxed);
                    self.worker.counters.record_bytes.fetch_add(bytes, Relaxed);
                    self.staged = self.staged.max(staged.token);
                    let (needs, ack_now) = (staged.token, staged.ack_now);
                    self.unacked.push_back(Unacked {
                        token,
                        needs,
                        ack_now,
                    });
                }
                Err(Refused::Busy { .. }) => {
                    self.waiting.push_front(Waiting {
                        append: kept,
                        arrived_ms,
                    });
                    break;
                }
                Err(refused) => self.refuse(token, &refused)?,
            }
        }
        self.release(self.log().durable());
        Ok(())
    }

    fn refuse(&mut self, token: Token, refused: &Refused) -> Result<(), LogError> {
        let counters = &self.worker.counters;
        let (count, reason) = match refused {
            Refused::Stopped => {
                return Err(LogError::Poisoned {
                    cause: "the log has stopped".into(),
                });
            }
            Refused::TooLarge { .. } => (&counters.refused_invalid, Refusal::Unacceptable),
            Refused::Full { .. } | Refused::Busy { .. } => {
                (&counters.refused_full, Refusal::QuotaExceeded)
            }
        };
        if count.fetch_add(1, Relaxed) == 0 {
            tracing::warn!(%refused, "new records are refused");
        }
        let _ = self.to_broker.send(FromStore::Refused(token, reason));
        Ok(())
    }

    /// Reports what is durable, in order: one report covers all tokens up to it.
    fn release(&mut self, durable: StoreToken) {
        let mut last = None;
        while let Some(front) = self.unacked.front() {
            if !front.ack_now && front.needs > durable {
                break;
            }
            last = Some(front.token);
            self.unacked.pop_front();
        }
        if let Some(token) = last {
            let _ = self.to_broker.send(FromStore::Durable(token));
        }
    }

    /// Releases acknowledgements, and those who asked for something to be durable.
    fn answer(&mut self, durable: StoreToken) {
        self.release(durable);
        let (done, rest) = self
            .answers
            .drain(..)
            .partition(|(token, _)| *token <= durable);
        self.answers = rest;
        let done: Vec<(StoreToken, Answer)> = done;
        if !done.is_empty() {
            // A fork's new lineage is in force now: show it before the mirror reads it back.
            self.show();
        }
        for (_, answer) in done {
            let _ = answer.send(Ok(()));
        }
    }

    fn await_durable(&mut self, token: StoreToken, answer: Answer) {
        self.staged = self.staged.max(token);
        self.answers.push((token, answer));
        self.answer(self.log().durable());
    }

    fn fork(&mut self, fork: &headwater_quic::client::Fork, answer: Answer, now: u64) {
        let parent = Parent {
            incarnation: fork.parent,
            fork: fork.at,
        };
        let op = ParentOp {
            tp: fork.tp.clone(),
            incarnation: fork.incarnation,
            parent,
        };
        let mut bytes = postcard::to_stdvec(&op).expect("plain data always encodes");
        bytes.push(OP_PARENT);
        // The parent goes first: a crash between the two leaves a note about a fork that is not
        // there, which nobody reads. The other way round the fork would not know its parent.
        let staged = self.worker.log.stage(
            Entry {
                op: bytes,
                ..Entry::default()
            },
            now,
        );
        let staged = staged
            .map_err(|refused| refused.to_string())
            .and_then(|staged| {
                self.staged = self.staged.max(staged.token);
                let forked = self
                    .worker
                    .log
                    .fork(&fork.tp, fork.incarnation.0, fork.at, now);
                forked.map_err(|error| error.to_string())
            });
        match staged {
            Ok(token) => {
                self.worker
                    .parents
                    .insert(op.tp.clone(), (op.incarnation, parent));
                self.worker.parents_changed.push(op.tp.clone());
                self.worker.lineage_stale.push(op.tp);
                self.await_durable(token, answer);
            }
            Err(text) => drop(answer.send(Err(text))),
        }
    }

    fn checkpoint(&mut self, changes: Changes, now: u64) -> Result<(), LogError> {
        let mut all: Changes = changes
            .into_iter()
            .map(|(mut key, value)| {
                key.insert(0, KEY_BROKER);
                (key, value)
            })
            .collect();
        for tp in self.worker.parents_changed.drain(..) {
            let Some(&(incarnation, parent)) = self.worker.parents.get(&tp) else {
                continue;
            };
            let mut key = tp.to_string().into_bytes();
            key.insert(0, KEY_PARENT);
            let op = ParentOp {
                tp,
                incarnation,
                parent,
            };
            all.push((
                key,
                Some(postcard::to_stdvec(&op).expect("plain data always encodes")),
            ));
        }
        let durable = self.worker.log.checkpoint(all, now)?;
        self.worker.counters.checkpoints.fetch_add(1, Relaxed);
        self.checkpointing = Checkpointing::No;
        self.answer(durable);
        self.show();
        Ok(())
    }

    /// Everything is durable: a last checkpoint makes the next start quick.
    fn finish(mut self) -> Result<(), LogError> {
        let now = self.worker.clock.now_ms();
        if let Some(changes) = self.stopping.take() {
            self.checkpoint(changes, now)?;
        }
        let stopped = self.worker.clock_file.stop(self.worker.clock.now_ms());
        stopped.map_err(LogError::io("write", std::path::Path::new("clock")))
    }

    fn show(&mut self) {
        self.worker.view.set_usage(self.worker.log.usage());
        self.show_ranges();
    }

    /// Brings the view up to date; ticks the mirror when something moved.
    fn show_ranges(&mut self) {
        let log = &self.worker.log;
        let stale = std::mem::take(&mut self.worker.lineage_stale);
        let mut moved = !stale.is_empty();
        let mut views = self.worker.view.partitions();
        for tp in log.partitions() {
            let of = |offset: Option<Offset>| offset.unwrap_or(Offset::ZERO);
            let (start, end) = (of(log.start(&tp)), of(log.sealed_end(&tp)));
            let (next, acked) = (of(log.next(&tp)), of(log.acked(&tp)));
            match views.get_mut(&tp).filter(|_| !stale.contains(&tp)) {
                Some(view) => {
                    moved |= (view.start, view.sealed_end) != (start, end);
                    (view.start, view.sealed_end, view.next) = (start, end, next);
                    view.acked = view.acked.max(acked);
                }
                None => {
                    let (Some(lineage), Some(reader)) = (log.lineage(&tp), log.reader(&tp)) else {
                        continue;
                    };
                    moved = true;
                    let parent = self.worker.parents.get(&tp);
                    let parent = parent
                        .filter(|(incarnation, _)| incarnation.0 == lineage.incarnation)
                        .map(|(_, parent)| *parent);
                    let view = PartitionView {
                        start,
                        sealed_end: end,
                        next,
                        acked,
                        lineage,
                        parent,
                        reader,
                    };
                    views.insert(tp, view);
                }
            }
        }
        drop(views);
        if moved {
            self.worker.view.tick();
        }
    }
}

/// An error that only concerns the request goes to who asked; one that is fatal ends the node.
fn refuse(answer: Answer, error: LogError) -> Result<(), LogError> {
    let _ = answer.send(Err(error.to_string()));
    if error.kind() == ErrorKind::Fatal {
        Err(error)
    } else {
        Ok(())
    }
}
