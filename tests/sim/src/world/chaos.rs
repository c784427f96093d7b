//! One step after the other: sensors publish, and something goes wrong.

use headwater_batch::TopicPartition;
use headwater_log::SimDisk;
use headwater_log::disk::{Crash, Disk};
use headwater_proto::{EdgeName, StreamKey};

use super::cloud::Ask;
use super::devices::DeviceId;
use super::{Event, WALL_START_MS, World};

/// What ends a fault.
#[derive(Debug)]
pub(super) enum Undo {
    RoomOnCard(usize),
    RoomInCloud,
    AskAgain,
    /// The cloud has no place for a stream.
    MakeRoom(EdgeName, TopicPartition),
    GiveUp(StreamKey),
}

impl World {
    pub(super) fn chaos(&mut self) {
        if self.steps >= self.plan.steps {
            return;
        }
        self.steps += 1;
        self.look_at_devices();
        let pause = 1 + self.rng.below(self.plan.pause_ms_max);
        self.at(self.now + pause, Event::Chaos);
        if self.rng.chance(11, 20) {
            let sender = self.rng.index(self.senders.len());
            let count = 1 + self.rng.below(12);
            self.produce();
            return self.publish(sender, count);
        }
        let device = self.rng.index(self.devices.len());
        let one_in = match self.plan.uplink.crowd {
            true => 2,
            false if self.plan.uplink.kinds().is_empty() => 0,
            false => 5,
        };
        if self.devices[device].resumed || (one_in > 0 && self.rng.one_in(one_in)) {
            return self.uplink_fault(device);
        }
        let faults = self.plan.faults;
        match self.rng.below(15) {
            0 | 1 if faults.edge_crashes => self.edge_crash(device),
            2 | 3 if faults.cloud_crashes => self.cloud_crash(),
            4 | 5 if faults.links => self.link_fault(device),
            6 if faults.edge_eio => self.edge_eio(device),
            7 if faults.cloud_eio => self.cloud_eio(),
            8 if faults.enospc => self.fill(device),
            9 if faults.rot => self.rot(device),
            10 if faults.clocks => self.clock_jump(device),
            11 if faults.cards => self.card_fault(device),
            12 if faults.checkpoints => self.lose_checkpoints(device),
            13 if faults.clients => self.client_fault(),
            14 => self.operator_fault(device),
            _ => {}
        }
    }

    fn edge_crash(&mut self, device: DeviceId) {
        if self.rng.one_in(2) {
            let disk = self.card_of(device).disk.clone();
            return self.arm_crash(&disk, 40);
        }
        let how = self.how();
        self.note(
            match how {
                Crash::Power => "edge power cut",
                Crash::Kill => "edge kill",
            },
            || format!("device {device}"),
        );
        self.crash_edge(device, how);
    }

    fn cloud_crash(&mut self) {
        if self.rng.one_in(2) {
            let disk = self.cloud.disk.clone();
            return self.arm_crash(&disk, 40);
        }
        let how = self.how();
        self.note(
            match how {
                Crash::Power => "cloud power cut",
                Crash::Kill => "cloud kill",
            },
            String::new,
        );
        self.crash_cloud(how);
    }

    fn link_fault(&mut self, device: DeviceId) {
        match self.rng.below(5) {
            0 | 1 => self.cut_link(device),
            2 => self.change_address(device),
            3 => {
                let until = self.now + self.rng.below(20_000);
                self.devices[device].outage_until = until;
                self.note("link outage", || format!("device {device} until {until}"));
                self.cut_link(device);
            }
            _ => {
                let until = self.now + self.rng.below(10_000);
                self.outage_until = until;
                self.note("outage for all", || format!("until {until}"));
                for device in 0..self.devices.len() {
                    self.cut_link(device);
                }
            }
        }
    }

    fn edge_eio(&mut self, device: DeviceId) {
        let card = self.card_mut(device);
        card.faulty = true;
        let disk = card.disk.clone();
        let nth = self.rng.below(12);
        if self.rng.one_in(2) {
            disk.fail_sync(nth);
        } else {
            disk.fail_write(nth);
        }
        self.note("edge EIO armed", || format!("device {device}"));
    }

    fn cloud_eio(&mut self) {
        self.cloud_faulty = true;
        let nth = self.rng.below(12);
        if self.rng.one_in(2) {
            self.cloud.disk.fail_sync(nth);
        } else {
            self.cloud.disk.fail_write(nth);
        }
        self.note("cloud EIO armed", String::new);
    }

    /// Somebody else fills the file system.
    fn fill(&mut self, device: DeviceId) {
        let until = self.now + self.rng.below(15_000);
        let room = self.rng.below(128 << 10);
        if self.rng.one_in(3) {
            self.cloud_full = true;
            limit(&self.cloud.disk, room);
            self.note("cloud disk full", || format!("{room} bytes until {until}"));
            return self.at(until, Event::Undo(Undo::RoomInCloud));
        }
        let number = self.devices[device].card;
        let card = &mut self.cards[number];
        card.faulty = true;
        limit(&card.disk, room);
        self.note("card full", || {
            format!("device {device}: {room} bytes until {until}")
        });
        self.at(until, Event::Undo(Undo::RoomOnCard(number)));
    }

    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::RoomOnCard(card) => self.cards[card].disk.set_capacity(u64::MAX),
            Undo::RoomInCloud => {
                self.cloud_full = false;
                self.cloud.disk.set_capacity(u64::MAX);
            }
            Undo::AskAgain => self.admin_ask(),
            Undo::MakeRoom(edge, tp) => self.make_room(edge, tp),
            Undo::GiveUp(key) => self.give_up(key),
        }
    }

    fn clock_jump(&mut self, device: DeviceId) {
        if self.rng.one_in(4) {
            let off = self.rng.below(200_000_000) as i64 - 100_000_000;
            self.cloud
                .set_wall_ms(WALL_START_MS + self.now as i64 + off);
            return self.note("cloud clock jumps", || off.to_string());
        }
        let now = self.now as i64;
        let off = match self.rng.below(3) {
            0 => 0,
            1 => 5_000 - WALL_START_MS - now,
            _ => self.rng.below(20_000_000) as i64 - 10_000_000,
        };
        let name = match off {
            0 => "clock right again",
            off if off < -WALL_START_MS / 2 => "clock jumps to 1970",
            _ => "clock jumps",
        };
        self.devices[device].wall_off_ms = off;
        self.note(name, || format!("device {device}"));
    }

    fn card_fault(&mut self, device: DeviceId) {
        match self.rng.below(6) {
            0 | 1 => self.take_image(device),
            2 | 3 => self.restore_image(device),
            4 => self.clone_card(device),
            _ => self.swap_card(device),
        }
    }

    fn client_fault(&mut self) {
        match self.rng.below(5) {
            0 => {
                let sender = self.rng.index(self.senders.len());
                self.note("client leaves", || sender.to_string());
                self.senders[sender].client.leave(self.now);
                self.sender_acts(sender);
            }
            1 | 2 => self.cut_client(),
            3 if self.rng.one_in(2) => self.listener_leaves(),
            3 => self.member_fault(),
            _ => {
                let reader = self.rng.index(self.readers.len());
                let until = self.now + self.rng.below(20_000);
                self.note("consumer pauses", || format!("{reader} until {until}"));
                self.readers[reader].client.pause(until);
            }
        }
    }

    fn operator_fault(&mut self, device: DeviceId) {
        let faults = self.plan.faults;
        match self.rng.below(3) {
            0 if faults.stalls => {
                let until = self.now + self.rng.below(9_000);
                self.cloud.stall_until(until);
                self.note("cloud disk stalls", || format!("until {until}"));
            }
            1 if faults.topics && !self.admin.is_busy() => {
                let topic = if self.rng.one_in(2) { "mqtt" } else { "b" }.to_owned();
                let ask = if self.rng.one_in(3) {
                    Ask::Create(topic, 1 + self.rng.below(4) as i32)
                } else {
                    Ask::Delete(topic)
                };
                self.operator(ask);
            }
            2 if faults.routes => {
                // In force at the next start; what was routed there still has to arrive.
                let routes = &mut self.devices[device].settings.routes;
                if routes.len() > 1 {
                    routes.remove(0);
                    self.note("route removed", || format!("device {device}"));
                    self.crash_edge(device, Crash::Kill);
                } else {
                    routes.insert(0, ("b/#".to_owned(), "b".to_owned(), 2));
                    self.note("route added", || format!("device {device}"));
                    self.crash_edge(device, Crash::Kill);
                }
            }
            _ => {}
        }
    }
}

fn limit(disk: &SimDisk, room: u64) {
    disk.set_capacity(u64::MAX);
    // A machine that is off has all the room it wants.
    if let Ok(free) = disk.free_bytes(std::path::Path::new("/")) {
        disk.set_capacity(u64::MAX - free + room);
    }
}
