//! What waits for sessions, and how much of it.
//!
//! A session that outlives its connection may never be asked for again. So there is a bound on each
//! queue, a lower one where the listener that its client came by last has one, and one on all of them
//! together: what is dropped is the oldest of the longest queue, which is what its subscriber misses
//! least. The log itself keeps every message.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::checkpoint::Key;
use super::session::{Entry, Message, Sid};
use super::{Delivery, State};
use crate::QoS;

/// The queues of durable sessions by their bytes. Of the others no replay knows.
#[derive(Debug)]
pub(super) struct Weights {
    by_bytes: BTreeSet<(usize, Sid)>,
    bytes: usize,
    bytes_max: usize,
}

impl Weights {
    pub fn new(bytes_max: usize) -> Weights {
        Weights {
            by_bytes: BTreeSet::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// A queue has other bytes now. Empty ones are not kept.
    pub fn moved(&mut self, sid: Sid, from: usize, to: usize) {
        self.bytes = self.bytes - from + to;
        if from != to {
            self.by_bytes.remove(&(from, sid));
            if to > 0 {
                self.by_bytes.insert((to, sid));
            }
        }
    }

    /// Whose queue is the longest, if all together are too long.
    fn too_long(&self) -> Option<Sid> {
        let longest = self.by_bytes.last().map(|(_, sid)| *sid);
        longest.filter(|_| self.bytes > self.bytes_max)
    }
}

/// How a message comes to a queue.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub qos: QoS,
    pub retain: bool,
    pub identifiers: Vec<u32>,
    /// The shared subscription that it was dealt by.
    pub share: Option<Arc<str>>,
}

impl State {
    /// Queues at QoS 1 or 2. At a bound the oldest goes, here or from a longer queue; `out` hears of
    /// every queue that is another now.
    pub fn enqueue(
        &mut self,
        sid: Sid,
        message: &Arc<Message>,
        arrival: Arrival,
        out: &mut Vec<Delivery>,
    ) {
        let Some(session) = self.sessions.get_mut(&sid) else {
            return;
        };
        let entry = Entry {
            id: 0,
            qos: arrival.qos,
            retain: arrival.retain,
            identifiers: arrival.identifiers,
            share: arrival.share,
            bytes: message.bytes(),
            message: Some(message.clone()),
            maybe_sent: false,
            done: false,
            moving: false,
            received: false,
        };
        let shared = entry.share.is_some();
        let before = session.queue.bytes;
        let Some(seq) = session.queue.push(entry) else {
            self.stats.dropped_queued += 1;
            session.dropped_count += 1;
            return;
        };
        self.stats.queued += 1;
        out.push(Delivery::grown(sid));
        if session.durable {
            self.weights.moved(sid, before, session.queue.bytes);
            self.dirty.insert(Key::Row(sid, seq));
            if shared {
                self.dirty.insert(Key::Share(sid, seq));
            }
            self.dirty.insert(Key::Session(sid));
        }
        self.shorten(sid);
        while let Some(longest) = self.weights.too_long() {
            if !self.drop_oldest(longest) {
                break;
            }
            if longest != sid {
                out.push(Delivery::grown(longest));
            }
        }
    }

    /// The client has come by a listener with this bound. What is beyond a lower one goes at once.
    pub fn bound_queue(&mut self, sid: Sid, bytes_max: Option<u64>, out: &mut Vec<Delivery>) {
        let Some(session) = self.sessions.get_mut(&sid) else {
            return;
        };
        session.queue_bytes_max = bytes_max;
        if session.durable {
            self.dirty.insert(Key::Bound(sid));
        }
        if self.shorten(sid) {
            out.push(Delivery::grown(sid));
        }
    }

    /// Drops what a queue holds beyond its own bounds; whether that was anything.
    fn shorten(&mut self, sid: Sid) -> bool {
        let mut any = false;
        while self.is_too_long(sid) && self.drop_oldest(sid) {
            any = true;
        }
        any
    }

    /// Bytes that wait for sessions that outlive their connections.
    pub fn queued_bytes(&self) -> usize {
        self.weights.bytes
    }

    fn is_too_long(&self, sid: Sid) -> bool {
        self.sessions.get(&sid).is_some_and(|session| {
            session.queue.entries.len() > self.queue_messages_max
                || session.queue.bytes > session.queue_bytes_max(self.queue_bytes_max)
        })
    }

    /// False: the queue holds no message that could go.
    fn drop_oldest(&mut self, sid: Sid) -> bool {
        let Some(session) = self.sessions.get_mut(&sid) else {
            return false;
        };
        let Some(oldest) = session.queue.oldest() else {
            return false;
        };
        let before = session.queue.bytes;
        let entry = session.queue.remove(oldest);
        let shared = entry.as_ref().is_some_and(|entry| entry.share.is_some());
        let entry = entry.filter(|entry| !entry.done && !entry.moving);
        if let (Some(entry), true) = (entry, session.conn.is_some()) {
            session.dropped.push((oldest, entry.id));
        }
        session.dropped_count += 1;
        self.stats.queued -= 1;
        self.stats.dropped_queued += 1;
        self.left(sid, oldest, before, shared);
        true
    }

    /// The subscriber has it.
    pub fn done(&mut self, sid: Sid, id: u16) {
        let Some(session) = self.sessions.get_mut(&sid) else {
            return;
        };
        let Some(seq) = session.queue.seq(id) else {
            return;
        };
        let before = session.queue.bytes;
        let entry = session.queue.remove(seq);
        let shared = entry.is_some_and(|entry| entry.share.is_some());
        self.stats.queued -= 1;
        self.left(sid, seq, before, shared);
    }

    /// An entry is no more in a queue that had so many bytes.
    fn left(&mut self, sid: Sid, seq: u64, before: usize, shared: bool) {
        let Some(session) = self.sessions.get(&sid).filter(|session| session.durable) else {
            return;
        };
        let stored = session.stored_seq;
        self.weights.moved(sid, before, session.queue.bytes);
        self.row_gone(sid, seq, stored, shared);
    }

    /// PUBREC: the payload is not needed any more [MQTT-4.3.3-5].
    pub fn received(&mut self, sid: Sid, id: u16) {
        let Some(session) = self.sessions.get_mut(&sid) else {
            return;
        };
        let before = session.queue.bytes;
        let Some((seq, entry)) = session.queue.by_id(id) else {
            return;
        };
        entry.message = None;
        entry.received = false;
        let bytes = std::mem::take(&mut entry.bytes);
        session.queue.bytes -= bytes;
        if session.durable {
            self.weights.moved(sid, before, session.queue.bytes);
            self.dirty.insert(Key::Row(sid, seq));
        }
    }
}
