//! More cards than the cloud has places for, and the operator who makes room (U2).
//!
//! What a card holds under a name that was given up, and the cloud has not, stays on the card: its
//! stream is refused from then on.

use headwater_batch::TopicPartition;
use headwater_proto::bounds::INCARNATIONS_MAX;
use headwater_proto::{EdgeName, Incarnation, RefuseReason, StreamKey, StreamOutcome};

use super::devices::DeviceId;
use super::logs::Fork;
use super::{Event, World};
use crate::cloud::Held;

/// How often the operator looks whether there is room for all.
const LOOK_MS: u64 = 3_000;

impl World {
    /// U2: no more than there are places for, at any time.
    pub(super) fn look_at_places(&mut self) {
        if !self.plan.uplink.crowd {
            return;
        }
        if let Some(count) = self
            .cloud
            .most_streams()
            .filter(|count| *count > INCARNATIONS_MAX)
        {
            self.oracle.fail(format!(
                "TOO MANY: {count} incarnations of an edge partition"
            ));
        }
    }

    /// Most often an empty one, now and then one that was in before, or an old image of it.
    pub(super) fn another_card(&mut self, device: DeviceId) {
        if self.plan.uplink.copies && self.rng.one_in(3) {
            return self.restore_image(device);
        }
        let mut mine = self.drawer.iter().enumerate();
        let mine: Vec<usize> = mine
            .by_ref()
            .filter(|(_, (of, _))| *of == device)
            .map(|(n, _)| n)
            .collect();
        let old = match mine.is_empty() || !self.rng.one_in(4) {
            true => None,
            false => Some(mine[self.rng.index(mine.len())]),
        };
        self.put_in(device, old);
    }

    /// The cloud refuses a stream: it has no place, until the operator makes room, or the stream was
    /// given up.
    pub(super) fn refused(&mut self, device: DeviceId, tp: TopicPartition, reason: RefuseReason) {
        let edge = self.devices[device].name.clone();
        match reason {
            RefuseReason::TooManyIncarnations => self.make_room_later(edge, tp),
            RefuseReason::Retired => {
                self.devices[device].halted.insert(tp);
            }
            RefuseReason::NotAllowed => {
                self.oracle
                    .fail(format!("device {device} {tp}: {reason:?}"));
            }
        }
    }

    fn make_room_later(&mut self, edge: EdgeName, tp: TopicPartition) {
        if self.crowded.insert((edge.clone(), tp.clone())) {
            let wait = self.rng.below(if self.calm { 500 } else { 15_000 });
            let undo = super::chaos::Undo::MakeRoom(edge, tp);
            self.at(self.now + wait, Event::Undo(undo));
        }
    }

    /// Again and again while somebody waits.
    pub(super) fn make_room(&mut self, edge: EdgeName, tp: TopicPartition) {
        let waits = self.devices.iter().any(|device| {
            let waits = device.edge.as_ref().is_some_and(|edge| edge.is_halted(&tp));
            device.name == edge && waits && !device.halted.contains(&tp)
        });
        if !waits {
            self.crowded.remove(&(edge, tp));
            return;
        }
        if let Some(held) = self.cloud.streams_of(&edge, &tp) {
            if held.len() >= INCARNATIONS_MAX {
                self.retire(&edge, &tp, &held);
            }
        }
        let undo = super::chaos::Undo::MakeRoom(edge, tp);
        self.at(self.now + LOOK_MS, Event::Undo(undo));
    }

    /// A card is copied as it takes another name; somebody thinks that one of them is enough.
    pub(super) fn retire_fork(&mut self, device: DeviceId) {
        let key = self.devices[device].forks.last().map(Fork::child_key);
        if let Some(key) = key.filter(|_| self.plan.uplink.crowd) {
            let undo = super::chaos::Undo::GiveUp(key);
            let wait = self.rng.below(20_000);
            self.at(self.now + wait, Event::Undo(undo));
        }
    }

    pub(super) fn give_up(&mut self, key: StreamKey) {
        if !self.calm {
            self.note("operator retires", || key.to_string());
            self.cloud.retire(key);
        }
    }

    /// The operator gives one up for no reason that anybody knows.
    pub(super) fn retire_any(&mut self, device: DeviceId) {
        if !self.rng.one_in(5) {
            return self.another_card(device);
        }
        let of = &self.devices[device];
        let partitions = of.edge.as_ref().map(|edge| edge.partitions());
        let Some(partitions) = partitions.filter(|p| !p.is_empty()) else {
            return;
        };
        let tp = partitions[self.rng.index(partitions.len())].tp.clone();
        let edge = self.devices[device].name.clone();
        match self.cloud.streams_of(&edge, &tp) {
            Some(held) if held.len() > 1 => self.retire(&edge, &tp, &held),
            _ => {}
        }
    }

    /// The one that was silent for the longest time, or just any.
    fn retire(&mut self, edge: &EdgeName, tp: &TopicPartition, held: &[Held]) {
        let oldest = held.iter().min_by_key(|stream| stream.last_at_ms);
        let any = &held[self.rng.index(held.len())];
        let chosen = oldest.filter(|_| self.rng.one_in(2)).unwrap_or(any);
        let key = StreamKey {
            edge: edge.clone(),
            incarnation: chosen.incarnation,
            tp: tp.clone(),
        };
        self.note("operator retires", || key.to_string());
        self.cloud.retire(key);
    }

    /// The cloud answers the operator.
    pub(super) fn retired(&mut self, incarnation: Incarnation, outcome: &StreamOutcome) {
        match outcome {
            StreamOutcome::Retired => self.note("stream: retired", || incarnation.to_string()),
            // Somebody else was faster, or it is another cloud by now.
            other => self.note("retire refused", || format!("{other:?}")),
        }
    }
}
