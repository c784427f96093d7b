//! The shell around each connection's cloud session: it proposes commits to the sink, which may
//! stall, refuse or forget them.

use bytes::Bytes;

use super::event::Event;
use super::link::ConnId;
use super::sink::ids_of;
use super::world::World;
use crate::cloud::Ticket;
use crate::{
    CloudEffect, CloudSession, GapReason, RefuseReason, StreamEntry, StreamKey, StreamOutcome,
};

impl World {
    pub(super) fn drain_cloud(&mut self, conn: ConnId) {
        while let Some(cloud) = &mut self.conns[conn].cloud {
            let Some(effect) = cloud.poll_effect() else {
                return;
            };
            match effect {
                CloudEffect::Send { bytes, .. } if !self.conns[conn].cut => {
                    self.conns[conn].watch.down(bytes.clone());
                    let at = self.now + self.rng.below(self.conns[conn].delay_max);
                    let at = self.conns[conn].arrival_down(at);
                    self.at(at, Event::Down { conn, bytes });
                }
                CloudEffect::Send { .. } => {}
                CloudEffect::Commit { ticket, key, entry } => {
                    self.propose(conn, ticket, key, entry);
                }
                CloudEffect::Alarm { key, kind } => {
                    self.note("cloud alarm", || format!("{key}: {kind:?}"));
                }
                CloudEffect::Close { reason } => {
                    self.fail(format!("the cloud closed: {reason}"));
                    self.cut(conn, 1, 0);
                }
            }
        }
    }

    /// What becomes of a commit: applied in order; or, while the shard stalls, refused or forgotten,
    /// and perhaps applied later all the same.
    fn propose(&mut self, conn: ConnId, ticket: Ticket, key: StreamKey, entry: StreamEntry) {
        let now = self.now;
        let stalled = now < self.stalled_until;
        let wish = self.sink.wish(&key, &entry);
        self.check_proposed(conn, &key, &entry, wish);
        if !stalled {
            let never = |batch: &Bytes| ids_of(batch).iter().any(|id| id % 67 == 13);
            if entry.batch().is_some_and(never) {
                self.note("sink rejects", || key.to_string());
                return self.at(now + 5, Event::Reject { conn, ticket });
            }
            let at = (now + self.rng.below(20)).max(self.last_apply);
            self.last_apply = at;
            return self.at(
                at,
                Event::Apply {
                    conn,
                    ticket,
                    key,
                    entry,
                    wish,
                    answer: true,
                },
            );
        }
        let (answered, applied) = (self.rng.below(2) == 0, self.rng.below(2) == 0);
        self.note("stalled commit", || {
            format!("answered {answered}, applied {applied}")
        });
        if answered && applied && self.rng.below(3) == 0 {
            if let StreamEntry::Data(data) = &entry {
                let (device, tp) = (self.conns[conn].device, key.tp.clone());
                let beyond = data.next.0;
                self.at(now + 200, Event::Drop { device, tp, beyond });
            }
        }
        if answered {
            let at = now + 50 + self.rng.below(250);
            self.at(at, Event::Retry { conn, ticket });
        }
        if applied {
            let at = now + self.rng.below(9_000);
            self.at(
                at,
                Event::Apply {
                    conn,
                    ticket,
                    key,
                    entry,
                    wish,
                    answer: false,
                },
            );
        }
    }

    pub(super) fn apply(
        &mut self,
        conn: ConnId,
        key: &StreamKey,
        entry: &StreamEntry,
        wish: Option<u32>,
    ) -> StreamOutcome {
        let outcome = self.sink.apply(key, entry, wish);
        let name = match &outcome {
            StreamOutcome::Opened(_) => "opened",
            StreamOutcome::Append { .. } => "append",
            StreamOutcome::Duplicate { .. } => "duplicate",
            StreamOutcome::OutOfOrder { .. } => "out of order",
            StreamOutcome::Ledger { gap, .. } => match gap.reason {
                GapReason::Budget => "ledger: budget",
                GapReason::Corrupt => "ledger: corrupt",
                GapReason::Rejected(_) => "ledger: rejected",
                GapReason::GivenUp => "ledger: given up",
            },
            StreamOutcome::Position { .. } => "position",
            StreamOutcome::Fenced { .. } => "fenced",
            StreamOutcome::Diverged { .. } => "diverged",
            StreamOutcome::Quarantine(_) => "quarantined",
            StreamOutcome::Refused(RefuseReason::TooManyIncarnations) => "refused: full",
            StreamOutcome::Refused(_) => "refused: retired",
            StreamOutcome::Retired => "retired",
            StreamOutcome::Rejected(_) => "malformed",
        };
        self.note(name, || {
            let entry = match entry {
                StreamEntry::Data(d) => format!("DATA [{}, {}) {:?}", d.base, d.next, d.lineage),
                other => format!("{other:?}"),
            };
            format!("connection {conn} {key}: {entry} -> {outcome:?}")
        });
        if let (StreamOutcome::Ledger { gap, .. }, StreamEntry::Gap(asked)) = (&outcome, entry) {
            if gap.from > asked.from {
                self.note("clipped", String::new);
            }
        }
        if outcome == StreamOutcome::Refused(RefuseReason::TooManyIncarnations) {
            self.call_operator(&key.tp);
        }
        self.check_applied(conn, key, entry, &outcome);
        self.check_incarnations(key, &outcome);
        self.check_place(key);
        outcome
    }

    pub(super) fn answer(&mut self, conn: ConnId, give: impl FnOnce(&mut CloudSession)) {
        if let Some(cloud) = &mut self.conns[conn].cloud {
            give(cloud);
            self.drain_cloud(conn);
        }
    }
}
