//! The event loop: devices, links and sink on one simulated clock.

use std::collections::{BTreeMap, BTreeSet};

use headwater_batch::{Level, TopicName, TopicPartition};

use super::device::Device;
use super::event::Event;
use super::link::{Conn, ConnId};
use super::log::{Id, Log};
use super::sink::Sink;
use super::{Kinds, Plan};
use crate::rng::Rng;
use crate::{Backoff, Channel, GapReason, Ms, RejectCode, StreamOutcome};

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: Ms,
    pub(super) plan: Plan,
    pub(super) devices: Vec<Device>,
    pub(super) conns: Vec<Conn>,
    pub(super) sink: Sink,
    pub(super) backup: Option<Sink>,
    pub(super) image: Option<Vec<Log>>,
    /// Cards in no device.
    pub(super) drawer: Vec<Vec<Log>>,
    /// Edge partitions that an operator will look at.
    pub(super) called: BTreeSet<TopicPartition>,
    pub(super) queue: BTreeMap<(Ms, u64), Event>,
    seq: u64,
    pub(super) next_id: Id,
    pub(super) stalled_until: Ms,
    pub(super) last_apply: Ms,
    pub(super) calm: bool,
    pub(super) steps: u32,
    /// Acked to the publisher: where it first stood.
    pub(super) pubacked: BTreeMap<Id, TopicPartition>,
    /// Lost by the operator's restore of the cloud: not our duty.
    pub(super) operator_lost: BTreeSet<Id>,
    /// In the ledger, under whichever incarnation.
    pub(super) ledgered: BTreeSet<Id>,
    pub(super) fired: BTreeMap<&'static str, u64>,
    pub(super) failure: Option<String>,
    pub(super) trace: Option<Vec<String>>,
    pub(super) hash: u64,
}

/// More turns without time passing are a bug: a deadline in the past, or an echo.
const TURNS_AT_ONE_TIME_MAX: u32 = 100_000;

pub(super) fn tp(partition: u32) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new("mqtt").unwrap(),
        partition,
    }
}

impl World {
    pub(super) fn new(seed: u64, kinds: Kinds, trace: bool) -> World {
        let mut rng = Rng::new(u128::from(seed) << 64 | u128::from(seed ^ 0x5eed));
        let plan = Plan::of(&mut rng, kinds);
        let mut world = World {
            rng,
            now: 1,
            plan,
            devices: Vec::new(),
            conns: Vec::new(),
            sink: Sink::default(),
            backup: None,
            image: None,
            drawer: Vec::new(),
            called: BTreeSet::new(),
            queue: BTreeMap::new(),
            seq: 0,
            next_id: 1,
            stalled_until: 0,
            last_apply: 0,
            calm: false,
            steps: 0,
            pubacked: BTreeMap::new(),
            operator_lost: BTreeSet::new(),
            ledgered: BTreeSet::new(),
            fired: BTreeMap::new(),
            failure: None,
            trace: trace.then(Vec::new),
            hash: 0xcbf2_9ce4_8422_2325,
        };
        world.sink.cloud_count = 1 + world.rng.below(6) as u32;
        let log = world.fresh_log(0);
        world.add_device(vec![log]);
        world.start(0);
        world.at(1, Event::Chaos);
        world
    }

    pub(super) fn fresh_log(&mut self, partition: u32) -> Log {
        Log::new(tp(partition), self.rng.u128())
    }

    pub(super) fn add_device(&mut self, logs: Vec<Log>) -> usize {
        let level = if self.rng.below(8) == 0 {
            Level::Zstd(1)
        } else {
            Level::None
        };
        self.devices.push(Device {
            logs,
            running: false,
            run: 0,
            session: None,
            backoff: Backoff::new(self.rng.u128()),
            halted: BTreeMap::new(),
            level,
            stored: false,
            resumed: false,
        });
        self.devices.len() - 1
    }

    pub(super) fn note(&mut self, what: &'static str, detail: impl FnOnce() -> String) {
        *self.fired.entry(what).or_default() += 1;
        for byte in what.bytes().chain(self.now.to_le_bytes()) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:>7} {what} {}", detail()));
        }
    }

    pub(super) fn fail(&mut self, what: String) {
        self.note("FAILURE", || what.clone());
        self.failure.get_or_insert(what);
    }

    pub(super) fn at(&mut self, at: Ms, event: Event) {
        self.seq += 1;
        self.queue.insert((at, self.seq), event);
    }

    /// BOOT, then the process runs.
    pub(super) fn start(&mut self, device: usize) {
        let boot = self.rng.u128() as u64;
        let d = &mut self.devices[device];
        d.run += 1;
        d.running = true;
        d.halted.clear();
        d.logs.iter_mut().for_each(|l| l.boot(boot));
        d.logs.iter_mut().for_each(Log::seal);
        d.backoff = Backoff::new(u128::from(boot));
        d.backoff.failed(self.now);
    }

    /// Runs until `until` or a failure.
    pub(super) fn run(&mut self, until: Ms, done: impl Fn(&World) -> bool) {
        let mut still = 0;
        while self.failure.is_none() && !done(self) {
            let Some(at) = self.next_time() else { return };
            if at > until {
                self.now = until;
                return;
            }
            if at > self.now {
                still = 0;
            }
            still += 1;
            if still > TURNS_AT_ONE_TIME_MAX {
                return self.fail("LIVELOCK: time stands still".into());
            }
            self.now = at.max(self.now);
            match self.queue.first_key_value() {
                Some((&(t, _), _)) if t <= self.now => {
                    let (_, event) = self.queue.pop_first().expect("just seen");
                    self.event(event);
                }
                _ => self.timers(),
            }
        }
    }

    fn next_time(&self) -> Option<Ms> {
        let queue = self.queue.keys().next().map(|k| k.0);
        let edges = self
            .devices
            .iter()
            .filter(|d| d.running)
            .filter_map(|d| match &d.session {
                Some((_, session)) => session.deadline(),
                None => d.backoff.deadline(),
            });
        let clouds = self.conns.iter().filter_map(|c| {
            let deadline = c.cloud.as_ref()?.deadline()?;
            Some(deadline.max(c.hung_until))
        });
        edges.chain(clouds).chain(queue).min()
    }

    fn timers(&mut self) {
        let now = self.now;
        for device in 0..self.devices.len() {
            let d = &mut self.devices[device];
            if !d.running {
                continue;
            }
            match &mut d.session {
                Some((_, session)) if session.deadline().is_some_and(|at| at <= now) => {
                    session.timer(now);
                    self.drain_edge(device);
                }
                None if d.backoff.deadline().is_some_and(|at| at <= now) => self.connect(device),
                _ => {}
            }
        }
        for conn in 0..self.conns.len() {
            let hung = self.conns[conn].hung_until > now;
            if let Some(cloud) = &mut self.conns[conn].cloud {
                if !hung && cloud.deadline().is_some_and(|at| at <= now) {
                    cloud.timer(now);
                    self.drain_cloud(conn);
                }
            }
        }
    }

    /// The connection is dead for good; each end learns of it in its own time.
    pub(super) fn cut(&mut self, conn: ConnId, edge_in: Ms, cloud_in: Ms) {
        self.conns[conn].cut = true;
        self.at(self.now + edge_in, Event::EdgeSees { conn });
        self.at(self.now + cloud_in, Event::CloudSees { conn });
    }

    fn event(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Chaos => self.chaos(),
            Event::Up {
                conn,
                channel,
                bytes,
            } => {
                let Conn { cloud, watch, .. } = &mut self.conns[conn];
                if let Some(cloud) = cloud {
                    watch.up(channel, bytes.clone());
                    cloud.bytes(now, channel, bytes);
                    self.drain_cloud(conn);
                }
            }
            Event::Down { conn, bytes } => {
                self.with_session(conn, |session| session.bytes(now, Channel::Control, bytes));
            }
            Event::EdgeSees { conn } => self.edge_sees(conn),
            Event::CloudSees { conn } => self.conns[conn].cloud = None,
            Event::Read {
                device,
                run,
                conn,
                tp,
                from,
                batches,
            } => {
                self.read(device, run, conn, &tp, from, batches);
            }
            Event::Durable {
                device,
                run,
                tp,
                to,
            } => self.durable(device, run, &tp, to),
            Event::Forked {
                device,
                run,
                tp,
                incarnation,
                at,
            } => {
                self.forked(device, run, &tp, incarnation, at);
            }
            Event::DeadLettered {
                device,
                run,
                tp,
                range,
                code,
            } => {
                let d = &mut self.devices[device];
                if d.run != run {
                    return;
                }
                if !self.calm && self.rng.below(3) == 0 {
                    if let Some((_, session)) = &mut self.devices[device].session {
                        session.dead_letter_failed(now, &tp);
                        self.drain_edge(device);
                    }
                    return self.note("dead letter failed", || format!("device {device} {tp}"));
                }
                let d = &mut self.devices[device];
                let log = d.log(&tp).expect("logs stay");
                let gap = (range.0, range.1, GapReason::Rejected(code));
                if !log.gaps.contains(&gap) {
                    log.gaps.push(gap);
                }
                if let Some((_, session)) = &mut d.session {
                    session.dead_lettered(now, &tp);
                    self.drain_edge(device);
                }
            }
            Event::Apply {
                conn,
                ticket,
                key,
                entry,
                wish,
                answer,
            } => {
                let outcome = self.apply(conn, &key, &entry, wish);
                if answer {
                    self.answer(conn, |cloud| cloud.committed(now, ticket, outcome));
                }
            }
            Event::Drop { device, tp, beyond } => self.drop_beyond(device, &tp, beyond),
            Event::Operator { tp } => self.operator(&tp),
            Event::Retry { conn, ticket } => self.answer(conn, |c| c.retry(now, ticket)),
            Event::Reject { conn, ticket } => {
                let outcome = StreamOutcome::Rejected(RejectCode::Unacceptable);
                self.answer(conn, |c| c.committed(now, ticket, outcome));
            }
        }
    }
}
