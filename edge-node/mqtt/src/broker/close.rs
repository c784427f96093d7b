//! Ends: of connections, of sessions, and the wills that follow.

use super::Broker;
use super::conn::Conn;
use super::journal::Reply;
use super::shares::Ending;
use super::timers::Timer;
use crate::codec;
use crate::limits;
use crate::rules::{self, Rule};
use crate::state::op::Op;
use crate::state::session::Sid;
use crate::{CloseReason, ConnId, Effect, Publish};

impl Broker {
    /// Ends a connection from this side: DISCONNECT on v5 (reason 0: none), then close. The will
    /// goes out.
    pub(super) fn close(&mut self, id: ConnId, reason: u8, why: CloseReason) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if conn.ready() && reason != 0 {
            let text = why.to_string();
            let text = conn.text(&text, 5);
            conn.say(&mut self.state.stats, |version, out| {
                codec::disconnect(version, reason, text, out);
            });
        }
        self.flush(id);
        self.effects.push(Effect::Close {
            conn: id,
            reason: why,
        });
        self.drop_conn(id, true);
    }

    /// DISCONNECT from the client. Only reason 0 takes the will back [MQTT-3.14.4-3].
    pub(super) fn disconnected(&mut self, id: ConnId, reason: u8, expiry_s: Option<u32>) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let sid = conn.sid;
        if let Some(session) = self.state.session(sid) {
            let max = self.config.session_expiry_max_s;
            match expiry_s.map(|s| s.min(max)) {
                // It was 0 and may not be set now [MQTT-3.14.2-2].
                Some(s) if s > 0 && session.expiry_s == 0 => {
                    let why = CloseReason::Protocol("a session expiry that was 0 at CONNECT");
                    return self.close(id, 0x82, why);
                }
                Some(s) if session.durable && s != session.expiry_s => {
                    session.expiry_s = s;
                    self.loose.push(Op::Expiry { sid, expiry_s: s });
                }
                _ => {}
            }
        }
        self.flush(id);
        self.effects.push(Effect::Close {
            conn: id,
            reason: CloseReason::Disconnected,
        });
        self.drop_conn(id, reason != 0);
    }

    /// The peer is gone. What it had sent before, and what the broker had no room for yet, still counts: who
    /// publishes at QoS 0 and says DISCONNECT goes as soon as that is sent.
    pub(super) fn hung_up(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let waits = !conn.input.is_empty() && !conn.may_read();
        // What the log refused has no end that is near, and the client has it: it was not acknowledged.
        if !waits || !conn.held.is_empty() {
            return self.drop_conn(id, true);
        }
        (conn.hung_up, conn.unwritten) = (true, 0);
        conn.output.clear();
    }

    /// Goes on with what a peer that is gone had sent, and forgets the connection behind that.
    pub(super) fn work_off(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.output.clear();
        if conn.may_read() {
            conn.paused = false;
            self.work(id);
        }
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.paused = !conn.may_read();
        if !conn.paused || !conn.held.is_empty() {
            self.drop_conn(id, true);
        }
    }

    /// Forgets a connection; its session ends or sleeps.
    pub(super) fn drop_conn(&mut self, id: ConnId, will: bool) {
        let Some(conn) = self.conns.remove(&id) else {
            return;
        };
        self.newcomers.remove(&id);
        if conn.counted {
            if let Some(of_listener) = self.by_listener.get_mut(&conn.info.listener) {
                *of_listener -= 1;
            }
        }
        self.timers.remove(&(conn.timer_ms, Timer::Silence(id)));
        if self.owners.get(&conn.client_id) == Some(&id) {
            self.owners.remove(&conn.client_id);
        }
        let Some(session) = self.state.session(conn.sid) else {
            return;
        };
        if session.conn != Some(id) {
            return;
        }
        for (_, entry) in session.queue.entries.range_mut(..conn.cursor) {
            entry.maybe_sent = rules::on(Rule::DupMarked);
        }
        self.lose_session(conn.sid, will);
    }

    /// A session has no connection any more.
    pub(super) fn lose_session(&mut self, sid: Sid, will: bool) {
        let now = self.now_ms;
        let Some(session) = self.state.session(sid) else {
            return;
        };
        session.conn = None;
        session.dropped.clear();
        if !will && session.will.is_some() && !session.will_spent {
            session.will_spent = true;
            if session.durable && rules::on(Rule::WillGoneRecorded) {
                self.loose.push(Op::WillGone { sid });
            }
        }
        let expiry_s = session.expiry_s;
        if !session.durable || expiry_s == 0 {
            self.will_due(sid);
            return self.end_session(sid);
        }
        self.forward_from(sid);
        let Some(session) = self.state.session(sid) else {
            return;
        };
        if expiry_s != u32::MAX {
            let at = now + u64::from(expiry_s) * 1000;
            session.expires_at_ms = Some(at);
            self.timers.insert((at, Timer::Expiry(sid)));
        }
        let will = session.will.as_ref().filter(|_| !session.will_spent);
        if let Some(delay_s) = will.map(|w| w.delay_s) {
            let at = now + u64::from(delay_s) * 1000;
            session.will_at_ms = Some(at);
            if delay_s == 0 {
                self.will_due(sid);
            } else {
                self.set_timer(at, Timer::Will(sid));
            }
        }
        self.make_room();
    }

    pub(super) fn will_timer(&mut self, sid: Sid) {
        let now = self.now_ms;
        let claimed = self.claimed(sid);
        let Some(session) = self.state.session(sid) else {
            return;
        };
        if session.conn.is_none() && session.will_at_ms.is_some_and(|at| at <= now) {
            if claimed {
                // Its client is connecting, which takes the will back unless the log refuses.
                let at = now + limits::REFUSED_RETRY_MS;
                session.will_at_ms = Some(at);
                return self.set_timer(at, Timer::Will(sid));
            }
            self.will_due(sid);
        }
    }

    /// Publishes a session's will, if it has one. Its end and the message are one frame.
    pub(super) fn will_due(&mut self, sid: Sid) {
        let Some(session) = self.state.session(sid) else {
            return;
        };
        if session.will_spent {
            return;
        }
        // It stays in the state until its frame is durable: a checkpoint may come before.
        let Some(will) = session.will.clone() else {
            return;
        };
        session.will_spent = true;
        if let Some(at) = session.will_at_ms.take() {
            self.timers.remove(&(at, Timer::Will(sid)));
        }
        let gone = if session.durable && rules::on(Rule::WillGoneInFrame) {
            vec![Op::WillGone { sid }]
        } else {
            Vec::new()
        };
        let publish = Publish {
            topic: will.topic.into(),
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            dup: false,
            properties: will.properties,
            client_id: session.client_id.clone(),
        };
        self.state.stats.wills += 1;
        self.count_published(&publish);
        self.post(publish, None, gone, Reply::Nobody);
    }

    /// Ends a session. A durable one is gone for clients at once, and for the state when its frame
    /// is durable.
    pub(super) fn end_session(&mut self, sid: Sid) {
        let Some(session) = self.state.sessions.get(&sid) else {
            return;
        };
        if !session.durable {
            self.state.end(sid);
            return self.deal_strays();
        }
        self.cancel_session_timers(sid);
        self.state.leave(sid);
        // What the session changed in this step comes before its end.
        self.append_loose();
        match self.last_dealt(sid) {
            Some(after) => self.ending.push(Ending { after, sid }),
            None => self.append_end(sid),
        }
    }

    pub(super) fn append_end(&mut self, sid: Sid) {
        if !rules::on(Rule::EndRecorded) {
            self.state.end(sid);
            return self.deal_strays();
        }
        let mut ops = match rules::on(Rule::ForwardInFrame) {
            true => self.forward(sid, true),
            false => Vec::new(),
        };
        ops.push(Op::End { sid });
        self.append(ops, None, Reply::Nobody);
    }

    /// Above the bound the sleeping session that expires first ends.
    fn make_room(&mut self) {
        if self.state.durable_sessions() <= self.config.sessions_max {
            return;
        }
        let sleeping = self.state.sessions.iter().filter(|(_, s)| {
            s.conn.is_none() && !s.leaving && !self.owners.contains_key(&s.client_id)
        });
        let first = sleeping.min_by_key(|(sid, s)| (s.expires_at_ms.unwrap_or(u64::MAX), **sid));
        if let Some(sid) = first.map(|(sid, _)| *sid) {
            self.will_due(sid);
            self.end_session(sid);
        }
    }

    /// Closes who has a will that it may not publish any more, without it.
    pub(super) fn access_changed(&mut self) {
        let forbidden = |(id, conn): (&ConnId, &Conn)| {
            let session = self
                .state
                .sessions
                .get(&conn.sid)
                .filter(|_| conn.ready())?;
            let will = session.will.as_ref()?;
            (!self.may_publish(conn, &will.topic)).then_some(*id)
        };
        let conns = self.conns.iter().map(|(id, conn)| (id, &**conn));
        let mut closed: Vec<ConnId> = conns.filter_map(forbidden).collect();
        closed.sort_unstable();
        for id in closed {
            let Some(conn) = self.conns.get_mut(&id) else {
                continue;
            };
            let text = conn.text("not authorised", 5);
            conn.say(&mut self.state.stats, |version, out| {
                codec::disconnect(version, 0x87, text, out);
            });
            self.flush(id);
            let reason = CloseReason::NotAuthorised;
            self.effects.push(Effect::Close { conn: id, reason });
            self.drop_conn(id, false);
        }
    }

    pub(super) fn shutdown(&mut self) {
        let mut all: Vec<ConnId> = self.conns.keys().copied().collect();
        all.sort_unstable();
        for id in all {
            self.close(id, 0x8b, CloseReason::Shutdown);
        }
    }

    /// Every connection is lost: sessions begin to expire, wills to wait.
    pub(super) fn after_restart(&mut self) {
        let sleeping = self.state.all_current();
        let now = self.now_ms;
        for sid in sleeping {
            let Some(session) = self.state.session(sid) else {
                continue;
            };
            if session.expiry_s != u32::MAX {
                let at = now + u64::from(session.expiry_s) * 1000;
                session.expires_at_ms = Some(at);
                self.timers.insert((at, Timer::Expiry(sid)));
            }
            if let Some(will) = &session.will {
                let at = now + u64::from(will.delay_s) * 1000;
                session.will_at_ms = Some(at);
                self.timers.insert((at, Timer::Will(sid)));
            }
        }
    }
}
