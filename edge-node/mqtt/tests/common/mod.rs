//! A shell without sockets or disk: clients as byte streams, a journal that becomes durable when
//! the test says so, and crashes that keep only what was durable.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses its part

pub mod wire;

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use headwater_mqtt::{
    Append, Broker, CloseReason, Config, ConnId, ConnInfo, Effect, Event, Limits, Refusal, Token,
};
pub use wire::*;

pub struct World {
    pub broker: Broker,
    pub config: Config,
    /// Of the listener that the next connections come by.
    pub limits: Limits,
    pub now: u64,
    /// Staged frames; the first `durable` of them survive a crash.
    pub journal: Vec<Append>,
    pub durable: usize,
    /// Frames become durable as soon as they are staged.
    pub sync: bool,
    pub refuse: Option<Refusal>,
    /// Connections whose socket takes nothing.
    pub stalled: BTreeSet<u64>,
    pub unwritten: BTreeMap<u64, usize>,
    pub out: BTreeMap<u64, Vec<u8>>,
    pub closed: BTreeMap<u64, CloseReason>,
    pub paused: BTreeSet<u64>,
    pub timer: Option<u64>,
    pub kv: BTreeMap<Vec<u8>, Vec<u8>>,
    next_conn: u64,
}

impl World {
    pub fn new() -> World {
        World::with(Config::default())
    }

    pub fn with(config: Config) -> World {
        World {
            broker: Broker::new(config.clone(), 0),
            config,
            limits: Limits::default(),
            now: 0,
            journal: Vec::new(),
            durable: 0,
            sync: true,
            refuse: None,
            stalled: BTreeSet::new(),
            unwritten: BTreeMap::new(),
            out: BTreeMap::new(),
            closed: BTreeMap::new(),
            paused: BTreeSet::new(),
            timer: None,
            kv: BTreeMap::new(),
            next_conn: 1,
        }
    }

    pub fn event(&mut self, event: Event) {
        let mut events = vec![event];
        while !events.is_empty() {
            let mut effects = Vec::new();
            for event in events.drain(..) {
                self.broker.handle(self.now, event, &mut effects);
            }
            for effect in effects {
                match effect {
                    Effect::Send { conn, bytes } => {
                        self.out
                            .entry(conn.0)
                            .or_default()
                            .extend_from_slice(&bytes);
                        if self.stalled.contains(&conn.0) {
                            *self.unwritten.entry(conn.0).or_default() += bytes.len();
                        } else {
                            events.push(Event::Written {
                                conn,
                                bytes: bytes.len(),
                            });
                        }
                    }
                    Effect::Append(append) => match self.refuse {
                        // A frame with nothing in it needs no room.
                        Some(reason) if append.publish.is_some() || !append.op.is_empty() => {
                            events.push(Event::Refused {
                                token: append.token,
                                reason,
                            });
                        }
                        _ => self.journal.push(append),
                    },
                    Effect::Close { conn, reason } => drop(self.closed.insert(conn.0, reason)),
                    Effect::PauseReading(conn) => drop(self.paused.insert(conn.0)),
                    Effect::ResumeReading(conn) => drop(self.paused.remove(&conn.0)),
                    Effect::ArmTimer { at_ms } => self.timer = Some(at_ms),
                    Effect::Authenticate { conn, login, .. } => {
                        let accepted = login.password.as_deref() == Some(b"good".as_slice());
                        events.push(Event::Authenticated { conn, accepted });
                    }
                }
            }
            if self.sync {
                events.extend(self.make_durable(self.journal.len()));
            }
        }
    }

    fn make_durable(&mut self, upto: usize) -> Option<Event> {
        let upto = upto.min(self.journal.len());
        if upto <= self.durable {
            return None;
        }
        self.durable = upto;
        Some(Event::Durable(self.journal[upto - 1].token))
    }

    /// The next `n` frames are fsynced.
    pub fn fsync(&mut self, n: usize) {
        let upto = self.durable + n;
        if let Some(event) = self.make_durable(upto) {
            self.event(event);
        }
    }

    pub fn fsync_all(&mut self) {
        while self.durable < self.journal.len() {
            self.fsync(usize::MAX / 2);
        }
    }

    pub fn open(&mut self) -> u64 {
        let conn = self.next_conn;
        self.next_conn += 1;
        self.event(Event::Opened {
            conn: ConnId(conn),
            info: ConnInfo {
                limits: self.limits,
                ..ConnInfo::default()
            },
        });
        conn
    }

    pub fn send(&mut self, conn: u64, bytes: &[u8]) {
        self.event(Event::Received {
            conn: ConnId(conn),
            bytes: BytesMut::from(bytes),
        });
    }

    pub fn hang_up(&mut self, conn: u64) {
        self.event(Event::Closed { conn: ConnId(conn) });
    }

    /// What the client read since the last call.
    pub fn read(&mut self, conn: u64) -> Vec<Frame> {
        frames(&std::mem::take(self.out.entry(conn).or_default()))
    }

    /// A stalled socket takes everything.
    pub fn drain(&mut self, conn: u64) {
        self.stalled.remove(&conn);
        let bytes = self.unwritten.remove(&conn).unwrap_or(0);
        self.event(Event::Written {
            conn: ConnId(conn),
            bytes,
        });
    }

    pub fn later(&mut self, ms: u64) {
        let until = self.now + ms;
        while let Some(at) = self.timer.filter(|at| *at <= until) {
            self.timer = None;
            self.now = self.now.max(at);
            self.event(Event::Timer);
        }
        self.now = until;
    }

    /// Opens, sends CONNECT and checks that it is accepted; whether the session was present.
    pub fn connect(&mut self, connect: Connect) -> (u64, bool) {
        let conn = self.open();
        self.send(conn, &connect.bytes());
        let first = self.read(conn);
        assert_eq!(
            first.first().map(|f| f.first),
            Some(0x20),
            "CONNACK, closed: {:?}",
            self.closed
        );
        assert_eq!(first[0].body[1], 0, "accepted");
        let mut rest = Vec::new();
        first[1..].iter().for_each(|f| rest.extend(f.bytes()));
        self.out.insert(conn, rest);
        (conn, first[0].body[0] == 1)
    }

    /// Everything that was not durable is gone, every connection too.
    pub fn crash(&mut self) {
        self.journal.truncate(self.durable);
        let ops: Vec<Vec<u8>> = self
            .journal
            .iter()
            .map(|a| a.op.clone())
            .filter(|o| !o.is_empty())
            .collect();
        let kv = self.kv.iter().map(|(k, v)| (k.as_slice(), v.as_slice()));
        let (broker, report) = Broker::restore(
            self.config.clone(),
            self.now,
            kv,
            ops.iter().map(|o| o.as_slice()),
        );
        assert_eq!(report.problems, Vec::<String>::new());
        self.broker = broker;
        self.out.clear();
        self.closed.clear();
        self.paused.clear();
        self.stalled.clear();
        self.unwritten.clear();
        self.timer = None;
        self.event(Event::Timer);
    }

    /// Takes a checkpoint; the ops before it are kept too, as a store may hand them in again.
    pub fn checkpoint(&mut self) {
        for (key, value) in self.broker.checkpoint_changes() {
            match value {
                Some(value) => drop(self.kv.insert(key, value)),
                None => drop(self.kv.remove(&key)),
            }
        }
    }

    /// The state rebuilt from every op equals what incremental checkpoints add up to.
    pub fn compare(&mut self) {
        self.checkpoint();
        let durable = &self.journal[..self.durable];
        let ops = durable.iter().map(|a| a.op.as_slice());
        let ops = ops.filter(|op| !op.is_empty());
        let (mut replayed, report) = Broker::restore(self.config.clone(), self.now, [], ops);
        assert_eq!(report.problems, Vec::<String>::new());
        let all = replayed.checkpoint_changes().into_iter();
        let all = all.filter_map(|(k, v)| v.map(|v| (k, v)));
        let all: BTreeMap<_, _> = all.filter(|(k, _)| k != b"a").collect();
        let mut kv = self.kv.clone();
        kv.remove(b"a".as_slice());
        assert_eq!(kv, all);
    }

    /// Payloads of the records that are durable.
    pub fn records(&self) -> Vec<String> {
        let durable = self.journal[..self.durable].iter();
        let payloads = durable.filter_map(|a| a.publish.as_ref());
        payloads
            .map(|p| String::from_utf8_lossy(&p.payload).into_owned())
            .collect()
    }

    pub fn last_token(&self) -> Token {
        self.journal.last().map_or(Token(0), |a| a.token)
    }
}
