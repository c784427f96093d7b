//! A subscriber: takes what the broker sends, answers in its own time, and comes back.
//!
//! At QoS 2 it keeps the packet ids of what it has taken and not yet heard PUBREL for, over its
//! connections, as section 4.3.3 asks of receivers: what comes again by such an id is not taken again.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::wire::{self, Connect, Packet, Reader, Version};
use crate::edge::MqttConn;
use crate::now::Ms;
use crate::payload::Id;
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
    /// Version 5: how long its session outlives its connection, in seconds.
    pub expiry_s: u32,
    /// Where its session goes on it may do without another SUBSCRIBE.
    pub trusts: bool,
    /// Version 5: where it leaves in good order its session may end too.
    pub ends: bool,
    /// It goes so long after it has subscribed, and comes again,
    pub stays_ms: Option<Ms>,
    /// so much later at most.
    pub away_ms: Ms,
    pub filter: String,
    pub qos: u8,
    /// Version 5: publishes under way to it at most.
    pub receive_maximum: Option<u16>,
    /// It answers so much later, at most.
    pub slow_ms: Ms,
}

impl Manner {
    /// What the topics that it gets begin with.
    pub fn root(&self) -> &str {
        let shared = self.filter.strip_prefix("$share/");
        let filter = shared.and_then(|rest| rest.split_once('/'));
        let filter = filter.map_or(self.filter.as_str(), |(_, filter)| filter);
        filter.trim_end_matches('#')
    }

    pub fn outlives(&self) -> Option<Ms> {
        (self.expiry_s != NEVER).then_some(Ms::from(self.expiry_s) * 1_000)
    }
}

/// Clocks that are put right in small steps may end a session so much before its time.
const EARLY_MS: Ms = 200;

/// A session that does not expire.
pub const NEVER: u32 = u32::MAX;

/// A message that it has taken.
#[derive(Debug)]
pub struct Taken {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub id: u16,
    pub dup: bool,
    pub retain: bool,
    /// The attempt that it says it is, where the payload is empty.
    pub named: Option<Id>,
}

/// What it asks of the world, and tells it.
#[derive(Debug)]
pub enum Act {
    Dial,
    Send(MqttConn, Bytes),
    Close(MqttConn),
    /// CONNACK came.
    Greeted(Greeting),
    /// A SUBSCRIBE goes out.
    Asks,
    /// It does without one.
    GoesOn,
    /// It has stayed its time, and looks at what it was sent.
    Looked(MqttConn),
    /// From now on the broker owes it what is published.
    Subscribed,
    Taken(Taken),
    Note(&'static str),
    Wrong(String),
}

/// What CONNACK said of the session, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Greeting {
    pub present: bool,
    /// It may be another than the one before, and without that one's subscription.
    pub may_be_over: bool,
    /// There was one, and nobody put an older state into the broker.
    pub due: bool,
    /// When a connection that was greeted was last lost, and when any was.
    pub lost_at: Ms,
    pub down_at: Ms,
    pub dialled_at: Ms,
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
    /// SUBACK came in this session.
    is_subscribed: bool,
    lost_at: Ms,
    down_at: Ms,
    dialled_at: Ms,
    /// When it goes, if it does.
    until: Option<Ms>,
    roams: bool,
    /// Where it asked last for its session's end.
    ended_on: Option<MqttConn>,
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
            is_subscribed: false,
            lost_at: 0,
            down_at: 0,
            dialled_at: 0,
            until: None,
            roams: true,
            ended_on: None,
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

    /// Whether DISCONNECT on that connection ended its session.
    pub fn ends_with(&self, conn: MqttConn) -> bool {
        self.ended_on == Some(conn)
    }

    /// Stays away until then, in good order or not.
    pub fn leave(&mut self, now: Ms, until: Ms, orderly: bool) {
        if let Some(conn) = self.conn() {
            let ends = orderly && self.manner.ends && self.rng.one_in(2);
            if ends {
                self.acts.push_back(Act::Note("session ended"));
                self.acts
                    .push_back(Act::Send(conn, wire::disconnect_for_good()));
                (self.has_session, self.is_subscribed) = (false, false);
                self.ended_on = Some(conn);
            } else if orderly {
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
        (self.roams, self.until) = (false, None);
        self.hurry(now);
    }

    /// Comes back at once.
    pub fn hurry(&mut self, now: Ms) {
        if let Phase::Down { retry_at } = &mut self.phase {
            *retry_at = now;
        }
    }

    pub fn deadline(&self) -> Option<Ms> {
        let own = match self.phase {
            Phase::Down { retry_at } => Some(retry_at),
            Phase::Greeting(_) | Phase::Subscribing(_) => Some(self.heard + PATIENCE_MS),
            Phase::Up(_) => self.until,
            Phase::Dialling => None,
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
                self.dialled_at = now;
                self.acts.push_back(Act::Dial);
            }
            Phase::Greeting(conn) | Phase::Subscribing(conn) if self.heard + PATIENCE_MS <= now => {
                self.acts.push_back(Act::Close(conn));
                self.down(now);
            }
            Phase::Up(conn) if self.until.is_some_and(|at| at <= now) => {
                self.acts.push_back(Act::Looked(conn));
                let until = now + 1 + self.rng.below(self.manner.away_ms);
                self.leave(now, until, true);
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
        let bytes = wire::connect(Connect {
            version: manner.version,
            client_id: &manner.client_id,
            clean: manner.clean,
            expiry_s: manner.expiry_s,
            receive_maximum: manner.receive_maximum,
            will: None,
        });
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
            ) => self.greeted(now, conn, session_present),
            (Phase::Greeting(_), Packet::ConnAck { .. }) => {
                self.acts.push_back(Act::Note("CONNECT refused"));
                self.acts.push_back(Act::Close(conn));
                self.down(now);
            }
            (Phase::Subscribing(_), Packet::SubAck { id, code }) if id == SUBSCRIBE_ID => {
                if code == self.manner.qos {
                    self.up(now, conn);
                    self.is_subscribed = true;
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
                    retain,
                    named,
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
                    retain,
                    named,
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

    /// Its session may have expired, and the one that is there come from a CONNECT that was not answered.
    fn may_be_over(&self, now: Ms) -> bool {
        let over = |ms: Ms| now + EARLY_MS >= self.lost_at + ms;
        self.manner.outlives().is_some_and(over)
    }

    fn greeted(&mut self, now: Ms, conn: MqttConn, present: bool) {
        if !present || self.is_older || self.may_be_over(now) {
            self.unreleased.clear();
            self.is_subscribed = false;
        }
        self.acts.push_back(Act::Greeted(Greeting {
            present,
            may_be_over: self.may_be_over(now),
            due: self.has_session && !self.is_older,
            lost_at: self.lost_at,
            down_at: self.down_at,
            dialled_at: self.dialled_at,
        }));
        self.has_session = !self.manner.clean;
        self.is_older = false;
        if self.manner.trusts && self.is_subscribed && self.rng.one_in(2) {
            self.acts.push_back(Act::GoesOn);
            return self.up(now, conn);
        }
        // Each time otherwise: an older session may be without the subscription.
        self.phase = Phase::Subscribing(conn);
        self.acts.push_back(Act::Asks);
        let Manner {
            version,
            ref filter,
            qos,
            ..
        } = self.manner;
        let bytes = wire::subscribe(version, SUBSCRIBE_ID, filter, qos);
        self.acts.push_back(Act::Send(conn, bytes));
    }

    fn up(&mut self, now: Ms, conn: MqttConn) {
        self.phase = Phase::Up(conn);
        self.until = self
            .manner
            .stays_ms
            .filter(|_| self.roams)
            .map(|ms| now + ms);
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
        self.down_at = now;
        if matches!(self.phase, Phase::Subscribing(_) | Phase::Up(_)) {
            self.lost_at = now;
        }
        if self.manner.clean {
            self.unreleased.clear();
        }
        let retry_at = now + 1 + self.rng.below(1_000);
        self.phase = Phase::Down { retry_at };
    }
}
