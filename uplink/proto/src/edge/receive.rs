//! What the cloud says, and what becomes of a stream then.

use headwater_batch::Offset;

use super::stream::Phase;
use super::{CloseReason, EdgeEffect, EdgeSession, Slot};
use crate::frame::{ToCloud, ToEdge};
use crate::rules::{self, Rule};
use crate::stream::Opened;
use crate::{
    AlarmKind, Attempt, Channel, Incarnation, LastRecord, Ms, Parent, QuarantineReason,
    RefuseReason, RejectCode, StreamId,
};

impl EdgeSession {
    pub(super) fn receive(&mut self, now: Ms) {
        while !self.closed {
            let frame = match self.decoder.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => frame,
                Err(error) => return self.protocol(error.to_string()),
            };
            match frame.decode::<ToEdge>() {
                Ok(_) if !frame.tail.is_empty() => self.protocol("a tail on control".into()),
                Ok(frame) => self.frame(now, frame),
                Err(error) => self.protocol(error.to_string()),
            }
        }
    }

    fn protocol(&mut self, what: String) {
        self.close(CloseReason::Protocol(what));
    }

    fn frame(&mut self, now: Ms, frame: ToEdge) {
        match frame {
            ToEdge::Server {
                wall_ms,
                addresses,
                window_bytes,
            } => {
                let asked = usize::try_from(window_bytes).unwrap_or(usize::MAX);
                self.config.window_bytes = self.config.window_bytes.min(asked.max(1));
                self.effects.push_back(EdgeEffect::Connected {
                    server_ms: wall_ms,
                    addresses,
                });
            }
            ToEdge::Goodbye { reason } => self.close(CloseReason::ByPeer(reason)),
            ToEdge::Ack { acks } => {
                for (id, next) in acks {
                    self.on_stream(now, id, |s, slot| s.ack(now, slot, next));
                }
            }
            ToEdge::Welcome { stream, opened } => {
                self.on_stream(now, stream, |s, slot| s.welcome(now, slot, opened));
            }
            ToEdge::Diverged { stream, fork } => {
                self.on_stream(now, stream, |s, slot| s.diverged(now, slot, fork));
            }
            ToEdge::Quarantine { stream, reason } => {
                self.on_stream(now, stream, |s, slot| {
                    s.halt(slot, AlarmKind::Quarantine(reason))
                });
            }
            ToEdge::Refused { stream, reason } => {
                self.on_stream(now, stream, |s, slot| s.refused(now, slot, reason));
            }
            ToEdge::Fenced { stream } => self.on_stream(now, stream, |s, slot| {
                s.alarm(slot, AlarmKind::Fenced);
                s.announce_later(now, slot);
            }),
            ToEdge::OutOfOrder {
                stream,
                attempt,
                next,
            } => {
                self.on_stream(now, stream, |s, slot| {
                    s.out_of_order(now, slot, attempt, next)
                });
            }
            ToEdge::Resync { stream, attempt } => {
                self.on_stream(now, stream, |s, slot| s.rewind(now, slot, attempt, 0));
            }
            ToEdge::Retry {
                stream,
                attempt: Attempt(0),
                ..
            } => {
                self.on_stream(now, stream, |s, slot| s.announce_later(now, slot));
            }
            ToEdge::Retry {
                stream,
                attempt,
                pause_ms,
            } => {
                let pause = Ms::from(pause_ms).max(1);
                self.on_stream(now, stream, |s, slot| s.rewind(now, slot, attempt, pause));
            }
            ToEdge::Rejected {
                stream,
                attempt,
                base,
                next,
                code,
            } => {
                self.on_stream(now, stream, |s, slot| {
                    s.rejected(slot, attempt, base, next, code)
                });
            }
        }
    }

    /// Frames for an id that was given up mean nothing any more.
    fn on_stream(&mut self, now: Ms, id: StreamId, act: impl FnOnce(&mut Self, Slot)) {
        // One frame may speak of several streams, and end the session at the first.
        if let Some(&slot) = self.by_id.get(&id).filter(|_| !self.closed) {
            act(self, slot);
            self.settle(now, slot);
        }
    }

    fn welcome(&mut self, now: Ms, slot: Slot, opened: Opened) {
        let stream = &mut self.streams[slot];
        if stream.phase != Phase::Announcing {
            return self.protocol("WELCOME for a stream that is open".into());
        }
        // Believed, a position above the end would let go of records that were never sent.
        let (next, log) = (opened.next, stream.info.origin..=stream.info.log_end());
        if !log.contains(&next) {
            let (origin, end) = log.into_inner();
            return self.protocol(format!("WELCOME at {next}, of a log of {origin}..{end}"));
        }
        stream.progressed(now);
        stream.refused = false;
        if let Some(alarm) = opened.alarm {
            self.alarm(slot, alarm);
        }
        let stream = &mut self.streams[slot];
        let kept = |last: &LastRecord| last.offset >= stream.info.start;
        match opened.last.filter(kept) {
            Some(last) if rules::on(Rule::DigestCheck) => {
                stream.phase = Phase::Verifying {
                    next: opened.next,
                    last,
                };
            }
            _ => self.verified(slot, opened.next),
        }
    }

    /// The cloud's history is ours up to `next`: sending starts there.
    pub(super) fn verified(&mut self, slot: Slot, next: Offset) {
        let stream = &mut self.streams[slot];
        stream.phase = Phase::Live;
        (stream.cursor, stream.acked, stream.sent_max) = (next, next, next);
        let (tp, acked) = (stream.info.tp.clone(), stream.info.acked);
        if next < acked {
            self.alarm(slot, AlarmKind::CloudWentBack { acked, next });
        }
        self.effects.push_back(EdgeEffect::Verified {
            tp: tp.clone(),
            at: next,
        });
        if next > acked {
            self.streams[slot].info.acked = next;
            self.effects
                .push_back(EdgeEffect::Acked { tp, offset: next });
        }
    }

    /// The last record stored is another one here: the image of a running machine (U1).
    pub(super) fn mismatched(&mut self, slot: Slot) {
        let reason = QuarantineReason::OtherDigest;
        let stream = self.streams[slot].id;
        self.send(Channel::Control, &ToCloud::Quarantined { stream, reason });
        self.halt(slot, AlarmKind::Quarantine(reason));
    }

    pub(super) fn halt(&mut self, slot: Slot, kind: AlarmKind) {
        self.drop_in_flight(slot);
        self.streams[slot].phase = Phase::Halted;
        self.streams[slot].wait_until = None;
        self.alarm(slot, kind);
    }

    /// Room is made by an operator, some time: the stream asks again and again, but says so once.
    fn refused(&mut self, now: Ms, slot: Slot, reason: RefuseReason) {
        let asks = reason == RefuseReason::TooManyIncarnations && rules::on(Rule::RefusedAsksAgain);
        if !asks {
            return self.halt(slot, AlarmKind::Refused(reason));
        }
        let first = !std::mem::replace(&mut self.streams[slot].refused, true);
        self.announce_later(now, slot);
        if first {
            self.alarm(slot, AlarmKind::Refused(reason));
        }
    }

    fn ack(&mut self, now: Ms, slot: Slot, next: Offset) {
        let stream = &mut self.streams[slot];
        if next > stream.sent_max {
            let (id, sent) = (stream.id.0, stream.sent_max);
            return self.protocol(format!("stream {id}: ACK {next} of {sent} sent"));
        }
        if next <= stream.acked {
            return;
        }
        stream.acked = next;
        stream.cursor = stream.cursor.max(next);
        stream.progressed(now);
        let freed = stream.release_to(next);
        stream.window = (stream.window * 2 + freed).min(self.config.stream_window_bytes);
        self.in_flight -= freed;
        let stream = &mut self.streams[slot];
        // Below the durable cursor nothing new is said: the cloud went back and catches up.
        if next > stream.info.acked {
            stream.info.acked = next;
            let tp = stream.info.tp.clone();
            self.effects
                .push_back(EdgeEffect::Acked { tp, offset: next });
        }
    }

    /// `next` is committed, so it counts as an ACK.
    fn out_of_order(&mut self, now: Ms, slot: Slot, attempt: Attempt, next: Offset) {
        let acked = self.streams[slot].acked;
        if next < acked {
            return self.protocol(format!("OUT_OF_ORDER at {next}, below the ACK of {acked}"));
        }
        self.ack(now, slot, next);
        self.rewind(now, slot, attempt, 0);
    }

    /// Back to what is acknowledged; RESUME at once, or after a pause.
    fn rewind(&mut self, now: Ms, slot: Slot, attempt: Attempt, pause: Ms) {
        let sending = matches!(
            self.streams[slot].phase,
            Phase::Live | Phase::Backing { .. } | Phase::Resyncing | Phase::DeadLettering { .. }
        );
        if !sending || self.closed {
            return;
        }
        self.drop_in_flight(slot);
        let stream = &mut self.streams[slot];
        stream.cursor = stream.acked;
        stream.last_progress = now;
        stream.wait_until = None;
        if pause == 0 {
            return self.resume(slot, attempt);
        }
        // A stalled shard gets one batch to try with, and more once it answers.
        stream.window = 1;
        let pause = pause.max(stream.grow_pause().min(5_000) / 5);
        stream.phase = Phase::Backing { attempt };
        stream.wait_until = Some(now + self.rng.jitter(pause.max(2)));
    }

    pub(super) fn resume(&mut self, slot: Slot, attempt: Attempt) {
        let stream = &mut self.streams[slot];
        stream.phase = Phase::Live;
        let (id, lane) = (stream.id, stream.lane);
        self.send(
            Channel::Data(lane),
            &ToCloud::Resume {
                stream: id,
                attempt,
            },
        );
    }

    fn announce_later(&mut self, now: Ms, slot: Slot) {
        // It announces once the fork is durable; before, the log has no name to announce.
        if matches!(self.streams[slot].phase, Phase::Forking { .. }) {
            return;
        }
        self.drop_in_flight(slot);
        let pause = self.streams[slot].grow_pause();
        let at = now + self.rng.jitter(pause);
        let stream = &mut self.streams[slot];
        stream.phase = Phase::Paused;
        stream.wait_until = Some(at);
    }

    fn diverged(&mut self, now: Ms, slot: Slot, fork: Offset) {
        let stream = &mut self.streams[slot];
        let log = stream.info.origin..=stream.info.log_end();
        if stream.phase != Phase::Announcing || !log.contains(&fork) {
            return self.protocol(format!("DIVERGED at {fork}, which is not in this log"));
        }
        let incarnation = Incarnation(self.rng.u128());
        let parent = stream.info.incarnation;
        stream.phase = Phase::Forking {
            incarnation,
            at: fork,
        };
        self.alarm(
            slot,
            AlarmKind::Forked {
                parent,
                fork,
                incarnation,
            },
        );
        self.persist(slot);
        if !rules::on(Rule::ForkDurable) {
            let mut info = self.streams[slot].info.clone();
            info.parent = Some(Parent {
                incarnation: parent,
                fork,
            });
            (info.incarnation, info.origin, info.acked) = (incarnation, fork, fork);
            self.reannounce(now, slot, info);
        }
    }

    fn rejected(
        &mut self,
        slot: Slot,
        attempt: Attempt,
        base: Offset,
        next: Offset,
        code: RejectCode,
    ) {
        let stream = &mut self.streams[slot];
        if base < stream.acked || next > stream.sent_max || base >= next {
            return self.protocol(format!("REJECTED [{base}, {next}), which was not sent"));
        }
        if !rules::on(Rule::DeadLetter) {
            self.drop_in_flight(slot);
            self.streams[slot].cursor = base;
            return self.resume(slot, attempt);
        }
        // What lies before it stays in flight: its ACKs are still to come.
        let mut freed = 0;
        while stream.in_flight.back().is_some_and(|(end, _)| *end > base) {
            freed += stream.in_flight.pop_back().map_or(0, |(_, bytes)| bytes);
        }
        stream.in_flight_bytes -= freed;
        self.in_flight -= freed;
        stream.cursor = base;
        stream.wait_until = None;
        stream.phase = Phase::DeadLettering {
            attempt,
            from: base,
            to: next,
            code,
        };
        self.alarm(
            slot,
            AlarmKind::DeadLetter {
                from: base,
                to: next,
                code,
            },
        );
        self.persist(slot);
    }
}
