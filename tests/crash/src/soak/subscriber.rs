//! Subscribers: prompt ones, one that comes and goes, a slow one, one that stops reading.
//!
//! What is delivered is kept in order. At QoS 2 a packet id that was not released yet is a resend and
//! not a delivery (MQTT 5, 4.3.3); the ids that are open outlive connections as the session does.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use e2e::mqtt::{Packet, Version};
use headwater_batch::SplitMix64;

use super::attempt::Attempt;
use super::lives::{Mode, Pace, Tally};
use super::publisher::World;
use super::wire::{Hello, Met, Wire};

const LOOK: Duration = Duration::from_millis(50);

/// How a subscriber reads.
#[derive(Debug, Clone, Copy)]
pub enum Habit {
    Prompt,
    /// Leaves every few seconds for up to as long, politely or not.
    ComesAndGoes,
    /// So many packets a second, and no more, unless all is to be quiet.
    Slow(f64),
    /// Reads nothing for up to so many seconds, then all, and so on.
    Stops(u64),
}

#[derive(Debug, Clone)]
pub struct Reading {
    /// Where it reports to [`super::lives::Orders`].
    pub place: usize,
    pub name: String,
    pub version: Version,
    pub filters: Vec<String>,
    pub qos: u8,
    /// The session outlives connections.
    pub durable: bool,
    pub habit: Habit,
    pub seed: u64,
    /// Joins when publishers have begun so many messages.
    pub joins_at: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Heard {
    pub reading: Reading,
    /// In the order of delivery.
    pub delivered: Vec<Attempt>,
    /// Deliveries with an empty payload.
    pub empty: u64,
    /// By publisher, its first message that was begun after the SUBACK.
    pub since: Vec<u32>,
    pub connections: u64,
}

pub struct Subscriber {
    world: World,
    heard: Heard,
    subscribed: bool,
    open: BTreeSet<u16>,
    rng: SplitMix64,
    pace: Option<Pace>,
    /// When a habit does something else.
    turn: Instant,
    reads: bool,
}

enum End {
    /// It leaves, and comes back after a while.
    Pause(bool),
    Stop,
}

impl Subscriber {
    pub fn new(world: World, reading: Reading) -> Subscriber {
        let pace = match reading.habit {
            Habit::Slow(per_second) => Some(Pace::per_second(per_second)),
            _ => None,
        };
        Subscriber {
            rng: SplitMix64(reading.seed),
            heard: Heard {
                reading,
                delivered: Vec::new(),
                empty: 0,
                since: Vec::new(),
                connections: 0,
            },
            world,
            subscribed: false,
            open: BTreeSet::new(),
            pace,
            turn: Instant::now(),
            reads: true,
        }
    }

    /// Reads until it is told to stop.
    pub fn run(mut self) -> Heard {
        let place = self.heard.reading.place;
        loop {
            let (mode, number) = self.world.orders.now();
            if !self.subscribed && !self.joins() {
                // It has nothing yet that could be under way.
                self.world.orders.is_quiet(place, number);
                if mode == Mode::Stop {
                    return self.heard;
                }
                self.world.orders.wait_changed(number, LOOK);
                continue;
            }
            let hello = Hello {
                version: self.heard.reading.version,
                id: &self.heard.reading.name,
                keep: self.heard.reading.durable,
                will: None,
            };
            match Wire::connect(&self.world.lives, self.world.broker, hello) {
                Met::Accepted(wire) => {
                    if self.session(wire) {
                        return self.heard;
                    }
                }
                Met::Nobody => self.world.lives.wait_up(LOOK),
                Met::Refused | Met::Failed(_) => self.world.orders.wait_changed(number, LOOK),
            }
        }
    }

    fn joins(&self) -> bool {
        self.world.progress.begun() >= self.heard.reading.joins_at
    }

    /// True: all is done.
    fn session(&mut self, mut wire: Wire) -> bool {
        self.heard.connections += 1;
        let name = self.heard.reading.name.clone();
        if !wire.session_present {
            self.open.clear();
            if self.subscribed && self.heard.reading.durable {
                let what = format!("{name}: the edge has forgotten its session");
                self.world.orders.fault(what);
            }
        }
        match self.talk(&mut wire) {
            Ok(End::Stop) => {
                let _ = wire.leave();
                true
            }
            Ok(End::Pause(politely)) => {
                if politely {
                    let _ = wire.leave();
                } else {
                    Tally::add(&wire.tally.cut_short, 1);
                    wire.vanish();
                }
                let (_, number) = self.world.orders.now();
                let ms = 100 + self.rng.below(2_500);
                self.world
                    .orders
                    .wait_changed(number, Duration::from_millis(ms));
                false
            }
            // A SUBSCRIBE that it had no room for.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                Tally::add(&wire.tally.cut_short, 1);
                wire.vanish();
                false
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData || wire.was_closed_by_edge() {
                    let what = format!("{name}: the edge ended it: {error}, told {:x?}", wire.told);
                    self.world.orders.fault(what);
                }
                false
            }
        }
    }

    fn talk(&mut self, wire: &mut Wire) -> io::Result<End> {
        if !self.subscribed || !self.heard.reading.durable {
            let reading = &self.heard.reading;
            let filters: Vec<&str> = reading.filters.iter().map(String::as_str).collect();
            wire.subscribe(1, &filters, reading.qos);
        }
        self.reads = true;
        self.turn = Instant::now() + Duration::from_millis(1_000 + self.rng.below(4_000));
        let mut pinged = None;
        loop {
            let (mode, number) = self.world.orders.now();
            if let Some(end) = self.turn(mode) {
                return Ok(end);
            }
            if !self.reads {
                self.world.orders.wait_changed(number, LOOK);
                continue;
            }
            // The answer comes behind everything that was sent before.
            if mode != Mode::Run && pinged != Some(number) && self.subscribed {
                pinged = Some(number);
                wire.ping();
            }
            wire.flush()?;
            let paced = self.pace.as_mut().filter(|_| mode == Mode::Run);
            if let Some(pace) = paced {
                if !pace.take() {
                    let pause = pace.pause().min(LOOK);
                    self.world.orders.wait_changed(number, pause);
                    continue;
                }
            }
            let mut next = wire.poll(LOOK)?;
            while let Some(packet) = next {
                if matches!(packet, Packet::Other(13)) && pinged == Some(number) {
                    self.world.orders.is_quiet(self.heard.reading.place, number);
                    if mode == Mode::Stop {
                        return Ok(End::Stop);
                    }
                }
                self.receive(wire, packet)?;
                next = match wire.has_input() && self.pace.is_none() {
                    true => wire.poll(Duration::ZERO)?,
                    false => None,
                };
            }
        }
    }

    /// What the habit wants now.
    fn turn(&mut self, mode: Mode) -> Option<End> {
        if mode != Mode::Run {
            self.reads = true;
            return None;
        }
        if self.turn > Instant::now() || !self.subscribed {
            return None;
        }
        match self.heard.reading.habit {
            Habit::ComesAndGoes => return Some(End::Pause(self.rng.below(4) > 0)),
            Habit::Stops(seconds) => {
                self.reads = !self.reads;
                let ms = match self.reads {
                    true => 1_000 + self.rng.below(3_000),
                    false => 1_000 + self.rng.below(seconds * 1_000),
                };
                self.turn = Instant::now() + Duration::from_millis(ms);
            }
            Habit::Prompt | Habit::Slow(_) => {}
        }
        None
    }

    fn receive(&mut self, wire: &mut Wire, packet: Packet) -> io::Result<()> {
        match packet {
            Packet::Publish {
                topic,
                payload,
                qos,
                id,
                ..
            } => {
                let id = id.unwrap_or(0);
                let is_new = qos < 2 || self.open.insert(id);
                if is_new {
                    self.deliver(&topic, &payload)?;
                }
                match qos {
                    1 => wire.answer(0x40, id),
                    2 => wire.answer(0x50, id),
                    _ => {}
                }
            }
            Packet::PubRel(id) => {
                self.open.remove(&id);
                wire.answer(0x70, id);
            }
            Packet::SubAck { codes, .. } => {
                // Without room for it the edge says so; the next connection asks again.
                if codes.iter().any(|code| *code > 2) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                if !self.subscribed {
                    let progress = &self.world.progress;
                    self.heard.since = progress.begun.iter().map(|n| n.load(Relaxed)).collect();
                    progress
                        .subscriptions
                        .fetch_add(codes.len() as u64, Relaxed);
                }
                self.subscribed = true;
            }
            Packet::Other(14) => return Err(io::ErrorKind::ConnectionAborted.into()),
            _ => {}
        }
        Ok(())
    }

    fn deliver(&mut self, topic: &str, payload: &[u8]) -> io::Result<()> {
        if payload.is_empty() {
            self.heard.empty += 1;
            return Ok(());
        }
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let attempt = Attempt::read(payload).map_err(wrong)?;
        let name = format!("p{}", attempt.publisher());
        if topic.split('/').nth(1) != Some(name.as_str()) {
            return Err(wrong(format!("{attempt} came on {topic}")));
        }
        self.heard.delivered.push(attempt);
        Ok(())
    }
}
