//! The process: store, hub and uplink, each run when it has something to do, as threads would be.
//!
//! A part that has mail runs at once or, by seed, some ms later: so groups gather, and what two
//! threads send each other crosses.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use edge_node::broker::{BrokerView, Hub};
use edge_node::clock::Clock;
use edge_node::core::{self, Core};
use edge_node::store::{
    CHECKPOINTS, CommitRunner, Counters, FromStore, FromStoreReceiver, Running, StoreHandle,
    ToStore,
};
use headwater_batch::{Offset, TopicPartition};
use headwater_log::SimDisk;
use headwater_log::checkpoint::FileStore;
use headwater_log::disk::Disk;
use headwater_log::store::{CheckpointStore, CommitJob, Usage};
use headwater_proto::{Channel, Incarnation};
use tokio::sync::mpsc;

use super::clients::Clients;
use super::facts::Facts;
use super::tap::Tap;
use super::tape::{Tape, Told};
use super::time::HandTime;
use super::uplink::Uplink;
use super::{MqttConn, Output, PartitionView, Setup, StartError, WorkKind};
use crate::now::{Ms, Now};
use crate::rng::Rng;

/// As the product's.
const MESSAGES_PER_TURN: usize = 256;
/// As the product's: what an orderly stop waits for the disk.
const STOP_MS: Ms = 1_500;
/// A part that asks to be run more often than this at one moment would spin a core.
const RUNS_MAX: usize = 10_000;

/// Holds the commit that is to be run.
#[derive(Clone, Default)]
struct Jobs(Rc<RefCell<Option<CommitJob>>>);

impl CommitRunner for Jobs {
    fn run(&mut self, job: CommitJob) {
        let before = self.0.borrow_mut().replace(job);
        assert!(before.is_none(), "two commits in flight (J1)");
    }
}

struct StoreSide {
    running: Running,
    mail: VecDeque<ToStore>,
}

/// See the [module](super).
pub struct SimEdge {
    time: Arc<HandTime>,
    clock: Clock,
    rng: Rng,
    hub: Hub<Clients>,
    store: Option<StoreSide>,
    handle: StoreHandle,
    to_store: Receiver<ToStore>,
    to_broker: mpsc::UnboundedSender<FromStore>,
    from_store: FromStoreReceiver,
    jobs: Jobs,
    syncs: BTreeMap<u64, CommitJob>,
    next_work: u64,
    tap: Tap,
    uplink: Uplink,
    changes: tokio::sync::watch::Receiver<u64>,
    facts: Facts,
    /// Messages that full session queues let go of, so far.
    dropped: u64,
    out: VecDeque<Output>,
    /// When the parts run next because of mail.
    store_at: Option<Ms>,
    hub_at: Option<Ms>,
    uplink_at: Option<Ms>,
    stop: Stop,
    pub(super) tape: Tape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    No,
    /// Until then, for what is not durable.
    Waiting(Ms),
    /// The store was told.
    Told,
    Stopped,
    Failed,
}

/// The news that queues let go of their oldest.
fn queue_drops(messages: u64) -> Option<Output> {
    (messages > 0).then(|| Output::Note {
        what: "queue drops",
        detail: messages.to_string(),
    })
}

impl SimEdge {
    /// Opens the data directory and starts. Recovery runs inside.
    pub fn start(setup: Setup, disk: SimDisk, now: Now) -> Result<SimEdge, StartError> {
        let mut rng = Rng::new(setup.seed as u64 ^ (setup.seed >> 64) as u64);
        let config = setup.edge_config();
        let (time, source) = HandTime::source(now);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let for_checkpoints = shared.clone();
        let checkpoints = move |dir: &Path| -> Result<Box<dyn CheckpointStore>, _> {
            let opened = FileStore::open(for_checkpoints.clone(), &dir.join(CHECKPOINTS))?;
            Ok(Box::new(opened))
        };
        let core_setup = setup.core(&mut rng).map_err(StartError::Refused)?;
        let core =
            core::open(core_setup, shared, source, &checkpoints).map_err(|error| {
                match disk.is_down() {
                    true => StartError::Crashed,
                    false => StartError::Refused(error.to_string()),
                }
            })?;
        let uplink = Uplink::new(config, rng.u128(), now.ms);
        let mut edge = SimEdge::assemble(core, time, rng, uplink);
        edge.pump(now);
        Ok(edge)
    }

    fn assemble(core: Core, time: Arc<HandTime>, rng: Rng, uplink: Uplink) -> SimEdge {
        let counters: Arc<Counters> = core.worker.counters();
        let (to_broker, from_store) = mpsc::unbounded_channel();
        let jobs = Jobs::default();
        let view = Arc::new(Mutex::new(BrokerView::default()));
        let (store, clock) = (core.store, core.clock);
        let tap = Tap::new(core.mirror);
        let out = core.notes.into_iter().map(|detail| Output::Note {
            what: "recovery",
            detail,
        });
        let mut out: VecDeque<Output> = out.collect();
        out.extend(queue_drops(core.restored.dropped));
        SimEdge {
            hub: Hub::new(
                core.broker,
                clock.clone(),
                store.clone(),
                Clients::default(),
                view,
            ),
            changes: headwater_quic::client::Source::changes(&tap),
            store: Some(StoreSide {
                running: Running::start(core.worker, Box::new(jobs.clone()), to_broker.clone()),
                mail: VecDeque::new(),
            }),
            facts: Facts::new(counters),
            dropped: 0,
            handle: store,
            to_store: core.to_store,
            syncs: BTreeMap::new(),
            next_work: 1,
            store_at: None,
            hub_at: None,
            uplink_at: None,
            stop: Stop::No,
            tape: Tape::default(),
            time,
            clock,
            rng,
            to_broker,
            from_store,
            jobs,
            tap,
            uplink,
            out,
        }
    }

    /// A client's connection was accepted.
    pub fn mqtt_open(&mut self, now: Now, conn: MqttConn) {
        self.tape.put(now, || Told::MqttOpen(conn));
        self.client(now, |clients| clients.opened(conn));
    }

    /// Bytes of a client.
    pub fn mqtt_bytes(&mut self, now: Now, conn: MqttConn, bytes: Bytes) {
        self.tape.put(now, || Told::MqttBytes(conn, bytes.clone()));
        self.client(now, |clients| clients.received(conn, &bytes));
    }

    /// The socket took so many bytes.
    pub fn mqtt_written(&mut self, now: Now, conn: MqttConn, bytes: usize) {
        self.tape.put(now, || Told::MqttWritten(conn, bytes));
        self.client(now, |clients| clients.written(conn, bytes));
    }

    /// The client or the network ended it.
    pub fn mqtt_closed(&mut self, now: Now, conn: MqttConn) {
        self.tape.put(now, || Told::MqttClosed(conn));
        self.client(now, |clients| clients.closed(conn));
    }

    fn client(&mut self, now: Now, event: impl FnOnce(&mut Clients)) {
        event(self.hub.outlet());
        self.pump(now);
    }

    /// The connection asked for by `Output::Dial` stands.
    pub fn link_up(&mut self, now: Now) {
        self.tape.put(now, || Told::LinkUp);
        self.time.set(now);
        self.uplink.up(now.ms);
        self.uplink_at = Some(now.ms);
        self.pump(now);
    }

    /// Bytes of the cloud.
    pub fn link_bytes(&mut self, now: Now, channel: Channel, bytes: Bytes) {
        self.tape
            .put(now, || Told::LinkBytes(channel, bytes.clone()));
        self.time.set(now);
        self.uplink.received(now.ms, channel, bytes);
        self.uplink_at = Some(now.ms);
        self.pump(now);
    }

    /// The connection is gone, or the dial failed.
    pub fn link_down(&mut self, now: Now) {
        self.tape.put(now, || Told::LinkDown);
        self.time.set(now);
        if self.stop == Stop::No {
            self.uplink.down(now.ms, &self.tap);
        }
        self.pump(now);
    }

    /// Runs announced work. Unknown ids are nothing.
    pub fn work(&mut self, now: Now, id: u64) {
        self.tape.put(now, || Told::Work(id));
        self.time.set(now);
        if let Some(job) = self.syncs.remove(&id) {
            self.handle.send(ToStore::Committed(job.run()));
        } else if self.uplink.has(id) {
            self.uplink.work(id, &self.tap);
            self.uplink_at = Some(now.ms);
        }
        self.pump(now);
    }

    /// Asks for an orderly stop; the process is done when `is_stopped`.
    pub fn stop(&mut self, now: Now) {
        self.time.set(now);
        if self.stop == Stop::No {
            self.hub.turn();
            self.hub.shut_down();
            self.hub_at = Some(now.ms);
            self.stop = Stop::Waiting(now.ms + STOP_MS);
            self.uplink.end();
        }
        self.pump(now);
    }

    /// Everything is durable and the process has ended.
    pub fn is_stopped(&self) -> bool {
        self.stop == Stop::Stopped
    }

    /// The earliest time at which something is due.
    pub fn deadline(&self) -> Option<Ms> {
        let at = |deadline: u64| {
            let until = self.clock.until(deadline).as_millis();
            self.time.ms() + u64::try_from(until).unwrap_or(u64::MAX / 2)
        };
        let running = !matches!(self.stop, Stop::Stopped | Stop::Failed);
        let store = self.store.as_ref().map(|s| at(s.running.deadline()));
        let hub = matches!(self.stop, Stop::No).then(|| at(self.hub.deadline()));
        let stop = match self.stop {
            Stop::Waiting(until) => Some(until),
            _ => None,
        };
        let mail = [self.store_at, self.hub_at, self.uplink_at];
        let all = mail
            .into_iter()
            .chain([store, hub, stop, self.uplink.deadline()]);
        all.flatten().min().filter(|_| running)
    }

    /// Does what is due.
    pub fn timer(&mut self, now: Now) {
        self.tape.put(now, || Told::Timer);
        self.pump(now);
    }

    /// What the process does to the outside, in order.
    pub fn output(&mut self) -> Option<Output> {
        let output = self.out.pop_front();
        self.tape.said += u64::from(output.is_some());
        output
    }

    /// Every partition, as of now.
    pub fn partitions(&self) -> Vec<PartitionView> {
        let Some(store) = &self.store else {
            return Vec::new();
        };
        let log = store.running.log();
        let view = |tp: TopicPartition| {
            let of = |offset: Option<Offset>| offset.unwrap_or(Offset::ZERO);
            PartitionView {
                incarnation: Incarnation(log.lineage(&tp).map_or(0, |l| l.incarnation)),
                start: of(log.start(&tp)),
                sealed_end: of(log.sealed_end(&tp)),
                next: of(log.next(&tp)),
                acked: of(log.acked(&tp)),
                tp,
            }
        };
        log.partitions().into_iter().map(view).collect()
    }

    /// What is used of the budget, and by what.
    pub fn usage(&self) -> Usage {
        let store = self.store.as_ref();
        store.map_or(Usage::default(), |store| store.running.log().usage())
    }

    /// Nothing of this partition is sent until an operator has looked.
    pub fn is_halted(&self, tp: &TopicPartition) -> bool {
        self.uplink.is_halted(tp)
    }

    /// Runs every part that has something to do, until none has.
    fn pump(&mut self, now: Now) {
        self.time.set(now);
        let mut runs = [0u32; 3];
        for _ in 0..RUNS_MAX {
            if matches!(self.stop, Stop::Stopped | Stop::Failed) {
                return;
            }
            self.go_on_stopping(now.ms);
            self.post(now.ms);
            if self.store_is_due(now.ms) {
                runs[0] += 1;
                self.run_store();
            } else if self.hub_is_due(now.ms) {
                runs[1] += 1;
                self.run_hub();
            } else if self.uplink_is_due(now.ms) {
                runs[2] += 1;
                self.uplink_at = None;
                let (out, next) = (&mut self.out, &mut self.next_work);
                self.uplink.run(now.ms, &self.tap, out, next);
                let alarms = self.tap.alarms().into_iter();
                out.extend(alarms.map(|(tp, kind)| Output::Alarm { tp, kind }));
            } else {
                return;
            }
        }
        panic!("a part of the edge spins: store, hub, uplink ran {runs:?} times");
    }

    /// Looks into all letter boxes. Who has mail runs now or soon.
    fn post(&mut self, now: Ms) {
        let SimEdge { store, rng, .. } = self;
        let mut soon = |at: &mut Option<Ms>, mail: bool| {
            if mail && at.is_none() {
                *at = Some(now + if rng.one_in(8) { rng.below(4) } else { 0 });
            }
        };
        while let Ok(message) = self.to_store.try_recv() {
            match store {
                Some(store) => store.mail.push_back(message),
                // The thread has ended; whoever waits for an answer hears it.
                None => drop(message),
            }
        }
        let mail = store.as_ref().is_some_and(|store| !store.mail.is_empty());
        soon(&mut self.store_at, mail);
        let events = self.hub.outlet().has_events() && self.hub.has_room();
        soon(&mut self.hub_at, events || !self.from_store.is_empty());
        let changed = self.changes.has_changed().unwrap_or(false);
        soon(&mut self.uplink_at, changed);
    }

    fn store_is_due(&self, now: Ms) -> bool {
        let due = |store: &StoreSide| store.running.deadline() <= self.clock.now_ms();
        self.store_at.is_some_and(|at| at <= now) || self.store.as_ref().is_some_and(due)
    }

    fn run_store(&mut self) {
        self.store_at = None;
        let Some(mut store) = self.store.take() else {
            return;
        };
        let most = store.mail.len().min(MESSAGES_PER_TURN);
        let taken = store
            .mail
            .drain(..most)
            .try_for_each(|message| store.running.take(message));
        match taken.and_then(|()| store.running.step()) {
            Ok(false) => {
                self.facts.look(store.running.log(), &mut self.out);
                if let Some(job) = self.jobs.0.borrow_mut().take() {
                    let (id, kind) = (self.next_work, WorkKind::Sync);
                    self.next_work += 1;
                    self.syncs.insert(id, job);
                    self.out.push_back(Output::Work { id, kind });
                }
                self.store = Some(store);
                // What was asked may have been answered.
                if self.uplink.waits() {
                    self.uplink_at = Some(self.time.ms());
                }
            }
            Ok(true) => self.stop = Stop::Stopped,
            Err(error) => {
                let _ = self.to_broker.send(FromStore::Failed(error.to_string()));
            }
        }
    }

    fn hub_is_due(&self, now: Ms) -> bool {
        let due = self.hub.deadline() <= self.clock.now_ms();
        self.hub_at.is_some_and(|at| at <= now) || (due && self.stop == Stop::No)
    }

    fn run_hub(&mut self) {
        self.hub_at = None;
        while let Ok(report) = self.from_store.try_recv() {
            self.hub.reported(report);
        }
        self.hub.turn();
        if let Some(reason) = self.hub.failed() {
            self.out.push_back(Output::Failed(reason.to_owned()));
            self.stop = Stop::Failed;
            return;
        }
        let dropped = self.hub.broker().stats().dropped_queued;
        if dropped > self.dropped {
            self.out.extend(queue_drops(dropped - self.dropped));
            self.dropped = dropped;
        }
        self.out.append(&mut self.hub.outlet().out);
    }

    fn uplink_is_due(&mut self, now: Ms) -> bool {
        let due = self.uplink.deadline().is_some_and(|at| at <= now);
        let runs = due || self.uplink_at.is_some_and(|at| at <= now);
        if runs {
            self.changes.mark_unchanged();
        }
        runs
    }

    fn go_on_stopping(&mut self, now: Ms) {
        if let Stop::Waiting(until) = self.stop {
            let quiet = self.hub.is_settled() && self.hub_at.is_none();
            if quiet || until <= now {
                self.hub.stop_store();
                self.stop = Stop::Told;
            }
        }
    }
}
