//! Checkpoints in sled, on the real disk: see [`SledStore`].
//!
//! sled alone is not safe to build on: its `flush` is not an fsync on Linux, a cut file opens with
//! keys missing, a torn one may panic, and opening a store writes to it. So:
//!
//! - Two slots, `a` and `b`, each a sled directory, hold one generation each. sled is opened only
//!   while a slot is written, and closed again.
//! - After it is closed every file is read for its length and CRC-32 and fsynced, the directory is
//!   fsynced, and a *manifest* with all that is put beside the slot. Before a slot is written its
//!   manifest is removed.
//! - A slot counts only if its files are, byte for byte, what its manifest says. sled never sees
//!   other bytes, so damage cannot make it panic, hang or ask for memory.
//! - To read a slot, a copy of it is opened, and the entries are checked against the digest.
//! - sled reuses the room of what was overwritten badly: a state that changes all the time grows its
//!   file without end. So a slot that is much larger than its entries is written anew.
//! - A slot that does not match is moved aside to `damaged-a` or `damaged-b`, one of each is kept.
//!
//! See FORMAT.md, "Checkpoint manifest".

mod manifest;
mod open;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub use manifest::{MANIFEST_HEADER_BYTES, MANIFEST_MAGIC};

use self::manifest::{Manifest, copy_dir, dir_bytes};
use super::{Change, Changes, CheckpointStore, Digest, Entries, Mark};
use crate::disk::{Disk, RealDisk, clear, create_dirs};
use crate::error::{LogError, is_full};

/// Page cache of a store while it is open.
pub const CACHE_BYTES: u64 = 1 << 20;
/// The last checkpoint's changes are kept in memory up to this size; above it the other slot is
/// rebuilt by a copy instead.
pub const CARRY_BYTES_MAX: usize = 256 << 10;
/// A slot below this size is never written anew.
pub const REBUILD_BYTES_MIN: u64 = 2 << 20;
/// Above it a slot is written anew at so many times the bytes of its entries.
const REBUILD_TIMES: u64 = 4;

/// Generations in sled, on the real disk. For products.
pub struct SledStore {
    dir: PathBuf,
    /// What the last commit changed, from which generation to which.
    last: Option<(u64, u64, Vec<Change>)>,
    /// A slot of more bytes is written anew.
    rebuild_at: u64,
    notes: Vec<String>,
}

impl SledStore {
    /// `dir` is made when missing and belongs to the store alone.
    pub fn open(dir: &Path) -> Result<SledStore, LogError> {
        create_dirs(&RealDisk, dir).map_err(LogError::io("create", dir))?;
        let mut store = SledStore {
            dir: dir.to_path_buf(),
            last: None,
            rebuild_at: REBUILD_BYTES_MIN,
            notes: Vec::new(),
        };
        store.clear(&store.dir.join("scratch"))?;
        for slot in [Slot::A, Slot::B] {
            // Its write was cut short: the other slot, or the journal, has what it would hold.
            if store.manifest(slot)?.is_none() {
                store.clear(&store.path(slot))?;
            }
        }
        Ok(store)
    }

    fn path(&self, slot: Slot) -> PathBuf {
        self.dir.join(slot.name())
    }

    fn manifest_path(&self, slot: Slot) -> PathBuf {
        self.dir.join(format!("{}.manifest", slot.name()))
    }

    /// What the slot says it holds. A manifest that is damaged takes its slot aside.
    fn manifest(&mut self, slot: Slot) -> Result<Option<Manifest>, LogError> {
        let path = self.manifest_path(slot);
        if !RealDisk
            .exists(&path)
            .map_err(LogError::io("look for", &path))?
        {
            return Ok(None);
        }
        match Manifest::read(&path) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(e) => {
                self.move_aside(slot, &e.to_string())?;
                Ok(None)
            }
        }
    }

    /// The manifest of a slot whose files are what it says.
    fn verified(&mut self, slot: Slot) -> Result<Option<Manifest>, LogError> {
        let Some(manifest) = self.manifest(slot)? else {
            return Ok(None);
        };
        match manifest.verify(&self.path(slot)) {
            Ok(()) => Ok(Some(manifest)),
            Err(why) => {
                self.move_aside(slot, &why)?;
                Ok(None)
            }
        }
    }

    fn slot_of(&mut self, generation: u64) -> Result<Option<Slot>, LogError> {
        for slot in [Slot::A, Slot::B] {
            if self
                .manifest(slot)?
                .is_some_and(|m| m.mark.generation == generation)
            {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    fn clear(&self, path: &Path) -> Result<(), LogError> {
        clear(&RealDisk, path).map_err(LogError::io("remove", path))
    }

    fn sync_dir(&self) -> Result<(), LogError> {
        RealDisk
            .sync_dir(&self.dir)
            .map_err(LogError::sync(&self.dir))
    }

    /// From here on the slot does not count.
    fn retire(&self, slot: Slot) -> Result<(), LogError> {
        let path = self.manifest_path(slot);
        match RealDisk.remove(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            // Not ours, so somebody may want what is in it.
            Err(e) if e.kind() == ErrorKind::IsADirectory => {
                let aside = self.aside(&format!("{}.manifest", slot.name()))?;
                let moved = RealDisk.rename(&path, &aside);
                moved.map_err(LogError::io("rename", &path))?;
            }
            done => done.map_err(LogError::io("remove", &path))?,
        }
        self.sync_dir()
    }

    fn move_aside(&mut self, slot: Slot, why: &str) -> Result<(), LogError> {
        let aside = self.aside(slot.name())?;
        let path = self.path(slot);
        self.notes.push(format!(
            "{}: {why}; moved to {}",
            path.display(),
            aside.display()
        ));
        self.retire(slot)?;
        match RealDisk.rename(&path, &aside) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            done => done.map_err(LogError::io("rename", &path)),
        }
    }

    /// Where what is damaged goes; what was moved there before is removed.
    fn aside(&self, name: &str) -> Result<PathBuf, LogError> {
        let aside = self.dir.join(format!("damaged-{name}"));
        self.clear(&aside)?;
        Ok(aside)
    }

    /// Makes the slot hold `base`'s entries, or none; returns the changes it still lacks.
    fn prepare(&mut self, slot: Slot, base: Option<u64>) -> Result<Vec<Change>, LogError> {
        let held = self.verified(slot)?.map(|m| m.mark.generation);
        if let (Some((from, to, changes)), Some(base)) = (self.last.take(), base) {
            if to == base && held == Some(from) {
                self.retire(slot)?;
                return Ok(changes);
            }
        }
        let from = slot.other();
        if let Some(base) = base {
            // Before the slot is touched: it may be the last that is whole.
            if self
                .verified(from)?
                .is_none_or(|m| m.mark.generation != base)
            {
                let path = self.path(from);
                return Err(LogError::corrupt(&path, 0, "the generation in use is gone"));
            }
        }
        self.retire(slot)?;
        self.clear(&self.path(slot))?;
        if base.is_some() {
            copy_dir(&self.path(from), &self.path(slot))?;
        }
        Ok(Vec::new())
    }

    /// Writes a slot anew that is mostly what was overwritten. It does not count meanwhile, and what it
    /// held moves out of the way first, so it takes no more room than its entries do.
    fn rebuild_if_bloated(&mut self, slot: Slot) -> Result<(), LogError> {
        let path = self.path(slot);
        if dir_bytes(&path)? <= self.rebuild_at {
            return Ok(());
        }
        let scratch = self.dir.join("scratch");
        self.clear(&scratch)?;
        let moved = RealDisk.rename(&path, &scratch);
        moved.map_err(LogError::io("rename", &path))?;
        let entries = open::rebuild(&scratch, &path).map_err(LogError::io("rebuild", &path))?;
        self.clear(&scratch)?;
        // Fresh, and at most half of what is let grow.
        self.rebuild_at = (entries * REBUILD_TIMES)
            .max(dir_bytes(&path)? * 2)
            .max(REBUILD_BYTES_MIN);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    A,
    B,
}

impl Slot {
    fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }

    fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

impl CheckpointStore for SledStore {
    fn generations(&mut self) -> Result<Vec<Mark>, LogError> {
        let mut marks = Vec::new();
        for slot in [Slot::A, Slot::B] {
            marks.extend(self.manifest(slot)?.map(|m| m.mark));
        }
        marks.sort_by_key(|m| std::cmp::Reverse(m.generation));
        Ok(marks)
    }

    fn load(&mut self, generation: u64) -> Result<Option<Entries>, LogError> {
        let Some(slot) = self.slot_of(generation)? else {
            return Ok(None);
        };
        let Some(manifest) = self.verified(slot)? else {
            return Ok(None);
        };
        let scratch = self.dir.join("scratch");
        self.clear(&scratch)?;
        copy_dir(&self.path(slot), &scratch)?;
        let loaded = open::load(&scratch, &manifest.mark);
        self.clear(&scratch)?;
        match loaded {
            Ok(entries) => {
                let bytes: usize = entries.iter().map(|(k, v)| k.len() + v.len()).sum();
                let rebuild_at = bytes as u64 * REBUILD_TIMES;
                self.rebuild_at = rebuild_at.max(REBUILD_BYTES_MIN);
                Ok(Some(entries))
            }
            // Without room it cannot be opened, and may be good.
            Err(why) if is_full(&why) => Err(LogError::io("open", &scratch)(why)),
            Err(why) => {
                self.move_aside(slot, &why.to_string())?;
                Ok(None)
            }
        }
    }

    fn commit(
        &mut self,
        base: Option<u64>,
        generation: u64,
        at: u64,
        changes: &Changes,
    ) -> Result<Mark, LogError> {
        let slot = match base {
            Some(base) => self.slot_of(base)?.map_or(Slot::A, Slot::other),
            None => Slot::A,
        };
        let path = self.path(slot);
        let lacking = self.prepare(slot, base)?;
        self.rebuild_if_bloated(slot)?;
        let mut merged: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
        for (key, value) in lacking.iter().chain(changes) {
            merged.insert(key, value.as_deref());
        }
        let mark = open::write(&path, generation, at, &merged)
            .map_err(LogError::io("checkpoint", &path))?;
        let manifest = Manifest::of(&path, mark)?;
        manifest.write(&self.manifest_path(slot))?;
        let bytes: usize = changes
            .iter()
            .map(|(k, v)| k.len() + v.as_ref().map_or(0, Vec::len))
            .sum();
        if let (Some(base), true) = (base, bytes <= CARRY_BYTES_MAX) {
            self.last = Some((base, generation, changes.to_vec()));
        }
        Ok(mark)
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}
