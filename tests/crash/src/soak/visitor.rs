//! Clients with a clean start that come, publish and read a little, and go, politely or not. Each has
//! a will; the edge publishes it if its client went without a word, and only then.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use e2e::mqtt::{Packet, Version};
use e2e::publisher::QUOTA_EXCEEDED;
use headwater_batch::SplitMix64;

use super::attempt::Attempt;
use super::lives::{Mode, Tally};
use super::publisher::World;
use super::wire::{Hello, Met, Wire};

const LOOK: Duration = Duration::from_millis(50);
/// Longest wait of one visit for what it waits for: the log may be full for as long.
const VISIT_BYTES: usize = 120;

/// A will whose client vanished, in a life of the edge with so many censuses by then.
#[derive(Debug)]
pub struct Will {
    pub attempt: Attempt,
    pub tally: Arc<Tally>,
    pub censuses: u64,
}

/// What a visitor knows of its messages.
#[derive(Debug, Default)]
pub struct Visits {
    pub acked: Vec<Attempt>,
    pub unknown: Vec<Attempt>,
    pub refused: u64,
    /// Wills that were to be published.
    pub wills: Vec<Will>,
    pub visits: u64,
    /// Wills of visits that ended with DISCONNECT: nobody may see them.
    pub withheld: u64,
    /// Publishes of others at QoS 0 and 1 that it read.
    pub read: u64,
}

pub struct Visitor {
    pub world: World,
    pub place: usize,
    pub publisher: u16,
    pub version: Version,
    /// A filter to read while it is there, and at which QoS.
    pub filter: String,
    pub qos: u8,
    pub rng: SplitMix64,
    pub next: u32,
    pub visits: Visits,
}

/// How a visit ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leave {
    Politely,
    Vanish,
}

impl Visitor {
    pub fn run(mut self) -> Visits {
        loop {
            let (mode, number) = self.world.orders.now();
            match mode {
                Mode::Stop => {
                    self.world.orders.is_quiet(self.place, number);
                    return self.visits;
                }
                Mode::Quiet => {
                    self.world.orders.is_quiet(self.place, number);
                    self.world.orders.wait_changed(number, LOOK);
                }
                Mode::Run => {
                    self.visit();
                    let pause = Duration::from_millis(self.rng.below(400));
                    self.world.orders.wait_changed(number, pause);
                }
            }
        }
    }

    fn attempt(&mut self) -> Attempt {
        self.next += 1;
        let begun = &self.world.progress.begun[usize::from(self.publisher)];
        begun.store(self.next, Relaxed);
        Attempt::new(self.publisher, self.next - 1, 0)
    }

    fn visit(&mut self) {
        // Its number is drawn long before it is published, so it has no place in the order: as a
        // second attempt has none.
        let will = self.attempt().again();
        let topic = format!("w/p{}", self.publisher);
        let id = format!("visitor-{}", self.publisher);
        let payload = will.payload(VISIT_BYTES);
        let hello = Hello {
            version: self.version,
            id: &id,
            keep: false,
            will: Some((&topic, payload.as_bytes())),
        };
        let mut wire = match Wire::connect(&self.world.lives, self.world.broker, hello) {
            Met::Accepted(wire) => wire,
            Met::Nobody => return self.world.lives.wait_up(LOOK),
            // Its CONNACK may have been lost on the way.
            Met::Failed(_) => return self.visits.unknown.push(will),
            Met::Refused => return,
        };
        self.visits.visits += 1;
        let mut flying = BTreeMap::new();
        let leave = match self.rng.below(2) {
            0 => Leave::Politely,
            _ => Leave::Vanish,
        };
        if let Err(error) = self.talk(&mut wire, &mut flying) {
            if error.kind() == io::ErrorKind::InvalidData || wire.was_closed_by_edge() {
                let what = format!("{id}: the edge ended it: {error}, told {:x?}", wire.told);
                self.world.orders.fault(what);
            }
            self.visits.unknown.extend(flying.into_values());
            return self.visits.unknown.push(will);
        }
        match leave {
            Leave::Politely => match wire.leave() {
                Ok(()) => self.visits.withheld += 1,
                Err(_) => self.visits.unknown.push(will),
            },
            Leave::Vanish => {
                let tally = wire.tally.clone();
                let censuses = tally.censuses.load(Relaxed);
                Tally::add(&tally.wills, 1);
                wire.vanish();
                self.visits.wills.push(Will {
                    attempt: will,
                    tally,
                    censuses,
                });
            }
        }
    }

    /// Publishes, reads, and ends with nothing under way in either direction.
    fn talk(&mut self, wire: &mut Wire, flying: &mut BTreeMap<u16, Attempt>) -> io::Result<()> {
        let filter = self.filter.clone();
        wire.subscribe(1, &[&filter], self.qos);
        let topic = format!("c/p{}", self.publisher);
        for id in 1..=self.rng.below(6) as u16 {
            let attempt = self.attempt();
            flying.insert(id, attempt);
            let payload = attempt.payload(VISIT_BYTES);
            wire.publish(&topic, payload.as_bytes(), 0b10, id);
        }
        wire.flush()?;
        let mut heard = Ears::default();
        while !flying.is_empty() || !heard.suback {
            self.hear(wire, flying, &mut heard)?;
        }
        wire.unsubscribe(2, &[&filter]);
        wire.flush()?;
        while !heard.unsuback {
            self.hear(wire, flying, &mut heard)?;
        }
        // What was queued before comes until a whole round brings nothing.
        loop {
            let read = self.visits.read;
            heard.pong = false;
            wire.ping();
            wire.flush()?;
            while !heard.pong {
                self.hear(wire, flying, &mut heard)?;
            }
            if self.visits.read == read {
                return Ok(());
            }
        }
    }

    fn hear(
        &mut self,
        wire: &mut Wire,
        flying: &mut BTreeMap<u16, Attempt>,
        heard: &mut Ears,
    ) -> io::Result<()> {
        match wire.poll(LOOK)? {
            None | Some(Packet::PubRel(_)) => {}
            Some(Packet::PubAck(id)) => {
                if let Some(attempt) = flying.remove(&id) {
                    self.visits.acked.push(attempt);
                    Tally::add(&wire.tally.acked[0], 1);
                    self.world.progress.acked.fetch_add(1, Relaxed);
                }
            }
            Some(Packet::Refused { id, reason }) if reason == QUOTA_EXCEEDED => {
                flying.remove(&id);
                self.visits.refused += 1;
                Tally::add(&wire.tally.refused, 1);
            }
            Some(Packet::Publish { id, qos, .. }) => {
                self.visits.read += 1;
                if qos == 1 {
                    wire.answer(0x40, id.unwrap_or(0));
                    wire.flush()?;
                }
            }
            Some(Packet::SubAck { .. }) => heard.suback = true,
            // UNSUBACK.
            Some(Packet::Other(11)) => heard.unsuback = true,
            Some(Packet::Other(13)) => heard.pong = true,
            Some(Packet::Other(14)) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Some(other) => {
                let what = format!("{other:?}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        Ok(())
    }
}

/// Answers that a visit waits for.
#[derive(Default)]
struct Ears {
    suback: bool,
    unsuback: bool,
    pong: bool,
}
