//! The durable state as keys and values.
//!
//! ```text
//! v                     version u8
//! a                     token applied u64, next session u64
//! s sid(8)              client id, expiry, will, QoS 2 ids, next id and next sequence number
//! b sid(8)              what its queue may hold by its client's listener, if that says anything: bytes u64
//! f sid(8) filter       options and identifier
//! q sid(8) seq(8)       one message on its way: id, qos, flags, message (None after PUBREC)
//! g sid(8) seq(8)       the shared subscription that the message was dealt by, if it was
//! r topic               retained message
//! ```
//! Numbers in keys are big-endian, so that a prefix scan is in order; values are postcard. A value
//! that cannot be read is left out and reported.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::op::{self, VERSION};
use super::session::{Entry, Message, Session, Sid};
use super::{RestoreReport, State};
use crate::codec::Will;
use crate::rules::{self, Rule};
use crate::topic::Options;
use crate::{Config, QoS, Stats};

/// What changed since the last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Session(Sid),
    Bound(Sid),
    Filter(Sid, Arc<str>),
    Row(Sid, u64),
    Share(Sid, u64),
    Retained(Arc<str>),
}

impl Key {
    fn bytes(&self) -> Vec<u8> {
        let (tag, sid, rest): (u8, Option<Sid>, &[u8]) = match self {
            Key::Session(sid) => (b's', Some(*sid), &[]),
            Key::Bound(sid) => (b'b', Some(*sid), &[]),
            Key::Filter(sid, filter) => (b'f', Some(*sid), filter.as_bytes()),
            Key::Row(sid, seq) => (b'q', Some(*sid), &seq.to_be_bytes()),
            Key::Share(sid, seq) => (b'g', Some(*sid), &seq.to_be_bytes()),
            Key::Retained(topic) => (b'r', None, topic.as_bytes()),
        };
        let mut key = vec![tag];
        if let Some(sid) = sid {
            key.extend_from_slice(&sid.0.to_be_bytes());
        }
        key.extend_from_slice(rest);
        key
    }
}

#[derive(Serialize, Deserialize)]
struct SessionValue {
    client_id: Arc<str>,
    expiry_s: u32,
    will: Option<Will>,
    incoming: Vec<u16>,
    next_id: u16,
    next_seq: u64,
}

#[derive(Serialize, Deserialize)]
struct RowValue {
    id: u16,
    qos: QoS,
    retain: bool,
    identifiers: Vec<u32>,
    message: Option<Arc<Message>>,
}

fn value<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("a vector takes everything")
}

impl State {
    /// A queue entry went. One that was never in a checkpoint leaves no trace.
    pub(super) fn row_gone(&mut self, sid: Sid, seq: u64, stored_seq: u64, shared: bool) {
        let share = shared.then_some(Key::Share(sid, seq));
        for key in [Key::Row(sid, seq)].into_iter().chain(share) {
            if seq < stored_seq {
                self.dirty.insert(key);
            } else {
                self.dirty.remove(&key);
            }
        }
    }

    pub fn checkpoint_changes(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut changes = Vec::with_capacity(dirty.len() + 2);
        changes.push((b"v".to_vec(), Some(vec![VERSION])));
        changes.push((b"a".to_vec(), Some(value(&(self.applied, self.next_sid)))));
        for key in dirty {
            changes.push((key.bytes(), self.value_of(&key)));
            if let Key::Session(sid) = key {
                if let Some(session) = self.sessions.get_mut(&sid) {
                    session.stored_seq = session.queue.next_seq;
                }
            }
        }
        changes
    }

    fn value_of(&self, key: &Key) -> Option<Vec<u8>> {
        match key {
            Key::Session(sid) => self.sessions.get(sid).map(|s| {
                value(&SessionValue {
                    client_id: s.client_id.clone(),
                    expiry_s: s.expiry_s,
                    will: s.will.clone(),
                    incoming: s.incoming.iter().copied().collect(),
                    next_id: s.queue.next_id,
                    next_seq: s.queue.next_seq,
                })
            }),
            Key::Bound(sid) => {
                let bytes_max = self.sessions.get(sid)?.queue_bytes_max;
                bytes_max.as_ref().map(value)
            }
            Key::Filter(sid, filter) => {
                self.sessions.get(sid)?.subscriptions.get(filter).map(value)
            }
            Key::Row(sid, seq) => self.sessions.get(sid)?.queue.entries.get(seq).map(|e| {
                value(&RowValue {
                    id: e.id,
                    qos: e.qos,
                    retain: e.retain,
                    identifiers: e.identifiers.clone(),
                    message: e.message.clone(),
                })
            }),
            Key::Share(sid, seq) => {
                let entry = self.sessions.get(sid)?.queue.entries.get(seq)?;
                entry.share.as_ref().map(value)
            }
            Key::Retained(topic) => self.retained.get(topic).map(value),
        }
    }

    /// See [`crate::Broker::restore`].
    pub fn restore<'a>(
        config: &Config,
        checkpoint: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        ops: impl IntoIterator<Item = &'a [u8]>,
    ) -> (State, RestoreReport) {
        let mut state = State::new(config);
        let mut problems = Problems::default();
        // Sessions first, then what belongs to them, then what belongs to that.
        let (mut later, mut sessions, mut last) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in checkpoint {
            match key.first() {
                Some(b's') => sessions.push((key, value)),
                Some(b'g') => last.push((key, value)),
                _ => later.push((key, value)),
            }
        }
        for (key, value) in sessions.into_iter().chain(later).chain(last) {
            if let Err(why) = state.restore_one(key, value) {
                problems.add(format!("checkpoint key {}: {why}", key.escape_ascii()));
            }
        }
        let mut report = RestoreReport::default();
        let mut ignored = Vec::new();
        for (n, bytes) in ops.into_iter().enumerate() {
            match op::decode(bytes) {
                Ok((token, _)) if token <= state.applied => report.ops_skipped += 1,
                Ok((token, ops)) => {
                    for op in &ops {
                        state.apply(op, &mut ignored);
                        ignored.clear();
                        state.strays.clear();
                    }
                    state.applied = token;
                    report.ops_applied += 1;
                }
                Err(why) => problems.add(format!("op {n}: {why}")),
            }
        }
        for session in state.sessions.values_mut() {
            session.dropped_count = 0;
            // More than the window cannot have been sent.
            let window = usize::from(config.inflight_max);
            for entry in session.queue.entries.values_mut().take(window) {
                entry.maybe_sent = rules::on(Rule::DupMarked);
            }
        }
        // What was dropped on the way was counted before, when it happened, but for the report's last.
        report.dropped = state.stats.dropped_queued;
        state.stats = Stats {
            queued: state.stats.queued,
            ..Stats::default()
        };
        report.sessions = state.sessions.len();
        report.retained = state.retained.len();
        report.queued = state.sessions.values().map(|s| s.queue.entries.len()).sum();
        report.problems = problems.finish();
        (state, report)
    }

    fn restore_one(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let (tag, rest) = key.split_first().ok_or("it is empty")?;
        match tag {
            b'v' if value == [VERSION] => Ok(()),
            b'v' => Err("the version is not known".into()),
            b'a' => {
                let (applied, next_sid) = read::<(u64, u64)>(value)?;
                self.applied = applied;
                self.next_sid = self.next_sid.max(next_sid);
                Ok(())
            }
            b's' => self.restore_session(sid(rest)?.0, read(value)?),
            b'b' => {
                let (sid, _) = sid(rest)?;
                match self.sessions.get_mut(&sid) {
                    Some(session) => session.queue_bytes_max = Some(read(value)?),
                    None => self.orphan(Key::Bound(sid)),
                }
                Ok(())
            }
            b'f' => {
                let (sid, filter) = sid(rest)?;
                let filter = std::str::from_utf8(filter).map_err(|e| e.to_string())?;
                crate::topic::check_filter(filter).map_err(|e| e.to_string())?;
                let options: Options = read(value)?;
                let Some(session) = self.sessions.get_mut(&sid) else {
                    self.orphan(Key::Filter(sid, filter.into()));
                    return Ok(());
                };
                let name: Arc<str> = filter.into();
                session.subscriptions.insert(name.clone(), options);
                self.link(sid, &name, options);
                self.durable_subscriptions += 1;
                Ok(())
            }
            b'q' => {
                let (sid, seq) = sid(rest)?;
                let seq = u64::from_be_bytes(seq.try_into().map_err(|_| "the key's length")?);
                self.restore_row(sid, seq, read(value)?)
            }
            b'g' => {
                let (sid, seq) = sid(rest)?;
                let seq = u64::from_be_bytes(seq.try_into().map_err(|_| "the key's length")?);
                let session = self.sessions.get_mut(&sid);
                match session.and_then(|s| s.queue.entries.get_mut(&seq)) {
                    Some(entry) => entry.share = Some(read(value)?),
                    None => self.orphan(Key::Share(sid, seq)),
                }
                Ok(())
            }
            b'r' => {
                let message: Arc<Message> = read(value)?;
                self.retained.restore(message);
                Ok(())
            }
            _ => Err("an unknown kind of key".into()),
        }
    }

    /// An entry of a session that ended, or whose own entry was reported: it goes with the next
    /// checkpoint.
    fn orphan(&mut self, key: Key) {
        self.dirty.insert(key);
    }

    fn restore_session(&mut self, sid: Sid, value: SessionValue) -> Result<(), String> {
        // Two of one client: the older has ended, only the log had not taken that yet.
        if let Some(other) = self.by_client.get(&value.client_id).copied() {
            if other > sid {
                self.orphan(Key::Session(sid));
                return Ok(());
            }
            self.end(other);
        }
        self.by_client.insert(value.client_id.clone(), sid);
        let mut session = Session::new(value.client_id, true);
        session.expiry_s = value.expiry_s;
        session.will = value.will;
        session.incoming = value.incoming.into_iter().collect();
        session.queue.next_id = value.next_id;
        session.queue.next_seq = value.next_seq;
        session.stored_seq = value.next_seq;
        self.next_sid = self.next_sid.max(sid.0 + 1);
        self.sessions.insert(sid, Box::new(session));
        Ok(())
    }

    fn restore_row(&mut self, sid: Sid, seq: u64, row: RowValue) -> Result<(), String> {
        let Some(session) = self.sessions.get_mut(&sid) else {
            self.orphan(Key::Row(sid, seq));
            return Ok(());
        };
        let queue = &mut session.queue;
        if row.id == 0 || queue.seq(row.id).is_some() || seq >= queue.next_seq {
            return Err("its packet id or sequence number cannot be".into());
        }
        let bytes = row.message.as_ref().map_or(0, |m| m.bytes());
        let entry = Entry {
            id: row.id,
            qos: row.qos,
            retain: row.retain,
            identifiers: row.identifiers,
            share: None,
            message: row.message,
            bytes,
            maybe_sent: false,
            done: false,
            moving: false,
            received: false,
        };
        let before = queue.bytes;
        queue.insert(seq, entry);
        self.weights.moved(sid, before, queue.bytes);
        self.stats.queued += 1;
        Ok(())
    }
}

fn sid(rest: &[u8]) -> Result<(Sid, &[u8]), String> {
    let (sid, rest) = rest
        .split_first_chunk::<8>()
        .ok_or("the key is too short")?;
    Ok((Sid(u64::from_be_bytes(*sid)), rest))
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    postcard::from_bytes(value).map_err(|e| e.to_string())
}

#[derive(Default)]
struct Problems {
    lines: Vec<String>,
    more: usize,
}

impl Problems {
    fn add(&mut self, line: String) {
        if self.lines.len() < 16 {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines.push(format!("and {} more", self.more));
        }
        self.lines
    }
}
