//! Publishes to clients.
//!
//! QoS 0 goes straight into the connection's output while the socket keeps up, else into a bounded
//! backlog. QoS 1 and 2 wait in the session's queue; a cursor says how far this connection got.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::conn::Conn;
use super::journal::Reply;
use super::timers::Timer;
use super::{Broker, identity};
use crate::codec::{self, Ack, Outgoing};
use crate::limits::{COPY_BYTES_MAX, SHARE_BYTES_MIN};
use crate::rules::{self, Rule};
use crate::state::op::Op;
use crate::state::session::{Message, Sid};
use crate::state::{Arrival, Delivery, Scan};
use crate::{Access, ConnId, Effect, Publish, QoS, Stats};

/// Retained topics looked at in one step for one connection.
const SCAN_MAX: usize = 20_000;
/// Retained messages under way to a durable session's queue.
const ENQUEUES_MAX: usize = 256;

/// What an alias takes in a packet: a shorter topic is its own.
const ALIAS_BYTES: usize = 3;

/// How a message goes to one client.
struct Shape<'a> {
    qos: QoS,
    retain: bool,
    dup: bool,
    id: u16,
    identifiers: &'a [u32],
}

impl Broker {
    pub(super) fn send_qos0(&mut self, id: ConnId, delivery: Delivery) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if conn.backlog.is_empty() && conn.may_send() {
            let Some(message) = &delivery.message else {
                return;
            };
            if self.checks_delivery && !may_receive(&*self.access, conn, message) {
                self.state.stats.dropped_forbidden += 1;
                return;
            }
            let shape = Shape {
                qos: QoS::AtMostOnce,
                retain: delivery.retain,
                dup: false,
                id: 0,
                identifiers: &delivery.identifiers,
            };
            let stats = &mut self.state.stats;
            write(
                id,
                conn,
                message,
                shape,
                self.now_ms,
                stats,
                &mut self.effects,
            );
            return;
        }
        let delivery = unpinned(delivery);
        conn.backlog_bytes += delivery.message.as_ref().map_or(0, |m| m.bytes());
        conn.backlog.push_back(delivery);
        while conn.backlog.len() > self.config.queue_messages_max
            || conn.backlog_bytes
                > self
                    .config
                    .queue_bytes_max
                    .min(conn.info.limits.queue_bytes_max)
        {
            let Some(gone) = conn.backlog.pop_front() else {
                break;
            };
            conn.backlog_bytes -= gone.message.map_or(0, |m| m.bytes());
            self.state.stats.dropped_qos0 += 1;
            conn.dropped += 1;
        }
    }

    /// Sends what waits, as far as socket and window allow.
    pub(super) fn pump(&mut self, id: ConnId) {
        if !self.conns.get(&id).is_some_and(|c| c.ready()) {
            return;
        }
        self.pump_backlog(id);
        self.pump_retained(id);
        self.pump_queue(id);
    }

    fn pump_backlog(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        while conn.may_send() {
            let Some(delivery) = conn.backlog.pop_front() else {
                return;
            };
            let Some(message) = &delivery.message else {
                continue;
            };
            conn.backlog_bytes -= message.bytes();
            if self.checks_delivery && !may_receive(&*self.access, conn, message) {
                self.state.stats.dropped_forbidden += 1;
                continue;
            }
            let shape = Shape {
                qos: QoS::AtMostOnce,
                retain: delivery.retain,
                dup: false,
                id: 0,
                identifiers: &delivery.identifiers,
            };
            let stats = &mut self.state.stats;
            write(
                id,
                conn,
                message,
                shape,
                self.now_ms,
                stats,
                &mut self.effects,
            );
        }
    }

    fn pump_retained(&mut self, id: ConnId) {
        let mut budget = SCAN_MAX;
        let bytes_max = self
            .config
            .queue_bytes_max
            .min(self.config.queues_bytes_max);
        loop {
            let Some(conn) = self.conns.get_mut(&id) else {
                return;
            };
            let Some(mut scan) = conn.retained.first_entry() else {
                return;
            };
            let Some(session) = self.state.sessions.get(&conn.sid) else {
                return;
            };
            let bytes_max = session.queue_bytes_max(bytes_max);
            // Half the queue stays free, so that retained messages push nothing out of it.
            let full = session.queue.entries.len() + conn.enqueues
                >= self.config.queue_messages_max / 2
                || session.queue.bytes + conn.enqueue_bytes >= bytes_max / 2
                || conn.enqueues >= ENQUEUES_MAX;
            let durable = session.durable;
            let backlog = !conn.backlog.is_empty();
            if full || backlog || conn.unwritten + conn.output.len() >= SHARE_BYTES_MIN * 16 {
                return;
            }
            let after = scan.get().after.as_deref();
            match self.state.retained.next(scan.key(), after, &mut budget) {
                Scan::End => {
                    conn.retained.pop_first();
                    if conn.retained.is_empty() {
                        // An emptied map keeps its node, of 800 bytes.
                        conn.retained = BTreeMap::new();
                    }
                }
                Scan::Later => {
                    let now = self.now_ms;
                    return self.set_timer(now, Timer::Retained(id));
                }
                Scan::Found(message) => {
                    let scan = scan.get_mut();
                    scan.after = Some(message.publish.topic.clone());
                    let qos = scan.qos.min(message.publish.qos);
                    let identifiers = scan.identifiers.clone();
                    self.send_retained(id, &message, qos, identifiers, durable);
                }
            }
        }
    }

    fn send_retained(
        &mut self,
        id: ConnId,
        message: &Arc<Message>,
        qos: QoS,
        identifiers: Vec<u32>,
        durable: bool,
    ) {
        if message.expired(self.now_ms) {
            return;
        }
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if self.checks_delivery && !may_receive(&*self.access, conn, message) {
            self.state.stats.dropped_forbidden += 1;
            return;
        }
        let sid = conn.sid;
        match (qos, durable && rules::on(Rule::EnqueueRecorded)) {
            (QoS::AtMostOnce, _) => {
                let message = Some(message.clone());
                self.send_qos0(
                    id,
                    Delivery {
                        sid,
                        message,
                        retain: true,
                        identifiers,
                    },
                );
            }
            (_, false) => {
                // The connection is at work on its queue.
                let out = &mut Vec::new();
                let arrival = Arrival {
                    qos,
                    retain: true,
                    identifiers,
                    share: None,
                };
                self.state.enqueue(sid, message, arrival, out);
            }
            (_, true) => {
                let bytes = message.bytes();
                conn.enqueues += 1;
                conn.enqueue_bytes += bytes;
                let op = Op::Enqueue {
                    sid,
                    qos,
                    identifiers,
                    message: message.clone(),
                };
                self.append(vec![op], None, Reply::Enqueue { conn: id, bytes });
            }
        }
    }

    fn pump_queue(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let sid = conn.sid;
        let mut undeliverable = Vec::new();
        let Some(session) = self.state.sessions.get_mut(&sid) else {
            return;
        };
        conn.adopt(&mut session.dropped);
        for (seq, entry) in session.queue.entries.range(conn.cursor..) {
            if !conn.may_send() || conn.inflight >= usize::from(conn.window) {
                break;
            }
            // The client still has another message by this id.
            if conn.orphans.contains(&entry.id) {
                break;
            }
            conn.cursor = seq + 1;
            if entry.done || entry.moving {
                continue;
            }
            conn.inflight += 1;
            let Some(message) = &entry.message else {
                let id = entry.id;
                conn.say(&mut self.state.stats, |version, out| {
                    codec::ack(version, Ack::PubRel, id, 0, "", out);
                });
                continue;
            };
            if self.checks_delivery && !may_receive(&*self.access, conn, message) {
                self.state.stats.dropped_forbidden += 1;
                undeliverable.push(entry.id);
                continue;
            }
            let shape = Shape {
                qos: entry.qos,
                retain: entry.retain,
                dup: entry.maybe_sent,
                id: entry.id,
                identifiers: &entry.identifiers,
            };
            let stats = &mut self.state.stats;
            let effects = &mut self.effects;
            if !write(id, conn, message, shape, self.now_ms, stats, effects) {
                undeliverable.push(entry.id);
            }
        }
        for packet in undeliverable {
            self.finished(id, sid, packet);
        }
    }

    /// A message is off the client's window: acknowledged, or not deliverable.
    fn finished(&mut self, id: ConnId, sid: Sid, packet: u16) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.inflight = conn.inflight.saturating_sub(1);
        }
        let Some(session) = self.state.session(sid) else {
            return;
        };
        if session.durable {
            if let Some((_, entry)) = session.queue.by_id(packet) {
                entry.done = true;
                self.loose.push(Op::Done { sid, id: packet });
            }
        } else {
            self.state.done(sid, packet);
        }
        self.touch(id);
    }

    /// The client's last word on a message that a full queue dropped under way.
    fn orphan_answered(&mut self, id: ConnId, packet: u16) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if let Some(session) = self.state.sessions.get_mut(&conn.sid) {
            conn.adopt(&mut session.dropped);
        }
        if conn.orphans.remove(&packet) {
            conn.inflight = conn.inflight.saturating_sub(1);
            self.touch(id);
        }
    }

    /// Where a subscriber's acknowledgement finds its entry: sent on this connection, not done.
    fn sent(&mut self, id: ConnId, packet: u16) -> Option<(Sid, QoS, bool, bool, bool)> {
        let conn = self.conns.get(&id)?;
        let (sid, cursor) = (conn.sid, conn.cursor);
        let session = self.state.session(sid)?;
        let durable = session.durable;
        let (seq, entry) = session.queue.by_id(packet)?;
        let known = seq < cursor && !entry.done && !entry.moving;
        known.then_some((
            sid,
            entry.qos,
            entry.message.is_none(),
            entry.received,
            durable,
        ))
    }

    pub(super) fn puback(&mut self, id: ConnId, packet: u16) {
        match self.sent(id, packet) {
            Some((sid, QoS::AtLeastOnce, ..)) => self.finished(id, sid, packet),
            Some(_) => {}
            None => self.orphan_answered(id, packet),
        }
    }

    /// PUBREC: PUBREL makes the client forget the id, so it waits until we remember [4.3.3].
    pub(super) fn pubrec(&mut self, id: ConnId, packet: u16, reason: u8) {
        match self.sent(id, packet) {
            Some((sid, QoS::ExactlyOnce, ..)) if reason >= 0x80 => {
                self.finished(id, sid, packet);
            }
            Some((_, QoS::ExactlyOnce, true, ..)) => self.send_ack(id, Ack::PubRel, packet, 0),
            Some((_, QoS::ExactlyOnce, false, true, _)) => {}
            Some((sid, QoS::ExactlyOnce, false, false, durable)) => {
                if !durable {
                    self.state.received(sid, packet);
                    return self.send_ack(id, Ack::PubRel, packet, 0);
                }
                if let Some((_, e)) = self.state.session(sid).and_then(|s| s.queue.by_id(packet)) {
                    e.received = true;
                }
                let op = Op::Received { sid, id: packet };
                if !rules::on(Rule::PubRelDurable) {
                    self.append(vec![op], None, Reply::Nobody);
                    return self.send_ack(id, Ack::PubRel, packet, 0);
                }
                self.append(vec![op], None, Reply::PubRel { sid, id: packet });
            }
            _ if reason >= 0x80 => self.orphan_answered(id, packet),
            _ => self.send_ack(id, Ack::PubRel, packet, 0x92),
        }
    }

    /// A subscriber's PUBREC is durable. If it came back meanwhile, the queue's turn sends PUBREL.
    pub(super) fn release_subscriber(&mut self, sid: Sid, packet: u16) {
        let Some(session) = self.state.sessions.get(&sid) else {
            return;
        };
        let Some(conn) = session.conn else {
            return;
        };
        match session.queue.seq(packet) {
            // A full queue dropped it meanwhile; the client still waits to forget the id.
            None => self.send_ack(conn, Ack::PubRel, packet, 0x92),
            Some(seq) if self.conns.get(&conn).is_some_and(|c| seq < c.cursor) => {
                self.send_ack(conn, Ack::PubRel, packet, 0);
            }
            Some(_) => {}
        }
    }

    pub(super) fn pubcomp(&mut self, id: ConnId, packet: u16) {
        match self.sent(id, packet) {
            Some((sid, QoS::ExactlyOnce, true, ..)) => self.finished(id, sid, packet),
            Some(_) => {}
            None => self.orphan_answered(id, packet),
        }
    }
}

/// Whether the client may read the message's topic. Asked only if the rules want to be.
fn may_receive(access: &dyn Access, conn: &Conn, message: &Message) -> bool {
    access.may_receive(identity(conn), &message.publish.topic)
}

/// A delivery that may wait does not keep a large read buffer alive.
fn unpinned(mut delivery: Delivery) -> Delivery {
    if let Some(message) = &delivery.message {
        let publish = &message.publish;
        if publish.qos == QoS::AtMostOnce && publish.payload.len() <= COPY_BYTES_MAX {
            let payload = Bytes::copy_from_slice(&publish.payload);
            let publish = Publish {
                payload,
                ..publish.clone()
            };
            let expires_at_ms = message.expires_at_ms;
            delivery.message = Some(Arc::new(Message {
                publish,
                expires_at_ms,
            }));
        }
    }
    delivery
}

/// Encodes a message into the connection's output. False: the client cannot or need not get it
/// (larger than its maximum packet size [MQTT-3.1.2-24], expired).
fn write(
    id: ConnId,
    conn: &mut Conn,
    message: &Arc<Message>,
    shape: Shape<'_>,
    now_ms: u64,
    stats: &mut Stats,
    effects: &mut Vec<Effect>,
) -> bool {
    // One that was sent before is on its way and goes on.
    if message.expired(now_ms) && !shape.dup {
        stats.dropped_expired += 1;
        return false;
    }
    let publish = &message.publish;
    let left = |at: u64| {
        at.saturating_sub(now_ms)
            .div_ceil(1000)
            .min(u64::from(u32::MAX)) as u32
    };
    let (alias, is_new) = own_alias(conn, &publish.topic);
    let packet = Outgoing {
        dup: shape.dup,
        qos: shape.qos,
        retain: shape.retain,
        id: shape.id,
        topic: &publish.topic,
        alias: alias.map(|alias| (alias, !is_new)),
        properties: publish.properties.as_deref(),
        expiry_s: message.expires_at_ms.map(left),
        subscription_ids: shape.identifiers,
        payload_bytes: publish.payload.len(),
    };
    if packet.len(conn.version) > conn.packet_bytes_max {
        stats.dropped_too_large += 1;
        return false;
    }
    if let Some(alias) = alias.filter(|_| is_new) {
        conn.own_aliases.insert(publish.topic.clone(), alias);
    }
    stats.delivered[shape.qos as usize] += 1;
    stats.packets_sent += 1;
    stats.payload_sent += publish.payload.len() as u64;
    conn.sent += 1;
    codec::publish(conn.version, &packet, &mut conn.output);
    if publish.payload.len() < SHARE_BYTES_MIN {
        conn.output.put_slice(&publish.payload);
        return true;
    }
    let head = conn.output.split().freeze();
    for bytes in [head, publish.payload.clone()] {
        conn.unwritten += bytes.len();
        stats.bytes_sent += bytes.len() as u64;
        effects.push(Effect::Send { conn: id, bytes });
    }
    true
}

/// The alias for a topic on its way to a client, and whether the client has yet to learn it (3.3.2.3.4).
/// The first topics get one and keep it: what a client reads all the time comes early, and a set
/// that is larger than its maximum would throw each other out.
fn own_alias(conn: &Conn, topic: &str) -> (Option<u16>, bool) {
    if conn.own_aliases_max == 0 || topic.len() <= ALIAS_BYTES {
        return (None, false);
    }
    match conn.own_aliases.get(topic) {
        Some(alias) => (Some(*alias), false),
        None => {
            let next = conn.own_aliases.len() as u16 + 1;
            (
                Some(next).filter(|next| *next <= conn.own_aliases_max),
                true,
            )
        }
    }
}
