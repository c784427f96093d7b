//! The image of a running machine, memory included, goes on beside the machine itself.
//!
//! Both write under one boot, so only the records themselves tell them apart (U1). Neither stops any
//! more in such a world: the boot of a later start would say that all before it is common, which nobody
//! could tell from the truth. Nor does such a world drop its oldest records: what is gone cannot be
//! compared.

use std::collections::BTreeSet;

use super::devices::{Device, DeviceId};
use super::{Event, World};
use crate::edge::SimEdge;
use crate::now::Ms;
use crate::payload::Id;

/// What is not acknowledged after so long is not in a process's memory any more.
const IN_MEMORY_MS: Ms = 30_000;

impl World {
    /// A start is on tape where its machine may be resumed.
    pub(super) fn keeps_tapes(&self) -> bool {
        self.plan.uplink.resumes && !self.resumed
    }

    pub(super) fn resume_twin(&mut self, device: DeviceId) {
        if self.resumed || !self.has_room() || self.card_of(device).faulty {
            return;
        }
        let seed = self.rng.u64();
        let edge = self.devices[device].edge.as_ref();
        let Some((edge, disk)) = edge.and_then(|edge| edge.twin(seed)) else {
            return;
        };
        self.resumed = true;
        // Crashes that were planned.
        self.card_of(device).disk.restart();
        let card = self.add_card(disk, true);
        self.card_mut(device).copied = true;
        self.cards[card].rotten = self.card_of(device).rotten;
        let twin = self.twin_device(device, card, edge);
        self.note("machine resumed beside itself", || {
            format!("device {device} and {twin}")
        });
        self.work_twice(device, twin);
        self.part(device, twin);
        self.add_sender(twin);
        self.twin_listeners(device, twin);
    }

    fn twin_device(&mut self, device: DeviceId, card: usize, edge: SimEdge) -> DeviceId {
        self.devices[device].resumed = true;
        let of = &self.devices[device];
        let twin = Device {
            name: of.name.clone(),
            card,
            settings: of.settings.clone(),
            edge: Some(edge),
            life: of.life,
            link: None,
            wall_off_ms: of.wall_off_ms,
            starting: false,
            halted: of.halted.clone(),
            late_cut: of.late_cut,
            outage_until: 0,
            syncs: of.syncs,
            started_at: of.started_at,
            died_at: 0,
            resumed: true,
            forks: Vec::new(),
        };
        self.put_device(twin)
    }

    /// What the process had begun goes on in both.
    fn work_twice(&mut self, device: DeviceId, twin: DeviceId) {
        let works = self
            .queue
            .iter()
            .filter_map(|((at, _), event)| match event {
                Event::Work {
                    device: of,
                    life,
                    id,
                } if *of == device => Some((*at, *life, *id)),
                _ => None,
            });
        let works: Vec<_> = works.collect();
        for (at, life, id) in works {
            let device = twin;
            self.at(at, Event::Work { device, life, id });
        }
    }

    /// The twin's connections lead nowhere.
    fn part(&mut self, device: DeviceId, twin: DeviceId) {
        let senders = self.senders.iter().filter(|s| s.device == device);
        for sender in senders {
            self.oracle.may_repeat(sender.client.unsettled());
        }
        // What the process had in memory, both go on with: one may take it, and the other refuse it. And
        // where both wrote one and the same record behind that, no digest tells them apart (a limit of U1).
        let (card, since) = (
            self.devices[device].card,
            self.now.saturating_sub(IN_MEMORY_MS),
        );
        let attempts = self.oracle.attempts.iter();
        let held = attempts.filter(|(_, a)| a.card == card && !a.acked && a.at >= since);
        let held: BTreeSet<Id> = held.map(|(id, _)| *id).collect();
        let why = "in the memory of both";
        let exempt = self.oracle.exempt(why, |id, _| held.contains(&id));
        self.journal.add("exempt: in the memory of both", exempt);
        self.oracle.may_repeat(held);
        for conn in self.mqtt_conns(device) {
            self.edge(twin, |edge, now| edge.mqtt_closed(now, conn));
        }
        self.edge(twin, |edge, now| edge.link_down(now));
    }
}
