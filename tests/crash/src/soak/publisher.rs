//! A publisher that goes on over every fault, and knows of each attempt what became of it.
//!
//! QoS 1: what is resent with DUP is an attempt of its own, since it is a second message if the first
//! one had arrived. QoS 2: a resend is the same attempt. What is refused is tried again, as another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use e2e::mqtt::{Packet, Version};
use e2e::publisher::QUOTA_EXCEEDED;

use super::attempt::Attempt;
use super::lives::{Lives, Mode, Orders, Pace, Tally};
use super::wire::{Hello, Met, Wire};

/// What a publisher waits before it sends again what was refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);
/// Longest time in which an order is not seen.
const LOOK: Duration = Duration::from_millis(50);
/// An empty payload, which deletes a retained message, every so many messages.
const DELETE_EVERY: u32 = 13;

/// What all clients share.
#[derive(Clone)]
pub struct World {
    pub broker: SocketAddr,
    pub lives: Arc<Lives>,
    pub orders: Arc<Orders>,
    pub progress: Arc<Progress>,
    pub retained: Arc<Mutex<Retained>>,
}

/// By topic the retained message that has to be there; `None`: there is none.
pub type Retained = BTreeMap<String, Option<Attempt>>;

/// What publishers have seen so far, all together.
#[derive(Debug, Default)]
pub struct Progress {
    /// Acknowledged at QoS 1 and 2.
    pub acked: AtomicU64,
    /// Sent at QoS 0.
    pub sent: AtomicU64,
    pub refused: AtomicU64,
    pub resent: AtomicU64,
    /// Subscriptions that stand.
    pub subscriptions: AtomicU64,
    /// Messages that were sent for the first time, by publisher.
    pub begun: Vec<AtomicU32>,
}

/// A publisher's task.
#[derive(Debug, Clone)]
pub struct Task {
    pub publisher: u16,
    pub version: Version,
    pub qos: u8,
    /// First level of its topic: `level/pN`.
    pub level: &'static str,
    /// Above 0: retained messages on so many topics `level/pN/K`, one under way at a time.
    pub retained_topics: u32,
    pub payload_bytes: usize,
    pub in_flight: usize,
    pub per_second: f64,
}

impl Progress {
    /// Messages that were begun, all together.
    pub fn begun(&self) -> u64 {
        self.begun.iter().map(|n| u64::from(n.load(Relaxed))).sum()
    }
}

impl Task {
    pub fn topic(&self, message: u32) -> String {
        let Task {
            level, publisher, ..
        } = self;
        match self.retained_topics {
            0 => format!("{level}/p{publisher}"),
            topics => format!("{level}/p{publisher}/{}", message % topics),
        }
    }

    /// Whether the message's payload is empty.
    pub fn deletes(&self, message: u32) -> bool {
        self.retained_topics > 0 && message % DELETE_EVERY == DELETE_EVERY - 1
    }
}

/// What became of a publisher's attempts.
#[derive(Debug, Default)]
pub struct Report {
    pub acked: Vec<Attempt>,
    /// Sent and never answered: it may be there, once, or not. At QoS 0 all.
    pub unknown: BTreeSet<Attempt>,
    pub refused: u64,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    attempt: Attempt,
    /// QoS 2: the PUBREC came, the PUBCOMP did not.
    released: bool,
}

pub struct Publisher {
    world: World,
    task: Task,
    next: u32,
    again: VecDeque<Attempt>,
    again_at: Instant,
    flying: BTreeMap<u16, InFlight>,
    last_id: u16,
    pace: Pace,
    ping: Option<u64>,
    report: Report,
}

impl Publisher {
    pub fn new(world: World, task: Task) -> Publisher {
        Publisher {
            world,
            next: 0,
            again: VecDeque::new(),
            again_at: Instant::now(),
            flying: BTreeMap::new(),
            last_id: 0,
            pace: Pace::per_second(task.per_second),
            ping: None,
            report: Report::default(),
            task,
        }
    }

    /// Publishes until it is told to stop and nothing is under way.
    pub fn run(mut self) -> Report {
        let id = format!("p{}", self.task.publisher);
        loop {
            let hello = Hello {
                version: self.task.version,
                id: &id,
                keep: true,
                will: None,
            };
            match Wire::connect(&self.world.lives, self.world.broker, hello) {
                Met::Accepted(wire) => {
                    if self.session(wire) {
                        return self.report;
                    }
                }
                Met::Nobody => self.world.lives.wait_up(LOOK),
                // It has no room for a session, or was killed meanwhile.
                Met::Refused | Met::Failed(_) => {
                    let (_, number) = self.world.orders.now();
                    self.world.orders.wait_changed(number, LOOK);
                }
            }
        }
    }

    /// Until the connection breaks: false; or all is done: true.
    fn session(&mut self, mut wire: Wire) -> bool {
        match self.talk(&mut wire) {
            Ok(()) => {
                let _ = wire.leave();
                true
            }
            Err(error) => {
                let is_fault = error.kind() == io::ErrorKind::InvalidData;
                if is_fault || wire.was_closed_by_edge() {
                    let (publisher, told) = (self.task.publisher, wire.told);
                    let what = format!("p{publisher}: the edge ended it: {error}, told {told:x?}");
                    self.world.orders.fault(what);
                }
                false
            }
        }
    }

    fn talk(&mut self, wire: &mut Wire) -> io::Result<()> {
        self.ping = None;
        self.resend(wire);
        loop {
            let (mode, number) = self.world.orders.now();
            let mut wait = LOOK;
            while self.flying.len() < self.task.in_flight {
                let Some(attempt) = self.next_attempt(mode) else {
                    wait = wait.min(self.pace.pause());
                    break;
                };
                self.send_new(wire, attempt);
            }
            if mode != Mode::Run && self.flying.is_empty() && self.again.is_empty() {
                // The answer says that the edge has read everything before it, QoS 0 too.
                if self.ping != Some(number) {
                    self.ping = Some(number);
                    wire.ping();
                }
            }
            wire.flush()?;
            let mut next = wire.poll(wait)?;
            while let Some(packet) = next {
                let is_pong = matches!(packet, Packet::Other(13));
                if is_pong && self.ping == Some(self.world.orders.now().1) {
                    if mode == Mode::Stop {
                        return Ok(());
                    }
                    let place = usize::from(self.task.publisher);
                    self.world.orders.is_quiet(place, number);
                }
                self.receive(wire, packet)?;
                next = match wire.has_input() {
                    true => wire.poll(Duration::ZERO)?,
                    false => None,
                };
            }
        }
    }

    fn next_attempt(&mut self, mode: Mode) -> Option<Attempt> {
        if !self.again.is_empty() {
            let is_due = self.again_at <= Instant::now();
            return is_due.then(|| self.again.pop_front()).flatten();
        }
        if mode != Mode::Run || !self.pace.take() {
            return None;
        }
        let attempt = Attempt::new(self.task.publisher, self.next, 0);
        self.next += 1;
        let begun = &self.world.progress.begun[usize::from(self.task.publisher)];
        begun.store(self.next, Relaxed);
        Some(attempt)
    }

    fn send_new(&mut self, wire: &mut Wire, attempt: Attempt) {
        if self.task.qos == 0 {
            self.report.unknown.insert(attempt);
            self.world.progress.sent.fetch_add(1, Relaxed);
            return self.send(wire, attempt, 0, false);
        }
        let id = self.free_id();
        let released = false;
        self.flying.insert(id, InFlight { attempt, released });
        self.send(wire, attempt, id, false);
    }

    fn send(&self, wire: &mut Wire, attempt: Attempt, id: u16, dup: bool) {
        let task = &self.task;
        let (message, mut payload) = (attempt.message(), String::new());
        if !task.deletes(message) {
            payload = attempt.payload(task.payload_bytes);
        }
        let flags = u8::from(dup) << 3 | task.qos << 1 | u8::from(task.retained_topics > 0);
        wire.publish(&task.topic(message), payload.as_bytes(), flags, id);
    }

    /// MQTT 3.1.1 section 4.4: unacknowledged PUBLISH and PUBREL packets are sent again, in order.
    fn resend(&mut self, wire: &mut Wire) {
        let mut order: Vec<(u16, InFlight)> = self.flying.iter().map(|(k, v)| (*k, *v)).collect();
        order.sort_by_key(|(_, flight)| flight.attempt.message());
        for (id, mut flight) in order {
            if flight.released {
                wire.answer(0x62, id);
                continue;
            }
            if self.task.qos == 1 {
                self.report.unknown.insert(flight.attempt);
                flight.attempt = flight.attempt.again();
                self.flying.insert(id, flight);
            }
            self.world.progress.resent.fetch_add(1, Relaxed);
            self.send(wire, flight.attempt, id, true);
        }
    }

    fn receive(&mut self, wire: &mut Wire, packet: Packet) -> io::Result<()> {
        match packet {
            Packet::PubAck(id) if self.task.qos == 1 => {
                if let Some(flight) = self.flying.remove(&id) {
                    self.taken(wire, flight.attempt);
                }
            }
            Packet::PubRec(id) if self.task.qos == 2 => {
                if let Some(flight) = self.flying.get_mut(&id).filter(|f| !f.released) {
                    flight.released = true;
                    let attempt = flight.attempt;
                    self.taken(wire, attempt);
                }
                wire.answer(0x62, id);
            }
            Packet::PubComp(id) => {
                self.flying.remove(&id);
            }
            Packet::Refused { id, reason } if reason == QUOTA_EXCEEDED => {
                if let Some(flight) = self.flying.remove(&id) {
                    self.again.push_back(flight.attempt.again());
                    self.again_at = Instant::now() + REFUSED_PAUSE;
                    self.report.refused += 1;
                    self.world.progress.refused.fetch_add(1, Relaxed);
                    Tally::add(&wire.tally.refused, 1);
                }
            }
            Packet::Other(13) => {}
            Packet::Other(14) => return Err(io::ErrorKind::ConnectionAborted.into()),
            other => {
                let what = format!("{other:?}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        Ok(())
    }

    fn taken(&mut self, wire: &Wire, attempt: Attempt) {
        let message = attempt.message();
        self.report.acked.push(attempt);
        self.world.progress.acked.fetch_add(1, Relaxed);
        Tally::add(&wire.tally.acked[usize::from(self.task.qos - 1)], 1);
        if self.task.retained_topics > 0 {
            let kept = (!self.task.deletes(message)).then_some(attempt);
            let mut retained = self
                .world
                .retained
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            retained.insert(self.task.topic(message), kept);
        }
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id % u16::MAX + 1;
            if !self.flying.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}
