//! A disk in memory that loses power: see [`SimDisk`].

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{Disk, DiskFile, Listed, Open};

/// How a simulated machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; the page cache lives on.
    Kill,
    /// What was not synced is kept, lost or torn, by seed.
    Power,
}

/// What a [`SimDisk`] did, so that a test can show that its faults fired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimCounters {
    pub writes: u64,
    pub syncs: u64,
    pub dir_syncs: u64,
    pub kills: u64,
    pub power_cuts: u64,
    pub sectors_lost: u64,
    pub sectors_kept_unsynced: u64,
    pub sectors_stale: u64,
    pub names_lost: u64,
    pub names_kept_unsynced: u64,
    pub enospc: u64,
    pub eio: u64,
    pub rotten_bits: u64,
    pub bytes_written: u64,
}

/// A simulated disk. Clones share it. Same seed and same calls, same outcome.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<()>>,
}

impl SimDisk {
    pub fn new(_seed: u64) -> SimDisk {
        SimDisk {
            state: Arc::default(),
        }
    }
    /// Crashes now. Handles from before are dead; call [`SimDisk::restart`] to go on.
    pub fn crash(&self, _how: Crash) {
        unimplemented!()
    }
    /// Crashes in the middle of the `nth` changing operation from now (0 is the next).
    pub fn crash_at(&self, _nth: u64, _how: Crash) {
        unimplemented!()
    }
    /// Crashes in the middle of the `nth` sync (of a file or a directory) from now.
    pub fn crash_at_sync(&self, _nth: u64, _how: Crash) {
        unimplemented!()
    }
    /// Whether a crash happened that no [`SimDisk::restart`] followed.
    pub fn is_down(&self) -> bool {
        unimplemented!()
    }
    /// Powers on: applies what the last crash does to the images, and clears planned crashes.
    pub fn restart(&self) {
        unimplemented!()
    }
    /// Changing operations so far: writes, syncs, lengths, names.
    pub fn operations(&self) -> u64 {
        unimplemented!()
    }
    /// Syncs so far, of files and directories.
    pub fn sync_points(&self) -> u64 {
        unimplemented!()
    }
    pub fn counters(&self) -> SimCounters {
        unimplemented!()
    }
    /// The most bytes in all files; `StorageFull` beyond.
    pub fn set_capacity(&self, _bytes: u64) {
        unimplemented!()
    }
    /// The `nth` sync from now fails with EIO, and what it was to sync is lost to a power cut
    /// although it stays readable.
    pub fn fail_sync(&self, _nth: u64) {
        unimplemented!()
    }
    /// The `nth` write from now fails with EIO, half done.
    pub fn fail_write(&self, _nth: u64) {
        unimplemented!()
    }
    /// Flips a bit at rest, in both images.
    pub fn rot(&self, _path: &Path, _byte: u64, _mask: u8) -> io::Result<()> {
        unimplemented!()
    }
    /// All file paths, sorted.
    pub fn files(&self) -> Vec<std::path::PathBuf> {
        unimplemented!()
    }
}

impl Disk for SimDisk {
    fn open(&self, _path: &Path, _how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let _ = &self.state;
        unimplemented!()
    }
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn list(&self, _dir: &Path) -> io::Result<Vec<Listed>> {
        unimplemented!()
    }
    fn exists(&self, _path: &Path) -> io::Result<bool> {
        unimplemented!()
    }
    fn remove(&self, _path: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn remove_dir_all(&self, _path: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        unimplemented!()
    }
    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        unimplemented!()
    }
}
