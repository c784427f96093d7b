//! Images, clones and cards that are taken out and put in again.

use super::event::Event;
use super::log::Log;
use super::world::World;

/// More cards than the cloud keeps incarnations of.
const DRAWER_MAX: usize = 20;

impl World {
    fn durable_image(&self, device: usize) -> Vec<Log> {
        let mut logs = self.devices[device].logs.clone();
        logs.iter_mut().for_each(|l| l.power_cut(64));
        logs
    }

    /// Images, clones and swapped cards.
    pub(super) fn cards(&mut self, device: usize) {
        if self.plan.running_image || self.devices[device].stored {
            return;
        }
        match self.rng.below(if self.plan.crowd { 14 } else { 6 }) {
            0 | 1 => {
                self.image = Some(self.durable_image(device));
                self.note("image taken", || format!("device {device}"));
            }
            2 | 3 => {
                let Some(image) = self.image.clone() else {
                    return;
                };
                self.power_off(device);
                self.devices[device].logs = image;
                self.note("image restored", || format!("device {device}"));
                self.start(device);
            }
            4 if self.devices.len() < 4 => {
                let logs = self.durable_image(device);
                self.power_off(device);
                let twin = self.add_device(logs.clone());
                self.devices[device].logs = logs;
                self.note("card cloned", || format!("device {device} and {twin}"));
                self.start(device);
                self.start(twin);
            }
            5 if self.devices.len() < 4 => self.swap_cards(device),
            6..9 => self.fresh_card(device),
            9 => self.card_from_drawer(device),
            10..14 => self.copy_to_drawer(device),
            _ => {}
        }
    }

    /// Another card, empty, goes in; the old one may come back.
    fn swap_cards(&mut self, device: usize) {
        if let Some(drawer) = self.devices.iter().position(|d| d.stored) {
            self.power_off(device);
            self.devices[device].stored = true;
            self.devices[drawer].stored = false;
            self.note("old card returns", || {
                format!("device {drawer} for {device}")
            });
            return self.start(drawer);
        }
        let log = self.fresh_log(0);
        let fresh = self.add_device(vec![log]);
        self.power_off(device);
        self.devices[device].stored = true;
        self.note("log wiped", || format!("device {fresh} for {device}"));
        self.start(fresh);
    }

    /// The card goes into the drawer, an empty one into the device.
    fn fresh_card(&mut self, device: usize) {
        if self.drawer.len() >= DRAWER_MAX {
            return;
        }
        self.power_off(device);
        let log = self.fresh_log(0);
        let old = std::mem::replace(&mut self.devices[device].logs, vec![log]);
        self.drawer.push(old);
        self.note("fresh card", || format!("device {device}"));
        self.start(device);
    }

    fn card_from_drawer(&mut self, device: usize) {
        if self.drawer.is_empty() {
            return;
        }
        let pick = self.rng.below(self.drawer.len() as u64) as usize;
        self.power_off(device);
        std::mem::swap(&mut self.devices[device].logs, &mut self.drawer[pick]);
        self.note("card from the drawer", || format!("device {device}"));
        self.start(device);
    }

    /// Clones that nobody uses yet, while the card itself goes back to an image: what they hold and it
    /// has not will be in the cloud already when the second of them is put in.
    fn copy_to_drawer(&mut self, device: usize) {
        let copy = self.durable_image(device);
        let room = DRAWER_MAX.saturating_sub(self.drawer.len()).min(2);
        self.drawer.extend(std::iter::repeat_n(copy, room));
        self.note("card copied", || format!("device {device}, {room} times"));
        if let Some(image) = self.image.clone() {
            self.power_off(device);
            self.devices[device].logs = image;
            self.start(device);
        }
    }

    /// Every card gets a device and goes on.
    pub(super) fn empty_drawer(&mut self) {
        for device in 0..self.devices.len() {
            if self.devices[device].stored {
                self.devices[device].stored = false;
                self.start(device);
            }
        }
        for logs in std::mem::take(&mut self.drawer) {
            let device = self.add_device(logs);
            self.start(device);
        }
    }

    pub(super) fn running_image(&mut self) {
        if !self.plan.running_image || self.devices.len() > 1 {
            return;
        }
        let Some(image) = self.image.take() else {
            if !self.devices[0].resumed {
                let mut logs = self.devices[0].logs.clone();
                logs.iter_mut()
                    .for_each(|l| l.hist.truncate(l.durable as usize));
                self.image = Some(logs);
                self.devices[0].resumed = true;
                self.note("running image taken", String::new);
            }
            return;
        };
        if let Some((conn, _)) = self.devices[0].session.take() {
            self.at(self.now + 1, Event::CloudSees { conn });
        }
        let d = &mut self.devices[0];
        d.run += 1;
        d.logs = image;
        d.backoff.failed(self.now);
        self.note("running image resumed", String::new);
    }
}
