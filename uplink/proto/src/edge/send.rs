//! Reading the log and sending what it gives.

use bytes::Bytes;
use headwater_batch::{BatchView, Limits, Offset, TopicPartition};

use super::stream::Phase;
use super::{EdgeEffect, EdgeSession, LogGap, Slot};
use crate::digest::digest_at;
use crate::frame::ToCloud;
use crate::rules::{self, Rule};
use crate::{AlarmKind, Channel, Digest, GapReason, LastRecord, Ms};

/// How long a stream waits before it asks a log again that could not be read.
const READ_RETRY_MS: Ms = 1_000;
/// What a GAP counts against the window.
const GAP_BYTES: usize = 64;

impl EdgeSession {
    /// Answers `Read`: whole batches in order. None means that there is nothing (yet).
    pub fn batches(&mut self, now: Ms, tp: &TopicPartition, batches: Vec<Bytes>) {
        let Some((slot, from)) = self.take_read(tp) else {
            return;
        };
        match self.streams[slot].phase {
            Phase::Verifying { next, last } if from == last.offset => {
                self.compare(now, slot, next, last, &batches);
            }
            Phase::Live if from == self.streams[slot].cursor => {
                if batches.is_empty() {
                    self.hole(now, slot, self.streams[slot].info.start);
                }
                for batch in batches {
                    if !self.send_batch(now, slot, batch) {
                        break;
                    }
                }
            }
            _ => {} // rewound, or no longer sending, since the read went out
        }
        self.settle(now, slot);
    }

    /// Answers `Read`: `[from, to)` is lost, for a reason that the log knows.
    pub fn log_gap(&mut self, now: Ms, gap: LogGap) {
        let Some((slot, _)) = self.take_read(&gap.tp) else {
            return;
        };
        let stream = &mut self.streams[slot];
        match stream.phase {
            Phase::Verifying { .. } if was_rejected(&gap) => self.mismatched(slot),
            // Nothing to compare with: the record is gone.
            Phase::Verifying { next, .. } => self.verified(slot, next),
            Phase::Live if gap.from <= stream.cursor && stream.cursor < gap.to => {
                let below_acked = stream.cursor < stream.info.acked && !stream.given_up;
                if below_acked && rules::on(Rule::NoGapBelowAcked) {
                    self.went_back(slot);
                } else {
                    self.send_gap(now, slot, gap.to, gap.reason);
                }
            }
            _ => {}
        }
        self.settle(now, slot);
    }

    /// Answers `Read`: EIO or the like. The stream waits and asks again (U4: no GAP).
    pub fn read_failed(&mut self, now: Ms, tp: &TopicPartition) {
        let Some((slot, _)) = self.take_read(tp) else {
            return;
        };
        let stream = &self.streams[slot];
        match stream.phase {
            // As in `compare`: it was acknowledged, so retention may have taken it meanwhile.
            Phase::Verifying { next, last } if last.offset < stream.info.start => {
                self.verified(slot, next);
            }
            _ => self.unreadable(now, slot),
        }
        self.settle(now, slot);
    }

    /// Hands out reads while the window has room.
    pub(super) fn pump(&mut self) {
        while self.in_flight < self.config.window_bytes {
            let Some((_, _, slot)) = self.ready.pop_first() else {
                return;
            };
            let stream = &mut self.streams[slot];
            stream.turn = None;
            let Some(from) = stream.wants() else { continue };
            let room = self.config.window_bytes - self.in_flight;
            let stream_room = stream.window.saturating_sub(stream.in_flight_bytes);
            let max_bytes = self.config.read_bytes.min(room).min(stream_room).max(1);
            stream.read = Some((from, max_bytes));
            self.in_flight += max_bytes;
            let tp = stream.info.tp.clone();
            self.effects.push_back(EdgeEffect::Read {
                tp,
                from,
                max_bytes,
            });
        }
    }

    fn take_read(&mut self, tp: &TopicPartition) -> Option<(Slot, Offset)> {
        let slot = self.slot(tp)?;
        let (from, reserved) = self.streams[slot].read.take()?;
        self.in_flight -= reserved;
        Some((slot, from))
    }

    /// The log starts above the cursor. What the cloud acknowledged makes no GAP (U4); of the rest the
    /// log is asked, since it knows the reason.
    pub(super) fn check_log_start(&mut self, slot: Slot) {
        if self.streams[slot].is_below_acked() && rules::on(Rule::NoGapBelowAcked) {
            self.went_back(slot);
        }
    }

    /// The log has nothing from the cursor to `to` and names no GAP. Below its start that is what was
    /// acknowledged and deleted: only the budget and rot make GAPs, and those it names.
    fn hole(&mut self, now: Ms, slot: Slot, to: Offset) {
        let stream = &self.streams[slot];
        let below_start = stream.cursor < to && stream.cursor < stream.info.start;
        let to = to.min(stream.info.start);
        match (below_start, stream.given_up) {
            (false, _) => self.unreadable(now, slot),
            (true, true) => self.send_gap(now, slot, to, GapReason::GivenUp),
            (true, false) if rules::on(Rule::NoGapBelowAcked) => self.went_back(slot),
            (true, false) => self.send_gap(now, slot, to, GapReason::Budget),
        }
    }

    fn went_back(&mut self, slot: Slot) {
        let stream = &mut self.streams[slot];
        stream.went_back = true;
        let (acked, next) = (stream.info.acked.max(stream.info.start), stream.cursor);
        self.halt(slot, AlarmKind::CloudWentBack { acked, next });
    }

    fn unreadable(&mut self, now: Ms, slot: Slot) {
        let stream = &mut self.streams[slot];
        stream.wait_until = Some(now + READ_RETRY_MS);
        let (from, first) = (stream.cursor, !stream.unreadable);
        stream.unreadable = true;
        if first {
            self.alarm(slot, AlarmKind::LogUnreadable { from });
        }
    }

    fn compare(&mut self, now: Ms, slot: Slot, next: Offset, last: LastRecord, batches: &[Bytes]) {
        let limits = Limits::UPLINK;
        let batch = batches
            .first()
            .and_then(|bytes| BatchView::parse(bytes, &limits).ok());
        // Once acknowledged, the record may be deleted before it is read: then there is nothing
        // left to compare.
        let base = batch.as_ref().map(BatchView::base_offset);
        let deleted = last.offset < self.streams[slot].info.start;
        if deleted || base.is_some_and(|base| base > last.offset) {
            return self.verified(slot, next);
        }
        let Some(batch) = batch.filter(|b| b.verify_crc().is_ok()) else {
            return self.unreadable(now, slot);
        };
        match digest_at(&batch, last.offset, &mut self.batch_decoder, &limits) {
            None => self.unreadable(now, slot),
            got if got == Some(last.digest) => self.verified(slot, next),
            Some(_) => self.mismatched(slot),
        }
    }

    /// Sends what the batch holds from the cursor on. False ends the run of batches.
    fn send_batch(&mut self, now: Ms, slot: Slot, bytes: Bytes) -> bool {
        let limits = Limits::UPLINK;
        let cursor = self.streams[slot].cursor;
        let batch = BatchView::parse(&bytes, &limits)
            .ok()
            .filter(|b| b.verify_crc().is_ok());
        let Some(batch) = batch else {
            self.unreadable(now, slot);
            return false;
        };
        let next = batch.next_offset();
        if next <= cursor {
            return true;
        }
        if batch.base_offset() > cursor {
            self.hole(now, slot, batch.base_offset());
            if self.streams[slot].cursor < batch.base_offset() {
                return false;
            }
        }
        let base = batch.base_offset().max(cursor);
        let last = Offset(next.0 - 1);
        let digest = digest_at(&batch, last, &mut self.batch_decoder, &limits);
        let tail = match base == batch.base_offset() {
            true => bytes.clone(),
            false => match self.slicer.slice(&batch, base, &limits) {
                Ok(sliced) => sliced.into(),
                Err(_) => {
                    self.unreadable(now, slot);
                    return false;
                }
            },
        };
        self.send_data(
            now,
            slot,
            base,
            next,
            digest.expect("it is the batch's last"),
            tail,
        );
        true
    }

    fn send_data(
        &mut self,
        now: Ms,
        slot: Slot,
        base: Offset,
        next: Offset,
        digest: Digest,
        tail: Bytes,
    ) {
        let stream = &self.streams[slot];
        let lineage = stream.lineage(base, next);
        let channel = Channel::Data(stream.lane);
        let body = ToCloud::Data {
            stream: stream.id,
            base,
            next,
            lineage,
            digest,
        };
        let head = self
            .encoders
            .entry(channel)
            .or_default()
            .head(&body, tail.len());
        let bytes = head.len() + tail.len();
        self.effects.push_back(EdgeEffect::Send {
            channel,
            bytes: head,
        });
        self.effects.push_back(EdgeEffect::Send {
            channel,
            bytes: tail,
        });
        self.sent(now, slot, next, bytes);
    }

    pub(super) fn send_gap(&mut self, now: Ms, slot: Slot, to: Offset, reason: GapReason) {
        let stream = &self.streams[slot];
        let from = stream.cursor;
        let lineage = stream.lineage(from, to);
        let (channel, id) = (Channel::Data(stream.lane), stream.id);
        self.send(
            channel,
            &ToCloud::Gap {
                stream: id,
                from,
                to,
                reason,
                lineage,
            },
        );
        self.sent(now, slot, to, GAP_BYTES);
    }

    fn sent(&mut self, now: Ms, slot: Slot, next: Offset, bytes: usize) {
        let stream = &mut self.streams[slot];
        if stream.in_flight.is_empty() {
            stream.last_progress = now;
        }
        stream.unreadable = false;
        stream.in_flight.push_back((next, bytes));
        stream.in_flight_bytes += bytes;
        stream.cursor = next;
        stream.sent_max = stream.sent_max.max(next);
        self.in_flight += bytes;
    }

    pub(super) fn stream_timer(&mut self, now: Ms, slot: Slot) {
        let stream = &mut self.streams[slot];
        if stream.wait_until.is_some_and(|at| at <= now) {
            stream.wait_until = None;
            match stream.phase {
                Phase::Paused => {
                    stream.phase = Phase::Describing;
                    let tp = stream.info.tp.clone();
                    self.effects.push_back(EdgeEffect::Describe { tp });
                }
                Phase::Backing { attempt } => self.resume(slot, attempt),
                Phase::Resyncing => self.resync(now, slot),
                Phase::Forking { .. } | Phase::DeadLettering { .. } => self.persist(slot),
                _ => {} // a read may be tried again: settle sees to it
            }
            return;
        }
        let due = stream.next_timer().is_some_and(|at| at <= now);
        if due && stream.phase == Phase::Live {
            self.resync(now, slot);
        }
    }

    fn resync(&mut self, now: Ms, slot: Slot) {
        if !rules::on(Rule::Resync) {
            self.streams[slot].last_progress = now;
            return;
        }
        self.drop_in_flight(slot);
        let stream = &mut self.streams[slot];
        stream.phase = Phase::Resyncing;
        stream.wait_until = Some(now + crate::bounds::RESYNC_MS);
        let (id, lane) = (stream.id, stream.lane);
        self.send(Channel::Data(lane), &ToCloud::Resync { stream: id });
    }
}

/// What this log saw rejected was not stored from it: another log of this name stored that.
fn was_rejected(gap: &LogGap) -> bool {
    matches!(gap.reason, GapReason::Rejected(_)) && rules::on(Rule::RejectedCompared)
}
