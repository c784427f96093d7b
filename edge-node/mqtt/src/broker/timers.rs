//! Deadlines. One entry per connection and per sleeping session; a keep-alive is not moved with
//! every packet but looked at when it is due.

use super::Broker;
use super::conn::Stage;
use super::journal::Reply;
use crate::limits;
use crate::state::op::Op;
use crate::state::session::Sid;
use crate::{CloseReason, ConnId, Effect};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Keep-alive, or the wait for CONNECT.
    Silence(ConnId),
    /// A session without connection ends.
    Expiry(Sid),
    /// A delayed will is due.
    Will(Sid),
    /// A connection goes on with its retained messages.
    Retained(ConnId),
    /// A client that published too fast is read again.
    Rate(ConnId),
    /// Refused frames are offered again.
    Retry,
    /// `$SYS` says what has changed.
    Sys,
    /// A retained message expires.
    RetainedEnds,
}

/// Retained messages that end in one step.
const ENDS_MAX: usize = 256;

impl Broker {
    pub(super) fn set_timer(&mut self, at_ms: u64, timer: Timer) {
        self.timers.insert((at_ms, timer));
    }

    /// A connection has one deadline.
    pub(super) fn set_silence(&mut self, id: ConnId, at_ms: u64) {
        if let Some(conn) = self.conns.get_mut(&id) {
            self.timers.remove(&(conn.timer_ms, Timer::Silence(id)));
            conn.timer_ms = at_ms;
            self.timers.insert((at_ms, Timer::Silence(id)));
        }
    }

    /// The session has a connection again, or ends.
    pub(super) fn cancel_session_timers(&mut self, sid: Sid) {
        let Some(session) = self.state.session(sid) else {
            return;
        };
        let (expiry, will) = (session.expires_at_ms.take(), session.will_at_ms.take());
        if let Some(at) = expiry {
            self.timers.remove(&(at, Timer::Expiry(sid)));
        }
        if let Some(at) = will {
            self.timers.remove(&(at, Timer::Will(sid)));
        }
    }

    pub(super) fn arm(&mut self) {
        self.arm_retained();
        let first = self.timers.first().map(|(at, _)| *at);
        if let Some(at_ms) = first {
            if self
                .armed_ms
                .is_none_or(|armed| at_ms < armed || armed <= self.now_ms)
            {
                self.armed_ms = Some(at_ms);
                self.effects.push(Effect::ArmTimer { at_ms });
            }
        }
    }

    pub(super) fn timer(&mut self) {
        self.armed_ms = None;
        while let Some((at, timer)) = self.timers.first().copied() {
            if at > self.now_ms {
                return;
            }
            self.timers.pop_first();
            match timer {
                Timer::Silence(conn) => self.silence(conn),
                Timer::Expiry(sid) => self.expired(sid),
                Timer::Will(sid) => self.will_timer(sid),
                Timer::Retained(conn) => self.touch(conn),
                Timer::Rate(conn) => self.rate_due(conn),
                Timer::Retry => self.offer_again(),
                Timer::Sys => self.say_sys(),
                Timer::RetainedEnds => self.retained_ends(),
            }
        }
    }

    /// Nothing for 1.5 times the keep-alive [MQTT-3.1.2-22]. Only what the client sends counts,
    /// and not the time in which we did not read.
    fn silence(&mut self, id: ConnId) {
        let now = self.now_ms;
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if matches!(conn.stage, Stage::New) {
            return self.close(id, 0, CloseReason::ConnectTimeout);
        }
        if conn.silence_ms == 0 {
            return;
        }
        if conn.paused {
            conn.heard_ms = now;
        }
        let due = conn.heard_ms + conn.silence_ms;
        if due <= now {
            self.close(id, 0x8d, CloseReason::KeepAlive);
        } else {
            self.set_silence(id, due);
        }
    }

    /// Looks again when the next retained message ends, if any does.
    fn arm_retained(&mut self) {
        let first = self.state.retained.first_to_end().map(|(at, _)| *at);
        let next = first.filter(|_| !self.retained_ending);
        if self.retained_ends_ms != next {
            if let Some(at) = std::mem::replace(&mut self.retained_ends_ms, next) {
                self.timers.remove(&(at, Timer::RetainedEnds));
            }
            if let Some(at) = next {
                self.set_timer(at, Timer::RetainedEnds);
            }
        }
    }

    /// Nobody gets them any more (3.3.2.3.3); now they leave their room as well.
    fn retained_ends(&mut self) {
        self.retained_ends_ms = None;
        let ended = self.state.retained.ended(self.now_ms, ENDS_MAX);
        if ended.is_empty() {
            return;
        }
        let ops = ended.into_iter().map(|(expires_at_ms, topic)| Op::Expired {
            topic,
            expires_at_ms,
        });
        self.retained_ending = true;
        self.append(ops.collect(), None, Reply::RetainedEnded);
    }

    fn expired(&mut self, sid: Sid) {
        let now = self.now_ms;
        let Some(session) = self.state.session(sid) else {
            return;
        };
        if session.conn.is_none() && session.expires_at_ms.is_some_and(|at| at <= now) {
            session.expires_at_ms = None;
            if self.claimed(sid) {
                return self.expire_later(sid);
            }
            self.state.stats.sessions_expired += 1;
            // A will that still waits goes out with the session at the latest (3.1.3.2.2).
            self.will_due(sid);
            self.end_session(sid);
        }
    }

    /// Its client is connecting. Should the log refuse that, it is looked at again.
    fn expire_later(&mut self, sid: Sid) {
        let at = self.now_ms + limits::REFUSED_RETRY_MS;
        if let Some(session) = self.state.session(sid) {
            session.expires_at_ms = Some(at);
            self.set_timer(at, Timer::Expiry(sid));
        }
    }

    /// Whether an op that was refused still is to be said. Of the end of a connection that another
    /// has followed it is not; an expiry is what it is by now.
    fn still_holds(&self, op: &mut Op) -> bool {
        let (Op::WillGone { sid } | Op::Expiry { sid, .. }) = op else {
            return true;
        };
        let starts = |op: &Op| matches!(op, Op::Start { sid: other, .. } if other == sid);
        if self.pending.iter().any(|p| p.ops.iter().any(starts)) {
            return false;
        }
        match (self.state.sessions.get(sid), op) {
            (Some(session), Op::Expiry { expiry_s, .. }) => *expiry_s = session.expiry_s,
            (Some(session), _) => return session.conn.is_none(),
            (None, _) => return false,
        }
        true
    }

    fn offer_again(&mut self) {
        self.retry_armed = false;
        for mut frame in std::mem::take(&mut self.retry) {
            // A client that came back has released the id itself, and may use it again.
            if matches!(&frame.reply, Reply::PubComp { conn, .. } if !self.conns.contains_key(conn))
            {
                continue;
            }
            frame.ops.retain_mut(|op| self.still_holds(op));
            if frame.ops.is_empty() && frame.message.is_none() {
                continue;
            }
            // Who gets the message may have changed since.
            let mut deals = Vec::new();
            if let Some(message) = &frame.message {
                frame.ops.retain(|op| !op.carries());
                let op;
                (op, deals) = self.publish_op(None, message);
                frame.ops.extend(op);
            }
            self.append_dealt(frame.ops, frame.message, deals, frame.reply);
        }
        let holding = self.conns.iter().filter(|(_, c)| !c.held.is_empty());
        // While others of it are under way they may be refused too, and would come back behind these.
        let (mut held, wait): (Vec<(ConnId, bool)>, Vec<_>) = holding
            .map(|(id, c)| (*id, c.appends > 0))
            .partition(|(_, under_way)| !under_way);
        held.sort_unstable();
        if !wait.is_empty() {
            self.retry_later();
        }
        for (id, _) in held {
            let publishes = match self.conns.get_mut(&id) {
                Some(conn) => std::mem::take(&mut conn.held),
                None => continue,
            };
            for publish in publishes {
                self.publish(id, publish, true);
            }
            self.touch(id);
        }
    }

    /// Asks for another offer, if none is due already.
    pub(super) fn retry_later(&mut self) {
        if !self.retry_armed {
            self.retry_armed = true;
            self.set_timer(self.now_ms + limits::REFUSED_RETRY_MS, Timer::Retry);
        }
    }
}
