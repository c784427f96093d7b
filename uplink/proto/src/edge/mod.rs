//! The edge's side of one connection.
//!
//! Make one [`EdgeSession`] per connection, once the handshake is confirmed; call
//! [`add_stream`](EdgeSession::add_stream) for every partition found in the data directory (U5), also
//! later when a new one appears. After every call drain [`poll_effect`](EdgeSession::poll_effect) and
//! look at [`deadline`](EdgeSession::deadline).

mod effect;
mod persist;
mod receive;
mod send;
mod stream;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use headwater_batch::{Level, Offset, Slicer, TopicPartition};

pub use effect::{CloseReason, EdgeEffect, LogGap, StreamInfo};
use stream::{Phase, Stream};

use crate::bounds::{self, LANES_MAX, SILENT_MS, STREAMS_MAX};
use crate::frame::{Decoder, Encoder, ToCloud};
use crate::rng::Rng;
use crate::rules::{self, Rule};
use crate::{AlarmKind, Channel, EdgeName, Ms, StreamId};

/// Bounds that a site may change.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    pub edge: EdgeName,
    /// Software version, for the cloud's logs.
    pub software: String,
    /// Bytes in flight over all streams, and per stream. The cloud may ask for less.
    pub window_bytes: usize,
    pub stream_window_bytes: usize,
    pub read_bytes: usize,
    /// zstd level for sliced batches.
    pub level: i32,
}

impl EdgeConfig {
    pub fn new(edge: EdgeName) -> EdgeConfig {
        EdgeConfig {
            edge,
            software: env!("CARGO_PKG_VERSION").into(),
            window_bytes: bounds::WINDOW_BYTES,
            stream_window_bytes: bounds::STREAM_WINDOW_BYTES,
            read_bytes: bounds::READ_BYTES,
            level: 3,
        }
    }
}

/// A stream's slot in the session; it keeps it while its wire id changes.
type Slot = usize;

/// One connection's machine. See the module's docs.
#[derive(Debug)]
pub struct EdgeSession {
    config: EdgeConfig,
    rng: Rng,
    effects: VecDeque<EdgeEffect>,
    streams: Vec<Stream>,
    by_tp: BTreeMap<TopicPartition, Slot>,
    by_id: BTreeMap<StreamId, Slot>,
    next_id: u32,
    /// Streams that want a read, best first: priority, then who waited longest.
    ready: BTreeSet<(Reverse<i32>, u64, Slot)>,
    turn: u64,
    timers: BTreeSet<(Ms, Slot)>,
    /// Sent and not acknowledged, or reserved by a read.
    in_flight: usize,
    decoder: Decoder,
    encoders: BTreeMap<Channel, Encoder>,
    batch_decoder: headwater_batch::Decoder,
    slicer: Slicer,
    last_heard: Ms,
    /// Streams for which `awaits_cloud` holds: with any, silence is an error.
    awaiting: BTreeSet<Slot>,
    awaiting_since: Ms,
    closed: bool,
}

impl EdgeSession {
    /// `seed` is fresh randomness from the shell: new incarnations and jitter are drawn from it.
    /// Sends HELLO.
    pub fn new(config: EdgeConfig, seed: u128, now: Ms) -> EdgeSession {
        let hello = ToCloud::Hello {
            edge: config.edge.clone(),
            software: config.software.chars().take(64).collect(),
        };
        let slicer = Slicer::new(Level::Zstd(config.level));
        let mut session = EdgeSession {
            config,
            rng: Rng::new(seed),
            effects: VecDeque::new(),
            streams: Vec::new(),
            by_tp: BTreeMap::new(),
            by_id: BTreeMap::new(),
            next_id: 1,
            ready: BTreeSet::new(),
            turn: 0,
            timers: BTreeSet::new(),
            in_flight: 0,
            decoder: Decoder::default(),
            encoders: BTreeMap::new(),
            batch_decoder: headwater_batch::Decoder::new(),
            slicer,
            last_heard: now,
            awaiting: BTreeSet::new(),
            awaiting_since: now,
            closed: false,
        };
        session.send(Channel::Control, &hello);
        session
    }

    /// Announces a partition. Of a partition that is announced already, nothing.
    pub fn add_stream(&mut self, now: Ms, info: StreamInfo) {
        if self.closed || self.by_tp.contains_key(&info.tp) {
            return;
        }
        if self.streams.len() >= STREAMS_MAX {
            // The cloud would close the connection, and none would be sent.
            let (tp, bound) = (info.tp, STREAMS_MAX as u32);
            let kind = AlarmKind::TooManyStreams { bound };
            return self.effects.push_back(EdgeEffect::Alarm { tp, kind });
        }
        let slot = self.streams.len();
        let lane = (slot % LANES_MAX) as u64;
        self.by_tp.insert(info.tp.clone(), slot);
        let window = self.config.stream_window_bytes;
        self.streams
            .push(Stream::new(info, StreamId(0), lane, window));
        self.announce(now, slot);
        self.settle(now, slot);
    }

    /// Bytes of a channel (the edge only ever receives on `Control`).
    pub fn bytes(&mut self, now: Ms, _channel: Channel, bytes: Bytes) {
        if self.closed {
            return;
        }
        self.last_heard = now;
        self.decoder.push(bytes);
        self.receive(now);
    }

    /// The log moved: `[start, end)` is what can be read now. Call after sealing and after retention.
    pub fn log_changed(&mut self, now: Ms, tp: &TopicPartition, start: Offset, end: Offset) {
        let Some(slot) = self.slot(tp) else { return };
        let info = &mut self.streams[slot].info;
        info.start = info.start.max(start);
        info.end = info.end.max(end);
        if let Some(last) = info.spans.last_mut() {
            last.end = last.end.max(end);
        }
        self.settle(now, slot);
    }

    /// Answers `Describe`: `info` is the log's state now.
    pub fn described(&mut self, now: Ms, info: StreamInfo) {
        let Some(slot) = self.slot(&info.tp) else {
            return;
        };
        if self.streams[slot].phase == Phase::Describing {
            self.reannounce(now, slot, info);
        }
    }

    /// The operator gives up records that the cloud acknowledged and lost: lets their GAP go.
    pub fn give_up_lost(&mut self, now: Ms, tp: &TopicPartition) {
        let Some(slot) = self.slot(tp) else { return };
        let stream = &mut self.streams[slot];
        if stream.phase == Phase::Halted && stream.went_back {
            stream.given_up = true;
            stream.phase = Phase::Live;
            self.settle(now, slot);
        }
    }

    /// Call at the deadline.
    pub fn timer(&mut self, now: Ms) {
        if self.closed {
            return;
        }
        if self.silent_at().is_some_and(|at| at <= now) {
            let silent = now - self.last_heard;
            return self.close(CloseReason::Silent(silent));
        }
        while let Some(&(at, slot)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.streams[slot].timer = None;
            self.stream_timer(now, slot);
            self.settle(now, slot);
        }
    }

    pub fn deadline(&self) -> Option<Ms> {
        let stream = self.timers.first().map(|(at, _)| *at);
        [stream, self.silent_at()].into_iter().flatten().min()
    }

    pub fn poll_effect(&mut self) -> Option<EdgeEffect> {
        self.effects.pop_front()
    }

    /// For the status page: bytes sent and not acknowledged.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight
    }

    /// For the status page: the stream sends nothing until the next connection or the operator, for
    /// the reason that an alarm gave.
    pub fn is_halted(&self, tp: &TopicPartition) -> bool {
        self.slot(tp).is_some_and(|slot| {
            let stream = &self.streams[slot];
            stream.phase == Phase::Halted || stream.refused
        })
    }

    fn slot(&self, tp: &TopicPartition) -> Option<Slot> {
        if self.closed {
            None
        } else {
            self.by_tp.get(tp).copied()
        }
    }

    fn silent_at(&self) -> Option<Ms> {
        let waits = !self.awaiting.is_empty()
            && !self.closed
            && rules::on(Rule::Silent)
            && rules::on(Rule::Resync);
        waits.then(|| self.last_heard.max(self.awaiting_since) + SILENT_MS)
    }

    /// Gives the slot a fresh id, so that what is still under way under the old one means nothing.
    fn announce(&mut self, now: Ms, slot: Slot) {
        let id = StreamId(self.next_id);
        self.next_id += 1;
        let stream = &mut self.streams[slot];
        self.by_id.remove(&stream.id);
        self.by_id.insert(id, slot);
        stream.id = id;
        stream.phase = Phase::Announcing;
        stream.last_progress = now;
        let announce = stream.announce();
        self.send(Channel::Control, &ToCloud::Announce(announce));
    }

    fn reannounce(&mut self, now: Ms, slot: Slot, info: StreamInfo) {
        let (lane, pause) = (self.streams[slot].lane, self.streams[slot].pause);
        self.drop_in_flight(slot);
        self.unschedule(slot);
        let (read, refused) = (self.streams[slot].read, self.streams[slot].refused);
        let id = self.streams[slot].id;
        let mut fresh = Stream::new(info, id, lane, self.config.stream_window_bytes);
        // A read that is still out is answered once, and then found to be of no use.
        fresh.read = read;
        fresh.pause = pause;
        fresh.refused = refused;
        self.streams[slot] = fresh;
        self.announce(now, slot);
        self.settle(now, slot);
    }

    fn drop_in_flight(&mut self, slot: Slot) {
        self.in_flight -= self.streams[slot].clear_in_flight();
    }

    fn unschedule(&mut self, slot: Slot) {
        let stream = &mut self.streams[slot];
        if let Some(at) = stream.timer.take() {
            self.timers.remove(&(at, slot));
        }
        if let Some(turn) = stream.turn.take() {
            self.ready
                .remove(&(Reverse(stream.info.priority), turn, slot));
        }
    }

    /// Brings timer and readiness in line with the stream's state, then reads what fits.
    fn settle(&mut self, now: Ms, slot: Slot) {
        if self.closed {
            return;
        }
        if self.streams[slot].phase == Phase::Live {
            self.check_log_start(slot);
        }
        let stream = &mut self.streams[slot];
        let timer = stream.next_timer();
        if timer != stream.timer {
            if let Some(at) = stream.timer {
                self.timers.remove(&(at, slot));
            }
            self.timers.extend(timer.map(|at| (at, slot)));
            stream.timer = timer;
        }
        let priority = Reverse(stream.info.priority);
        match (stream.wants().is_some(), stream.turn) {
            (true, None) => {
                self.turn += 1;
                stream.turn = Some(self.turn);
                self.ready.insert((priority, self.turn, slot));
            }
            (false, Some(turn)) => {
                stream.turn = None;
                self.ready.remove(&(priority, turn, slot));
            }
            _ => {}
        }
        if stream.awaits_cloud() {
            if self.awaiting.is_empty() {
                self.awaiting_since = now;
            }
            self.awaiting.insert(slot);
        } else {
            self.awaiting.remove(&slot);
        }
        self.pump();
    }

    fn alarm(&mut self, slot: Slot, kind: AlarmKind) {
        let tp = self.streams[slot].info.tp.clone();
        self.effects.push_back(EdgeEffect::Alarm { tp, kind });
    }

    fn send(&mut self, channel: Channel, body: &ToCloud) {
        let bytes = self.encoders.entry(channel).or_default().head(body, 0);
        self.effects.push_back(EdgeEffect::Send { channel, bytes });
    }

    fn close(&mut self, reason: CloseReason) {
        if !self.closed {
            self.closed = true;
            self.effects.push_back(EdgeEffect::Close { reason });
        }
    }
}
