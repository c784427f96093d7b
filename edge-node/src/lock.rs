//! One running node per data directory.
#![allow(unsafe_code)] // flock has no safe form in std at this project's minimum Rust version.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Holds the directory; the kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock; `WouldBlock` when another node holds it.
    pub fn take(dir: &Path) -> io::Result<DirLock> {
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        // SAFETY: flock takes a descriptor that `file` keeps open for the call, and no pointer.
        let taken = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        if taken == 0 {
            Ok(DirLock { _file: file })
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::take(dir.path()).unwrap();
        assert_eq!(
            DirLock::take(dir.path()).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(first);
        DirLock::take(dir.path()).unwrap();
    }
}
