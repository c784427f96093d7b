//! The broker machine. Each file holds one part of what it does:
//! `connect` (CONNECT to CONNACK, take-over), `incoming` (publishes from clients), `outgoing`
//! (publishes to clients), `rate` (publishes a second), `subscribe`, `shares` (whom a shared
//! subscription's messages go to when a member leaves), `journal` (appends, what happens when they are
//! durable or refused), `close` (ends of connections and sessions, wills), `timers`, `sys` (`$SYS`).
//!
//! # A full disk
//! A publish that the log refuses for want of room is answered with reason 0x97 on v5. On 3.1.1,
//! which has no such answer, it is not acknowledged: the message is held, reading from that client
//! pauses, and the publish is offered to the log again every second until there is room (or the
//! client leaves, to send it again later). At most what was already under way is held, see
//! `limits::APPEND_MESSAGES_MAX`; all of it, since none of it may overtake another (`Append::held_for`). A QoS 0 publish is dropped and counted. A CONNECT or SUBSCRIBE
//! that cannot be stored is refused (0x97; 0x03 and 0x80 on 3.1.1).

mod close;
mod conn;
mod connect;
mod incoming;
mod journal;
mod outgoing;
mod rate;
mod shares;
mod subscribe;
mod sys;
mod timers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::codec::{self, CodecError, Packet};
use crate::seeded::{Seeded, Table};
use crate::state::op::Op;
use crate::state::session::Sid;
use crate::state::{Delivery, State};
use crate::{
    Access, AllowAll, ClientView, CloseReason, Config, ConnId, Effect, Event, Identity,
    RestoreReport, Stats,
};
use conn::{Conn, Stage};
use journal::Pending;
use shares::{Ending, Held};
use sys::Sys;
use timers::Timer;

/// All connections and sessions of one edge node. One task owns it.
pub struct Broker {
    config: Config,
    access: Box<dyn Access>,
    checks_delivery: bool,
    state: State,
    /// Boxed, as sessions are: a table keeps up to twice the room that it needs.
    conns: Table<ConnId, Box<Conn>>,
    /// Those that have not sent their CONNECT, oldest first: ids rise.
    newcomers: BTreeSet<ConnId>,
    /// Connections that have, by listener.
    by_listener: BTreeMap<u16, usize>,
    /// Who holds a client id, from its CONNECT on.
    owners: BTreeMap<Arc<str>, ConnId>,
    /// CONNECTs under way to the journal, by client id: how many, and the session of the last.
    starting: BTreeMap<Arc<str>, (usize, Sid)>,
    /// Ends of sessions, and CONNECTs, that wait for frames under way.
    ending: Vec<Ending>,
    held: Vec<Held>,
    /// Frames under way, in token order.
    pending: VecDeque<Pending>,
    /// Frames without anybody waiting that were refused; offered again.
    retry: VecDeque<Pending>,
    retry_armed: bool,
    /// When the timer looks at retained messages that end.
    retained_ends_ms: Option<u64>,
    /// Those that ended are on their way out.
    retained_ending: bool,
    next_token: u64,
    /// Subscriptions under way to the journal: until they are applied every publish's op carries
    /// its message, since it may be theirs.
    subscribes_pending: usize,
    /// Ops nobody waits for; one frame for all at the end of the step.
    loose: Vec<Op>,
    timers: BTreeSet<(u64, Timer)>,
    armed_ms: Option<u64>,
    /// Connections to look after at the end of the step.
    touched: Vec<ConnId>,
    deliveries: Vec<Delivery>,
    effects: Vec<Effect>,
    sys: Sys,
    assigned: u64,
    now_ms: u64,
}

impl Broker {
    /// A broker without any history, allowing everything.
    pub fn new(config: Config, now_ms: u64) -> Broker {
        Broker::restore(config, now_ms, [], []).0
    }

    /// The broker as it was: `checkpoint` is every key and value kept from
    /// [`Broker::checkpoint_changes`], `ops` every non-empty [`crate::Append::op`] in journal
    /// order. Ops that the checkpoint already holds may be given again; they are skipped.
    /// What cannot be read is left out and named in the report; a damaged entry is never a reason
    /// not to start. Call [`Broker::handle`] with [`Event::Timer`] next.
    pub fn restore<'a>(
        config: Config,
        now_ms: u64,
        checkpoint: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        ops: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Broker, RestoreReport) {
        let (state, report) = State::restore(&config, checkpoint, ops);
        let mut broker = Broker {
            conns: Table::with_hasher(Seeded(config.hash_seed)),
            newcomers: BTreeSet::new(),
            by_listener: BTreeMap::new(),
            owners: BTreeMap::new(),
            starting: BTreeMap::new(),
            ending: Vec::new(),
            held: Vec::new(),
            config,
            access: Box::new(AllowAll),
            checks_delivery: false,
            next_token: state.applied + 1,
            state,
            pending: VecDeque::new(),
            retry: VecDeque::new(),
            retry_armed: false,
            retained_ends_ms: None,
            retained_ending: false,
            subscribes_pending: 0,
            loose: Vec::new(),
            timers: BTreeSet::new(),
            armed_ms: None,
            touched: Vec::new(),
            deliveries: Vec::new(),
            effects: Vec::new(),
            sys: Sys::new(now_ms),
            assigned: 0,
            now_ms,
        };
        broker.after_restart();
        (broker, report)
    }

    /// Takes the access rules, for what clients do from now on. With clients connected,
    /// [`Event::AccessChanged`] is to follow.
    pub fn set_access(&mut self, access: Box<dyn Access>) {
        self.checks_delivery = access.checks_delivery();
        self.access = access;
    }

    /// One step. Effects are pushed to `effects` in the order in which they are to be done.
    pub fn handle(&mut self, now_ms: u64, event: Event, effects: &mut Vec<Effect>) {
        debug_assert!(now_ms >= self.now_ms, "time went back");
        self.now_ms = self.now_ms.max(now_ms);
        std::mem::swap(&mut self.effects, effects);
        match event {
            Event::Opened { conn, info } => self.opened(conn, info),
            Event::Received { conn, bytes } => self.received(conn, bytes),
            Event::Written { conn, bytes } => {
                if let Some(c) = self.conns.get_mut(&conn) {
                    c.unwritten = c.unwritten.saturating_sub(bytes);
                    self.touch(conn);
                }
            }
            Event::Closed { conn } => self.hung_up(conn),
            Event::Durable(token) => self.durable(token),
            Event::Refused { token, reason } => self.refused(token, reason),
            Event::Authenticated { conn, accepted } => self.authenticated(conn, accepted),
            Event::Kick { conn } => self.close(conn, 0x98, CloseReason::Kicked),
            Event::Refuse { conn, reason } => self.refuse_now(conn, reason),
            Event::AccessChanged => self.access_changed(),
            Event::Shutdown => self.shutdown(),
            Event::Timer => self.timer(),
        }
        self.settle();
        std::mem::swap(&mut self.effects, effects);
    }

    /// What changed since the last call: put (`Some`) or remove (`None`). Together with all earlier
    /// answers it is the state after exactly the frames reported durable so far.
    /// Invariant for the caller: report `Durable` for everything before the checkpoint's position
    /// first; frames after it must be kept in the journal.
    pub fn checkpoint_changes(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        self.state.checkpoint_changes()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            connected: self.conns.values().filter(|c| c.ready()).count() as u64,
            sessions: self.state.sessions.len() as u64,
            subscriptions: (self.state.tree.len() + self.state.shares.len()) as u64,
            retained: self.state.retained.len() as u64,
            retained_bytes: self.state.retained.bytes() as u64,
            queued_bytes: self.state.queued_bytes() as u64,
            ..self.state.stats
        }
    }

    /// Sessions in order of client id.
    pub fn clients(&self) -> Vec<ClientView> {
        let view = |sid: Sid| {
            let session = self.state.sessions.get(&sid)?;
            let conn = session.conn.and_then(|c| self.conns.get(&c));
            Some(ClientView {
                client_id: session.client_id.clone(),
                connected: conn.is_some(),
                version: conn.map(|c| c.version.name()),
                remote: conn.map(|c| c.info.remote.clone()),
                user: conn.and_then(|c| identity(c).username.map(str::to_owned)),
                since_ms: conn.map(|c| c.since_ms),
                subscriptions: session.subscriptions.len(),
                queued: session.queue.entries.len() + conn.map_or(0, |c| c.backlog.len()),
                queued_bytes: session.queue.bytes + conn.map_or(0, |c| c.backlog_bytes),
                inflight: conn.map_or(0, |c| c.inflight),
                received: conn.map_or(0, |c| c.received),
                sent: conn.map_or(0, |c| c.sent),
                dropped: session.dropped_count + conn.map_or(0, |c| c.dropped),
            })
        };
        self.state
            .all_current()
            .into_iter()
            .filter_map(view)
            .collect()
    }

    fn received(&mut self, id: ConnId, bytes: bytes::BytesMut) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.heard(bytes.len(), self.now_ms);
        self.state.stats.bytes_received += bytes.len() as u64;
        if conn.input.is_empty() {
            conn.input = bytes;
        } else {
            conn.input.extend_from_slice(&bytes);
        }
        self.work(id);
    }

    /// Decodes and handles packets until the input, or the right to go on, ends.
    fn work(&mut self, id: ConnId) {
        loop {
            let Some(conn) = self.conns.get_mut(&id) else {
                return;
            };
            if !conn.may_read() {
                break;
            }
            let version = (!matches!(conn.stage, Stage::New)).then_some(conn.version);
            let bytes_max = conn.info.limits.packet_bytes_max;
            match codec::next_within(bytes_max, version, &mut conn.input) {
                Ok(Some(packet)) => {
                    conn.heard_packet(self.now_ms);
                    self.state.stats.packets_received += 1;
                    let limited = conn.info.limits.messages_per_second > 0;
                    if limited && matches!(packet, Packet::Publish(_)) {
                        self.count_publish(id);
                    }
                    self.packet(id, packet);
                }
                Ok(None) => {
                    if conn.input.is_empty() {
                        conn.input = bytes::BytesMut::new();
                    }
                    break;
                }
                Err(error) => {
                    self.state.stats.malformed += 1;
                    return self.codec_error(id, error);
                }
            }
        }
        self.touch(id);
    }

    fn codec_error(&mut self, id: ConnId, error: CodecError) {
        let reason = match error {
            CodecError::Malformed(what) => CloseReason::Malformed(what),
            CodecError::Protocol(what) => CloseReason::Protocol(what),
            CodecError::TooLarge => CloseReason::PacketTooLarge,
            CodecError::Version { level } => {
                return self.refuse_version(id, level);
            }
        };
        self.close(id, error.reason(), reason);
    }

    fn packet(&mut self, id: ConnId, packet: Packet) {
        match packet {
            Packet::Connect(connect) => self.connect(id, connect),
            Packet::Publish(publish) => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.received += 1;
                }
                self.publish(id, publish, false);
            }
            Packet::PubAck {
                id: packet,
                reason: _,
            } => self.puback(id, packet),
            Packet::PubRec { id: packet, reason } => self.pubrec(id, packet, reason),
            Packet::PubRel {
                id: packet,
                reason: _,
            } => self.pubrel(id, packet),
            Packet::PubComp {
                id: packet,
                reason: _,
            } => self.pubcomp(id, packet),
            Packet::Subscribe(subscribe) => self.subscribe(id, subscribe),
            Packet::Unsubscribe {
                id: packet,
                filters,
            } => self.unsubscribe(id, packet, filters),
            Packet::PingReq => {
                if let Some(conn) = self.conns.get_mut(&id) {
                    conn.say(&mut self.state.stats, |_, out| codec::pingresp(out));
                }
            }
            Packet::Disconnect {
                reason,
                session_expiry_s,
            } => {
                self.disconnected(id, reason, session_expiry_s);
            }
            // No method was agreed on in CONNECT, so there is nothing to go on with (4.12.1).
            Packet::Auth { .. } => {
                self.close(id, 0x82, CloseReason::Protocol("AUTH without a method"));
            }
        }
    }

    fn may_publish(&self, conn: &Conn, topic: &str) -> bool {
        !sys::is_ours(topic) && self.access.may_publish(identity(conn), topic)
    }

    fn may_subscribe(&self, conn: &Conn, filter: &str) -> bool {
        self.access.may_subscribe(identity(conn), filter)
    }

    fn touch(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            if !conn.touched {
                conn.touched = true;
                self.touched.push(id);
            }
        }
    }

    /// Ends a step: sends what waits, lets paused connections go on, and writes everything out.
    fn settle(&mut self) {
        self.end_due();
        let mut at = 0;
        while at < self.touched.len() {
            let id = self.touched[at];
            at += 1;
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.touched = false;
            }
            self.pump(id);
            let Some(conn) = self.conns.get_mut(&id) else {
                continue;
            };
            if conn.hung_up {
                self.work_off(id);
                continue;
            }
            let may_read = conn.may_read();
            if may_read && !conn.input.is_empty() && conn.paused {
                // Decoding goes on before the socket is read again.
                conn.paused = false;
                conn.heard_ms = self.now_ms;
                self.effects.push(Effect::ResumeReading(id));
                self.work(id);
                continue;
            }
            if conn.paused == may_read {
                conn.paused = !may_read;
                if may_read {
                    conn.heard_ms = self.now_ms;
                }
                let effect = if may_read {
                    Effect::ResumeReading
                } else {
                    Effect::PauseReading
                };
                self.effects.push(effect(id));
            }
            self.flush(id);
        }
        self.touched.clear();
        self.append_loose();
        self.arm();
    }

    fn flush(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if conn.hung_up {
            conn.output.clear();
        }
        if conn.output.is_empty() {
            return;
        }
        let bytes = conn.output.split().freeze();
        conn.unwritten += bytes.len();
        self.state.stats.bytes_sent += bytes.len() as u64;
        self.effects.push(Effect::Send { conn: id, bytes });
    }
}

fn identity(conn: &Conn) -> Identity<'_> {
    Identity {
        info: &conn.info,
        client_id: &conn.client_id,
        username: conn
            .info
            .certificate_user
            .as_deref()
            .or(conn.username.as_deref()),
    }
}
