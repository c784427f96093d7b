//! What must be durable on the edge before a stream goes on: forks and dead letters.
//!
//! A medium that does not take one now may take it later, and the connection may stand for weeks:
//! what failed is asked for again after a pause that grows, under an alarm that is raised once.

use headwater_batch::TopicPartition;

use super::stream::Phase;
use super::{EdgeEffect, EdgeSession, Slot, StreamInfo};
use crate::rules::{self, Rule};
use crate::{AlarmKind, GapReason, Ms};

impl EdgeSession {
    /// Answers `PersistFork`: `info` is the log's new state, read back.
    pub fn fork_durable(&mut self, now: Ms, info: StreamInfo) {
        let Some(slot) = self.slot(&info.tp) else {
            return;
        };
        if matches!(self.streams[slot].phase, Phase::Forking { .. }) {
            self.reannounce(now, slot, info);
        }
    }

    /// Answers `PersistFork`: it is not durable, or nobody knows. The same is asked for again.
    pub fn fork_failed(&mut self, now: Ms, tp: &TopicPartition) {
        let Some(slot) = self.slot(tp) else { return };
        if let Phase::Forking { at, .. } = self.streams[slot].phase {
            self.persist_later(now, slot, AlarmKind::LogUnwritable { from: at });
        }
    }

    /// Answers `DeadLetter`.
    pub fn dead_lettered(&mut self, now: Ms, tp: &TopicPartition) {
        let Some(slot) = self.slot(tp) else { return };
        let phase = self.streams[slot].phase;
        if let Phase::DeadLettering {
            attempt, to, code, ..
        } = phase
        {
            let stream = &mut self.streams[slot];
            (stream.unwritable, stream.wait_until) = (false, None);
            self.resume(slot, attempt);
            if self.streams[slot].cursor < to {
                self.send_gap(now, slot, to, GapReason::Rejected(code));
            }
            self.settle(now, slot);
        }
    }

    /// Answers `DeadLetter`: the records are not in the file. The same is asked for again.
    pub fn dead_letter_failed(&mut self, now: Ms, tp: &TopicPartition) {
        let Some(slot) = self.slot(tp) else { return };
        if let Phase::DeadLettering { from, .. } = self.streams[slot].phase {
            self.persist_later(now, slot, AlarmKind::LogUnwritable { from });
        }
    }

    fn persist_later(&mut self, now: Ms, slot: Slot, alarm: AlarmKind) {
        if !rules::on(Rule::PersistAgain) {
            return;
        }
        let pause = self.streams[slot].grow_pause();
        let at = now + self.rng.jitter(pause);
        let stream = &mut self.streams[slot];
        stream.wait_until = Some(at);
        if !std::mem::replace(&mut stream.unwritable, true) {
            self.alarm(slot, alarm);
        }
        self.settle(now, slot);
    }

    /// Asks for what the phase waits for: the first time, and after each pause.
    pub(super) fn persist(&mut self, slot: Slot) {
        let stream = &self.streams[slot];
        let tp = stream.info.tp.clone();
        match stream.phase {
            Phase::Forking { incarnation, at } => {
                let parent = stream.info.incarnation;
                self.effects.push_back(EdgeEffect::PersistFork {
                    tp,
                    parent,
                    incarnation,
                    at,
                });
            }
            Phase::DeadLettering { from, to, code, .. } => {
                self.effects
                    .push_back(EdgeEffect::DeadLetter { tp, from, to, code });
            }
            _ => {}
        }
    }
}
