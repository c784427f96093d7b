//! One session: its subscriptions, its QoS 2 ids, and the messages on their way to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::Will;
use crate::topic::Options;
use crate::{ConnId, Publish, QoS};

/// Names a session; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Sid(pub u64);

/// A message inside the machine, shared by everybody who gets it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub publish: Publish,
    /// From the message expiry interval, in the machine's time.
    pub expires_at_ms: Option<u64>,
}

impl Message {
    /// What it counts for in a queue.
    pub fn bytes(&self) -> usize {
        let p = &self.publish;
        let user = |u: &[(String, String)]| u.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        let properties: usize = p.properties.as_ref().map_or(0, |p| {
            let data = p.correlation_data.as_ref().map_or(0, |d| d.len());
            let text = |t: &Option<String>| t.as_ref().map_or(0, String::len);
            data + text(&p.content_type) + text(&p.response_topic) + user(&p.user)
        });
        96 + p.topic.len() + p.payload.len() + properties
    }

    pub fn expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }
}

/// A QoS 1 or 2 message on its way to a subscriber.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub id: u16,
    pub qos: QoS,
    pub retain: bool,
    pub identifiers: Vec<u32>,
    /// The shared subscription that it was dealt by; of an ordinary one, None.
    pub share: Option<Arc<str>>,
    /// None after PUBREC: only PUBREL and PUBCOMP are missing.
    pub message: Option<Arc<Message>>,
    pub bytes: usize,
    /// Not durable: it may have been sent before, so it goes out with DUP.
    pub maybe_sent: bool,
    /// Not durable: its removal, or its PUBREC, is under way to the journal.
    pub done: bool,
    pub received: bool,
    /// Not durable: it was given to another member of its group; the op that says so is under way.
    pub moving: bool,
}

/// Messages on their way to one subscriber, in order. Invariant: an id names one entry, and what
/// id a message gets depends on the queue alone, so that replay gives the same.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub entries: BTreeMap<u64, Entry>,
    pub ids: BTreeMap<u16, u64>,
    pub next_seq: u64,
    pub next_id: u16,
    pub bytes: usize,
}

impl Queue {
    /// Appends; None if all 65,535 ids are in use (then the message is dropped).
    pub fn push(&mut self, mut entry: Entry) -> Option<u64> {
        if self.ids.len() >= usize::from(u16::MAX) {
            return None;
        }
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            if !self.ids.contains_key(&self.next_id) {
                break;
            }
        }
        entry.id = self.next_id;
        let seq = self.next_seq;
        self.next_seq += 1;
        self.insert(seq, entry);
        Some(seq)
    }

    pub fn insert(&mut self, seq: u64, entry: Entry) {
        self.bytes += entry.bytes;
        self.ids.insert(entry.id, seq);
        self.entries.insert(seq, entry);
    }

    pub fn seq(&self, id: u16) -> Option<u64> {
        self.ids.get(&id).copied()
    }

    pub fn by_id(&mut self, id: u16) -> Option<(u64, &mut Entry)> {
        let seq = *self.ids.get(&id)?;
        self.entries.get_mut(&seq).map(|e| (seq, e))
    }

    pub fn remove(&mut self, seq: u64) -> Option<Entry> {
        let entry = self.entries.remove(&seq)?;
        self.ids.remove(&entry.id);
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// The oldest message that still has a payload: what a full queue drops.
    pub fn oldest(&self) -> Option<u64> {
        self.entries
            .iter()
            .find(|(_, e)| e.message.is_some())
            .map(|(seq, _)| *seq)
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    pub client_id: Arc<str>,
    /// It outlives its connection, so its changes go through the journal.
    pub durable: bool,
    pub expiry_s: u32,
    pub will: Option<Will>,
    pub subscriptions: BTreeMap<Arc<str>, Options>,
    /// QoS 2 ids received and not released: a PUBLISH with one of them is a duplicate.
    pub incoming: BTreeSet<u16>,
    pub queue: Queue,
    /// What its queue may hold by the listener that its client came by last, if that says anything.
    pub queue_bytes_max: Option<u64>,
    /// Not durable, from here on. QoS 2 publishes under way to the journal, and who is to be
    /// answered.
    pub arriving: BTreeMap<u16, ConnId>,
    pub conn: Option<ConnId>,
    /// Publishes that its connection takes at once.
    pub window: u16,
    pub expires_at_ms: Option<u64>,
    pub will_at_ms: Option<u64>,
    /// The will is on its way to the log, or taken back; the op that says so is under way.
    pub will_spent: bool,
    /// It has ended, and its frame is not durable yet.
    pub leaving: bool,
    /// Entries that a full queue dropped, with their ids: the connection may have sent them.
    pub dropped: Vec<(u64, u16)>,
    /// Not durable: messages that its queue had no room for.
    pub dropped_count: u64,
    /// Queue entries below this were never in a checkpoint or are in it now.
    pub stored_seq: u64,
}

impl Session {
    pub fn new(client_id: Arc<str>, durable: bool) -> Session {
        Session {
            client_id,
            durable,
            expiry_s: 0,
            will: None,
            subscriptions: BTreeMap::new(),
            incoming: BTreeSet::new(),
            queue: Queue::default(),
            queue_bytes_max: None,
            arriving: BTreeMap::new(),
            conn: None,
            window: 0,
            expires_at_ms: None,
            will_at_ms: None,
            will_spent: false,
            leaving: false,
            dropped: Vec::new(),
            dropped_count: 0,
            stored_seq: 0,
        }
    }

    /// What its queue may hold, where none may hold more than `bytes_max`.
    pub fn queue_bytes_max(&self, bytes_max: usize) -> usize {
        let own = self.queue_bytes_max.map(usize::try_from);
        own.and_then(Result::ok)
            .map_or(bytes_max, |own| own.min(bytes_max))
    }
}
