//! What goes wrong between the edge's log and the cloud's state.

use headwater_batch::{Offset, TopicPartition};
use headwater_log::disk::Crash;

use super::devices::{Device, DeviceId};
use super::{Event, World};
use crate::cloud::{Backup, LinkConn, Spell};
use crate::edge::{PartitionView, SimEdge};
use crate::now::Ms;
use crate::oracle::Known;
use crate::plan::Kind;

/// A copy of the cloud, with what clients knew when it was made.
pub(super) struct CloudCopy {
    backup: Backup,
    known: Known,
}

/// Messages of one sensor in a flood.
const FLOOD: u64 = 250;

impl World {
    pub(super) fn uplink_fault(&mut self, device: DeviceId) {
        let kinds = self.plan.uplink.kinds();
        if kinds.is_empty() {
            return;
        }
        let resumed = self.devices[device].resumed;
        match kinds[self.rng.index(kinds.len())] {
            Kind::Hole => self.black_hole(device),
            Kind::Sink => self.sink_spell(),
            Kind::Backup => self.cloud_copy(),
            Kind::Copy if !resumed => self.copy_running(device),
            Kind::Flood => self.flood(device),
            Kind::Resume => self.resume_twin(device),
            Kind::Card => self.another_card(device),
            Kind::Retire => self.retire_any(device),
            Kind::Copy => {}
        }
    }

    /// One card, that was never another, copied or damaged, under a name of its own, and a cloud that
    /// never went back.
    pub(super) fn is_single(&self, device: DeviceId) -> bool {
        let of = &self.devices[device];
        let card = self.card_of(device);
        let alone = self.devices.iter().filter(|d| d.name == of.name).count() == 1;
        alone && !card.copied && !card.rotten && !self.restored && !self.swapped.contains(&device)
    }

    /// Nothing arrives any more, in one direction or both, and nobody is told: only the edge's own
    /// patience ends it.
    fn black_hole(&mut self, device: DeviceId) {
        let Some(conn) = self.devices[device].link else {
            return;
        };
        let (up, down) = [(true, true), (true, false), (false, true)][self.rng.index(3)];
        let name = match (up, down) {
            (true, true) => "black hole",
            (true, false) => "black hole upwards",
            _ => "black hole downwards",
        };
        self.note(name, || format!("device {device}, {conn}"));
        self.swallow(conn, up, down);
    }

    fn swallow(&mut self, conn: LinkConn, up: bool, down: bool) {
        let Some(link) = self.links.get_mut(&conn) else {
            return;
        };
        link.deaf.0 |= up;
        link.deaf.1 |= down;
        let deaf = link.deaf;
        self.queue.retain(|_, event| match event {
            Event::Up { conn: c, .. } => *c != conn || !deaf.0,
            Event::Down { conn: c, .. } => *c != conn || !deaf.1,
            _ => true,
        });
    }

    /// All sensors of a device have a lot to say while its link is no good.
    fn flood(&mut self, device: DeviceId) {
        self.note("flood", || format!("device {device}"));
        match self.rng.below(3) {
            0 => self.black_hole(device),
            1 => self.sink_spell(),
            _ => {
                self.devices[device].outage_until = self.now + self.rng.below(10_000);
                self.cut_link(device);
            }
        }
        for sender in 0..self.senders.len() {
            if self.senders[sender].device == device {
                self.publish(sender, FLOOD);
            }
        }
    }

    /// A machine that runs is copied: as its medium is now, or as one that lost power now.
    fn copy_running(&mut self, device: DeviceId) {
        if self.devices[device].edge.is_none() {
            return;
        }
        match self.rng.one_in(2) {
            true => self.take_running_image(device),
            false => self.clone_running_card(device),
        }
    }

    /// The log takes a new name; now and then something happens before that is durable.
    pub(super) fn fork_fault(&mut self, device: DeviceId) {
        let faults = self.plan.uplink;
        if self.calm || self.devices[device].resumed {
            return;
        }
        if faults.copies && self.rng.one_in(2) {
            self.note("copied as it forks", || format!("device {device}"));
            self.copy_running(device);
            self.retire_fork(device);
        }
        if faults.fork_crashes && self.rng.one_in(2) {
            self.note("crash as it forks", || format!("device {device}"));
            let disk = self.card_of(device).disk.clone();
            let how = [Crash::Kill, Crash::Power][self.rng.index(2)];
            match self.rng.below(4) {
                0 => self.crash_edge(device, how),
                nth => disk.crash_at_sync(nth - 1, how),
            }
        }
    }

    fn sink_spell(&mut self) {
        let kind = self.rng.below(5);
        let spell = Spell {
            // Longer than a session waits for a commit, in every second case.
            until: self.now + 500 + self.rng.below(12_000),
            holds: kind == 0 || kind == 4,
            loses_one_in: (kind == 1).then_some(2),
            refuses_one_in: (kind >= 2).then_some(2 + self.rng.below(3)),
            only_data: self.rng.one_in(2),
            side: self.rng.one_in(2).then_some(self.rng.one_in(2)),
        };
        self.note("sink spell", || format!("{spell:?}"));
        self.cloud.trouble.begin(spell);
    }

    /// The operator copies the cloud, and some time later restores it from the copy.
    fn cloud_copy(&mut self) {
        let how = match self.rng.one_in(2) {
            true => Crash::Kill,
            false => Crash::Power,
        };
        if self.restored {
            return;
        }
        match self.cloud_copy.take() {
            None => {
                self.stop_cloud(how);
                let backup = self.cloud.backup(self.rng.u64());
                let known = self.oracle.known();
                let readers = self.readers.iter_mut();
                readers.for_each(|reader| reader.client.remember());
                self.cloud_copy = Some(CloudCopy { backup, known });
                self.note("cloud copied", String::new);
            }
            Some(copy) => {
                self.stop_cloud(how);
                self.restored = true;
                let spent = self.cloud.restore(copy.backup);
                self.spent.push(spent);
                self.oracle.restored(copy.known);
                self.forget_readers();
                self.note("cloud restored", String::new);
            }
        }
    }

    /// What was asked of the node that is no more is not answered.
    fn forget_readers(&mut self) {
        self.queue
            .retain(|_, event| !matches!(event, Event::ToReader { .. } | Event::ToNode { .. }));
        for reader in &mut self.readers {
            reader.client.restored(self.now);
        }
    }

    /// What this log holds is in the cloud, as the cloud's own state has it.
    pub(super) fn cloud_has(&self, device: &Device, p: &PartitionView) -> bool {
        match self.cloud.next_of(&device.name, &p.tp, p.incarnation) {
            Some(next) => next >= p.next,
            None => p.next == Offset::ZERO,
        }
    }

    /// The cloud asks for what it once acknowledged and what this log has no more.
    pub(super) fn is_halted(&self, device: &Device, edge: &SimEdge, tp: &TopicPartition) -> bool {
        self.is_behind(device, tp) && edge.is_halted(tp)
    }

    /// The cloud lost what it had acknowledged of this.
    pub(super) fn is_behind(&self, device: &Device, tp: &TopicPartition) -> bool {
        let stream = (device.name.as_str().to_owned(), tp.clone());
        self.went_back.contains_key(&stream)
    }

    /// What the cloud acknowledged after it was copied may be gone, where an alarm said so: those records.
    pub(super) fn exempt_went_back(&mut self) {
        for ((edge, tp), lost) in &self.went_back {
            for (from, to) in lost {
                let lay = self.oracle.held_by_any(edge, tp, *from, *to);
                let why = "the cloud went back";
                let exempt = self.oracle.exempt(why, |id, _| lay.contains(&id));
                self.journal.add("exempt: the cloud went back", exempt);
            }
        }
    }

    pub(super) fn count_trouble(&mut self) {
        for (what, count) in self.cloud.trouble.fired() {
            self.journal.add(what, count);
        }
    }

    /// How long the cloud holds on to a connection that the edge has given up.
    pub(super) fn linger(&mut self, conn: LinkConn) -> Ms {
        let deaf = self.links.get(&conn).is_some_and(|link| link.deaf.0);
        self.rng.below(if deaf { 60_000 } else { 300 })
    }
}
