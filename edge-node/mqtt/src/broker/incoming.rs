//! Publishes from clients, and the second half of their QoS 2 handshake.

use std::sync::Arc;

use bytes::Bytes;

use super::Broker;
use super::journal::{From, Reply};
use crate::codec::{Ack, PublishIn, Version};
use crate::limits::{COPY_BYTES_MAX, TOPIC_ALIAS_MAXIMUM};
use crate::rules::{self, Rule};
use crate::state::op::Op;
use crate::state::session::Message;
use crate::{CloseReason, ConnId, Publish, QoS, topic};

/// What a publish is answered with when it is not taken.
enum Refused {
    /// The connection ends, on v5 with this reason.
    Close(u8, CloseReason),
    /// A PUBACK or PUBREC with this reason on v5; 3.1.1 has none, and is closed [MQTT-3.3.5-2].
    Reason(u8, CloseReason),
    /// It is a QoS 2 publish that was stored before [MQTT-4.3.3-10].
    Stored,
    /// The same, but not stored yet: its PUBREC follows.
    Arriving,
}

impl Broker {
    /// `counted`: it was held when the log had no room, and is offered again.
    pub(super) fn publish(&mut self, id: ConnId, packet: PublishIn, counted: bool) {
        match self.check_publish(id, &packet) {
            Ok(topic) => self.take_publish(id, packet, topic, counted),
            Err(Refused::Close(reason, why)) => self.close(id, reason, why),
            Err(Refused::Reason(reason, why)) => {
                let version = self.conns.get(&id).map(|c| c.version);
                let kind = match packet.qos {
                    QoS::AtMostOnce => return,
                    QoS::AtLeastOnce => Ack::PubAck,
                    QoS::ExactlyOnce => Ack::PubRec,
                };
                match version {
                    Some(Version::V5) => self.send_ack(id, kind, packet.id, reason),
                    _ => self.close(id, reason, why),
                }
            }
            Err(Refused::Stored) => {
                self.state.stats.publish_duplicates += 1;
                self.send_ack(id, Ack::PubRec, packet.id, 0);
            }
            Err(Refused::Arriving) => self.state.stats.publish_duplicates += 1,
        }
    }

    fn check_publish(&mut self, id: ConnId, packet: &PublishIn) -> Result<Arc<str>, Refused> {
        let closed = || Refused::Close(0, CloseReason::Disconnected);
        let topic = self.publish_topic(id, packet)?;
        let conn = self.conns.get_mut(&id).ok_or_else(closed)?;
        let receive_maximum = self.config.receive_maximum;
        let receive_maximum = usize::from(receive_maximum.min(conn.info.limits.receive_maximum));
        if packet.qos > QoS::AtMostOnce {
            let session = self.state.sessions.get_mut(&conn.sid).ok_or_else(closed)?;
            // The client's quota starts anew with each connection (4.9): ids of an earlier one do
            // not count.
            if conn.version == Version::V5 && !conn.qos2_open.contains(&packet.id) {
                if conn.qos1_open + conn.qos2_open.len() >= receive_maximum {
                    let why = CloseReason::Quota("receive maximum");
                    return Err(Refused::Close(0x93, why));
                }
                if packet.qos == QoS::ExactlyOnce {
                    conn.qos2_open.insert(packet.id);
                }
            }
            if packet.qos == QoS::ExactlyOnce {
                if session.incoming.contains(&packet.id) && rules::on(Rule::IdKnown) {
                    return Err(Refused::Stored);
                }
                if let Some(asker) = session.arriving.get_mut(&packet.id) {
                    *asker = id;
                    return Err(Refused::Arriving);
                }
            }
        }
        if !self.may_publish(&self.conns[&id], &topic) {
            return Err(Refused::Reason(0x87, CloseReason::NotAuthorised));
        }
        Ok(topic)
    }

    /// The topic's name, an alias resolved (section 3.3.2.3.4).
    fn publish_topic(&mut self, id: ConnId, packet: &PublishIn) -> Result<Arc<str>, Refused> {
        let bad = |reason, what| Refused::Close(reason, CloseReason::Protocol(what));
        let conn = self
            .conns
            .get_mut(&id)
            .ok_or(Refused::Close(0, CloseReason::Disconnected))?;
        if packet
            .alias
            .is_some_and(|a| a == 0 || a > TOPIC_ALIAS_MAXIMUM)
        {
            return Err(bad(0x94, "a topic alias above the maximum"));
        }
        if packet.topic.is_empty() {
            let alias = packet.alias.ok_or(bad(0x82, "a publish without a topic"))?;
            return conn
                .aliases
                .get(&alias)
                .cloned()
                .ok_or(bad(0x82, "an unknown topic alias"));
        }
        let topic = conn
            .topic(&packet.topic)
            .ok_or(bad(0x90, "the topic is not UTF-8"))?;
        if topic::check_name(&topic).is_err() {
            conn.last_topic = None;
            return Err(bad(0x90, "the topic name is not valid"));
        }
        if let Some(alias) = packet.alias {
            conn.aliases.insert(alias, topic.clone());
        }
        Ok(topic)
    }

    fn take_publish(&mut self, id: ConnId, packet: PublishIn, topic: Arc<str>, counted: bool) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let from = From {
            conn: id,
            sid: conn.sid,
            id: packet.id,
            qos: packet.qos,
        };
        let again = (conn.version == Version::V3 && packet.qos > QoS::AtMostOnce)
            .then(|| Box::new(packet.clone()));
        let client_id = conn.client_id.clone();
        let bytes = topic.len() + packet.payload.len();
        conn.appends += 1;
        conn.append_bytes += bytes;
        let mut op_from = None;
        match packet.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => conn.qos1_open += 1,
            QoS::ExactlyOnce => {
                if let Some(session) = self.state.session(from.sid) {
                    session.arriving.insert(packet.id, id);
                    let kept = session.durable && rules::on(Rule::IdsKept);
                    op_from = kept.then_some((from.sid, packet.id));
                }
            }
        }
        if !rules::on(Rule::PubAckDurable) && packet.qos == QoS::AtLeastOnce {
            self.send_ack(id, Ack::PubAck, packet.id, 0);
        }
        if !rules::on(Rule::PubRecDurable) && packet.qos == QoS::ExactlyOnce {
            self.send_ack(id, Ack::PubRec, packet.id, 0);
        }
        let publish = Publish {
            topic,
            payload: packet.payload,
            qos: packet.qos,
            retain: packet.retain,
            dup: packet.dup,
            properties: packet.properties,
            client_id,
        };
        if !counted {
            self.count_published(&publish);
        }
        self.post(
            publish,
            op_from,
            Vec::new(),
            Reply::Publish { from, bytes, again },
        );
    }

    pub(super) fn count_published(&mut self, publish: &Publish) {
        self.state.stats.published[publish.qos as usize] += 1;
        self.state.stats.payload_received += publish.payload.len() as u64;
    }

    /// A message enters: QoS 0 is served at once, the rest when it is durable.
    pub(super) fn post(
        &mut self,
        mut publish: Publish,
        from: Option<(crate::state::session::Sid, u16)>,
        more: Vec<Op>,
        reply: Reply,
    ) {
        let kept = publish.retain || publish.qos > QoS::AtMostOnce;
        if kept && publish.payload.len() <= COPY_BYTES_MAX {
            publish.payload = Bytes::copy_from_slice(&publish.payload);
        }
        let expiry = publish.properties.as_ref().and_then(|p| p.message_expiry_s);
        let expires_at_ms = expiry.map(|s| self.now_ms + u64::from(s) * 1000);
        let message = Arc::new(Message {
            publish,
            expires_at_ms,
        });
        if message.publish.qos == QoS::AtMostOnce {
            self.serve(&message);
        }
        let (op, deals) = self.publish_op(from, &message);
        let mut ops = more;
        if let Some(op) = op {
            ops.insert(0, op);
        }
        self.append_dealt(ops, Some(message), deals, reply);
    }

    /// A message at QoS 0 goes to whoever subscribes to it and is connected.
    pub(super) fn serve(&mut self, message: &Arc<Message>) {
        let mut out = std::mem::take(&mut self.deliveries);
        self.state.route(message, &mut out);
        for deal in self.deals(&message.publish) {
            self.state.deal(&deal, message, &mut out);
        }
        self.deliver(&mut out);
        self.deliveries = out;
    }

    /// PUBREL: PUBCOMP says that the id may be used again, so it waits until that is durable.
    pub(super) fn pubrel(&mut self, id: ConnId, packet: u16) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let sid = conn.sid;
        let Some(session) = self.state.session(sid) else {
            return;
        };
        let known = session.incoming.contains(&packet);
        if session.durable && known {
            let op = Op::Release { sid, id: packet };
            if !rules::on(Rule::PubCompDurable) {
                self.append(vec![op], None, Reply::Nobody);
                return self.send_ack(id, Ack::PubComp, packet, 0);
            }
            self.append(
                vec![op],
                None,
                Reply::PubComp {
                    conn: id,
                    id: packet,
                },
            );
            return;
        }
        self.state.release(sid, packet);
        self.send_ack(id, Ack::PubComp, packet, if known { 0 } else { 0x92 });
    }
}
