//! SUBSCRIBE and UNSUBSCRIBE.

use std::collections::BTreeSet;

use super::Broker;
use super::conn::Retained;
use super::journal::Reply;
use crate::codec::{self, Filter, Subscribe};
use crate::rules::{self, Rule};
use crate::state::op::Op;
use crate::state::session::Sid;
use crate::topic::Options;
use crate::{CloseReason, ConnId, topic};

/// A SUBSCRIBE whose answer is known, should it become durable.
#[derive(Debug)]
pub(super) struct Granted {
    id: u16,
    identifier: Option<u32>,
    /// One reason code for each filter asked for.
    reasons: Vec<u8>,
    /// The filters granted.
    filters: Vec<Filter>,
}

impl Broker {
    pub(super) fn subscribe(&mut self, id: ConnId, packet: Subscribe) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let sid = conn.sid;
        let Some(session) = self.state.sessions.get(&sid) else {
            return;
        };
        // [MQTT-3.8.3-4]
        if packet.filters.iter().any(|f| f.no_local && is_shared(f)) {
            let why = CloseReason::Protocol("no local on a shared subscription");
            return self.close(id, 0x82, why);
        }
        let mut room = self
            .config
            .subscriptions_max
            .saturating_sub(session.subscriptions.len());
        let mut reasons = Vec::with_capacity(packet.filters.len());
        let mut filters = Vec::new();
        let mut names = BTreeSet::new();
        for filter in packet.filters {
            let known = session.subscriptions.contains_key(filter.filter.as_str())
                || names.contains(&filter.filter);
            let reason = match topic::check_filter(&filter.filter) {
                Err(_) => 0x8f,
                Ok(_) if !self.may_subscribe(conn, &filter.filter) => 0x87,
                Ok(_) if !known && room == 0 => 0x97,
                Ok(_) => filter.qos as u8,
            };
            reasons.push(reason);
            if reason <= 2 {
                room -= usize::from(!known);
                names.insert(filter.filter.clone());
                filters.push(filter);
            }
        }
        let identifier = packet.subscription_id;
        let durable = session.durable;
        let granted = Granted {
            id: packet.id,
            identifier,
            reasons,
            filters,
        };
        if durable && !rules::on(Rule::SubAckDurable) {
            let filters = granted.filters.clone();
            let op = Op::Subscribe {
                sid,
                identifier,
                filters,
            };
            self.append(vec![op], None, Reply::Nobody);
        } else if durable && !granted.filters.is_empty() {
            let filters = granted.filters.clone();
            let op = Op::Subscribe {
                sid,
                identifier,
                filters,
            };
            let ops = match self.is_subscribed(sid, &granted) {
                // Clients ask again at every connection, and a full log must not part them from what
                // waits for them. The answer still comes after all that is under way.
                true => Vec::new(),
                false => vec![op],
            };
            self.subscribes_pending += 1;
            self.wait(id);
            let granted = Box::new(granted);
            return self.append(ops, None, Reply::Subscribe { conn: id, granted });
        }
        let fresh = self.state.subscribe(sid, identifier, &granted.filters);
        self.subscribed(id, granted, &fresh);
    }

    /// Whether the session has all of this already, and nothing under way takes it away.
    fn is_subscribed(&self, sid: Sid, granted: &Granted) -> bool {
        let Some(session) = self.state.sessions.get(&sid) else {
            return false;
        };
        let has = |filter: &Filter| {
            let had = session.subscriptions.get(filter.filter.as_str());
            had == Some(&Options::new(filter, granted.identifier))
        };
        let touches = |op: &Op| match op {
            Op::Subscribe { sid: of, .. } | Op::Unsubscribe { sid: of, .. } => *of == sid,
            _ => false,
        };
        let mut frames = self.pending.iter().chain(&self.retry);
        granted.filters.iter().all(has) && !frames.any(|frame| frame.ops.iter().any(touches))
    }

    /// Nothing more of this connection is worked on until its frame is durable.
    fn wait(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.waiting = true;
        }
    }

    /// `fresh`: which filters are new; empty if none is.
    pub(super) fn subscribed(&mut self, id: ConnId, granted: Granted, fresh: &[bool]) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.waiting = false;
        let sid = conn.sid;
        conn.say(&mut self.state.stats, |version, out| {
            codec::suback(version, granted.id, &granted.reasons, out);
        });
        let mut sys = Vec::new();
        let fresh = fresh.iter().copied().chain(std::iter::repeat(false));
        for (filter, fresh) in granted.filters.into_iter().zip(fresh) {
            // The retained message of a topic is not dealt out (4.8.2).
            if is_shared(&filter) {
                continue;
            }
            if filter.retain_handling == 0 || (filter.retain_handling == 1 && fresh) {
                if super::sys::is_ours(&filter.filter) {
                    sys.push(filter.clone());
                }
                let retained = Retained {
                    qos: filter.qos,
                    identifiers: granted.identifier.into_iter().collect(),
                    after: None,
                };
                conn.retained.insert(filter.filter, retained);
            }
        }
        for filter in &sys {
            self.subscribed_to_sys(id, filter, granted.identifier);
        }
        self.touch(id);
        self.relieve(sid);
    }

    pub(super) fn subscribe_refused(&mut self, id: ConnId, mut granted: Granted) {
        for reason in &mut granted.reasons {
            if *reason <= 2 {
                *reason = 0x97;
            }
        }
        granted.filters.clear();
        self.subscribed(id, granted, &[]);
    }

    pub(super) fn unsubscribe(&mut self, id: ConnId, packet: u16, filters: Vec<String>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let sid = conn.sid;
        for filter in &filters {
            conn.retained.remove(filter);
        }
        let Some(session) = self.state.sessions.get(&sid) else {
            return;
        };
        if session.durable {
            let reasons = vec![0; filters.len()];
            let op = Op::Unsubscribe { sid, filters };
            self.wait(id);
            let reply = Reply::Unsubscribe {
                conn: id,
                id: packet,
                reasons,
            };
            return self.append(vec![op], None, reply);
        }
        let there: Vec<bool> = filters
            .iter()
            .map(|f| self.state.unsubscribe(sid, f))
            .collect();
        self.unsubscribed(id, packet, &vec![0; filters.len()], &there);
    }

    /// `there`: whether each filter was subscribed to; empty if the frame was refused.
    pub(super) fn unsubscribed(&mut self, id: ConnId, packet: u16, reasons: &[u8], there: &[bool]) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        conn.waiting = false;
        let mut reasons = reasons.to_vec();
        for (reason, there) in reasons.iter_mut().zip(there) {
            *reason = if *there { 0 } else { 0x11 };
        }
        conn.say(&mut self.state.stats, |version, out| {
            codec::unsuback(version, packet, &reasons, out);
        });
        self.touch(id);
    }
}

fn is_shared(filter: &Filter) -> bool {
    topic::check_filter(&filter.filter).is_ok_and(|parts| parts.share.is_some())
}
