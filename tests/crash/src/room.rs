//! A small file system that is really full when it is full: a tmpfs of a few MiB.
//!
//! Mounting one takes a right that a plain user has only in a user namespace of their own. So the
//! whole test process moves into new namespaces for users and mounts, where it is root over nothing
//! but its own mounts; as root, a mount namespace is enough. Either way nobody else sees the mounts,
//! and they go with the last process, also after a kill.
//!
//! `unsafe` is used for three system calls that std does not have: `unshare`, `mount` and `statvfs`.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes that are written at once to fill what is left.
const FILL_BYTES: usize = 64 << 10;
/// Several times the interval of checkpoints in these tests.
const RESERVE_STANDS: Duration = Duration::from_secs(4);

/// Gives this process mounts of its own. Call it first in `main`: a process with a second thread
/// cannot enter a user namespace.
pub fn own_mounts() -> Result<(), String> {
    // SAFETY: no pointers; it changes what this process, which has one thread, may see and do.
    let ids = unsafe { (libc::geteuid(), libc::getegid()) };
    if unshare(libc::CLONE_NEWNS).is_err() {
        unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).map_err(|error| {
            format!(
                "a small file system cannot be mounted: no mount namespace as this user, and no user \
                 namespace either ({error}). Run the test as root, or allow user namespaces \
                 (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0)"
            )
        })?;
        for (file, text) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("0 {} 1", ids.0)),
            ("gid_map", format!("0 {} 1", ids.1)),
        ] {
            let path = format!("/proc/self/{file}");
            std::fs::write(&path, text).map_err(|error| format!("{path}: {error}"))?;
        }
    }
    // Else mounts would spread to where this process came from.
    mount(c"none", Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE, "").map_err(|error| {
        format!(
            "mounts cannot be made private ({error}): the system forbids user namespaces to mount. \
             Run the test as root, or allow it (sysctl kernel.apparmor_restrict_unprivileged_userns=0)"
        )
    })
}

/// A mounted tmpfs.
#[derive(Debug)]
pub struct Room {
    dir: PathBuf,
    filler: Option<File>,
}

impl Room {
    /// Mounts `bytes` of memory at `dir`, which is made.
    pub fn mount(dir: &Path, bytes: u64) -> Result<Room, String> {
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let size = format!("size={bytes}");
        mount(c"tmpfs", dir, Some(c"tmpfs"), 0, &size)
            .map_err(|error| format!("mounting a tmpfs of {bytes} bytes: {error}"))?;
        Ok(Room {
            dir: dir.to_owned(),
            filler: None,
        })
    }

    pub fn free_bytes(&self) -> u64 {
        let path = c_path(&self.dir).expect("the path was mounted on");
        let mut stat = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
        // SAFETY: `path` is a C string and `stat` is large enough; both outlive the call.
        let done = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
        assert_eq!(done, 0, "statvfs: {}", io::Error::last_os_error());
        // SAFETY: zeroed is a valid `statvfs`, and the call has filled it.
        let stat = unsafe { stat.assume_init() };
        stat.f_bavail * stat.f_frsize
    }

    /// Waits until the node has laid room aside and needed it for nothing for a while: between the
    /// two, whoever fills the disk may be quicker than the node.
    pub fn wait_reserve(&self, limit: Duration) {
        e2e::wait_for("room to be laid aside, and to stay", limit, || {
            let reserve = std::fs::metadata(self.dir.join("reserve")).ok()?;
            let age = reserve.modified().ok()?.elapsed().unwrap_or_default();
            (reserve.len() > 0 && age >= RESERVE_STANDS).then_some(())
        });
    }

    /// What the node has laid aside.
    pub fn reserve_bytes(&self) -> u64 {
        std::fs::metadata(self.dir.join("reserve")).map_or(0, |reserve| reserve.len())
    }

    /// Something else takes all that is left, to the last byte. Takes more when it is called again.
    pub fn fill(&mut self) {
        self.take_all();
        assert_eq!(self.free_bytes(), 0);
    }

    /// As [`Room::fill`], while the node is at work and may let go of something at the same time.
    pub fn take_all(&mut self) {
        let path = self.dir.join("filler");
        let filler = self
            .filler
            .get_or_insert_with(|| File::create(path).expect("a name costs a tmpfs nothing"));
        let bytes = vec![b'x'; FILL_BYTES];
        loop {
            match filler.write(&bytes) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => panic!("filling the disk: {error}"),
            }
        }
    }

    /// As [`Room::take_all`], and lets go of so many bytes, rounded down to pages.
    pub fn fill_but(&mut self, bytes: u64) {
        self.take_all();
        let filler = self.filler.as_ref().expect("it was just filled");
        let taken = filler.metadata().expect("it is open").len();
        let cut = filler.set_len(taken.saturating_sub(bytes));
        cut.expect("a file can be cut");
    }

    /// It lets go again.
    pub fn empty(&mut self) {
        if self.filler.take().is_some() {
            let removed = std::fs::remove_file(self.dir.join("filler"));
            removed.expect("our own file can be removed");
        }
    }
}

fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn mount(
    what: &CStr,
    at: &Path,
    kind: Option<&CStr>,
    flags: libc::c_ulong,
    options: &str,
) -> io::Result<()> {
    let at = c_path(at)?;
    let options = CString::new(options)?;
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: every pointer is null or a C string that outlives the call.
    let done = unsafe {
        libc::mount(
            what.as_ptr(),
            at.as_ptr(),
            kind,
            flags,
            options.as_ptr().cast(),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
