//! The event loop: devices, links and sink on one simulated clock.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use headwater_batch::{Level, Offset, TopicName, TopicPartition};

use super::Plan;
use super::device::Device;
use super::link::{Conn, ConnId};
use super::log::{Answer, Id, Log};
use super::sink::{Sink, ids_of};
use crate::cloud::Ticket;
use crate::edge::{CloseReason, LogGap};
use crate::rng::Rng;
use crate::{
    AlarmKind, Backoff, Channel, CloudConfig, CloudEffect, CloudSession, EdgeConfig, EdgeEffect,
    EdgeName, EdgeSession, GapReason, Incarnation, Ms, RejectCode, StreamEntry, StreamKey,
    StreamOutcome,
};

#[derive(Debug, Clone)]
pub(super) enum Event {
    Chaos,
    Up {
        conn: ConnId,
        channel: Channel,
        bytes: Bytes,
    },
    Down {
        conn: ConnId,
        bytes: Bytes,
    },
    EdgeSees {
        conn: ConnId,
    },
    CloudSees {
        conn: ConnId,
    },
    Read {
        device: usize,
        run: u64,
        conn: ConnId,
        tp: TopicPartition,
        from: i64,
        batches: usize,
    },
    Durable {
        device: usize,
        run: u64,
        tp: TopicPartition,
        to: i64,
    },
    Forked {
        device: usize,
        run: u64,
        tp: TopicPartition,
        incarnation: Incarnation,
        at: i64,
    },
    DeadLettered {
        device: usize,
        run: u64,
        tp: TopicPartition,
        range: (i64, i64),
        code: RejectCode,
    },
    Apply {
        conn: ConnId,
        ticket: Ticket,
        key: StreamKey,
        entry: StreamEntry,
        answer: bool,
    },
    Retry {
        conn: ConnId,
        ticket: Ticket,
    },
    Reject {
        conn: ConnId,
        ticket: Ticket,
    },
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: Ms,
    pub(super) plan: Plan,
    pub(super) devices: Vec<Device>,
    pub(super) conns: Vec<Conn>,
    pub(super) sink: Sink,
    pub(super) backup: Option<Sink>,
    pub(super) image: Option<Vec<Log>>,
    pub(super) queue: BTreeMap<(Ms, u64), Event>,
    seq: u64,
    pub(super) next_id: Id,
    pub(super) stalled_until: Ms,
    last_apply: Ms,
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

fn edge_name() -> EdgeName {
    EdgeName::new("gw-1").unwrap()
}

impl World {
    pub(super) fn new(seed: u64, trace: bool) -> World {
        let mut rng = Rng::new(u128::from(seed) << 64 | u128::from(seed ^ 0x5eed));
        let plan = Plan::of(&mut rng);
        let mut world = World {
            rng,
            now: 1,
            plan,
            devices: Vec::new(),
            conns: Vec::new(),
            sink: Sink::default(),
            backup: None,
            image: None,
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
            halted: BTreeSet::new(),
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

    fn connect(&mut self, device: usize) {
        let now = self.now;
        let wall = 1_763_800_000_000 + now as i64;
        let cloud = CloudSession::new(CloudConfig::default(), edge_name(), now, wall);
        let delay_max = 1 + self.rng.below(if self.calm { 20 } else { 200 });
        let conn = self.conns.len();
        let run = self.devices[device].run;
        self.conns.push(Conn::new(device, run, cloud, delay_max));
        let mut config = EdgeConfig::new(edge_name());
        config.window_bytes = 200 + self.rng.below(2_000) as usize;
        config.stream_window_bytes = config.window_bytes / 2 + 1;
        config.read_bytes = 1 + self.rng.below(600) as usize;
        let mut session = EdgeSession::new(config, self.rng.u128(), now);
        let d = &mut self.devices[device];
        d.halted.clear();
        for log in &d.logs {
            session.add_stream(now, log.info());
        }
        d.session = Some((conn, session));
        self.note("connect", || {
            format!("device {device} as connection {conn}")
        });
        self.drain_edge(device);
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
                if let Some(cloud) = &mut self.conns[conn].cloud {
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
                let log = d.log(&tp).expect("logs stay");
                if !log.gaps.iter().any(|g| g.0 == range.0) {
                    log.gaps.push((range.0, range.1, GapReason::Rejected(code)));
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
                answer,
            } => {
                let outcome = self.apply(conn, &key, &entry);
                if answer {
                    self.answer(conn, |cloud| cloud.committed(now, ticket, outcome));
                }
            }
            Event::Retry { conn, ticket } => self.answer(conn, |c| c.retry(now, ticket)),
            Event::Reject { conn, ticket } => {
                let outcome = StreamOutcome::Rejected(RejectCode::Unacceptable);
                self.answer(conn, |c| c.committed(now, ticket, outcome));
            }
        }
    }

    fn answer(&mut self, conn: ConnId, give: impl FnOnce(&mut CloudSession)) {
        if let Some(cloud) = &mut self.conns[conn].cloud {
            give(cloud);
            self.drain_cloud(conn);
        }
    }

    /// The device's session, if it is still the one on this connection.
    fn with_session(&mut self, conn: ConnId, act: impl FnOnce(&mut EdgeSession)) {
        let device = self.conns[conn].device;
        if let Some((mine, session)) = &mut self.devices[device].session {
            if *mine == conn {
                act(session);
                self.drain_edge(device);
            }
        }
    }

    pub(super) fn edge_sees(&mut self, conn: ConnId) {
        let Conn { device, .. } = self.conns[conn];
        self.conns[conn].edge_up = false;
        let d = &mut self.devices[device];
        if d.session.as_ref().is_some_and(|(mine, _)| *mine == conn) {
            d.session = None;
            let at = d.backoff.failed(self.now);
            self.note("edge sees the cut", || {
                format!("connection {conn}, next try at {at}")
            });
        }
    }

    fn apply(&mut self, conn: ConnId, key: &StreamKey, entry: &StreamEntry) -> StreamOutcome {
        let outcome = self.sink.apply(key, entry);
        let name = match &outcome {
            StreamOutcome::Opened(_) => "opened",
            StreamOutcome::Append { .. } => "append",
            StreamOutcome::Duplicate { .. } => "duplicate",
            StreamOutcome::OutOfOrder { .. } => "out of order",
            StreamOutcome::Ledger { .. } => "ledger",
            StreamOutcome::Position { .. } => "position",
            StreamOutcome::Fenced { .. } => "fenced",
            StreamOutcome::Diverged { .. } => "diverged",
            StreamOutcome::Quarantine(_) => "quarantined",
            StreamOutcome::Refused(_) => "refused",
            StreamOutcome::Retired => "retired",
            StreamOutcome::Rejected(_) => "malformed",
        };
        self.note(name, || {
            let entry = match entry {
                StreamEntry::Data(d) => format!("DATA [{}, {}) {:?}", d.base, d.next, d.lineage),
                other => format!("{other:?}"),
            };
            format!("connection {conn} {key}: {entry} -> {outcome:?}")
        });
        self.check_applied(conn, key, entry, &outcome);
        outcome
    }

    fn read(
        &mut self,
        device: usize,
        run: u64,
        conn: ConnId,
        tp: &TopicPartition,
        from: i64,
        batches: usize,
    ) {
        let failed = !self.calm && self.rng.below(60) == 0;
        let d = &mut self.devices[device];
        let (now, level) = (self.now, d.level);
        let Some((mine, session)) = &mut d.session else {
            return;
        };
        if d.run != run || *mine != conn {
            return;
        }
        let log = d.logs.iter().find(|l| l.tp == *tp).expect("logs stay");
        self.conns[conn].hists.insert(tp.clone(), log.hist.clone());
        if let Some(trace) = &mut self.trace {
            let (borders, gaps) = (&log.borders, &log.gaps);
            trace.push(format!(
                "{now:>7} read device {device} {tp} at {from}: {borders:?} {gaps:?}"
            ));
        }
        if failed {
            session.read_failed(now, tp);
            self.note("read failed", || format!("device {device} at {from}"));
        } else {
            match log.read(from, batches, level) {
                Answer::Batches(batches) => session.batches(now, tp, batches),
                Answer::Gap(from, to, reason) => {
                    let (from, to) = (Offset(from), Offset(to));
                    session.log_gap(
                        now,
                        LogGap {
                            tp: tp.clone(),
                            from,
                            to,
                            reason,
                        },
                    );
                }
            }
        }
        self.drain_edge(device);
    }

    fn durable(&mut self, device: usize, run: u64, tp: &TopicPartition, to: i64) {
        let seal = self.rng.below(3) > 0;
        let d = &mut self.devices[device];
        if d.run != run {
            return;
        }
        let log = d.log(tp).expect("logs stay");
        if to <= log.durable {
            return; // a later group was synced first
        }
        let acked: Vec<Id> = log.hist[log.durable as usize..to as usize].to_vec();
        log.durable = to;
        if seal {
            log.seal();
        }
        for id in acked {
            self.pubacked.insert(id, tp.clone());
        }
        self.log_changed(device, tp);
    }

    pub(super) fn log_changed(&mut self, device: usize, tp: &TopicPartition) {
        let now = self.now;
        let d = &mut self.devices[device];
        let Some(info) = d.log(tp).map(|l| l.info()) else {
            return;
        };
        if let Some((_, session)) = &mut d.session {
            session.log_changed(now, tp, info.start, info.end);
            self.drain_edge(device);
        }
    }

    fn forked(
        &mut self,
        device: usize,
        run: u64,
        tp: &TopicPartition,
        incarnation: Incarnation,
        at: i64,
    ) {
        let now = self.now;
        let d = &mut self.devices[device];
        if d.run != run {
            return;
        }
        let log = d.log(tp).expect("logs stay");
        log.fork(incarnation, at);
        let info = log.info();
        self.note("fork durable", || {
            format!("device {device} {incarnation} from {at}")
        });
        if let Some((_, session)) = &mut self.devices[device].session {
            session.fork_durable(now, info);
            self.drain_edge(device);
        }
    }

    /// Carries out what the edge's machine asks.
    pub(super) fn drain_edge(&mut self, device: usize) {
        while let Some((conn, session)) = &mut self.devices[device].session {
            let conn = *conn;
            let Some(effect) = session.poll_effect() else {
                return;
            };
            self.edge_effect(device, conn, effect);
        }
    }

    fn edge_effect(&mut self, device: usize, conn: ConnId, effect: EdgeEffect) {
        let (now, run) = (self.now, self.devices[device].run);
        match effect {
            EdgeEffect::Send { channel, bytes } => self.send_up(conn, channel, bytes),
            EdgeEffect::Read {
                tp,
                from,
                max_bytes,
            } => {
                let at = now + self.rng.below(5);
                let batches = 1 + max_bytes / 150;
                self.at(
                    at,
                    Event::Read {
                        device,
                        run,
                        conn,
                        tp,
                        from: from.0,
                        batches,
                    },
                );
            }
            EdgeEffect::Acked { tp, offset } => self.acked(device, &tp, offset.0),
            EdgeEffect::Verified { tp, at } => {
                let prune = self.rng.below(2) == 0;
                let log = self.devices[device].log(&tp).expect("logs stay");
                // A boot's span ends where the next one begins.
                while prune && log.boots.len() > 1 && log.boots[1].1 < at {
                    log.boots.remove(0);
                }
            }
            EdgeEffect::PersistFork {
                tp,
                incarnation,
                at,
                ..
            } => {
                let when = now + self.rng.below(50);
                self.at(
                    when,
                    Event::Forked {
                        device,
                        run,
                        tp,
                        incarnation,
                        at: at.0,
                    },
                );
            }
            EdgeEffect::DeadLetter { tp, from, to, code } => {
                let when = now + self.rng.below(50);
                let range = (from.0, to.0);
                self.at(
                    when,
                    Event::DeadLettered {
                        device,
                        run,
                        tp,
                        range,
                        code,
                    },
                );
            }
            EdgeEffect::Describe { tp } => {
                let d = &mut self.devices[device];
                let info = d.log(&tp).expect("logs stay").info();
                if let Some((_, session)) = &mut d.session {
                    session.described(now, info);
                }
            }
            EdgeEffect::Alarm { tp, kind } => self.edge_alarm(device, tp, &kind),
            EdgeEffect::Connected { .. } => self.devices[device].backoff.connected(),
            EdgeEffect::Close { reason } => {
                self.note("edge closes", || format!("connection {conn}: {reason}"));
                if !matches!(reason, CloseReason::Silent(_)) {
                    self.fail(format!("the edge closed: {reason}"));
                }
                self.conns[conn].cut = true;
                self.at(now + 1, Event::CloudSees { conn });
                self.edge_sees(conn);
            }
        }
    }

    fn edge_alarm(&mut self, device: usize, tp: TopicPartition, kind: &AlarmKind) {
        let d = &mut self.devices[device];
        if d.session.as_ref().is_some_and(|(_, s)| s.is_halted(&tp)) {
            d.halted.insert(tp.clone());
        }
        let name = match kind {
            AlarmKind::CloudWentBack { .. } => "alarm: cloud went back",
            AlarmKind::Quarantine(_) => "alarm: quarantine",
            AlarmKind::Refused(_) => "alarm: refused",
            AlarmKind::TwoLive { .. } => "alarm: two live",
            AlarmKind::Forked { .. } => "alarm: forked",
            AlarmKind::Fenced => "alarm: fenced",
            AlarmKind::LogUnreadable { .. } => "alarm: log unreadable",
            AlarmKind::DeadLetter { .. } => "alarm: dead letter",
        };
        self.note(name, || format!("device {device}: {kind:?}"));
    }

    fn send_up(&mut self, conn: ConnId, channel: Channel, mut bytes: Bytes) {
        while !bytes.is_empty() && !self.conns[conn].cut {
            let cut = 1 + self.rng.below(bytes.len() as u64) as usize;
            let whole = self.rng.below(3) > 0;
            let piece = bytes.split_to(if whole { bytes.len() } else { cut });
            let at = self.now + self.rng.below(self.conns[conn].delay_max);
            let at = self.conns[conn].arrival_up(channel, at);
            self.at(
                at,
                Event::Up {
                    conn,
                    channel,
                    bytes: piece,
                },
            );
        }
    }

    fn drain_cloud(&mut self, conn: ConnId) {
        while let Some(cloud) = &mut self.conns[conn].cloud {
            let Some(effect) = cloud.poll_effect() else {
                return;
            };
            match effect {
                CloudEffect::Send { bytes, .. } if !self.conns[conn].cut => {
                    let at = self.now + self.rng.below(self.conns[conn].delay_max);
                    let at = self.conns[conn].arrival_down(at);
                    self.at(at, Event::Down { conn, bytes });
                }
                CloudEffect::Send { .. } => {}
                CloudEffect::Commit { ticket, key, entry } => {
                    self.propose(conn, ticket, key, entry);
                }
                CloudEffect::Alarm { key, kind } => {
                    self.note("cloud alarm", || format!("{key}: {kind:?}"));
                }
                CloudEffect::Close { reason } => {
                    self.fail(format!("the cloud closed: {reason}"));
                    self.cut(conn, 1, 0);
                }
            }
        }
    }

    /// What becomes of a commit: applied in order; or, while the shard stalls, refused or forgotten,
    /// and perhaps applied later all the same.
    fn propose(&mut self, conn: ConnId, ticket: Ticket, key: StreamKey, entry: StreamEntry) {
        let now = self.now;
        let stalled = now < self.stalled_until;
        if !stalled {
            let never = |batch: &Bytes| ids_of(batch).iter().any(|id| id % 67 == 13);
            if entry.batch().is_some_and(never) {
                self.note("sink rejects", || key.to_string());
                return self.at(now + 5, Event::Reject { conn, ticket });
            }
            let at = (now + self.rng.below(20)).max(self.last_apply);
            self.last_apply = at;
            return self.at(
                at,
                Event::Apply {
                    conn,
                    ticket,
                    key,
                    entry,
                    answer: true,
                },
            );
        }
        let (answered, applied) = (self.rng.below(2) == 0, self.rng.below(2) == 0);
        self.note("stalled commit", || {
            format!("answered {answered}, applied {applied}")
        });
        if answered {
            let at = now + 50 + self.rng.below(250);
            self.at(at, Event::Retry { conn, ticket });
        }
        if applied {
            let at = now + self.rng.below(9_000);
            self.at(
                at,
                Event::Apply {
                    conn,
                    ticket,
                    key,
                    entry,
                    answer: false,
                },
            );
        }
    }
}
