//! A disk as one life sees it: after its end every call fails, and nothing is written.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_log::SimDisk;
use headwater_log::disk::{Disk, DiskFile, Listed, Open};

/// Closed when a life is over. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Fence(Arc<AtomicBool>);

impl Fence {
    pub fn close(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn check(&self) -> io::Result<()> {
        if self.is_closed() {
            return Err(io::Error::other("the process is gone"));
        }
        Ok(())
    }
}

pub(super) struct FencedDisk {
    disk: SimDisk,
    fence: Fence,
}

impl FencedDisk {
    pub fn new(disk: SimDisk, fence: Fence) -> FencedDisk {
        FencedDisk { disk, fence }
    }
}

/// Files of a life need no fence of their own: a crash makes their handles useless.
impl Disk for FencedDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        self.fence.check()?;
        self.disk.open(path, how)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.fence.check()?;
        self.disk.create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        self.fence.check()?;
        self.disk.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.fence.check()?;
        self.disk.exists(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.fence.check()?;
        self.disk.remove(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.fence.check()?;
        self.disk.remove_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fence.check()?;
        self.disk.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.fence.check()?;
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.fence.check()?;
        self.disk.free_bytes(dir)
    }
}
