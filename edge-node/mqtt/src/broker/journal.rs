//! Frames on their way to the journal, and what follows when they are durable or refused.

use std::sync::Arc;

use super::Broker;
use super::connect::Accepted;
use super::subscribe::Granted;
use crate::codec::{self, Ack, PublishIn, Version};
use crate::rules::{self, Rule};
use crate::state::op::{self, Op};
use crate::state::session::{Message, Sid};
use crate::state::{Deal, Delivery, Outcome};
use crate::{Append, CloseReason, ConnId, Effect, Publish, QoS, Refusal, Token};

/// Refused frames that nobody waits for, kept for another try; beyond, the oldest is forgotten
/// (a subscriber's acknowledgement: it gets the message again after a restart; a will).
const RETRY_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Pending {
    pub token: Token,
    pub ops: Vec<Op>,
    pub message: Option<Arc<Message>>,
    /// Whom the message goes to by shared subscriptions, unless an op says so.
    pub deals: Vec<Deal>,
    pub reply: Reply,
}

/// Whose publish it is. `id` 0: QoS 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct From {
    pub conn: ConnId,
    pub sid: Sid,
    pub id: u16,
    pub qos: QoS,
}

/// What is to be said, and to whom, once the frame is durable.
#[derive(Debug)]
pub(super) enum Reply {
    Nobody,
    /// A publish of this connection. `again`: the packet, for v3.1.1, which cannot be refused.
    Publish {
        from: From,
        bytes: usize,
        again: Option<Box<PublishIn>>,
    },
    Connect {
        conn: ConnId,
        accepted: Box<Accepted>,
    },
    Subscribe {
        conn: ConnId,
        granted: Box<Granted>,
    },
    Unsubscribe {
        conn: ConnId,
        id: u16,
        reasons: Vec<u8>,
    },
    PubComp {
        conn: ConnId,
        id: u16,
    },
    PubRel {
        sid: Sid,
        id: u16,
    },
    Enqueue {
        conn: ConnId,
        bytes: usize,
    },
    RetainedEnded,
}

impl Reply {
    fn held_for(&self) -> Option<ConnId> {
        match self {
            Reply::Publish {
                from,
                again: Some(_),
                ..
            } => Some(from.conn),
            _ => None,
        }
    }
}

impl Broker {
    pub(super) fn append(&mut self, ops: Vec<Op>, message: Option<Arc<Message>>, reply: Reply) {
        self.append_dealt(ops, message, Vec::new(), reply);
    }

    pub(super) fn append_dealt(
        &mut self,
        ops: Vec<Op>,
        message: Option<Arc<Message>>,
        deals: Vec<Deal>,
        reply: Reply,
    ) {
        let token = Token(self.next_token);
        self.next_token += 1;
        let op = if ops.is_empty() {
            Vec::new()
        } else {
            op::encode(token.0, &ops)
        };
        if let Some(message) = &message {
            self.state.retained.coming(token.0, message);
        }
        let publish: Option<Publish> = message.as_ref().map(|m| m.publish.clone());
        self.effects.push(Effect::Append(Append {
            token,
            publish,
            op,
            held_for: reply.held_for(),
            frees_room: message.is_none() && ops.iter().all(Op::frees_room),
        }));
        self.pending.push_back(Pending {
            token,
            ops,
            message,
            deals,
            reply,
        });
    }

    pub(super) fn append_loose(&mut self) {
        if !self.loose.is_empty() {
            let ops = std::mem::take(&mut self.loose);
            self.append(ops, None, Reply::Nobody);
        }
    }

    pub(super) fn durable(&mut self, token: Token) {
        while self.pending.front().is_some_and(|p| p.token <= token) {
            let Some(frame) = self.pending.pop_front() else {
                return;
            };
            self.apply(frame);
        }
    }

    fn apply(&mut self, frame: Pending) {
        if let Some(message) = &frame.message {
            self.state.retained.came(frame.token.0, message);
        }
        let mut out = std::mem::take(&mut self.deliveries);
        let mut outcome = Outcome::default();
        let mut carried = false;
        for op in &frame.ops {
            outcome.add(self.state.apply(op, &mut out));
            carried |= op.carries();
            self.state.applied = frame.token.0;
            if let Op::Done { sid, .. } | Op::Forward { sid, .. } = op {
                // Its queue has room again, for retained messages too.
                self.touch_session(*sid);
            }
        }
        if let Some(message) = frame.message.filter(|_| !carried) {
            self.state.accept(&message, &frame.deals, &mut out);
        }
        self.deliver(&mut out);
        self.deliveries = out;
        self.answer(frame.reply, outcome);
        self.look_after_deals(&frame.ops);
    }

    fn answer(&mut self, reply: Reply, outcome: Outcome) {
        match reply {
            Reply::Nobody => {}
            Reply::RetainedEnded => self.retained_ending = false,
            Reply::Publish {
                from,
                bytes,
                again: _,
            } => {
                self.publish_over(from.conn, bytes);
                self.acknowledge(from, 0);
            }
            Reply::Connect { conn, accepted } => {
                self.started(&accepted.client_id);
                self.accepted(conn, *accepted, outcome.session_present);
            }
            Reply::Subscribe { conn, granted } => {
                self.subscribes_pending -= 1;
                self.subscribed(conn, *granted, &outcome.filters);
            }
            Reply::Unsubscribe { conn, id, reasons } => {
                self.unsubscribed(conn, id, &reasons, &outcome.filters);
            }
            Reply::PubComp { conn, id } => self.send_ack(conn, Ack::PubComp, id, 0),
            Reply::PubRel { sid, id } => self.release_subscriber(sid, id),
            Reply::Enqueue { conn, bytes } => {
                if let Some(c) = self.conns.get_mut(&conn) {
                    c.enqueues -= 1;
                    c.enqueue_bytes -= bytes;
                    self.touch(conn);
                }
            }
        }
    }

    fn touch_session(&mut self, sid: Sid) {
        if let Some(conn) = self.state.sessions.get(&sid).and_then(|s| s.conn) {
            self.touch(conn);
        }
    }

    fn publish_over(&mut self, conn: ConnId, bytes: usize) {
        if let Some(c) = self.conns.get_mut(&conn) {
            c.appends -= 1;
            c.append_bytes -= bytes;
            self.touch(conn);
        }
    }

    /// PUBACK, PUBREC or, at QoS 0, nothing. A PUBREC goes to whoever sent the publish last: the
    /// client may have come back and sent it again.
    fn acknowledge(&mut self, from: From, reason: u8) {
        let Some(asker) = self.forget_open(from) else {
            return;
        };
        let (acked, rec) = (
            rules::on(Rule::PubAckDurable),
            rules::on(Rule::PubRecDurable),
        );
        if from.qos == QoS::AtLeastOnce {
            if reason == 0 && !acked {
                return;
            }
            return self.send_ack(asker, Ack::PubAck, from.id, reason);
        }
        let durable = self.state.session(from.sid).is_some_and(|s| s.durable);
        if reason == 0 && (!durable || !rules::on(Rule::IdsKept)) {
            self.state.arrived(from.sid, from.id);
        }
        if reason == 0 && !rec {
            return;
        }
        self.send_ack(asker, Ack::PubRec, from.id, reason);
    }

    /// The publish is not under way any more; who is to be answered.
    fn forget_open(&mut self, from: From) -> Option<ConnId> {
        match from.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => {
                self.conns.get_mut(&from.conn)?.qos1_open -= 1;
                Some(from.conn)
            }
            QoS::ExactlyOnce => self.state.session(from.sid)?.arriving.remove(&from.id),
        }
    }

    pub(super) fn send_ack(&mut self, conn: ConnId, kind: Ack, id: u16, reason: u8) {
        if let Some(c) = self.conns.get_mut(&conn) {
            if kind == Ack::PubComp || (kind == Ack::PubRec && reason >= 0x80) {
                c.qos2_open.remove(&id);
            }
            let text = match c.problem_information {
                true => c.text(codec::reason_text(reason), 8),
                false => "",
            };
            c.say(&mut self.state.stats, |version, out| {
                codec::ack(version, kind, id, reason, text, out);
            });
            self.touch(conn);
        }
    }

    pub(super) fn refused(&mut self, token: Token, reason: Refusal) {
        let Ok(at) = self.pending.binary_search_by(|p| p.token.cmp(&token)) else {
            return;
        };
        let Some(frame) = self.pending.remove(at) else {
            return;
        };
        self.state.stats.appends_refused += 1;
        if let Some(message) = &frame.message {
            self.state.retained.came(token.0, message);
        }
        match frame.reply {
            Reply::Publish { from, bytes, again } => {
                self.publish_over(from.conn, bytes);
                self.publish_refused(from, again, reason);
            }
            Reply::Connect { conn, accepted } => {
                self.keep_part(&frame.ops);
                self.connect_refused(conn, &accepted);
            }
            Reply::Subscribe { conn, granted } => {
                self.subscribes_pending -= 1;
                self.subscribe_refused(conn, *granted);
            }
            Reply::Unsubscribe { conn, id, reasons } => {
                let refused = vec![0x83; reasons.len()];
                self.unsubscribed(conn, id, &refused, &[]);
            }
            // A will that the log can never take: what else the frame says stays true.
            reply if frame.message.is_some() && reason == Refusal::Unacceptable => {
                let keep = |op: &Op| !matches!(op, Op::Publish { .. } | Op::Dealt { .. });
                let ops: Vec<Op> = frame.ops.into_iter().filter(keep).collect();
                if !ops.is_empty() {
                    self.append(ops, None, reply);
                }
            }
            // They only free space, or nobody waits: kept until they are taken.
            reply => {
                if self.retry.len() >= RETRY_MAX {
                    let oldest = self.retry.pop_front();
                    let ends = |frame: Pending| matches!(frame.reply, Reply::RetainedEnded);
                    self.retained_ending &= !oldest.is_some_and(ends);
                }
                self.retry.push_back(Pending { reply, ..frame });
                self.retry_later();
            }
        }
    }

    fn publish_refused(&mut self, from: From, again: Option<Box<PublishIn>>, reason: Refusal) {
        if from.qos == QoS::AtMostOnce {
            return;
        }
        // Whoever sent it last: only its own version says how it hears of a refusal. A bare PUBREC
        // would tell a 3.1.1 client that the message is stored.
        let asker = self.asker(from);
        let Some(version) = self.conns.get(&asker).map(|c| c.version) else {
            self.forget_open(from);
            return;
        };
        match (version, reason) {
            (Version::V5, Refusal::QuotaExceeded) => self.acknowledge(from, 0x97),
            (Version::V5, Refusal::Unacceptable) => self.acknowledge(from, 0x83),
            (Version::V3, Refusal::QuotaExceeded) => {
                self.forget_open(from);
                if let (Some(c), Some(again)) = (self.conns.get_mut(&asker), again) {
                    c.held.push_back(*again);
                    self.retry_later();
                }
            }
            (Version::V3, Refusal::Unacceptable) => {
                self.forget_open(from);
                self.close(
                    asker,
                    0,
                    CloseReason::Quota("the log cannot take this message"),
                );
            }
        }
    }

    fn asker(&self, from: From) -> ConnId {
        let session = self.state.sessions.get(&from.sid);
        let asker = session.and_then(|s| s.arriving.get(&from.id)).copied();
        asker
            .filter(|_| from.qos == QoS::ExactlyOnce)
            .unwrap_or(from.conn)
    }

    /// Sends QoS 0 deliveries and wakes the connections of sessions whose queue grew.
    pub(super) fn deliver(&mut self, out: &mut Vec<Delivery>) {
        for delivery in out.drain(..) {
            let Some(session) = self.state.sessions.get(&delivery.sid) else {
                continue;
            };
            let Some(conn) = session.conn else { continue };
            if delivery.message.is_some() {
                self.send_qos0(conn, delivery);
            }
            self.touch(conn);
        }
    }

    /// What a frame's op says of its message, and whom shared subscriptions deal it to. An op has to
    /// carry the message if it is retained or a session that outlives its connection gets it.
    pub(super) fn publish_op(
        &mut self,
        from: Option<(Sid, u16)>,
        message: &Arc<Message>,
    ) -> (Option<Op>, Vec<Deal>) {
        let publish = &message.publish;
        let queued = publish.qos > QoS::AtMostOnce;
        let deals = match queued {
            true => self.deals(publish),
            false => Vec::new(),
        };
        let durable = |deal: &Deal| self.state.sessions.get(&deal.to).is_some_and(|s| s.durable);
        let kept = match publish.payload.is_empty() {
            true => rules::on(Rule::DeleteCarried),
            false => rules::on(Rule::RetainedCarried),
        };
        let carry = (publish.retain && kept)
            || (deals.iter().any(durable) && rules::on(Rule::DealCarried))
            || (queued
                && rules::on(Rule::QueuedCarried)
                && (self.subscribes_pending > 0 || self.state.durable_match(&publish.topic)));
        if carry && !deals.is_empty() {
            let message = message.clone();
            let op = Op::Dealt {
                from,
                message,
                deals,
            };
            return (Some(op), Vec::new());
        }
        let message = carry.then(|| message.clone());
        let op = (from.is_some() || carry).then_some(Op::Publish { from, message });
        (op, deals)
    }
}
