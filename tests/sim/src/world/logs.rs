//! What logs and the cloud's sessions tell of records and gaps, handed to the oracle.

use headwater_batch::TopicPartition;
use headwater_log::store::{Full, Gap, GapReason};
use headwater_proto::{AlarmKind, Incarnation, StreamKey};

use super::World;
use super::devices::DeviceId;
use crate::oracle::{Gone, Why};
use crate::payload::Id;

/// A log is about to take another name.
pub(super) struct Fork {
    parent: StreamKey,
    child: Incarnation,
    since: i64,
}

impl Fork {
    pub fn child_key(&self) -> StreamKey {
        StreamKey {
            incarnation: self.child,
            ..self.parent.clone()
        }
    }
}

impl World {
    fn key(&self, device: DeviceId, tp: TopicPartition, incarnation: Incarnation) -> StreamKey {
        let edge = self.devices[device].name.clone();
        StreamKey {
            edge,
            incarnation,
            tp,
        }
    }

    pub(super) fn log_sealed(
        &mut self,
        device: DeviceId,
        tp: TopicPartition,
        incarnation: Incarnation,
        records: &[(i64, Id)],
    ) {
        let key = self.key(device, tp, incarnation);
        self.journal.line(self.now, || {
            format!("device {device}: {key} holds {records:?}")
        });
        self.oracle.sealed(&key, records);
        // Until a fork is durable the log goes by its old name.
        let forks = self.devices[device]
            .forks
            .iter()
            .filter(|fork| fork.parent == key);
        for fork in forks {
            let since = records.partition_point(|(at, _)| *at < fork.since);
            self.oracle.sealed(&fork.child_key(), &records[since..]);
        }
    }

    /// A log names what it will never send: rightly, if there was a reason for it.
    pub(super) fn log_gap(&mut self, device: DeviceId, tp: &TopicPartition, gap: &Gap) {
        let settings = &self.devices[device].settings;
        let (why, rightly) = match gap.reason {
            GapReason::Dropped => (Why::Dropped, settings.full == Full::DropOldest),
            GapReason::Corrupt => (Why::Corrupt, self.card_of(device).rotten),
            GapReason::Rejected => (Why::Rejected, self.plan.uplink.poison_one_in.is_some()),
        };
        if !rightly {
            let what = format!("FALSE ALARM: device {device} {tp}: {gap:?} for no reason");
            self.oracle.fail(what);
        }
        let (from, to) = (gap.from.0, gap.to.0);
        let edge = &self.devices[device].name;
        self.oracle.names(edge, tp, Gone { from, to, why });
    }

    /// What an alarm says of a log: that it is about to take another name, or that the cloud never
    /// takes some of it. Where that was acknowledged before, by a cloud that went back, or was
    /// dropped meanwhile, the log itself names no such gap.
    pub(super) fn log_alarm(&mut self, device: DeviceId, tp: &TopicPartition, kind: &AlarmKind) {
        match kind {
            AlarmKind::Forked {
                parent,
                fork,
                incarnation,
            } => {
                let key = self.key(device, tp.clone(), *parent);
                self.oracle.forks(&key, *incarnation, fork.0);
                self.devices[device].forks.push(Fork {
                    parent: key,
                    child: *incarnation,
                    since: fork.0,
                });
            }
            AlarmKind::DeadLetter { from, to, .. } => {
                if self.plan.uplink.poison_one_in.is_none() {
                    let what = format!("FALSE ALARM: device {device} {tp}: {kind:?}");
                    return self.oracle.fail(what);
                }
                let (from, to, why) = (from.0, to.0, Why::Rejected);
                let edge = &self.devices[device].name;
                self.oracle.names(edge, tp, Gone { from, to, why });
            }
            _ => {}
        }
    }
}
