//! The cloud's side of one connection.
//!
//! Make one [`CloudSession`] per connection, with the name that the certificate says. It knows only
//! a sink: every step of a stream becomes a [`StreamEntry`](crate::StreamEntry) to commit, and is
//! answered per ticket, in order within a stream. It always reads: what a stalled sink cannot take
//! is dropped and answered with RETRY, so one shard never blocks the connection.

mod effect;
mod outcome;
mod receive;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use headwater_batch::Offset;

pub use effect::{CloudEffect, Rejected, SessionError, Ticket};
use stream::{Asked, Pending, Stream};

use crate::bounds::{self, COMMIT_MS};
use crate::frame::{Decoder, Encoder, ToEdge};
use crate::rules::{self, Rule};
use crate::{Channel, EdgeName, Ms, StreamEntry, StreamId};

#[derive(Debug, Clone)]
pub struct CloudConfig {
    /// Node addresses for the edge's next try.
    pub addresses: Vec<String>,
    /// Asks the edge to keep no more than this in flight.
    pub window_bytes: usize,
    /// Bytes handed to the sink and not answered; beyond it the answer is RETRY.
    pub pending_bytes_max: usize,
}

impl Default for CloudConfig {
    fn default() -> CloudConfig {
        CloudConfig {
            addresses: Vec::new(),
            window_bytes: bounds::WINDOW_BYTES,
            pending_bytes_max: bounds::PENDING_BYTES_MAX,
        }
    }
}

/// One connection's machine. See the module's docs.
#[derive(Debug)]
pub struct CloudSession {
    config: CloudConfig,
    peer: EdgeName,
    /// The wall clock minus `now`.
    wall_offset_ms: i64,
    effects: VecDeque<CloudEffect>,
    control: Decoder,
    lanes: BTreeMap<u64, Decoder>,
    encoder: Encoder,
    greeted: bool,
    streams: BTreeMap<StreamId, Stream>,
    /// Ids rise: one at or below this that is not open was closed.
    highest_id: StreamId,
    next_ticket: u64,
    /// Commits not answered, oldest first, and when they were handed over.
    tickets: BTreeMap<Ticket, (StreamId, Ms)>,
    pending_bytes: usize,
    /// Streams whose ACK moved since the last drain.
    acks: BTreeMap<StreamId, Offset>,
    closed: bool,
}

/// What a commit costs besides its batch: bounds how many may wait.
const PENDING_OVERHEAD_BYTES: usize = 256;
/// ACKs in one frame, far below its bound.
const ACKS_PER_FRAME: usize = 2_048;
/// What an edge is told of an error that ends its session.
const GOODBYE_CHARS: usize = 500;

impl CloudSession {
    /// `peer` is the name in the certificate. `wall_ms` is the wall clock now (ms since 1970); later
    /// stamps count on from it with `now`.
    pub fn new(config: CloudConfig, peer: EdgeName, now: Ms, wall_ms: i64) -> CloudSession {
        CloudSession {
            config,
            peer,
            wall_offset_ms: wall_ms.saturating_sub(now as i64),
            effects: VecDeque::new(),
            control: Decoder::default(),
            lanes: BTreeMap::new(),
            encoder: Encoder::default(),
            greeted: false,
            streams: BTreeMap::new(),
            highest_id: StreamId(0),
            next_ticket: 1,
            tickets: BTreeMap::new(),
            pending_bytes: 0,
            acks: BTreeMap::new(),
            closed: false,
        }
    }

    /// Call at the deadline: what the sink did not answer in time has an unsure outcome (U3).
    pub fn timer(&mut self, now: Ms) {
        while let Some((&ticket, &(_, at))) = self.tickets.first_key_value() {
            if self.closed || at + COMMIT_MS > now || !rules::on(Rule::Resync) {
                return;
            }
            self.unsure(ticket);
        }
    }

    /// None unless the sink owes an answer: an idle session costs no work.
    pub fn deadline(&self) -> Option<Ms> {
        let waits = !self.closed && rules::on(Rule::Resync);
        let oldest = self.tickets.first_key_value().filter(|_| waits);
        oldest.map(|(_, (_, at))| at + COMMIT_MS)
    }

    /// ACKs are cumulative, so those of one drain travel as one.
    pub fn poll_effect(&mut self) -> Option<CloudEffect> {
        if self.effects.is_empty() && !self.acks.is_empty() && !self.closed {
            let mut acks: Vec<_> = std::mem::take(&mut self.acks).into_iter().collect();
            while !acks.is_empty() {
                let rest = acks.split_off(acks.len().min(ACKS_PER_FRAME));
                self.send(&ToEdge::Ack { acks });
                acks = rest;
            }
        }
        self.effects.pop_front()
    }

    /// For the status page.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    fn commit(&mut self, now: Ms, id: StreamId, asked: Asked, entry: StreamEntry) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let bytes = entry.batch().map_or(0, Bytes::len) + PENDING_OVERHEAD_BYTES;
        let stream = self
            .streams
            .get_mut(&id)
            .expect("commits are for open streams");
        stream.pending.push_back(Pending {
            ticket,
            asked,
            attempt: stream.attempt,
            bytes,
        });
        let key = stream.key.clone();
        self.pending_bytes += bytes;
        self.tickets.insert(ticket, (id, now));
        self.effects
            .push_back(CloudEffect::Commit { ticket, key, entry });
    }

    fn sink_is_full(&self) -> bool {
        self.pending_bytes >= self.config.pending_bytes_max
    }

    fn close_stream(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        self.acks.remove(&id);
        for pending in &stream.pending {
            self.tickets.remove(&pending.ticket);
            self.pending_bytes -= pending.bytes;
        }
    }

    fn wall_ms(&self, now: Ms) -> i64 {
        self.wall_offset_ms.saturating_add(now as i64)
    }

    fn send(&mut self, body: &ToEdge) {
        let bytes = self.encoder.head(body, 0);
        self.effects.push_back(CloudEffect::Send {
            channel: Channel::Control,
            bytes,
        });
    }

    fn close(&mut self, reason: SessionError) {
        if !self.closed {
            let told = reason.to_string().chars().take(GOODBYE_CHARS).collect();
            self.send(&ToEdge::Goodbye { reason: told });
            self.closed = true;
            self.effects.push_back(CloudEffect::Close { reason });
        }
    }
}
