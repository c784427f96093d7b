//! How machines go down, and what goes down again before it has come up.

use headwater_log::SimDisk;
use headwater_log::disk::Crash;

use super::devices::DeviceId;
use super::{Event, World};
use crate::now::Ms;
use crate::payload::Id;

/// Operations of a disk in which a start and its first commits lie.
const START_OPERATIONS: u64 = 80;
const START_SYNCS: u64 = 16;
/// Nothing stays unsynced for longer (J7).
pub(super) const SYNC_MS_MAX: Ms = headwater_log::store::SYNC_MS_MAX;
/// How soon after that the power may go.
const LATE_MS: u64 = 500;

impl World {
    pub(super) fn how(&mut self) -> Crash {
        if self.rng.one_in(3) {
            Crash::Kill
        } else {
            Crash::Power
        }
    }

    /// A crash in the middle of an operation to come.
    pub(super) fn arm_crash(&mut self, disk: &SimDisk, within: u64) {
        let (nth, how) = (self.rng.below(within), self.how());
        if self.rng.one_in(2) {
            disk.crash_at_sync(nth / 4, how);
        } else {
            disk.crash_at(nth, how);
        }
    }

    /// Powers a disk on for a start, which may be cut short. After a kill the power may go: what
    /// that start read was in the page cache only, and may never have been durable (J4).
    pub(super) fn start_disk(&mut self, disk: &SimDisk, crashes: bool, who: &str) {
        let killed = disk.down() == Some(Crash::Kill);
        disk.restart();
        if self.calm || !crashes {
            return;
        }
        if killed && self.rng.one_in(2) {
            self.note(&format!("{who} cut after a kill"), String::new);
            if self.rng.one_in(2) {
                disk.crash_at_sync(self.rng.below(START_SYNCS), Crash::Power);
            } else {
                disk.crash_at(self.rng.below(START_OPERATIONS), Crash::Power);
            }
        } else if self.rng.one_in(3) {
            self.arm_crash(disk, 60);
        }
    }

    /// Something was acknowledged that need not be durable yet: the power goes just when it must be.
    pub(super) fn plan_late_cut(&mut self, sender: usize) {
        let device = self.senders[sender].device;
        let it = &mut self.devices[device];
        let due = it.settings.interval && it.late_cut != it.life;
        if due && !self.calm && self.plan.faults.edge_crashes && self.rng.one_in(40) {
            let life = it.life;
            it.late_cut = life;
            let at = self.now + SYNC_MS_MAX + self.rng.below(LATE_MS);
            self.at(at, Event::LateCut { device, life });
        }
    }

    pub(super) fn late_cut(&mut self, device: DeviceId, life: u64) {
        let it = &self.devices[device];
        if it.life == life && it.edge.is_some() && !self.calm {
            self.note("edge cut late", || format!("device {device}"));
            self.crash_edge(device, Crash::Power);
        }
    }

    /// An acknowledgement came that was under way when the process died that had sent it.
    /// Its card may be another one by now.
    pub(super) fn acked_late(&mut self, acked: Id) {
        let exempt = self.oracle.exempt("within its interval", |id, attempt| {
            id == acked && attempt.interval
        });
        self.journal.add("exempt: within its interval", exempt);
    }

    /// What a dead process had promised to sync, and still had time to (J7).
    pub(super) fn exempt_unsynced(&mut self, device: DeviceId) {
        if !self.devices[device].settings.interval {
            return;
        }
        // A packet id of a message that is lost may be given again, to a subscriber that knows it.
        self.listeners_went_back(device);
        let (card, died) = (self.devices[device].card, self.devices[device].died_at);
        let exempt = self.oracle.exempt("within its interval", |_, attempt| {
            let young = attempt.acked_at.is_some_and(|at| at + SYNC_MS_MAX > died);
            attempt.card == card && attempt.interval && young
        });
        self.journal.add("exempt: within its interval", exempt);
    }
}
