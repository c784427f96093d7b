//! From CONNECT to CONNACK.

use std::sync::Arc;

use super::Broker;
use super::conn::{Conn, Stage};
use super::journal::Reply;
use super::shares::Held;
use crate::codec::{self, ConnAck, Connect, Version, Will};
use crate::limits;
use crate::rules::{self, Rule};
use crate::state::op::Op;
use crate::state::session::{Session, Sid};
use crate::{CloseReason, ConnId, ConnInfo, Effect, Login, topic};

/// A CONNECT that is accepted, perhaps once its session's frame is durable.
#[derive(Debug)]
pub(super) struct Accepted {
    pub version: Version,
    pub sid: Sid,
    pub client_id: Arc<str>,
    assigned: bool,
    durable: bool,
    will: Option<Will>,
    username: Option<String>,
    asked_expiry_s: u32,
    expiry_s: u32,
    keep_alive_s: u16,
    window: u16,
    /// What its listener lets the session's queue hold; None: what any may.
    queue_bytes_max: Option<u64>,
}

impl Broker {
    pub(super) fn opened(&mut self, id: ConnId, info: ConnInfo) {
        let max = self.config.connections_max;
        // Some room above the limit, so that a client can be told why it is refused.
        let full = self.conns.len() >= max + max / 8 + 16;
        let newcomers_max = (max / 2).clamp(16, limits::NEWCOMERS_MAX);
        if full || self.newcomers.len() >= newcomers_max {
            if let Some(oldest) = self.newcomers.pop_first() {
                self.close(
                    oldest,
                    0,
                    CloseReason::Quota("connections without a CONNECT"),
                );
            }
        }
        if self.conns.len() >= max + max / 8 + 16 {
            let reason = CloseReason::Quota("connections");
            self.effects.push(Effect::Close { conn: id, reason });
            return;
        }
        self.conns
            .insert(id, Box::new(Conn::new(info, self.now_ms)));
        self.state.stats.sockets += 1;
        self.newcomers.insert(id);
        self.set_silence(id, self.now_ms + limits::CONNECT_TIMEOUT_MS);
    }

    pub(super) fn connect(&mut self, id: ConnId, connect: Box<Connect>) {
        let version = connect.version;
        self.newcomers.remove(&id);
        let full = self.conns.len() - self.newcomers.len() > self.config.connections_max;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.version = version;
        conn.packet_bytes_max = connect.packet_bytes_max.map_or(usize::MAX, |m| m as usize);
        conn.problem_information = connect.problem_information;
        // Aliases cost memory on both sides: no more than we let clients have.
        conn.own_aliases_max = connect.topic_alias_maximum.min(limits::TOPIC_ALIAS_MAXIMUM);
        let of_listener = self.by_listener.entry(conn.info.listener).or_default();
        *of_listener += 1;
        conn.counted = true;
        let full = full || *of_listener > conn.info.limits.connections_max;
        if let Some(reason) = conn.info.refuse.or(full.then_some(0x97)) {
            return self.refuse(id, version, reason);
        }
        if connect.auth_method.is_some() {
            return self.refuse(id, version, 0x8c);
        }
        // [MQTT-3.1.3-8]: 3.1.1 without an id must ask for a clean session.
        if connect.client_id.is_empty() && version == Version::V3 && !connect.clean_start {
            return self.refuse(id, version, 0x85);
        }
        if connect
            .will
            .as_ref()
            .is_some_and(|w| topic::check_name(&w.topic).is_err())
        {
            return self.refuse(id, version, 0x90);
        }
        if self.config.authenticate {
            let login = Login {
                client_id: connect.client_id.clone(),
                username: connect.username.clone(),
                password: connect.password.clone(),
            };
            let info = conn.info.clone();
            conn.stage = Stage::Authenticating(connect);
            self.effects.push(Effect::Authenticate {
                conn: id,
                info,
                login,
            });
            return;
        }
        self.accept(id, connect);
    }

    pub(super) fn authenticated(&mut self, id: ConnId, accepted: bool) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut conn.stage, Stage::Connecting) {
            Stage::Authenticating(connect) if accepted => self.accept(id, connect),
            Stage::Authenticating(connect) => self.refuse(id, connect.version, 0x86),
            other => conn.stage = other,
        }
    }

    /// The shell wants a connection closed, or its login refused.
    pub(super) fn refuse_now(&mut self, id: ConnId, reason: u8) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        match conn.stage {
            Stage::Authenticating(_) => self.refuse(id, conn.version, reason),
            _ => self.close(id, reason, CloseReason::NotAuthorised),
        }
    }

    pub(super) fn refuse(&mut self, id: ConnId, version: Version, reason: u8) {
        self.state.stats.connects_refused += 1;
        if let Some(conn) = self.conns.get_mut(&id) {
            let ack = ConnAck {
                reason,
                text: conn.text(codec::reason_text(reason), 8),
                ..ConnAck::default()
            };
            conn.version = version;
            conn.say(&mut self.state.stats, |version, out| {
                codec::connack(version, &ack, out)
            });
            self.close(id, 0, CloseReason::ConnectRefused(reason));
        }
    }

    /// A level that is neither 4 nor 5 [MQTT-3.1.2-2]; above 5 the answer has 5.0's form.
    pub(super) fn refuse_version(&mut self, id: ConnId, level: u8) {
        let version = if level > 5 { Version::V5 } else { Version::V3 };
        self.refuse(id, version, 0x84);
    }

    /// The login is good: takes over, and starts or resumes the session.
    fn accept(&mut self, id: ConnId, connect: Box<Connect>) {
        let assigned = connect.client_id.is_empty();
        let client_id: Arc<str> = if assigned {
            self.assign()
        } else {
            connect.client_id.as_str().into()
        };
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.client_id = client_id.clone();
        conn.username.clone_from(&connect.username);
        let conn = &self.conns[&id];
        let limits = conn.info.limits;
        let inflight_max = self.config.inflight_max.min(limits.inflight_max);
        if connect
            .will
            .as_ref()
            .is_some_and(|w| !self.may_publish(conn, &w.topic))
        {
            return self.refuse(id, connect.version, 0x87);
        }
        if let Some(other) = self.owners.insert(client_id.clone(), id) {
            self.state.stats.taken_over += 1;
            self.close(other, 0x8e, CloseReason::TakenOver);
        }
        let asked_expiry_s = match connect.version {
            Version::V3 if connect.clean_start => 0,
            Version::V3 => u32::MAX,
            Version::V5 => connect.session_expiry_s.unwrap_or(0),
        };
        let accepted = Accepted {
            version: connect.version,
            sid: Sid(0),
            client_id,
            assigned,
            durable: false,
            will: connect.will,
            username: connect.username,
            asked_expiry_s,
            expiry_s: asked_expiry_s.min(self.config.session_expiry_max_s),
            keep_alive_s: connect.keep_alive_s,
            window: connect
                .receive_maximum
                .unwrap_or(u16::MAX)
                .min(inflight_max),
            queue_bytes_max: (limits.queue_bytes_max < usize::MAX)
                .then_some(limits.queue_bytes_max as u64),
        };
        let clean = connect.clean_start;
        match self.waits_for(&accepted.client_id, clean) {
            Some(after) => {
                let Some(conn) = self.conns.get_mut(&id) else {
                    return;
                };
                conn.stage = Stage::Connecting;
                let accepted = Box::new(accepted);
                self.held.push(Held {
                    after,
                    conn: id,
                    accepted,
                    clean,
                });
            }
            None => self.start_session(id, accepted, clean),
        }
    }

    fn assign(&mut self) -> Arc<str> {
        self.assigned += 1;
        let Self {
            config, assigned, ..
        } = self;
        format!(
            "{}{:x}-{assigned}",
            config.assigned_id_prefix, config.assigned_id_seed
        )
        .into()
    }

    pub(super) fn start_session(&mut self, id: ConnId, mut a: Accepted, clean: bool) {
        let old = self.state.current(&a.client_id);
        if let Some(old) = old.filter(|_| clean || !rules::on(Rule::WillTakenBack)) {
            // A will that still waits goes out when its session ends (3.1.3.2.2).
            self.will_due(old);
        }
        let resumed = old.filter(|_| !clean);
        a.sid = resumed.unwrap_or(Sid(self.state.next_sid));
        a.durable = resumed.is_some() || a.expiry_s > 0;
        // The old session's end and where its part of shared subscriptions goes are one frame.
        let durable = |sid: &Sid| self.state.sessions.get(sid).is_some_and(|s| s.durable);
        let gives = |_: &Sid| resumed.is_none() && rules::on(Rule::ForwardInFrame);
        let ended = old.filter(gives).filter(durable);
        let mut ops = ended.map_or_else(Vec::new, |sid| self.forward(sid, true));
        // What an earlier CONNECT has yet to say comes first.
        let before = self.starting.get(&a.client_id).map(|(_, sid)| *sid);
        let session = resumed.and_then(|sid| self.state.sessions.get(&sid));
        let same_bound = match session {
            Some(s) => before.is_none() && s.queue_bytes_max == a.queue_bytes_max,
            None => a.queue_bytes_max.is_none(),
        };
        let unchanged = before.is_none()
            && same_bound
            && session
                .is_some_and(|s| s.expiry_s == a.expiry_s && s.will == a.will && !s.will_spent);
        if a.durable && !unchanged {
            ops.push(Op::Start {
                sid: a.sid,
                client_id: a.client_id.clone(),
                fresh: resumed.is_none(),
                expiry_s: a.expiry_s,
                will: a.will.clone().filter(|_| rules::on(Rule::WillKept)),
            });
            if !same_bound {
                ops.push(Op::Queue {
                    sid: a.sid,
                    bytes_max: a.queue_bytes_max,
                });
            }
        } else if !a.durable {
            let ended = [before, old].into_iter().flatten();
            ops.extend(ended.map(|sid| Op::End { sid }));
        }
        if resumed.is_none() {
            self.state.next_sid += 1;
        }
        if ops.is_empty() {
            return self.accepted(id, a, resumed.is_some());
        }
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.stage = Stage::Connecting;
        }
        let starting = self.starting.entry(a.client_id.clone());
        let (frames, last) = starting.or_insert((0, a.sid));
        (*frames, *last) = (*frames + 1, a.sid);
        self.append(
            ops,
            None,
            Reply::Connect {
                conn: id,
                accepted: Box::new(a),
            },
        );
    }

    /// The frame of a CONNECT is durable, or refused.
    pub(super) fn started(&mut self, client_id: &Arc<str>) {
        if let Some((frames, _)) = self.starting.get_mut(client_id) {
            *frames -= 1;
            if *frames == 0 {
                self.starting.remove(client_id);
            }
        }
    }

    /// The log did not take the frame of a CONNECT.
    pub(super) fn connect_refused(&mut self, id: ConnId, a: &Accepted) {
        self.started(&a.client_id);
        self.refuse(id, a.version, 0x97);
        // One that gave way to it, see `accepted`, left the session without a deadline.
        let Some(sid) = self.state.current(&a.client_id) else {
            return;
        };
        let left =
            |s: &Session| s.conn.is_none() && s.expires_at_ms.is_none() && s.will_at_ms.is_none();
        let session = self.state.sessions.get(&sid);
        if session.is_some_and(|session| left(session)) && !self.claimed(sid) {
            self.lose_session(sid, false);
        }
    }

    /// Whether the client of a session has a connection, if only one whose CONNECT is under way.
    pub(super) fn claimed(&self, sid: Sid) -> bool {
        let session = self.state.sessions.get(&sid);
        session.is_some_and(|s| self.owners.contains_key(&s.client_id))
    }

    /// The session is there; says so.
    pub(super) fn accepted(&mut self, id: ConnId, a: Accepted, session_present: bool) {
        if !self.conns.contains_key(&id) {
            // It went away meanwhile; if nobody comes for the session, it sleeps.
            if !self.claimed(a.sid) {
                self.lose_session(a.sid, false);
            }
            return;
        }
        if !a.durable {
            self.state.start(a.sid, &a.client_id, true, false);
            if let Some(session) = self.state.session(a.sid) {
                session.will.clone_from(&a.will);
                session.queue_bytes_max = a.queue_bytes_max;
            }
        }
        self.cancel_session_timers(a.sid);
        if let Some(session) = self.state.session(a.sid) {
            if !rules::on(Rule::WillKept) {
                session.will.clone_from(&a.will);
            }
            session.conn = Some(id);
            session.window = a.window;
            session.will_spent = false;
        }
        self.state.stats.connects += 1;
        let connected = self.owners.len() as u64;
        self.state.stats.connected_max = self.state.stats.connected_max.max(connected);
        let max = self.config.keep_alive_max_s;
        let lower =
            a.version == Version::V5 && max > 0 && (a.keep_alive_s == 0 || a.keep_alive_s > max);
        let keep_alive_s = if lower { max } else { a.keep_alive_s };
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let limits = conn.info.limits;
        let ack = ConnAck {
            session_present,
            reason: 0,
            text: "",
            session_expiry_s: (a.expiry_s != a.asked_expiry_s).then_some(a.expiry_s),
            receive_maximum: self.config.receive_maximum.min(limits.receive_maximum),
            packet_bytes_max: limits.packet_bytes_max,
            assigned_client_id: a.assigned.then(|| a.client_id.to_string()),
            keep_alive_s: lower.then_some(max),
        };
        let said = conn.say(&mut self.state.stats, |version, out| {
            codec::connack(version, &ack, out)
        });
        conn.stage = Stage::Ready;
        conn.sid = a.sid;
        conn.client_id = a.client_id;
        conn.username = a.username;
        conn.window = a.window;
        conn.silence_ms = u64::from(keep_alive_s) * 1500;
        conn.heard_ms = self.now_ms;
        conn.since_ms = self.now_ms;
        if conn.silence_ms > 0 {
            let due = self.now_ms + conn.silence_ms;
            self.set_silence(id, due);
        }
        self.touch(id);
        self.relieve(a.sid);
        if !said {
            // It would never know what it was promised.
            self.close(
                id,
                0,
                CloseReason::Quota("the client's maximum packet size, by CONNACK"),
            );
        }
    }
}
