//! A subscriber: takes what the broker sends, answers in its own time, and comes back.
//!
//! At QoS 2 it keeps the packet ids of what it has taken and not yet heard PUBREL for, over its
//! connections, as section 4.3.3 asks of receivers: what comes again by such an id is not taken again.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::wire::{self, Packet, Reader, Version};
use crate::edge::MqttConn;
use crate::now::Ms;
use crate::rng::Rng;

/// Without an answer to CONNECT or SUBSCRIBE for so long it gives its connection up.
const PATIENCE_MS: Ms = 20_000;
const SUBSCRIBE_ID: u16 = 7;

/// What a subscriber is, for its whole life.
#[derive(Debug, Clone)]
pub struct Manner {
    pub client_id: String,
    pub version: Version,
    pub clean: bool,
    pub filter: String,
    pub qos: u8,
    /// Version 5: publishes under way to it at most.
    pub receive_maximum: Option<u16>,
    /// It answers so much later, at most.
    pub slow_ms: Ms,
}

/// A message that it has taken.
#[derive(Debug)]
pub struct Taken {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub id: u16,
    pub dup: bool,
}

/// What it asks of the world, and tells it.
#[derive(Debug)]
pub enum Act {
    Dial,
    Send(MqttConn, Bytes),
    Close(MqttConn),
    /// The broker has a session that it did not have at the last CONNACK, or none.
    Anew {
        /// There was one that should have stayed.
        lost: bool,
    },
    /// From now on the broker owes it what is published.
    Subscribed,
    Taken(Taken),
    Note(&'static str),
    Wrong(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down { retry_at: Ms },
    Dialling,
    Greeting(MqttConn),
    Subscribing(MqttConn),
    Up(MqttConn),
}

pub struct Subscriber {
    pub manner: Manner,
    rng: Rng,
    phase: Phase,
    reader: Reader,
    heard: Ms,
    has_session: bool,
    /// The broker may have an older session, or none: not its fault.
    is_older: bool,
    unreleased: BTreeSet<u16>,
    answers: VecDeque<(Ms, Bytes)>,
    pub acts: VecDeque<Act>,
}

impl Subscriber {
    pub fn new(manner: Manner, rng: Rng) -> Subscriber {
        Subscriber {
            manner,
            rng,
            phase: Phase::Down { retry_at: 0 },
            reader: Reader::default(),
            heard: 0,
            has_session: false,
            is_older: false,
            unreleased: BTreeSet::new(),
            answers: VecDeque::new(),
            acts: VecDeque::new(),
        }
    }

    /// Subscribed, and nothing left to say.
    pub fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Up(_)) && self.answers.is_empty()
    }

    /// An operator put an older state, or none, into the broker.
    pub fn session_went_back(&mut self) {
        self.is_older = true;
        self.unreleased.clear();
    }

    pub fn is_older(&self) -> bool {
        self.is_older
    }

    /// Stays away until then, in good order or not.
    pub fn leave(&mut self, now: Ms, until: Ms, orderly: bool) {
        if let Some(conn) = self.conn() {
            if orderly {
                self.acts.push_back(Act::Send(conn, wire::disconnect()));
            }
            self.acts.push_back(Act::Close(conn));
            self.down(now);
        }
        if let Phase::Down { retry_at } = &mut self.phase {
            *retry_at = until;
        }
    }

    /// Comes back at once, and is quick from now on.
    pub fn wake(&mut self, now: Ms) {
        self.manner.slow_ms = 0;
        if let Phase::Down { retry_at } = &mut self.phase {
            *retry_at = now;
        }
    }

    pub fn deadline(&self) -> Option<Ms> {
        let own = match self.phase {
            Phase::Down { retry_at } => Some(retry_at),
            Phase::Greeting(_) | Phase::Subscribing(_) => Some(self.heard + PATIENCE_MS),
            Phase::Dialling | Phase::Up(_) => None,
        };
        let answer = self.answers.front().map(|(at, _)| *at);
        own.into_iter().chain(answer).min()
    }

    pub fn timer(&mut self, now: Ms) {
        while let (Some(conn), Some((at, _))) = (self.conn(), self.answers.front()) {
            if *at > now {
                break;
            }
            let (_, bytes) = self.answers.pop_front().expect("just seen");
            self.acts.push_back(Act::Send(conn, bytes));
        }
        match self.phase {
            Phase::Down { retry_at } if retry_at <= now => {
                self.phase = Phase::Dialling;
                self.acts.push_back(Act::Dial);
            }
            Phase::Greeting(conn) | Phase::Subscribing(conn) if self.heard + PATIENCE_MS <= now => {
                self.acts.push_back(Act::Close(conn));
                self.down(now);
            }
            _ => {}
        }
    }

    pub fn refused(&mut self, now: Ms) {
        self.down(now);
    }

    pub fn connected(&mut self, now: Ms, conn: MqttConn) {
        self.phase = Phase::Greeting(conn);
        self.heard = now;
        self.reader.clear();
        let manner = &self.manner;
        let bytes = wire::connect(
            manner.version,
            &manner.client_id,
            manner.clean,
            manner.receive_maximum,
        );
        self.acts.push_back(Act::Send(conn, bytes));
    }

    pub fn closed(&mut self, now: Ms, conn: MqttConn) {
        if self.conn() == Some(conn) {
            self.down(now);
        }
    }

    pub fn received(&mut self, now: Ms, conn: MqttConn, bytes: &[u8]) {
        if self.conn() != Some(conn) {
            return;
        }
        self.heard = now;
        self.reader.push(bytes);
        while self.conn() == Some(conn) {
            match self.reader.next(self.manner.version) {
                Ok(Some(packet)) => self.packet(now, conn, packet),
                Ok(None) => break,
                Err(what) => {
                    self.acts.push_back(Act::Wrong(what));
                    break;
                }
            }
        }
    }

    fn packet(&mut self, now: Ms, conn: MqttConn, packet: Packet) {
        match (self.phase, packet) {
            (
                Phase::Greeting(_),
                Packet::ConnAck {
                    session_present,
                    code: 0,
                },
            ) => self.greeted(conn, session_present),
            (Phase::Greeting(_), Packet::ConnAck { .. }) => {
                self.acts.push_back(Act::Note("CONNECT refused"));
                self.acts.push_back(Act::Close(conn));
                self.down(now);
            }
            (Phase::Subscribing(_), Packet::SubAck { id, code }) if id == SUBSCRIBE_ID => {
                if code == self.manner.qos {
                    self.phase = Phase::Up(conn);
                    self.acts.push_back(Act::Subscribed);
                } else {
                    // The log is full; it is asked again.
                    self.acts.push_back(Act::Note("SUBSCRIBE refused"));
                    self.acts.push_back(Act::Close(conn));
                    self.down(now);
                }
            }
            (
                Phase::Subscribing(_) | Phase::Up(_),
                Packet::Publish {
                    topic,
                    payload,
                    qos,
                    id,
                    dup,
                },
            ) => {
                let again = qos == 2 && !self.unreleased.insert(id);
                match qos {
                    0 => {}
                    1 => self.answer(now, wire::puback(id)),
                    _ => self.answer(now, wire::pubrec(id)),
                }
                let taken = Taken {
                    topic,
                    payload,
                    qos,
                    id,
                    dup,
                };
                self.acts.push_back(match again {
                    true => Act::Note("QoS 2 again"),
                    false => Act::Taken(taken),
                });
            }
            (Phase::Subscribing(_) | Phase::Up(_), Packet::PubRel { id, .. }) => {
                self.unreleased.remove(&id);
                self.answer(now, wire::pubcomp(id));
            }
            (_, Packet::Disconnect { .. }) => {
                self.acts.push_back(Act::Close(conn));
                self.down(now);
            }
            (phase, packet) => {
                let what = format!("{}: {packet:?} in {phase:?}", self.manner.client_id);
                self.acts.push_back(Act::Wrong(what));
            }
        }
    }

    fn greeted(&mut self, conn: MqttConn, session_present: bool) {
        if !session_present || self.is_older {
            self.unreleased.clear();
        }
        if !session_present {
            let lost = self.has_session && !self.is_older;
            self.acts.push_back(Act::Anew { lost });
        }
        self.has_session = !self.manner.clean;
        self.is_older = false;
        // Each time: an older session may be without the subscription.
        self.phase = Phase::Subscribing(conn);
        let Manner {
            version,
            ref filter,
            qos,
            ..
        } = self.manner;
        let bytes = wire::subscribe(version, SUBSCRIBE_ID, filter, qos);
        self.acts.push_back(Act::Send(conn, bytes));
    }

    /// Answers stand in the order of what they answer (section 4.6).
    fn answer(&mut self, now: Ms, bytes: Bytes) {
        let at = now + self.rng.below(self.manner.slow_ms + 1);
        let at = self.answers.back().map_or(at, |(last, _)| at.max(*last));
        self.answers.push_back((at, bytes));
    }

    fn conn(&self) -> Option<MqttConn> {
        match self.phase {
            Phase::Greeting(conn) | Phase::Subscribing(conn) | Phase::Up(conn) => Some(conn),
            Phase::Down { .. } | Phase::Dialling => None,
        }
    }

    fn down(&mut self, now: Ms) {
        self.answers.clear();
        if self.manner.clean {
            self.unreleased.clear();
        }
        let retry_at = now + 1 + self.rng.below(1_000);
        self.phase = Phase::Down { retry_at };
    }
}
