//! SD cards: what a device writes to, and what operators do to them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use headwater_log::SimDisk;
use headwater_log::disk::{Crash, Disk};
use headwater_log::store::LINEAGE_FILES;

pub(super) use crate::oracle::CardId;

use super::cuts::SYNC_MS_MAX;
use super::devices::{Device, DeviceId};
use super::{Event, World};
use crate::oracle::Attempt;
use crate::payload::Id;

pub(super) struct Card {
    pub disk: SimDisk,
    /// Counts exchanges of its content.
    pub history: u32,
    /// A fault was injected that the node may rightly stop at.
    pub faulty: bool,
    /// Its content stands, or stood, on another card too.
    pub copied: bool,
    /// Its medium flipped bits.
    pub rotten: bool,
    /// The files of its lineages are gone until its next start.
    pub bare: bool,
    /// So much had been sent when what its broker retains last became older than what was told.
    pub kept_since: u64,
}

/// A copy of a card that lies on the operator's desk.
pub struct Image {
    disk: SimDisk,
    card: CardId,
    /// Acknowledged attempts that are on it, but those that need not be durable yet.
    holds: BTreeSet<Id>,
}

const DEVICES_MAX: usize = 4;

impl World {
    /// For one more device.
    pub(super) fn has_room(&self) -> bool {
        self.devices.len() < DEVICES_MAX
    }

    pub(super) fn fresh_card(&mut self) -> CardId {
        let disk = SimDisk::new(self.rng.u64());
        self.add_card(disk, false)
    }

    pub(super) fn add_card(&mut self, disk: SimDisk, copied: bool) -> CardId {
        self.cards.push(Card {
            disk,
            history: 0,
            faulty: false,
            copied,
            rotten: false,
            bare: false,
            kept_since: 0,
        });
        self.cards.len() - 1
    }

    pub(super) fn card_mut(&mut self, device: DeviceId) -> &mut Card {
        &mut self.cards[self.devices[device].card]
    }

    fn attempts_on(&self, card: CardId) -> BTreeSet<Id> {
        let attempts = self.oracle.attempts.iter();
        let young = |a: &Attempt| a.acked_at.is_some_and(|at| at + SYNC_MS_MAX > self.now);
        let on = attempts.filter(|(_, a)| a.card == card && a.acked && !(a.interval && young(a)));
        on.map(|(id, _)| *id).collect()
    }

    /// The device is switched off, and what its card holds is what survived.
    fn switch_off(&mut self, device: DeviceId) {
        self.crash_edge(device, Crash::Power);
        let disk = &self.card_of(device).disk;
        // A process that was already gone may have been killed only.
        disk.crash(Crash::Power);
        disk.restart();
    }

    /// Sessions of the device are as they were some time ago, or gone.
    fn sessions_went_back(&mut self, device: DeviceId) {
        self.listeners_went_back(device);
        let senders = self.senders.iter_mut().filter(|s| s.device == device);
        for sender in senders {
            self.oracle.may_repeat(sender.client.unsettled());
            sender.client.session_went_back();
        }
    }

    pub(super) fn take_image(&mut self, device: DeviceId) {
        self.switch_off(device);
        self.note("image taken", || format!("device {device}"));
        self.image_of(device);
    }

    pub(super) fn take_running_image(&mut self, device: DeviceId) {
        self.note("image of a running machine", || format!("device {device}"));
        self.image_of(device);
        if let Some(image) = self.image.as_ref().filter(|_| self.rng.one_in(2)) {
            image.disk.crash(Crash::Power);
            image.disk.restart();
        }
    }

    fn image_of(&mut self, device: DeviceId) {
        let seed = self.rng.u64();
        let card = self.devices[device].card;
        let disk = self.cards[card].disk.copy(seed);
        disk.set_capacity(u64::MAX);
        let holds = self.attempts_on(card);
        self.image = Some(Image { disk, card, holds });
    }

    /// An old image goes onto the card that it was taken from.
    pub(super) fn restore_image(&mut self, device: DeviceId) {
        let card = self.devices[device].card;
        let Some(image) = self.image.take() else {
            return;
        };
        if image.card != card {
            self.image = Some(image);
            return;
        }
        self.switch_off(device);
        let seed = self.rng.u64();
        let spent = std::mem::replace(&mut self.cards[card].disk, image.disk.copy(seed));
        self.spent.push(spent);
        self.cards[card].history += 1;
        self.cards[card].copied = true;
        let exempt = self.oracle.exempt("card overwritten", |id, attempt| {
            attempt.card == card && !image.holds.contains(&id)
        });
        self.journal.add("exempt: card overwritten", exempt);
        self.sessions_went_back(device);
        self.note("image restored", || format!("device {device}"));
        self.image = Some(image);
    }

    /// The card is copied, and both are used.
    pub(super) fn clone_card(&mut self, device: DeviceId) {
        if !self.has_room() {
            return;
        }
        self.switch_off(device);
        let twin = self.twin_of(device);
        self.note("card cloned", || format!("device {device} and {twin}"));
    }

    /// The same while its machine runs and goes on.
    pub(super) fn clone_running_card(&mut self, device: DeviceId) {
        if self.has_room() {
            let twin = self.twin_of(device);
            self.note("running card cloned", || {
                format!("device {device} and {twin}")
            });
        }
    }

    fn twin_of(&mut self, device: DeviceId) -> DeviceId {
        let seed = self.rng.u64();
        let card = self.devices[device].card;
        let disk = self.cards[card].disk.copy(seed);
        disk.set_capacity(u64::MAX);
        self.cards[card].copied = true;
        // Both copies may hold what was under way, and one may lose it again: sent once more to
        // that one, it stands on both.
        let senders = self.senders.iter().filter(|s| s.device == device);
        for sender in senders {
            self.oracle.may_repeat(sender.client.unsettled());
        }
        self.wills_went_back(device);
        let twin = self.add_card(disk, true);
        self.cards[twin].rotten = self.cards[card].rotten;
        self.cards[twin].kept_since = self.oracle.sent_count();
        if self.devices[device].edge.is_some() && self.rng.one_in(2) {
            let disk = &self.cards[twin].disk;
            disk.crash(Crash::Power);
            disk.restart();
        }
        let twin = self.boot_card(twin, device);
        self.add_sender(twin);
        self.twin_listeners(device, twin);
        twin
    }

    /// Another device, with this card and the identity of `like`.
    fn boot_card(&mut self, card: CardId, like: DeviceId) -> DeviceId {
        let like = &self.devices[like];
        let device = Device {
            name: like.name.clone(),
            card,
            settings: like.settings.clone(),
            edge: None,
            life: 0,
            link: None,
            wall_off_ms: like.wall_off_ms,
            starting: true,
            halted: BTreeSet::new(),
            late_cut: 0,
            outage_until: 0,
            syncs: (0, 0),
            started_at: 0,
            died_at: 0,
            resumed: false,
            forks: Vec::new(),
        };
        let device = self.put_device(device);
        let at = self.now + 1 + self.rng.below(1_000);
        self.at(at, Event::PowerOn(device));
        device
    }

    /// Another card goes in, empty, or the one that lies in the drawer.
    pub(super) fn swap_card(&mut self, device: DeviceId) {
        let mine = |(of, _): &(DeviceId, CardId)| *of == device;
        let old = self.drawer.iter().position(mine);
        self.put_in(device, old);
    }

    /// The card that lies there in the drawer goes in, or an empty one.
    pub(super) fn put_in(&mut self, device: DeviceId, old: Option<usize>) {
        self.switch_off(device);
        let card = match old {
            Some(at) => {
                self.note("old card returns", || format!("device {device}"));
                self.drawer.remove(at).1
            }
            None => {
                self.note("empty card", || format!("device {device}"));
                self.fresh_card()
            }
        };
        self.swapped.insert(device);
        let old = std::mem::replace(&mut self.devices[device].card, card);
        self.drawer.push((device, old));
        self.sessions_went_back(device);
    }

    /// At the end every card runs somewhere: what it holds has to arrive.
    pub(super) fn empty_drawer(&mut self) {
        for (device, card) in std::mem::take(&mut self.drawer) {
            self.boot_card(card, device);
        }
    }

    /// Bits flip at rest.
    pub(super) fn rot(&mut self, device: DeviceId) {
        self.switch_off(device);
        let disk = self.card_of(device).disk.clone();
        let kinds = ["journal", "checkpoints", ".log", "index", "edge"];
        let kind = kinds[self.rng.index(kinds.len())];
        let files: Vec<PathBuf> = disk
            .files()
            .into_iter()
            .filter(|path| path.to_string_lossy().contains(kind))
            .filter(|path| !path.to_string_lossy().contains("quarantine"))
            .collect();
        // Its journal alone knows the log's name: see `lose_checkpoints`.
        if files.is_empty() || self.card_of(device).bare {
            return;
        }
        let path = files[self.rng.index(files.len())].clone();
        let bytes = 1 + self.rng.below(3);
        for _ in 0..bytes {
            let (at, mask) = (self.rng.below(12 << 10), 1 << self.rng.below(8));
            if disk.rot(&path, at, mask).is_err() {
                return;
            }
        }
        let name = rot_name(&path);
        self.note(name, || format!("device {device} {}", path.display()));
        self.card_mut(device).rotten = true;
        self.sessions_went_back(device);
        // J1's limit: the last group that was synced cannot be told from a torn tail.
        let (card, since) = (
            self.devices[device].card,
            self.devices[device].syncs.1.saturating_sub(2_000),
        );
        if name == "rot: journal" {
            let exempt = self.oracle.exempt("rot in the last group", |_, attempt| {
                attempt.card == card && attempt.at >= since
            });
            self.journal.add("exempt: rot in the last group", exempt);
        }
    }

    /// The checkpoint store is gone, and with it, perhaps, the lineages' own files: what the journal's
    /// headers say is all there is then (J3), so none of those may have rotted: with all copies gone
    /// nobody knows the log's name any more, and it waits for its operator.
    pub(super) fn lose_checkpoints(&mut self, device: DeviceId) {
        self.switch_off(device);
        let disk = self.card_of(device).disk.clone();
        let dir = Path::new("/edge/checkpoints");
        if disk.remove_dir_all(dir).is_err() {
            return;
        }
        let lineages = self.rng.one_in(2) && !self.card_of(device).rotten;
        self.card_mut(device).bare |= lineages;
        for name in LINEAGE_FILES.iter().filter(|_| lineages) {
            if disk.remove(&Path::new("/edge").join(name)).is_ok() {
                self.note("lineage file lost", || format!("device {device} {name}"));
            }
        }
        let synced = disk.sync_dir(Path::new("/edge"));
        debug_assert!(synced.is_ok());
        self.note("checkpoints lost", || format!("device {device}"));
        self.sessions_went_back(device);
    }
}

fn rot_name(path: &Path) -> &'static str {
    let text = path.to_string_lossy();
    match &*text {
        t if t.contains("journal") => "rot: journal",
        t if t.contains("checkpoints") => "rot: checkpoints",
        t if t.ends_with("index") => "rot: index",
        t if t.ends_with(".log") => "rot: segment",
        _ => "rot: other",
    }
}
