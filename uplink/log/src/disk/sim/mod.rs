//! A disk in memory that loses power, fills up, fails and rots.
//!
//! There are two images. Reads see the live one. A power cut leaves the durable one: what was
//! synced, plus by seed any subset of the unsynced sectors (512 bytes each), also in versions
//! that were overwritten since; of names, what was synced by directory, plus by seed any subset
//! of the changes since, in their order. A kill leaves the live image. Either way handles from
//! before are dead.
//!
//! Every changing call is one *operation*; [`SimDisk::crash_at`] stops the machine inside the
//! nth, so that a test can do so at each of them.

mod content;
mod file;
mod names;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, DiskFile, Listed, Open};
use content::Content;
use file::SimFile;
use headwater_batch::SplitMix64 as Rng;
use names::{Names, Node, clean};

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
    pub bytes_written: u64,
    pub bytes_read: u64,
    pub syncs: u64,
    pub dir_syncs: u64,
    pub kills: u64,
    pub power_cuts: u64,
    /// Unsynced sectors that a power cut took.
    pub sectors_lost: u64,
    /// Unsynced sectors that had reached the medium by themselves.
    pub sectors_kept_unsynced: u64,
    /// Unsynced sectors of which an overwritten version had reached the medium.
    pub sectors_stale: u64,
    pub names_lost: u64,
    pub names_kept_unsynced: u64,
    pub enospc: u64,
    pub eio: u64,
    pub rotten_bits: u64,
}

/// A simulated disk. Clones share it. Same seed and same calls, same outcome.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    names: Names,
    files: BTreeMap<u64, Content>,
    next_ino: u64,
    /// Handles of an older life are dead.
    life: u64,
    down: Option<Crash>,
    operations: u64,
    sync_points: u64,
    crash_at: Option<(u64, Crash)>,
    crash_at_sync: Option<(u64, Crash)>,
    fail_sync: Option<u64>,
    fail_sync_full: bool,
    fail_write: Option<u64>,
    /// The inode whose reads fail.
    unreadable: Option<u64>,
    capacity: u64,
    rng: Rng,
    counters: SimCounters,
}

impl SimDisk {
    pub fn new(seed: u64) -> SimDisk {
        SimDisk {
            state: Arc::new(Mutex::new(State::new(seed))),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no call panics while it holds the lock")
    }

    /// Crashes now. Handles from before are dead; call [`SimDisk::restart`] to go on.
    pub fn crash(&self, how: Crash) {
        self.state().crash(how);
    }

    /// Crashes in the middle of the `nth` changing operation from now (0 is the next).
    pub fn crash_at(&self, nth: u64, how: Crash) {
        let mut state = self.state();
        state.crash_at = Some((state.operations + nth, how));
    }

    /// Crashes in the middle of the `nth` sync (of a file or a directory) from now.
    pub fn crash_at_sync(&self, nth: u64, how: Crash) {
        let mut state = self.state();
        state.crash_at_sync = Some((state.sync_points + nth, how));
    }

    /// Whether a crash happened that no [`SimDisk::restart`] followed.
    pub fn is_down(&self) -> bool {
        self.state().down.is_some()
    }

    /// How it crashed, if no [`SimDisk::restart`] followed.
    pub fn down(&self) -> Option<Crash> {
        self.state().down
    }

    /// Bytes in all files, as reads see them.
    pub fn used_bytes(&self) -> u64 {
        self.state().used()
    }

    /// Powers on after a crash. Planned crashes and failures are forgotten.
    pub fn restart(&self) {
        let mut state = self.state();
        state.down = None;
        state.crash_at = None;
        state.crash_at_sync = None;
        state.fail_sync = None;
        state.fail_write = None;
        let State { names, files, .. } = &mut *state;
        files.retain(|ino, _| names.reaches(*ino));
    }

    /// Another disk with the same content, both images of it: a card that was copied. Its faults
    /// and its chance are its own.
    pub fn copy(&self, seed: u64) -> SimDisk {
        let copy = SimDisk::new(seed);
        let state = self.state();
        *copy.state() = State {
            names: state.names.clone(),
            files: state.files.clone(),
            next_ino: state.next_ino,
            capacity: state.capacity,
            ..State::new(seed)
        };
        copy
    }

    /// Changing operations so far: writes, syncs, lengths, names.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Syncs so far, of files and directories.
    pub fn sync_points(&self) -> u64 {
        self.state().sync_points
    }

    pub fn counters(&self) -> SimCounters {
        self.state().counters
    }

    /// The most bytes in all files; `StorageFull` beyond.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// The `nth` sync of a file from now (0 is the next) fails with EIO. As on Linux, its pages
    /// then look clean: they stay readable, a later sync succeeds, a power cut loses them.
    pub fn fail_sync(&self, nth: u64) {
        let mut state = self.state();
        (state.fail_sync, state.fail_sync_full) = (Some(nth), false);
    }

    /// As [`SimDisk::fail_sync`], but the reason is `StorageFull`: file systems that find room only
    /// when they write back, and thin volumes, say so. `None` takes either order back.
    pub fn fail_sync_full(&self, nth: Option<u64>) {
        let mut state = self.state();
        (state.fail_sync, state.fail_sync_full) = (nth, true);
    }

    /// The `nth` write from now (0 is the next) fails with EIO, half done.
    pub fn fail_write(&self, nth: u64) {
        self.state().fail_write = Some(nth);
    }

    /// Reads of this file fail with EIO, over restarts, until another is named or none.
    pub fn fail_reads(&self, path: Option<&Path>) -> io::Result<()> {
        let mut state = self.state();
        let ino = path.map(|path| state.ino(&clean(path))).transpose()?;
        state.unreadable = ino;
        Ok(())
    }

    /// Flips bits at rest, in both images.
    pub fn rot(&self, path: &Path, byte: u64, mask: u8) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.ino(&clean(path))?;
        state.counters.rotten_bits += u64::from(mask.count_ones());
        state.content(ino).rot(index(byte)?, mask);
        Ok(())
    }

    /// All file paths, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.state();
        let live = state.names.live.iter();
        live.filter(|(_, n)| **n != Node::Dir)
            .map(|(p, _)| p.clone())
            .collect()
    }
}

impl State {
    fn new(seed: u64) -> State {
        State {
            names: Names::default(),
            files: BTreeMap::new(),
            next_ino: 1,
            life: 0,
            down: None,
            operations: 0,
            sync_points: 0,
            crash_at: None,
            crash_at_sync: None,
            fail_sync: None,
            fail_sync_full: false,
            fail_write: None,
            unreadable: None,
            capacity: u64::MAX,
            rng: Rng(seed),
            counters: SimCounters::default(),
        }
    }

    fn crash(&mut self, how: Crash) {
        if self.down.is_some() {
            return;
        }
        self.down = Some(how);
        self.life += 1;
        match how {
            Crash::Kill => self.counters.kills += 1,
            Crash::Power => {
                self.counters.power_cuts += 1;
                // Clean losses and complete write-back are as likely as any mixture.
                let keep_of_8 = [0, 1, 4, 7, 8][self.rng.below(5) as usize];
                self.names
                    .power_cut(keep_of_8, &mut self.rng, &mut self.counters);
                for content in self.files.values_mut() {
                    content.power_cut(keep_of_8, &mut self.rng, &mut self.counters);
                }
            }
        }
    }

    fn up(&self) -> io::Result<()> {
        if self.down.is_some() {
            Err(off())
        } else {
            Ok(())
        }
    }

    /// Counts an operation. `Some` when the machine is to crash in it.
    fn operation(&mut self, is_sync: bool) -> io::Result<Option<Crash>> {
        self.up()?;
        let mut crash = None;
        if let Some((at, how)) = self.crash_at {
            crash = (at == self.operations).then_some(how);
        }
        self.operations += 1;
        if is_sync {
            if let Some((at, how)) = self.crash_at_sync {
                crash = crash.or((at == self.sync_points).then_some(how));
            }
            self.sync_points += 1;
        }
        Ok(crash)
    }

    /// Counts an operation that leaves nothing when the machine crashes in it.
    fn operation_or_crash(&mut self, is_sync: bool) -> io::Result<()> {
        match self.operation(is_sync)? {
            Some(how) => {
                self.crash(how);
                Err(off())
            }
            None => Ok(()),
        }
    }

    fn ino(&self, path: &Path) -> io::Result<u64> {
        match self.names.live.get(path) {
            Some(Node::File(ino)) => Ok(*ino),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn content(&mut self, ino: u64) -> &mut Content {
        self.files.entry(ino).or_default()
    }

    fn used(&self) -> u64 {
        let inos = self.names.live.values().filter_map(|n| match n {
            Node::File(ino) => self.files.get(ino),
            Node::Dir => None,
        });
        inos.map(|c| c.live.len() as u64).sum()
    }

    fn grow(&mut self, from: u64, to: u64) -> io::Result<()> {
        if to > from && self.used().saturating_add(to - from) > self.capacity {
            self.counters.enospc += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

fn off() -> io::Error {
    io::Error::other("the machine is off")
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

fn index(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(io::Error::other)
}

/// Counts down; true when it was zero.
fn fires(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let path = clean(path);
        let mut state = self.state();
        state.up()?;
        let ino = match (state.ino(&path), how) {
            (Ok(_), Open::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(ino), _) => ino,
            (Err(e), Open::Create | Open::New) if e.kind() == io::ErrorKind::NotFound => {
                if !state
                    .names
                    .dir_exists(path.parent().unwrap_or(Path::new("")))
                {
                    return Err(e);
                }
                state.operation_or_crash(false)?;
                let ino = state.next_ino;
                state.next_ino += 1;
                state.names.link(path, Node::File(ino));
                ino
            }
            (Err(e), _) => return Err(e),
        };
        let life = state.life;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            ino,
            life,
            writable: how != Open::Read,
        }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = clean(path);
        let mut state = self.state();
        state.up()?;
        let missing: Vec<_> = path
            .ancestors()
            .filter(|p| !state.names.dir_exists(p))
            .collect();
        for dir in missing.into_iter().rev() {
            if state.names.live.contains_key(dir) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.operation_or_crash(false)?;
            state.names.link(dir.to_path_buf(), Node::Dir);
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let dir = clean(dir);
        let state = self.state();
        state.up()?;
        if !state.names.dir_exists(&dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut listed = Vec::new();
        for (path, node) in state
            .names
            .live
            .iter()
            .filter(|(p, _)| p.parent() == Some(&dir))
        {
            let name = path
                .file_name()
                .expect("a child has a name")
                .to_string_lossy();
            let bytes = match node {
                Node::File(ino) => state.files.get(ino).map_or(0, |c| c.live.len() as u64),
                Node::Dir => 0,
            };
            listed.push(Listed {
                name: name.into_owned(),
                is_dir: *node == Node::Dir,
                bytes,
            });
        }
        listed.sort();
        Ok(listed)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let path = clean(path);
        let state = self.state();
        state.up()?;
        Ok(state.names.dir_exists(&path) || state.names.live.contains_key(&path))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = clean(path);
        let mut state = self.state();
        state.up()?;
        state.ino(&path)?;
        state.operation_or_crash(false)?;
        state.names.unlink(path);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = clean(path);
        let mut state = self.state();
        state.up()?;
        if !state.names.dir_exists(&path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.operation_or_crash(false)?;
        state.names.unlink(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (clean(from), clean(to));
        let mut state = self.state();
        state.up()?;
        let node = *state.names.live.get(&from).ok_or(io::ErrorKind::NotFound)?;
        if !state.names.dir_exists(to.parent().unwrap_or(Path::new(""))) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if state.names.dir_exists(&to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.operation_or_crash(false)?;
        state.names.rename(from, to, node);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = clean(dir);
        let mut state = self.state();
        state.up()?;
        if !state.names.dir_exists(&dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.operation_or_crash(true)?;
        state.counters.dir_syncs += 1;
        state.names.sync(&dir);
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.state();
        state.up()?;
        Ok(state.capacity.saturating_sub(state.used()))
    }
}
