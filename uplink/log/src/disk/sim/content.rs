//! What a file holds, twice: the live image that reads see, and the durable image that a power
//! cut leaves.

use std::collections::BTreeMap;

use super::SimCounters;
use headwater_batch::SplitMix64 as Rng;

/// The unit that reaches the medium whole or not at all.
pub(super) const SECTOR: usize = 512;
/// How many overwritten versions of an unsynced sector may still turn up.
const VERSIONS_MAX: usize = 3;

#[derive(Clone, Default)]
pub(super) struct Content {
    pub live: Vec<u8>,
    pub durable: Vec<u8>,
    /// Sectors that differ or may differ, with versions overwritten since the last sync.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl Content {
    pub fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        for sector in at / SECTOR..end.div_ceil(SECTOR) {
            let now = sector_of(&self.live, sector).to_vec();
            match self.dirty.get_mut(&sector) {
                Some(versions) if versions.len() < VERSIONS_MAX => versions.push(now),
                Some(_) => {}
                None => {
                    self.dirty.insert(sector, Vec::new());
                }
            }
        }
        self.live[at..end].copy_from_slice(bytes);
    }

    pub fn set_len(&mut self, bytes: usize) {
        for sector in bytes / SECTOR..self.live.len().div_ceil(SECTOR) {
            self.dirty.entry(sector).or_default();
        }
        self.live.resize(bytes, 0);
    }

    pub fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty).into_keys() {
            copy_sector(&mut self.durable, sector, sector_of(&self.live, sector));
        }
    }

    /// The kernel's answer to a failed write-back: pages are marked clean, some were written.
    pub fn fail_sync(&mut self, rng: &mut Rng) {
        for sector in std::mem::take(&mut self.dirty).into_keys() {
            if rng.chance(1, 4) {
                copy_sector(&mut self.durable, sector, sector_of(&self.live, sector));
            }
        }
    }

    /// Loses power. `keep_of_8`: how likely an unsynced sector was written back anyway.
    pub fn power_cut(&mut self, keep_of_8: u64, rng: &mut Rng, counters: &mut SimCounters) {
        if self.live.len() != self.durable.len() && rng.chance(keep_of_8, 8) {
            self.durable.resize(self.live.len(), 0);
        }
        for (sector, versions) in std::mem::take(&mut self.dirty) {
            if !rng.chance(keep_of_8, 8) {
                counters.sectors_lost += 1;
            } else if !versions.is_empty() && rng.chance(1, 4) {
                counters.sectors_stale += 1;
                let version = &versions[rng.below(versions.len() as u64) as usize];
                copy_sector(&mut self.durable, sector, version);
            } else {
                counters.sectors_kept_unsynced += 1;
                copy_sector(&mut self.durable, sector, sector_of(&self.live, sector));
            }
        }
        self.live.clone_from(&self.durable);
    }

    pub fn rot(&mut self, at: usize, mask: u8) {
        for image in [&mut self.live, &mut self.durable] {
            if let Some(byte) = image.get_mut(at) {
                *byte ^= mask;
            }
        }
        // A power cut must not undo it.
        for version in self.dirty.get_mut(&(at / SECTOR)).into_iter().flatten() {
            if let Some(byte) = version.get_mut(at % SECTOR) {
                *byte ^= mask;
            }
        }
    }
}

fn sector_of(image: &[u8], sector: usize) -> &[u8] {
    let from = (sector * SECTOR).min(image.len());
    &image[from..(from + SECTOR).min(image.len())]
}

/// Copies what of a sector lies inside the image.
fn copy_sector(image: &mut [u8], sector: usize, bytes: &[u8]) {
    let from = (sector * SECTOR).min(image.len());
    let n = bytes.len().min(image.len() - from);
    image[from..from + n].copy_from_slice(&bytes[..n]);
}
