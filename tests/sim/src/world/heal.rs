//! Everything is made good, what was acknowledged has to arrive, and is read once more from the start.

use std::collections::BTreeSet;

use headwater_batch::TopicPartition;
use headwater_proto::StreamKey;

use super::cards::CardId;
use super::clients::Sender;
use super::devices::Device;
use super::{Event, World};
use crate::edge::{PartitionView, SimEdge};
use crate::now::Ms;
use crate::payload::Id;
use crate::run::Report;

/// How long a healed world has, in simulated time.
const HEAL_MS: Ms = 400_000;
/// How often it is looked.
const LOOK_MS: Ms = 250;

impl World {
    /// The whole story.
    pub async fn live(&mut self) {
        let steps = self.plan.steps;
        self.run(Ms::MAX / 4, |world| world.steps >= steps).await;
        if self.oracle.failure().is_none() {
            self.heal();
        }
        let until = self.now + HEAL_MS;
        while self.oracle.failure().is_none() && !self.is_quiet() {
            if self.now > until {
                let stuck = self.stuck();
                return self.oracle.fail(stuck);
            }
            self.run(self.now + LOOK_MS, |_| false).await;
            self.look_at_devices();
        }
        let quiet_at = self.now;
        // A device may crash after that, and not be there to say what waits in it.
        self.exempt_halted();
        if self.oracle.failure().is_none() {
            self.read_again().await;
        }
        if self.oracle.failure().is_none() {
            self.serve().await;
        }
        // A crash that was planned may still come.
        while self.oracle.failure().is_none() && !self.cloud.is_up() && self.now < until * 2 {
            self.run(self.now + LOOK_MS, |_| false).await;
        }
        if self.oracle.failure().is_none() {
            self.exempt_halted();
            self.exempt_since(quiet_at);
            match self.cloud.ledger() {
                Some(ledger) => self.oracle.check_end(&ledger),
                None => self.oracle.fail("the cloud went in the quiet".into()),
            }
        }
        self.count_disks();
    }

    /// A device with a stream that is set aside stays full, and takes a message whenever there is room:
    /// what it took after all was quiet had no time to arrive.
    fn exempt_since(&mut self, quiet_at: Ms) {
        let exempt = self.oracle.exempt("after the quiet", |_, attempt| {
            attempt.acked_at.is_some_and(|at| at >= quiet_at)
        });
        self.journal.add("exempt: after the quiet", exempt);
    }

    /// What the cloud has set aside waits for an operator: what the device still holds, and of what its
    /// log was not seen to seal no more than there is room for beside that.
    fn exempt_halted(&mut self) {
        self.exempt_went_back();
        for device in &self.devices {
            let Some(edge) = &device.edge else { continue };
            // All was quiet: what has not arrived was aside then, though its link may be down now.
            let stays = |p: &PartitionView| p.acked < p.next && self.is_behind(device, &p.tp);
            let aside = |p: &PartitionView| device.halted.contains(&p.tp) || stays(p);
            let aside: Vec<PartitionView> = edge.partitions().into_iter().filter(aside).collect();
            for p in aside {
                let key = StreamKey {
                    edge: device.name.clone(),
                    incarnation: p.incarnation,
                    tp: p.tp.clone(),
                };
                let (from, to) = (p.acked.max(p.start).0, p.next.0);
                // Another machine may have the same log, and other records in it.
                let own = |id: &Id| self.oracle.attempts[id].card == device.card;
                let mut held = self.oracle.held(&key, from, to);
                held.retain(own);
                // What such a log drops is named there, and waits like the rest.
                let mut gone = self.oracle.held_and_gone(&key, p.acked.0, from);
                gone.retain(own);
                let aside = |id: Id| held.contains(&id) || gone.contains(&id);
                let seen = self.oracle.exempt("quarantined", |id, _| aside(id));
                let unseen: BTreeSet<Id> = self.unseen(device.card, &p.tp);
                // Before a copy of it came back, the card held others at these offsets.
                let history = self.cards[device.card].history;
                let now = |id: &&Id| self.oracle.attempts[*id].history == history;
                let held_now = held.iter().filter(now).count() as u64;
                let most = ((to - from).max(0) as u64).saturating_sub(held_now);
                let rest = self
                    .oracle
                    .exempt_most(most, "quarantined", |id, _| unseen.contains(&id));
                self.journal.add("exempt: quarantined", seen + rest);
            }
        }
    }

    /// Acknowledged attempts of a card's partition that no log was seen to hold.
    fn unseen(&self, card: CardId, tp: &TopicPartition) -> BTreeSet<Id> {
        let attempts = self.oracle.attempts.iter();
        let unseen = attempts.filter(|(id, attempt)| {
            let on = attempt.acked && attempt.card == card && attempt.is_for(tp);
            on && !self.oracle.is_seen(**id)
        });
        unseen.map(|(id, _)| *id).collect()
    }

    /// What it came to.
    pub fn report(self, seed: u64) -> Report {
        let failure = self.oracle.failure().cloned();
        let (counts, hash) = (self.journal.counts.clone(), self.journal.hash());
        Report {
            seed,
            failure,
            counts,
            hash,
            trace: self.journal.into_lines(),
            simulated_ms: self.now,
        }
    }

    fn heal(&mut self) {
        self.note("heal", String::new);
        self.calm = true;
        self.outage_until = 0;
        self.cloud.stall_until(0);
        self.cloud.trouble.end();
        self.cloud.disk.set_capacity(u64::MAX);
        for card in &self.cards {
            card.disk.set_capacity(u64::MAX);
        }
        for device in &mut self.devices {
            device.outage_until = 0;
            device.wall_off_ms = 0;
        }
        self.empty_drawer();
        if self.plan.mqtt.wills {
            for sender in &mut self.senders {
                sender.client.wake(self.now);
            }
        }
        for listener in &mut self.listeners {
            listener.client.wake(self.now);
        }
        for reader in 0..self.readers.len() {
            self.readers[reader].client.wake(self.now);
        }
        self.at(self.now, Event::Undo(super::chaos::Undo::AskAgain));
    }

    fn is_quiet(&self) -> bool {
        // A log whose stream is set aside fills, and takes nothing more.
        let stays = |device: &Device| {
            let aside = |edge: &SimEdge| {
                let mut partitions = edge.partitions().into_iter();
                partitions.any(|p| self.is_halted(device, edge, &p.tp))
            };
            !device.halted.is_empty() || device.edge.as_ref().is_some_and(aside)
        };
        let done = |s: &Sender| s.client.is_done() || stays(&self.devices[s.device]);
        let sent = self.senders.iter().all(done);
        let arrived = self.devices.iter().all(|device| {
            device.edge.as_ref().is_some_and(|edge| {
                let mut partitions = edge.partitions().into_iter();
                partitions.all(|p| {
                    device.halted.contains(&p.tp)
                        || self.is_halted(device, edge, &p.tp)
                        || (p.acked >= p.next && self.cloud_has(device, &p))
                })
            })
        });
        let read = self.readers.iter().all(|r| r.client.is_at_end());
        let made = self.makers.iter().all(|m| m.client.is_done());
        sent && made && arrived && self.cloud.is_up() && !self.admin.is_busy() && read
    }

    fn stuck(&self) -> String {
        let mut what = String::from("STUCK:");
        for (number, sender) in self.senders.iter().enumerate() {
            if !sender.client.is_done() {
                let waiting = sender.client.waiting();
                what += &format!(" sender {number} has {waiting} messages,");
            }
        }
        for (number, maker) in self.makers.iter().enumerate() {
            if !maker.client.is_done() {
                what += &format!(" producer {number} is not done,");
            }
        }
        for (number, device) in self.devices.iter().enumerate() {
            match &device.edge {
                None => what += &format!(" device {number} is down,"),
                Some(edge) => {
                    what += &format!(" device {number} uses {:?},", edge.usage());
                    let stays = |p: &&PartitionView| p.acked < p.next || !self.cloud_has(device, p);
                    for p in edge.partitions().iter().filter(stays) {
                        what += &format!(" device {number} {p:?},");
                    }
                }
            }
        }
        for (number, reader) in self.readers.iter().enumerate() {
            if !reader.client.is_at_end() {
                what += &format!(" reader {number} is behind,");
            }
        }
        format!("{what} cloud up: {}", self.cloud.is_up())
    }

    /// Every offset is read again, and has to be what it was.
    async fn read_again(&mut self) {
        self.readers[0].client.rewind(self.now);
        let until = self.now + HEAL_MS;
        while self.oracle.failure().is_none() && !self.readers[0].client.is_at_end() {
            if self.now > until {
                return self.oracle.fail("STUCK: reading it all again".into());
            }
            self.run(self.now + LOOK_MS, |_| false).await;
        }
    }

    /// Subscribers get what they are owed.
    async fn serve(&mut self) {
        let until = self.now + HEAL_MS;
        while let (None, Some(missing)) = (self.oracle.failure(), self.undelivered()) {
            if self.now > until {
                return self.oracle.fail(format!("UNDELIVERED: {missing}"));
            }
            self.run(self.now + LOOK_MS, |_| false).await;
        }
    }

    fn count_disks(&mut self) {
        self.count_trouble();
        let disks = self.cards.iter().map(|card| &card.disk);
        for disk in disks.chain(&self.spent).chain([&self.cloud.disk]) {
            let c = disk.counters();
            for (what, count) in [
                ("disk: power cuts", c.power_cuts),
                ("disk: kills", c.kills),
                ("disk: syncs", c.syncs),
                ("disk: sectors lost", c.sectors_lost),
                ("disk: sectors written unasked", c.sectors_kept_unsynced),
                ("disk: sectors torn to an older state", c.sectors_stale),
                ("disk: names lost", c.names_lost),
                ("disk: names kept unasked", c.names_kept_unsynced),
                ("disk: ENOSPC", c.enospc),
                ("disk: EIO", c.eio),
                ("disk: bits flipped", c.rotten_bits),
            ] {
                self.journal.add(what, count);
            }
        }
        let faults = self
            .cloud
            .store_faults
            .load(std::sync::atomic::Ordering::Relaxed);
        self.journal.add("object store: 503", faults);
        let (acked, read) = (self.oracle.acked_count(), self.oracle.read_records());
        self.journal.add("attempts acknowledged", acked as u64);
        self.journal.add("attempts read", read as u64);
    }
}
