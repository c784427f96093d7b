//! Files behind a trait, so that the log can be run on a disk that loses power.
//!
//! The contract is POSIX's, read strictly, since flash and file systems keep no more than this:
//! - A write is in the page cache until [`DiskFile::sync_data`] returned `Ok`. Until then any
//!   subset of its sectors may reach the medium, in any order.
//! - A created, renamed or removed name is durable only after [`Disk::sync_dir`] of its directory,
//!   also when the file itself was synced.
//! - After a failed sync nothing is known about what was written before it. Do not retry it (J6).
//!
//! [`RealDisk`] is the operating system. [`SimDisk`] keeps a live and a durable image in memory.

mod real;
mod sim;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;
pub use sim::{Crash, SimCounters, SimDisk};

/// How [`Disk::open`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// The file must exist; writing to it is an error.
    Read,
    /// The file must exist.
    Write,
    /// Read and write; created empty when it is missing.
    Create,
    /// Read and write; an error when it exists.
    New,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The last part of the path.
    pub name: String,
    pub is_dir: bool,
    /// Length of a file, 0 for a directory.
    pub bytes: u64,
}

/// A file system. Paths are used as given, absolute or relative to the process.
pub trait Disk: Send + Sync + 'static {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// The directory and its missing parents. `Ok` when it exists.
    /// Each new name is durable after a [`Disk::sync_dir`] of *its* parent: see [`create_dirs`].
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>>;
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Removes a file. `NotFound` when it is missing.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with everything in it. `NotFound` when it is missing.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Moves a file or a directory, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that an unprivileged process may still write there.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file. All methods take `&self`: positions are explicit, so a handle may be shared.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bytes`, growing the file when they pass its end.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros, unallocated).
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Makes the file at least `bytes` long with its blocks reserved, so that writing below that
    /// length cannot meet `StorageFull`.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// `fdatasync`: the data and the length are on the medium when this returns `Ok`.
    fn sync_data(&self) -> io::Result<()>;

    /// Reads exactly `buf.len()` bytes or fails with `UnexpectedEof`.
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        match self.read_at(buf, at)? {
            n if n == buf.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Creates a directory and its missing parents, and makes every name on the way durable.
///
/// Names that exist are synced too: the process that made them may have died before it synced
/// them. Parents that may not be read are left to whoever made them.
pub fn create_dirs(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.create_dir(path)?;
    for dir in path.ancestors().filter(|d| !d.as_os_str().is_empty()) {
        let Some(parent) = dir.parent() else { break };
        let here = parent.as_os_str().is_empty();
        match disk.sync_dir(if here { Path::new(".") } else { parent }) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
            // Whatever the reason: not a want of room that another try could find.
            done => done.map_err(io::Error::other)?,
        }
    }
    Ok(())
}

/// Replaces a small file so that a crash leaves the old or the new content, never a mixture:
/// written beside it, synced, renamed, directory synced.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let fresh = path.with_extension("new");
    let file = disk.open(&fresh, Open::Create)?;
    file.set_len(0)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(&fresh, path)?;
    disk.sync_dir(dir)
}

/// Removes what has the name, whether it is a file or a directory with all that is in it. `Ok` when
/// nothing has.
pub(crate) fn clear(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let removed = match disk.remove(path) {
        Err(e) if e.kind() == io::ErrorKind::IsADirectory => disk.remove_dir_all(path),
        done => done,
    };
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The whole of a file of at most `bytes_max` bytes.
pub fn read_all(disk: &dyn Disk, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let len = file.len()?;
    if len > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{len} bytes; the most is {bytes_max}"),
        ));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
