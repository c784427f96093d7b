//! Names of journal files, and the spares that new ones are made of.
//!
//! `<20 digits>.journal` is in use. `spare-<20 digits>.journal` is preallocated and empty, or was
//! in use once: its old groups carry an old salt. `rot-<20 digits>.journal` is kept as evidence.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::POSITION_MAX;
use crate::disk::{Disk, DiskFile, Open};
use crate::error::{ErrorKind, LogError};

/// How many spares are kept. One of them is for checkpoints and recovery alone: without it a full
/// disk could never be emptied.
pub const SPARES: usize = 2;
/// How many rotten files are kept for a look at them.
pub const ROTTEN_MAX: usize = 2;

pub(crate) fn journal_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:020}.journal"))
}

fn spare_path(dir: &Path, n: u64) -> PathBuf {
    dir.join(format!("spare-{n:020}.journal"))
}

/// What lies in a journal's directory.
#[derive(Default)]
pub(crate) struct Listing {
    pub sequences: Vec<u64>,
    pub spares: Vec<(u64, u64)>,
    pub rotten: usize,
}

pub(crate) fn list(disk: &dyn Disk, dir: &Path) -> Result<Listing, LogError> {
    let mut listing = Listing::default();
    for entry in disk.list(dir).map_err(LogError::io("list", dir))? {
        let stem = entry.name.strip_suffix(".journal");
        let Some(stem) = stem.filter(|_| !entry.is_dir) else {
            continue;
        };
        if let Some(n) = stem.strip_prefix("spare-").and_then(number) {
            listing.spares.push((n, entry.bytes));
        } else if stem.strip_prefix("rot-").and_then(number).is_some() {
            listing.rotten += 1;
        } else if let Some(n) = number(stem) {
            listing.sequences.push(n);
        }
    }
    listing.sequences.sort_unstable();
    Ok(listing)
}

fn number(digits: &str) -> Option<u64> {
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    let number = plain.then(|| digits.parse().ok()).flatten();
    number.filter(|n| *n <= POSITION_MAX)
}

/// A preallocated file without content that counts.
pub(crate) struct Spare {
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    /// Never written: the file system notes each first write to a block in its own journal, which
    /// costs a sync more than the block itself.
    pub fresh: bool,
}

/// The pool of spares.
pub(crate) struct Spares {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file_bytes: u64,
    next: u64,
    held: Vec<Spare>,
    rotten: usize,
}

impl Spares {
    /// Takes over what lies there; files of another length than is set today are removed.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        file_bytes: u64,
        listing: &Listing,
    ) -> Result<Spares, LogError> {
        let mut spares = Spares {
            disk,
            dir: dir.to_path_buf(),
            file_bytes,
            next: 0,
            held: Vec::new(),
            rotten: listing.rotten,
        };
        for (n, bytes) in &listing.spares {
            spares.next = spares.next.max(n + 1);
            let path = spare_path(dir, *n);
            if *bytes == file_bytes && spares.held.len() < SPARES {
                let file = spares
                    .disk
                    .open(&path, Open::Write)
                    .map_err(LogError::io("open", &path))?;
                let fresh = false;
                spares.held.push(Spare { path, file, fresh });
            } else {
                spares
                    .disk
                    .remove(&path)
                    .map_err(LogError::io("remove", &path))?;
            }
        }
        Ok(spares)
    }

    pub fn count(&self) -> usize {
        self.held.len()
    }

    /// One that was written before, if there is one.
    pub fn take(&mut self) -> Option<Spare> {
        match self.held.iter().position(|spare| !spare.fresh) {
            Some(at) => Some(self.held.swap_remove(at)),
            None => self.held.pop(),
        }
    }

    /// Preallocates up to [`SPARES`], durably: a reserve that a power cut takes is none.
    /// `false` when there is no room for that.
    pub fn fill(&mut self) -> Result<bool, LogError> {
        let before = self.held.len();
        let mut room = true;
        while room && self.held.len() < SPARES {
            match self.preallocate(self.file_bytes) {
                Ok(spare) => {
                    spare
                        .file
                        .sync_data()
                        .map_err(LogError::sync(&spare.path))?;
                    self.held.push(spare);
                }
                Err(e) if e.kind() == ErrorKind::Full => room = false,
                Err(e) => return Err(e),
            }
        }
        if self.held.len() > before {
            self.disk
                .sync_dir(&self.dir)
                .map_err(LogError::sync(&self.dir))?;
        }
        Ok(room)
    }

    /// A new file of `bytes`. Nothing is left behind when there is no room.
    pub fn preallocate(&mut self, bytes: u64) -> Result<Spare, LogError> {
        let path = spare_path(&self.dir, self.next);
        self.next += 1;
        let file = self
            .disk
            .open(&path, Open::Create)
            .map_err(LogError::io("create", &path))?;
        if let Err(e) = file.allocate(bytes) {
            drop(file);
            // The name may go with the next directory sync; until then it is a short spare.
            let _ = self.disk.remove(&path);
            return Err(LogError::io("allocate", &path)(e));
        }
        let fresh = true;
        Ok(Spare { path, file, fresh })
    }

    /// Lets go of a journal file: kept as a spare while there are too few, or instead of a fresh
    /// one; else removed.
    /// The caller syncs the directory before a spare is used again.
    pub fn recycle(
        &mut self,
        path: &Path,
        sequence: u64,
        file: Arc<dyn DiskFile>,
        rotten: bool,
    ) -> Result<(), LogError> {
        let len = file.len().map_err(LogError::io("measure", path))?;
        let fresh = self.held.iter().position(|spare| spare.fresh);
        let full = self.held.len() >= SPARES;
        if (full && fresh.is_none()) || len != self.file_bytes || rotten {
            return self.remove(path, sequence, rotten);
        }
        if let (true, Some(fresh)) = (full, fresh) {
            let Spare { path, .. } = self.held.swap_remove(fresh);
            let removed = self.disk.remove(&path);
            removed.map_err(LogError::io("remove", &path))?;
        }
        let to = spare_path(&self.dir, self.next);
        self.next += 1;
        self.disk
            .rename(path, &to)
            .map_err(LogError::io("rename", path))?;
        let (path, fresh) = (to, false);
        self.held.push(Spare { path, file, fresh });
        Ok(())
    }

    /// Lets go of a journal file for good; a rotten one is kept as evidence.
    pub fn remove(&mut self, path: &Path, sequence: u64, rotten: bool) -> Result<(), LogError> {
        if rotten && self.rotten < ROTTEN_MAX {
            let to = self.dir.join(format!("rot-{sequence:020}.journal"));
            self.rotten += 1;
            return self
                .disk
                .rename(path, &to)
                .map_err(LogError::io("rename", path));
        }
        self.disk.remove(path).map_err(LogError::io("remove", path))
    }

    pub fn held_bytes(&self) -> u64 {
        self.held.len() as u64 * self.file_bytes
    }
}
