//! The sink's answers.

use super::stream::{Asked, Pending, Phase};
use super::{CloudEffect, CloudSession, Ticket};
use crate::bounds::RETRY_MS;
use crate::frame::ToEdge;
use crate::stream::Opened;
use crate::{AlarmKind, Attempt, Ms, StreamId, StreamOutcome};

impl CloudSession {
    /// The ticket's entry is committed and applied, with this outcome.
    pub fn committed(&mut self, _now: Ms, ticket: Ticket, outcome: StreamOutcome) {
        let Some((id, pending)) = self.take(ticket) else {
            return;
        };
        match outcome {
            StreamOutcome::Opened(opened) => self.opened(id, &pending, opened),
            StreamOutcome::Append { next }
            | StreamOutcome::Duplicate { next }
            | StreamOutcome::Ledger { next, .. } => {
                let stream = self.streams.get_mut(&id).expect("its ticket was pending");
                if next > stream.acked || matches!(outcome, StreamOutcome::Duplicate { .. }) {
                    stream.acked = stream.acked.max(next);
                    self.acks.insert(id, stream.acked);
                }
            }
            StreamOutcome::Position { next } => {
                if self.phase_of(id, &pending) == Some(Phase::Discarding) {
                    let attempt = pending.attempt;
                    self.send(&ToEdge::OutOfOrder {
                        stream: id,
                        attempt,
                        next,
                    });
                }
            }
            StreamOutcome::OutOfOrder { next } => {
                if let Some(attempt) = self.discard(id, &pending) {
                    self.send(&ToEdge::OutOfOrder {
                        stream: id,
                        attempt,
                        next,
                    });
                }
            }
            StreamOutcome::Rejected(code) => {
                let Asked::Range { base, next } = pending.asked else {
                    return;
                };
                if let Some(attempt) = self.discard(id, &pending) {
                    self.send(&ToEdge::Rejected {
                        stream: id,
                        attempt,
                        base,
                        next,
                        code,
                    });
                }
            }
            StreamOutcome::Fenced { .. } => {
                self.end(id, AlarmKind::Fenced, &ToEdge::Fenced { stream: id });
            }
            StreamOutcome::Diverged { fork, .. } => {
                self.send(&ToEdge::Diverged { stream: id, fork });
                self.close_stream(id);
            }
            StreamOutcome::Quarantine(reason) => {
                let frame = ToEdge::Quarantine { stream: id, reason };
                self.end(id, AlarmKind::Quarantine(reason), &frame);
            }
            StreamOutcome::Refused(reason) => {
                self.end(
                    id,
                    AlarmKind::Refused(reason),
                    &ToEdge::Refused { stream: id, reason },
                );
            }
            StreamOutcome::Retired => {}
        }
    }

    /// The ticket's entry is not known to be committed. It may still be, later: that is harmless.
    pub fn retry(&mut self, _now: Ms, ticket: Ticket) {
        let Some((id, pending)) = self.take(ticket) else {
            return;
        };
        self.retry_later(id, &pending);
    }

    /// The sink did not answer. Should it do so later, nobody listens: the edge sends again, and
    /// the state knows what it has.
    pub(super) fn unsure(&mut self, ticket: Ticket) {
        let Some((id, pending)) = self.take(ticket) else {
            return;
        };
        match pending.asked {
            Asked::Range { .. } => {
                if let Some(attempt) = self.discard(id, &pending) {
                    self.send(&ToEdge::Resync {
                        stream: id,
                        attempt,
                    });
                }
            }
            Asked::Session { .. } | Asked::Probe => self.retry_later(id, &pending),
        }
    }

    fn retry_later(&mut self, id: StreamId, pending: &Pending) {
        let pause_ms = RETRY_MS as u32;
        match pending.asked {
            Asked::Session { .. } => {
                self.send(&ToEdge::Retry {
                    stream: id,
                    attempt: Attempt(0),
                    pause_ms,
                });
                self.close_stream(id);
            }
            Asked::Range { .. } => {
                if let Some(attempt) = self.discard(id, pending) {
                    self.send(&ToEdge::Retry {
                        stream: id,
                        attempt,
                        pause_ms,
                    });
                }
            }
            Asked::Probe => {
                if self.phase_of(id, pending) == Some(Phase::Discarding) {
                    let attempt = pending.attempt;
                    self.send(&ToEdge::Retry {
                        stream: id,
                        attempt,
                        pause_ms,
                    });
                }
            }
        }
    }

    fn take(&mut self, ticket: Ticket) -> Option<(StreamId, Pending)> {
        let (id, _) = self.tickets.remove(&ticket)?;
        let stream = self
            .streams
            .get_mut(&id)
            .expect("closing a stream takes its tickets along");
        let pending = stream
            .take(ticket)
            .expect("every ticket is pending in its stream");
        self.pending_bytes -= pending.bytes;
        (!self.closed).then_some((id, pending))
    }

    /// The stream's phase, if the pending commit belongs to its present attempt.
    fn phase_of(&self, id: StreamId, pending: &Pending) -> Option<Phase> {
        let stream = self.streams.get(&id)?;
        (stream.attempt == pending.attempt).then_some(stream.phase)
    }

    /// Begins to discard for a commit that failed, unless an earlier failure did so already.
    fn discard(&mut self, id: StreamId, pending: &Pending) -> Option<Attempt> {
        let live = self.phase_of(id, pending) == Some(Phase::Live);
        live.then(|| self.streams.get_mut(&id).expect("it has a phase").discard())
    }

    /// WELCOME: SESSION(epoch) is applied, so this is no stale leader's word (U3).
    fn opened(&mut self, id: StreamId, pending: &Pending, opened: Opened) {
        let Asked::Session { acked } = pending.asked else {
            return;
        };
        let stream = self.streams.get_mut(&id).expect("its ticket was pending");
        stream.phase = Phase::Live;
        stream.epoch = opened.epoch;
        stream.acked = opened.next;
        let next = opened.next;
        if let Some(kind) = opened.alarm.clone() {
            self.alarm(id, kind);
        }
        if next < acked {
            self.alarm(id, AlarmKind::CloudWentBack { acked, next });
        }
        self.send(&ToEdge::Welcome { stream: id, opened });
    }

    fn end(&mut self, id: StreamId, kind: AlarmKind, frame: &ToEdge) {
        self.send(frame);
        self.alarm(id, kind);
        self.close_stream(id);
    }

    pub(super) fn alarm(&mut self, id: StreamId, kind: AlarmKind) {
        if let Some(stream) = self.streams.get(&id) {
            let key = stream.key.clone();
            self.effects.push_back(CloudEffect::Alarm { key, kind });
        }
    }
}
