//! What a device owes at any time, looked at from beside it: its budget, batches that get sealed,
//! records that are kept, and no damage told of a medium that has none.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use headwater_batch::{Offset, TopicPartition};
use headwater_log::disk::Disk;
use headwater_log::store::Full;

use super::World;
use super::devices::DeviceId;
use crate::edge::{PartitionView, RESERVE_BYTES, Settings};
use crate::now::Ms;

/// Beyond `hold_ms`: two commits on a medium that stalls (6 s each), one of them `interval`, and some.
const SEAL_SLACK_MS: Ms = 20_000;
/// A medium with less free than this is one that somebody has filled.
const ROOM_BYTES: u64 = 1 << 40;
/// Budgets below this are there to be used up: then acknowledged records go at any age.
const WIDE_BYTES: u64 = 1 << 20;

/// What was seen of a card since its content was exchanged.
#[derive(Default)]
pub(super) struct Watch {
    life: (DeviceId, u64),
    /// Starts since the last checkpoint but one, and since the last.
    starts: (u64, u64),
    /// The end of a partition that was not sealed, and since when.
    unsealed: BTreeMap<TopicPartition, (Offset, Ms)>,
    /// Where a partition ended, and when.
    ends: BTreeMap<TopicPartition, VecDeque<(Ms, Offset)>>,
}

impl World {
    pub(super) fn look_at_devices(&mut self) {
        self.look_at_places();
        for device in 0..self.devices.len() {
            if let Some(what) = self.look_at(device) {
                self.oracle.fail(format!("device {device}: {what}"));
            }
        }
    }

    fn look_at(&mut self, device: DeviceId) -> Option<String> {
        let now = self.now;
        let it = &self.devices[device];
        let partitions = it.edge.as_ref()?.partitions();
        let card = &self.cards[it.card];
        let settings = &it.settings;
        let has_room = card
            .disk
            .free_bytes(Path::new("/"))
            .is_ok_and(|b| b > ROOM_BYTES);
        let keeps = !card.faulty && !card.rotten;
        let used = card.disk.used_bytes();
        let watch = self.watches.entry((it.card, card.history)).or_default();
        let most = settings.budget_bytes + watch.starts_bytes(settings);
        if !card.rotten && used > most {
            return Some(format!("BUDGET: {used} bytes on the card, at most {most}"));
        }
        if watch.life != (device, it.life) || !has_room {
            watch.life = (device, it.life);
            watch.unsealed.clear();
        }
        let unsealed = partitions
            .iter()
            .find_map(|p| watch.unsealed(p, settings, now));
        let young = partitions
            .iter()
            .find_map(|p| watch.young(p, settings, now));
        unsealed.filter(|_| has_room).or(young.filter(|_| keeps))
    }

    /// A start takes its card.
    pub(super) fn begins(&mut self, device: DeviceId) {
        self.watch(device).starts.1 += 1;
    }

    fn watch(&mut self, device: DeviceId) -> &mut Watch {
        let card = self.devices[device].card;
        let history = self.cards[card].history;
        self.watches.entry((card, history)).or_default()
    }

    /// What a process says of its log. Damage, and records let go of, have their causes here.
    pub(super) fn hear_of_log(&mut self, device: DeviceId, what: &str, detail: &str) {
        let damage = match what {
            "recovery" => detail.starts_with("journal: ") && detail.contains("lost: [Lost"),
            "gap" => detail.ends_with("Corrupt"),
            _ => false,
        };
        if damage && !self.card_of(device).rotten {
            let what = format!("DAMAGE of a sound card: device {device}: {what} {detail}");
            self.oracle.fail(what);
        }
        if what == "checkpoint" {
            let starts = &mut self.watch(device).starts;
            *starts = (starts.1, 0);
        }
        let keeps = self.devices[device].settings.full == Full::Refuse;
        if what == "gap" && detail.ends_with("Dropped") && keeps {
            let what = format!("DROPPED unsent, though it is to refuse: device {device}: {detail}");
            self.oracle.fail(what);
        }
    }
}

impl Watch {
    /// A start that has a tail to copy takes a journal file (J4), whatever the budget says: who is cut
    /// short again and again must still start. Checkpoints let go of them, of the older two the last.
    /// The reserve is there for them, and holds so many.
    fn starts_bytes(&self, settings: &Settings) -> u64 {
        let starts = self.starts.0 + self.starts.1;
        let reserved = RESERVE_BYTES / settings.journal_file_bytes;
        starts.saturating_sub(reserved) * settings.journal_file_bytes
    }

    /// J8: whatever the link does, what was taken is sealed, and so can be sent, soon.
    fn unsealed(&mut self, p: &PartitionView, settings: &Settings, now: Ms) -> Option<String> {
        let (end, since) = self.unsealed.entry(p.tp.clone()).or_insert((p.next, now));
        if p.sealed_end >= *end {
            (*end, *since) = (p.next, now);
        }
        let waits = now - *since;
        let late = waits > settings.hold_ms() + SEAL_SLACK_MS;
        late.then(|| format!("UNSEALED for {waits} ms: {p:?}"))
    }

    /// J9: by age goes only what is as old as that, on a clock that does not jump.
    fn young(&mut self, p: &PartitionView, settings: &Settings, now: Ms) -> Option<String> {
        let by_age_alone = settings.retention_bytes.is_none() && settings.budget_bytes > WIDE_BYTES;
        let age = settings.retention_ms.filter(|_| by_age_alone)?;
        let ends = self.ends.entry(p.tp.clone()).or_default();
        while ends.front().is_some_and(|(at, _)| at + age < now) {
            ends.pop_front();
        }
        let young = ends.iter().find(|(_, end)| *end < p.start).copied();
        ends.push_back((now, p.next));
        let (at, end) = young?;
        Some(format!(
            "YOUNG: {p:?} has let go of records from {end} on, which came after {at}"
        ))
    }
}
