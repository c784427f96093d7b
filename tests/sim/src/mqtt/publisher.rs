//! A publisher that survives whatever happens to its broker, and knows what became of each message.
//!
//! Every attempt carries an id of its own in its payload. At QoS 1 a message without a PUBACK is sent
//! again, with DUP when the session goes on, under a new id: MQTT allows that both stand, so each is
//! judged by itself. At QoS 2 a message keeps its id for ever: it stands once.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::wire::{self, Connect, Packet, Publish, Reader, Version, Will};
use crate::edge::MqttConn;
use crate::now::Ms;
use crate::payload::{self, Id};
use crate::rng::Rng;

/// Without any answer for so long the client gives its connection up.
const PATIENCE_MS: Ms = 20_000;
/// PUBLISH packets in flight.
const IN_FLIGHT_MAX: usize = 12;
const WILL_BYTES: usize = 40;
/// How long it stays away at most, where it goes by itself.
const AWAY_MS: Ms = 10_000;

/// What a publisher is, for its whole life.
#[derive(Debug, Clone)]
pub struct Manner {
    pub client_id: String,
    pub version: Version,
    /// A clean session forgets at each disconnect; QoS 2 needs one that stays.
    pub clean: bool,
    pub topics: Vec<String>,
    /// Most of its connections leave a will.
    pub wills: bool,
    /// It goes so long after it has connected, in good order, and stays away for a while.
    pub stays_ms: Option<Ms>,
    /// It gives its packet ids from 1 to here.
    pub ids_max: u16,
}

/// The will of a CONNECT.
#[derive(Debug, Clone)]
pub struct WillSent {
    pub id: Id,
    pub qos: u8,
    pub topic: String,
    pub retain: bool,
    pub delay_ms: Ms,
}

/// One message that waits to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    pub qos: u8,
    /// Index into [`Manner::topics`].
    pub topic: usize,
    pub bytes: usize,
    pub retain: bool,
    /// Without a payload, so that what is retained is deleted; version 5 only, where a user property
    /// names the attempt.
    pub deletes: bool,
    /// QoS 2 only, once it was sent: it keeps its id.
    pub id: Option<Id>,
}

#[derive(Debug)]
struct Flight {
    message: Message,
    id: Id,
    /// QoS 2: the PUBREC came, the PUBCOMP did not.
    released: bool,
    /// Order of sending.
    seq: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Down {
        retry_at: Ms,
    },
    Dialling,
    /// CONNECT was sent.
    Greeting(MqttConn),
    Up(MqttConn),
}

/// What a client asks of the world.
#[derive(Debug)]
pub enum Act {
    /// Connect; answer `connected` or `refused`.
    Dial,
    Send(MqttConn, Bytes),
    Close(MqttConn),
    /// An attempt goes out: the oracle is to know.
    Sent {
        id: Id,
        message: Message,
        older_session: bool,
    },
    /// CONNECT goes out, CONNACK came, DISCONNECT goes out.
    Connects(MqttConn, Option<WillSent>),
    Greeted(MqttConn),
    Leaves(MqttConn),
    /// The broker promised.
    Acked(Id),
    /// The broker said that it will not be stored.
    Refused(Id),
    /// The broker has no session, and had one that was to stay.
    Lost,
    /// Counted and traced.
    Note(&'static str),
    /// The broker broke the protocol or a promise.
    Wrong(String),
}

pub struct Publisher {
    pub manner: Manner,
    rng: Rng,
    phase: Phase,
    reader: Reader,
    backlog: VecDeque<Message>,
    flying: BTreeMap<u16, Flight>,
    last_id: u16,
    seq: u64,
    heard: Ms,
    /// The broker has confirmed a session that stays.
    has_session: bool,
    /// The broker's session is older than what it told: at QoS 2 it may take a new message for
    /// one that it knows.
    is_older: bool,
    /// A broker that refuses is not asked again at once.
    quiet_until: Ms,
    /// When it goes, if it does.
    until: Option<Ms>,
    roams: bool,
    pub acts: VecDeque<Act>,
}

impl Publisher {
    pub fn new(manner: Manner, rng: Rng) -> Publisher {
        Publisher {
            manner,
            rng,
            phase: Phase::Down { retry_at: 0 },
            reader: Reader::default(),
            backlog: VecDeque::new(),
            flying: BTreeMap::new(),
            last_id: 0,
            seq: 0,
            heard: 0,
            has_session: false,
            is_older: false,
            quiet_until: 0,
            until: None,
            roams: true,
            acts: VecDeque::new(),
        }
    }

    pub fn is_done(&self) -> bool {
        self.backlog.is_empty() && self.flying.is_empty()
    }

    pub fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up(_))
    }

    pub fn waiting(&self) -> usize {
        self.backlog.len() + self.flying.len()
    }

    /// QoS 2 messages whose PUBREC has not come.
    pub fn unsettled(&self) -> impl Iterator<Item = Id> + '_ {
        let flying = self.flying.values().filter(|f| !f.released);
        flying
            .filter(|f| f.message.qos == 2)
            .map(|f| f.id)
            .chain(self.backlog.iter().filter_map(|m| m.id))
    }

    /// The operator put an older session, or none, into the broker.
    pub fn session_went_back(&mut self) {
        self.is_older = true;
    }

    pub fn is_older(&self) -> bool {
        self.is_older
    }

    pub fn publish(&mut self, now: Ms, message: Message, ids: &mut payload::Ids) {
        self.backlog.push_back(message);
        self.pump(now, ids);
    }

    pub fn deadline(&self) -> Option<Ms> {
        match self.phase {
            Phase::Down { retry_at } => Some(retry_at),
            Phase::Dialling => None,
            Phase::Greeting(_) => Some(self.heard + PATIENCE_MS),
            Phase::Up(_) => {
                let patience = (!self.flying.is_empty()).then_some(self.heard + PATIENCE_MS);
                let waits = !self.backlog.is_empty() && self.flying.len() < IN_FLIGHT_MAX;
                patience
                    .into_iter()
                    .chain(waits.then_some(self.quiet_until))
                    .chain(self.until)
                    .min()
            }
        }
    }

    pub fn timer(&mut self, now: Ms, ids: &mut payload::Ids) {
        self.pump(now, ids);
        match self.phase {
            Phase::Down { retry_at } if retry_at <= now => {
                self.phase = Phase::Dialling;
                self.acts.push_back(Act::Dial);
            }
            Phase::Up(_) if self.until.is_some_and(|at| at <= now) => {
                self.leave(now);
                let retry_at = now + self.rng.below(AWAY_MS);
                self.phase = Phase::Down { retry_at };
            }
            Phase::Greeting(conn) | Phase::Up(conn)
                if self.deadline().is_some_and(|at| at <= now) =>
            {
                self.acts.push_back(Act::Note("client gives up"));
                self.hang_up(now, conn);
            }
            _ => {}
        }
    }

    pub fn refused(&mut self, now: Ms) {
        self.down(now);
    }

    pub fn connected(&mut self, now: Ms, conn: MqttConn, ids: &mut payload::Ids) {
        self.phase = Phase::Greeting(conn);
        self.heard = now;
        self.reader.clear();
        let will = self.draw_will(ids);
        let payload = will.as_ref().map(|will| payload::of(will.id, WILL_BYTES));
        let left = will.as_ref().zip(payload.as_ref());
        let bytes = wire::connect(Connect {
            version: self.manner.version,
            client_id: &self.manner.client_id,
            clean: self.manner.clean,
            expiry_s: u32::MAX,
            receive_maximum: None,
            will: left.map(|(will, payload)| Will {
                topic: &will.topic,
                payload,
                qos: will.qos,
                retain: will.retain,
                delay_s: (will.delay_ms / 1_000) as u32,
            }),
        });
        if self.manner.wills {
            self.acts.push_back(Act::Connects(conn, will));
        }
        self.acts.push_back(Act::Send(conn, bytes));
    }

    fn draw_will(&mut self, ids: &mut payload::Ids) -> Option<WillSent> {
        if !self.manner.wills || self.rng.one_in(5) {
            return None;
        }
        let retain = self.rng.one_in(3);
        let delays = self.manner.version == Version::V5 && !self.manner.clean;
        let delay_ms = [0, 1_000, 20_000, 60_000][self.rng.index(4)];
        Some(WillSent {
            id: ids.draw(),
            qos: self.rng.index(3) as u8,
            // Where nobody else retains.
            topic: format!(
                "{}/{}/will",
                if retain { "r" } else { "a" },
                self.manner.client_id
            ),
            retain,
            delay_ms: if delays { delay_ms } else { 0 },
        })
    }

    /// The network or the broker ended it.
    pub fn closed(&mut self, now: Ms, conn: MqttConn) {
        if self.conn() == Some(conn) {
            self.down(now);
        }
    }

    /// Comes back at once, and stays.
    pub fn wake(&mut self, now: Ms) {
        (self.roams, self.until) = (false, None);
        if let Phase::Down { retry_at } = &mut self.phase {
            *retry_at = now;
        }
    }

    /// Leaves in good order, to come back.
    pub fn leave(&mut self, now: Ms) {
        if let Phase::Up(conn) = self.phase {
            if self.manner.wills {
                self.acts.push_back(Act::Leaves(conn));
            }
            self.acts.push_back(Act::Send(conn, wire::disconnect()));
            self.hang_up(now, conn);
        }
    }

    pub fn received(&mut self, now: Ms, conn: MqttConn, bytes: &[u8], ids: &mut payload::Ids) {
        if self.conn() != Some(conn) {
            return;
        }
        self.heard = now;
        self.reader.push(bytes);
        while self.conn() == Some(conn) {
            match self.reader.next(self.manner.version) {
                Ok(Some(packet)) => self.packet(now, conn, packet, ids),
                Ok(None) => break,
                Err(what) => {
                    self.acts.push_back(Act::Wrong(what));
                    break;
                }
            }
        }
        self.pump(now, ids);
    }

    fn packet(&mut self, now: Ms, conn: MqttConn, packet: Packet, ids: &mut payload::Ids) {
        match (self.phase, packet) {
            (
                Phase::Greeting(_),
                Packet::ConnAck {
                    session_present,
                    code: 0,
                },
            ) => self.greeted(now, conn, session_present, ids),
            (Phase::Greeting(_), Packet::ConnAck { .. }) => {
                self.acts.push_back(Act::Note("CONNECT refused"));
                self.hang_up(now, conn);
            }
            (Phase::Up(_), Packet::PubAck { id, code }) => self.settled(now, id, code, 1),
            (Phase::Up(_), Packet::PubRec { id, code }) => self.received_rec(now, conn, id, code),
            (Phase::Up(_), Packet::PubComp { id, .. }) => match self.flying.get(&id) {
                Some(flight) if flight.released => drop(self.flying.remove(&id)),
                Some(_) => self.wrong("PUBCOMP before PUBREL", id),
                None => self.acts.push_back(Act::Note("PUBCOMP again")),
            },
            (_, Packet::Disconnect { .. }) => {
                self.acts.push_back(Act::Note("broker says DISCONNECT"));
                self.hang_up(now, conn);
            }
            (phase, packet) => {
                let what = format!("{}: {packet:?} in {phase:?}", self.manner.client_id);
                self.acts.push_back(Act::Wrong(what));
            }
        }
    }

    fn greeted(&mut self, now: Ms, conn: MqttConn, session_present: bool, ids: &mut payload::Ids) {
        self.phase = Phase::Up(conn);
        let stays_ms = self.manner.stays_ms.filter(|_| self.roams);
        self.until = stays_ms.map(|ms| now + ms);
        if self.manner.wills {
            self.acts.push_back(Act::Greeted(conn));
        }
        if self.manner.clean && session_present {
            self.wrong("a clean session that was there before", 0);
        }
        if self.has_session && !session_present && !self.manner.clean {
            self.acts.push_back(match self.is_older {
                true => Act::Note("session lost"),
                false => Act::Lost,
            });
        }
        self.has_session = !self.manner.clean;
        self.is_older &= session_present;
        let mut order: Vec<u16> = self.flying.keys().copied().collect();
        order.sort_by_key(|id| self.flying[id].seq);
        if session_present {
            for id in order {
                self.resend(conn, id, ids);
            }
            return;
        }
        // Without its session the broker knows none of these ids: they are published anew.
        for pid in order.into_iter().rev() {
            let flight = self.flying.remove(&pid).expect("just listed");
            // With the PUBREC the message is the broker's; only the handshake was left.
            if !flight.released {
                let id = (flight.message.qos == 2).then_some(flight.id);
                self.backlog.push_front(Message {
                    id,
                    ..flight.message
                });
            }
        }
    }

    /// Sections 4.4: unacknowledged PUBLISH and PUBREL packets are sent again, in order.
    fn resend(&mut self, conn: MqttConn, pid: u16, ids: &mut payload::Ids) {
        let flight = self.flying.get_mut(&pid).expect("just listed");
        if flight.released {
            self.acts.push_back(Act::Send(conn, wire::pubrel(pid)));
            return self.acts.push_back(Act::Note("PUBREL again"));
        }
        if flight.message.qos == 1 {
            flight.id = ids.draw();
        }
        self.acts.push_back(Act::Note("DUP"));
        self.send(conn, pid, true);
    }

    fn received_rec(&mut self, now: Ms, conn: MqttConn, pid: u16, code: u8) {
        if code >= 0x80 {
            return self.settled(now, pid, code, 2);
        }
        match self.flying.get_mut(&pid) {
            Some(flight) if flight.message.qos == 2 => {
                if !flight.released {
                    flight.released = true;
                    self.acts.push_back(Act::Acked(flight.id));
                }
            }
            Some(_) => self.wrong("PUBREC for QoS 1", pid),
            None => self.acts.push_back(Act::Note("PUBREC again")),
        }
        self.acts.push_back(Act::Send(conn, wire::pubrel(pid)));
    }

    /// A PUBACK, or a PUBREC that refuses.
    fn settled(&mut self, now: Ms, pid: u16, code: u8, qos: u8) {
        let Some(flight) = self.flying.get(&pid) else {
            return self.acts.push_back(Act::Note("PUBACK again"));
        };
        if flight.message.qos != qos {
            return self.wrong("an acknowledgement of another QoS", pid);
        }
        let flight = self.flying.remove(&pid).expect("just seen");
        if code < 0x80 {
            return self.acts.push_back(Act::Acked(flight.id));
        }
        self.acts.push_back(Act::Refused(flight.id));
        self.quiet_until = now + 500;
        // It is another message to the oracle when it is tried again.
        self.backlog.push_back(Message {
            id: None,
            ..flight.message
        });
    }

    /// Sends what the window lets out.
    fn pump(&mut self, now: Ms, ids: &mut payload::Ids) {
        let Phase::Up(conn) = self.phase else { return };
        if now < self.quiet_until {
            return;
        }
        while self.flying.len() < IN_FLIGHT_MAX {
            let Some(message) = self.backlog.pop_front() else {
                return;
            };
            if self.flying.is_empty() {
                self.heard = now;
            }
            let pid = self.free_id();
            let id = message.id.unwrap_or_else(|| ids.draw());
            self.seq += 1;
            let flight = Flight {
                message,
                id,
                released: false,
                seq: self.seq,
            };
            self.flying.insert(pid, flight);
            self.send(conn, pid, false);
            if message.qos == 0 {
                self.flying.remove(&pid);
            }
        }
    }

    fn send(&mut self, conn: MqttConn, pid: u16, dup: bool) {
        let flight = &self.flying[&pid];
        let (id, message) = (flight.id, flight.message);
        self.acts.push_back(Act::Sent {
            id,
            message,
            older_session: self.is_older,
        });
        let payload = match message.deletes {
            true => Vec::new(),
            false => payload::of(id, message.bytes),
        };
        let name = id.0.to_string();
        let user_property = match self.manner.version {
            Version::V5 if message.deletes => Some((wire::ID, name.as_str())),
            Version::V5 if id.0 % 3 == 0 => Some(("unit", "C")),
            _ => None,
        };
        let publish = Publish {
            topic: &self.manner.topics[message.topic],
            payload: &payload,
            qos: message.qos,
            id: pid,
            dup,
            retain: message.retain,
            user_property,
        };
        let bytes = wire::publish(self.manner.version, publish);
        self.acts.push_back(Act::Send(conn, bytes));
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id % self.manner.ids_max + 1;
            if !self.flying.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    fn conn(&self) -> Option<MqttConn> {
        match self.phase {
            Phase::Greeting(conn) | Phase::Up(conn) => Some(conn),
            Phase::Down { .. } | Phase::Dialling => None,
        }
    }

    fn hang_up(&mut self, now: Ms, conn: MqttConn) {
        self.acts.push_back(Act::Close(conn));
        self.down(now);
    }

    fn down(&mut self, now: Ms) {
        let retry_at = now + 1 + self.rng.below(1_000);
        self.phase = Phase::Down { retry_at };
    }

    fn wrong(&mut self, what: &str, pid: u16) {
        let what = format!("{}: {what} (packet id {pid})", self.manner.client_id);
        self.acts.push_back(Act::Wrong(what));
    }
}
