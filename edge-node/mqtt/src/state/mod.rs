//! The durable part: what survives a restart, and the one place that changes it.
//!
//! Invariant: [`State::apply`] reads no clock, and everything it does follows from the state and
//! the op. Live it is called once the frame is durable, in token order; at a restart with the same
//! ops in the same order. So both reach the same state. Sessions that end with their connection
//! live here too, but make no ops.
//!
//! # What a crash may do
//! | lost from the tail | the peer then sees |
//! |---|---|
//! | a publish | no PUBACK or PUBREC was sent: it sends again |
//! | a PUBREL's release | no PUBCOMP was sent: it sends PUBREL again |
//! | a subscriber's PUBACK | the message again, with DUP (QoS 1 may) |
//! | a subscriber's PUBREC | no PUBREL was sent: the PUBLISH again, same id, with DUP; it knows the id |
//! | a subscriber's PUBCOMP | PUBREL again; it answers PUBCOMP |

mod checkpoint;
pub(crate) mod op;
mod queues;
mod retained;
pub(crate) mod session;
mod shares;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::codec::Filter;
use crate::rules::{self, Rule};
use crate::seeded::{Seeded, Table};
use crate::topic::{Match, Options, Tree};
use crate::{Config, QoS, Stats};
use checkpoint::Key;
use op::Op;
pub(crate) use queues::Arrival;
use queues::Weights;
pub(crate) use retained::{Retained, Scan};
use session::{Message, Session, Sid};
use shares::Shares;
pub(crate) use shares::{Among, Deal, Stray};

/// What a restore found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreReport {
    pub sessions: usize,
    pub retained: usize,
    pub queued: usize,
    /// Queued messages that went at a bound while ops were applied: before the stop, most of them, and
    /// for the first time now where the stop came between the journal and the queue.
    pub dropped: u64,
    /// Ops applied on top of the checkpoint, and those it already held.
    pub ops_applied: usize,
    pub ops_skipped: usize,
    /// What could not be read, one line each (16 at most, then a count).
    pub problems: Vec<String>,
}

/// A QoS 0 delivery, or the news that a session's queue grew (`message` None).
#[derive(Debug)]
pub(crate) struct Delivery {
    pub sid: Sid,
    pub message: Option<Arc<Message>>,
    pub retain: bool,
    pub identifiers: Vec<u32>,
}

/// What the caller of [`State::apply`] needs to answer.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub session_present: bool,
    /// For each filter of a SUBSCRIBE: it is new; of an UNSUBSCRIBE: it was there.
    pub filters: Vec<bool>,
}

impl Outcome {
    /// One for all ops of a frame. Not more than one of them is what somebody asked for.
    pub fn add(&mut self, other: Outcome) {
        self.session_present |= other.session_present;
        self.filters.extend(other.filters);
    }
}

pub(crate) struct State {
    pub sessions: Table<Sid, Box<Session>>,
    /// Those that outlive their connections. Only ops change it, so that a replay's is the same.
    by_client: BTreeMap<Arc<str>, Sid>,
    /// Those that do not.
    transient: BTreeMap<Arc<str>, Sid>,
    /// How many of `by_client` are on their way out.
    leaving: usize,
    pub tree: Tree<Sid>,
    pub shares: Shares,
    /// What was dealt to sessions that are gone, since the last look; a replay forgets it.
    pub strays: Vec<Stray>,
    pub retained: Retained,
    pub durable_subscriptions: usize,
    pub next_sid: u64,
    /// The last token applied.
    pub applied: u64,
    pub stats: Stats,
    dirty: BTreeSet<Key>,
    found: Vec<Match<Sid>>,
    weights: Weights,
    queue_messages_max: usize,
    queue_bytes_max: usize,
}

impl State {
    pub fn new(config: &Config) -> State {
        State {
            sessions: Table::with_hasher(Seeded(config.hash_seed)),
            by_client: BTreeMap::new(),
            transient: BTreeMap::new(),
            leaving: 0,
            tree: Tree::new(config.hash_seed),
            shares: Shares::new(config.hash_seed),
            strays: Vec::new(),
            retained: Retained::new(config.retained_bytes_max),
            durable_subscriptions: 0,
            next_sid: 1,
            applied: 0,
            stats: Stats::default(),
            dirty: BTreeSet::new(),
            found: Vec::new(),
            weights: Weights::new(config.queues_bytes_max),
            queue_messages_max: config.queue_messages_max,
            queue_bytes_max: config.queue_bytes_max,
        }
    }

    pub fn session(&mut self, sid: Sid) -> Option<&mut Session> {
        self.sessions.get_mut(&sid).map(Box::as_mut)
    }

    /// The session that a client has now, if any: not one that is on its way out.
    pub fn current(&self, client_id: &str) -> Option<Sid> {
        let durable = self.by_client.get(client_id);
        let stays = |sid: &&Sid| self.sessions.get(sid).is_some_and(|s| !s.leaving);
        let transient = self.transient.get(client_id);
        transient.or(durable.filter(stays)).copied()
    }

    /// All current sessions, in order of client id.
    pub fn all_current(&self) -> Vec<Sid> {
        let mut all: Vec<_> = self.by_client.iter().chain(&self.transient).collect();
        all.sort_unstable();
        let stays = |sid: &Sid| self.sessions.get(sid).is_some_and(|s| !s.leaving);
        all.into_iter().map(|(_, sid)| *sid).filter(stays).collect()
    }

    /// Sessions that outlive their connections.
    pub fn durable_sessions(&self) -> usize {
        self.by_client.len() - self.leaving
    }

    /// For clients a durable session is gone; its end is on its way to the journal.
    pub fn leave(&mut self, sid: Sid) {
        if let Some(session) = self.sessions.get_mut(&sid).filter(|s| !s.leaving) {
            session.leaving = true;
            self.leaving += 1;
        }
    }

    /// Carries out one durable op. Deliveries are pushed to `out`; a replay ignores them.
    pub fn apply(&mut self, op: &Op, out: &mut Vec<Delivery>) -> Outcome {
        let mut outcome = Outcome::default();
        match op {
            Op::Start {
                sid,
                client_id,
                fresh,
                expiry_s,
                will,
            } => {
                outcome.session_present = self.start(*sid, client_id, *fresh, true);
                if let Some(session) = self.sessions.get_mut(sid) {
                    session.expiry_s = *expiry_s;
                    session.will.clone_from(will);
                }
            }
            Op::End { sid } => self.end(*sid),
            Op::Expiry { sid, expiry_s } => {
                if let Some(session) = self.sessions.get_mut(sid) {
                    session.expiry_s = *expiry_s;
                    self.dirty.insert(Key::Session(*sid));
                }
            }
            Op::WillGone { sid } => {
                if let Some(session) = self.sessions.get_mut(sid) {
                    session.will = None;
                    self.dirty.insert(Key::Session(*sid));
                }
            }
            Op::Subscribe {
                sid,
                identifier,
                filters,
            } => {
                outcome.filters = self.subscribe(*sid, *identifier, filters);
            }
            Op::Unsubscribe { sid, filters } => {
                outcome.filters = filters.iter().map(|f| self.unsubscribe(*sid, f)).collect();
            }
            Op::Publish { from, message } => {
                if let Some((sid, id)) = from {
                    self.arrived(*sid, *id);
                }
                if let Some(message) = message {
                    self.accept(message, &[], out);
                }
            }
            Op::Release { sid, id } => self.release(*sid, *id),
            Op::Enqueue {
                sid,
                qos,
                identifiers,
                message,
            } => {
                let arrival = Arrival {
                    qos: *qos,
                    retain: true,
                    identifiers: identifiers.clone(),
                    share: None,
                };
                self.enqueue(*sid, message, arrival, out);
            }
            Op::Done { sid, id } => self.done(*sid, *id),
            Op::Received { sid, id } => self.received(*sid, *id),
            Op::Dealt {
                from,
                message,
                deals,
            } => {
                if let Some((sid, id)) = from {
                    self.arrived(*sid, *id);
                }
                self.accept(message, deals, out);
            }
            Op::Forward { sid, id, deal } => self.forward(*sid, *id, deal, out),
            Op::Deal { message, deal } => self.deal(deal, message, out),
            Op::Expired {
                topic,
                expires_at_ms,
            } => {
                if self.retained.expire(topic, *expires_at_ms) {
                    self.dirty.insert(Key::Retained(topic.clone()));
                }
            }
            Op::Queue { sid, bytes_max } => self.bound_queue(*sid, *bytes_max, out),
        }
        outcome
    }

    /// Takes the client's session up, or makes it. True if it was there.
    pub fn start(&mut self, sid: Sid, client_id: &Arc<str>, fresh: bool, durable: bool) -> bool {
        let names = match durable {
            true => &self.by_client,
            false => &self.transient,
        };
        let old = names.get(client_id).copied();
        if let Some(old) = old.filter(|old| fresh || *old != sid) {
            self.end(old);
        }
        let present = self.sessions.contains_key(&sid);
        if !present {
            self.sessions
                .insert(sid, Box::new(Session::new(client_id.clone(), durable)));
            let names = match durable {
                true => &mut self.by_client,
                false => &mut self.transient,
            };
            names.insert(client_id.clone(), sid);
            self.next_sid = self.next_sid.max(sid.0 + 1);
        }
        if durable {
            self.dirty.insert(Key::Session(sid));
        }
        present
    }

    pub fn end(&mut self, sid: Sid) {
        let Some(session) = self.sessions.remove(&sid) else {
            return;
        };
        for names in [&mut self.by_client, &mut self.transient] {
            if names.get(&session.client_id) == Some(&sid) {
                names.remove(&session.client_id);
            }
        }
        self.leaving -= usize::from(session.leaving);
        for filter in session.subscriptions.keys() {
            self.unlink(sid, filter);
        }
        self.strand(&session);
        self.stats.queued -= session.queue.entries.len() as u64;
        if session.durable {
            self.weights.moved(sid, session.queue.bytes, 0);
            self.durable_subscriptions -= session.subscriptions.len();
            self.dirty.insert(Key::Session(sid));
            if session.queue_bytes_max.is_some() {
                self.dirty.insert(Key::Bound(sid));
            }
            for filter in session.subscriptions.into_keys() {
                self.dirty.insert(Key::Filter(sid, filter));
            }
            for (seq, entry) in session.queue.entries {
                self.row_gone(sid, seq, session.stored_seq, entry.share.is_some());
            }
        }
    }

    pub fn subscribe(&mut self, sid: Sid, identifier: Option<u32>, new: &[Filter]) -> Vec<bool> {
        let mut fresh = Vec::with_capacity(new.len());
        for filter in new {
            let options = Options::new(filter, identifier);
            let name: Arc<str> = filter.filter.as_str().into();
            let Some(session) = self.sessions.get_mut(&sid) else {
                return vec![false; new.len()];
            };
            if session.durable {
                self.dirty.insert(Key::Filter(sid, name.clone()));
            }
            let is_new = session
                .subscriptions
                .insert(name.clone(), options)
                .is_none();
            if is_new && session.durable {
                self.durable_subscriptions += 1;
            }
            self.link(sid, &name, options);
            fresh.push(is_new);
        }
        fresh
    }

    pub fn unsubscribe(&mut self, sid: Sid, filter: &str) -> bool {
        let Some(session) = self.sessions.get_mut(&sid) else {
            return false;
        };
        let Some((name, _)) = session.subscriptions.remove_entry(filter) else {
            return false;
        };
        if session.durable {
            self.durable_subscriptions -= 1;
            self.dirty.insert(Key::Filter(sid, name));
        }
        self.unlink(sid, filter);
        true
    }

    /// A QoS 2 publish is stored: from now on the id marks a duplicate [MQTT-4.3.3-10].
    pub fn arrived(&mut self, sid: Sid, id: u16) {
        if let Some(session) = self.sessions.get_mut(&sid) {
            session.incoming.insert(id);
            if session.durable {
                self.dirty.insert(Key::Session(sid));
            }
        }
    }

    pub fn release(&mut self, sid: Sid, id: u16) {
        if let Some(session) = self.sessions.get_mut(&sid) {
            session.incoming.remove(&id);
            if session.durable {
                self.dirty.insert(Key::Session(sid));
            }
        }
    }

    /// Retains and, above QoS 0, queues a message that is in the log. QoS 0 was served before.
    pub fn accept(&mut self, message: &Arc<Message>, deals: &[Deal], out: &mut Vec<Delivery>) {
        if message.publish.retain {
            self.retain(message);
        }
        if message.publish.qos > QoS::AtMostOnce {
            self.route(message, out);
            for deal in deals {
                self.deal(deal, message, out);
            }
        }
    }

    fn retain(&mut self, message: &Arc<Message>) {
        if self.retained.put(message) {
            let stored = match message.publish.payload.is_empty() {
                true => rules::on(Rule::DeleteStored),
                false => rules::on(Rule::RetainedStored),
            };
            let topic = message.publish.topic.clone();
            if stored {
                self.dirty.insert(Key::Retained(topic));
            }
        } else {
            self.stats.retained_refused += 1;
        }
    }

    /// Finds who gets a message: once per session, at the highest QoS of its matching
    /// subscriptions (section 3.3.5), never above that of the publish.
    pub fn route(&mut self, message: &Arc<Message>, out: &mut Vec<Delivery>) {
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        self.tree.matches(&message.publish.topic, &mut found);
        found.sort_unstable();
        for group in found.chunk_by(|a, b| a.key == b.key) {
            self.route_one(message, group, out);
        }
        self.found = found;
    }

    fn route_one(&mut self, message: &Arc<Message>, group: &[Match<Sid>], out: &mut Vec<Delivery>) {
        let sid = group[0].key;
        let Some(session) = self.sessions.get(&sid) else {
            return;
        };
        let publish = &message.publish;
        let own = session.client_id == publish.client_id;
        let (mut qos, mut keep, mut identifiers) = (None, false, Vec::new());
        for found in group {
            let options = found.options;
            if options.no_local() && own {
                continue;
            }
            qos = qos.max(Some(options.qos()));
            keep |= options.retain_as_published();
            identifiers.extend(options.identifier());
        }
        let Some(qos) = qos.map(|q| q.min(publish.qos)) else {
            return;
        };
        let retain = keep && publish.retain;
        if qos == QoS::AtMostOnce {
            if session.conn.is_some() {
                let message = Some(message.clone());
                out.push(Delivery {
                    sid,
                    message,
                    retain,
                    identifiers,
                });
            }
        } else {
            let share = None;
            let arrival = Arrival {
                qos,
                retain,
                identifiers,
                share,
            };
            self.enqueue(sid, message, arrival, out);
        }
    }

    /// Whether a durable session gets this topic above QoS 0.
    pub fn durable_match(&mut self, topic: &str) -> bool {
        if self.durable_subscriptions == 0 {
            return false;
        }
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        self.tree.matches(topic, &mut found);
        let any = found.iter().any(|m| {
            m.options.qos() > QoS::AtMostOnce
                && self.sessions.get(&m.key).is_some_and(|s| s.durable)
        });
        self.found = found;
        any
    }
}

impl Delivery {
    pub fn grown(sid: Sid) -> Delivery {
        Delivery {
            sid,
            message: None,
            retain: false,
            identifiers: Vec::new(),
        }
    }
}
