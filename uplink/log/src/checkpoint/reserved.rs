//! A store with room laid aside for it (J6).
//!
//! Only a checkpoint lets go of the journal, and only a checkpoint that can be read lets a node start.
//! Both write: a medium that others have filled to the last byte would stop everything that could
//! empty it again. So a file is kept that nobody writes to:
//!
//! ```text
//! reserve    preallocated; removed when the store finds no room, and at a start that finds less free
//!            than it should hold; made again with the next checkpoint, from what is free then
//! ```
//! What it held goes to who needs it at once: the start that finds the medium full, for its journal
//! file, its segments and the checkpoint that trims; or the checkpoint, within the call. Others who
//! write in between may be quicker, and then it is as without: refused, until there is room.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Changes, CheckpointStore, Entries, Mark};
use crate::disk::{Disk, Open, clear};
use crate::error::{ErrorKind, LogError, is_full};

/// The file's name.
pub const RESERVE_FILE: &str = "reserve";
/// Less is not worth a file.
const BYTES_MIN: u64 = 64 << 10;

/// What is laid aside in `dir`: bytes that a node may count as free.
pub fn reserve_bytes(disk: &dyn Disk, dir: &Path) -> io::Result<u64> {
    match disk.open(&dir.join(RESERVE_FILE), Open::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        opened => opened?.len(),
    }
}

/// A checkpoint store that a full medium does not stop. See the [module](self).
pub struct Reserved {
    store: Box<dyn CheckpointStore>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// What should be held, and what is.
    bytes: u64,
    held: u64,
    /// Room was short: as much is laid aside again as can be.
    is_short: bool,
    notes: Vec<String>,
}

impl Reserved {
    /// Lays `bytes` aside in `dir`, which exists, when they leave a quarter as much free; gives them
    /// up if this start finds less free than that many. Then `open` opens the store.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        bytes: u64,
        open: impl FnOnce() -> Result<Box<dyn CheckpointStore>, LogError>,
    ) -> Result<Reserved, LogError> {
        let mut reserved = Reserved {
            store: Box::new(Nothing),
            disk,
            dir: dir.to_path_buf(),
            bytes,
            held: 0,
            is_short: false,
            notes: Vec::new(),
        };
        reserved.make_way()?;
        let found = reserve_bytes(&*reserved.disk, dir);
        reserved.held = found.map_err(LogError::io("measure", &reserved.path()))?;
        if reserved.held > bytes || reserved.free_bytes()? < bytes {
            reserved.give_up()?;
            reserved.is_short = true;
        }
        reserved.store = open()?;
        if !reserved.is_short {
            reserved.lay_aside()?;
        }
        Ok(reserved)
    }

    fn free_bytes(&self) -> Result<u64, LogError> {
        let free = self.disk.free_bytes(&self.dir);
        free.map_err(LogError::io("ask for the free space of", &self.dir))
    }

    fn path(&self) -> PathBuf {
        self.dir.join(RESERVE_FILE)
    }

    /// A directory of that name is not ours: it is moved aside, whatever is in it.
    fn make_way(&mut self) -> Result<(), LogError> {
        let path = self.path();
        let listed = self.disk.list(&self.dir);
        let listed = listed.map_err(LogError::io("list", &self.dir))?;
        if listed.iter().any(|l| l.is_dir && l.name == RESERVE_FILE) {
            let aside = path.with_extension("damaged");
            clear(&*self.disk, &aside).map_err(LogError::io("remove", &aside))?;
            let moved = self.disk.rename(&path, &aside);
            moved.map_err(LogError::io("rename", &path))?;
            let (path, aside) = (path.display(), aside.display());
            let note = format!("{path} is a directory: moved to {aside}");
            self.notes.push(note);
        }
        Ok(())
    }

    /// Whether that made room.
    fn give_up(&mut self) -> Result<bool, LogError> {
        let path = self.path();
        match self.disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            removed => removed.map_err(LogError::io("remove", &path))?,
        }
        self.held = 0;
        self.is_short = true;
        self.notes.push(format!("{}: given up", path.display()));
        Ok(true)
    }

    fn lay_aside(&mut self) -> Result<(), LogError> {
        if self.held >= self.bytes {
            return Ok(());
        }
        let free = self.free_bytes()?.saturating_add(self.held);
        let bytes = match free {
            free if free >= self.bytes.saturating_add(self.bytes / 4) => self.bytes,
            free if self.is_short => (free / 4 * 3).min(self.bytes),
            _ => 0,
        };
        if bytes <= self.held || bytes < BYTES_MIN {
            return Ok(());
        }
        match self.allocate(bytes) {
            Ok(()) => {
                self.held = bytes;
                self.is_short = bytes < self.bytes;
            }
            // Somebody was quicker.
            Err(error) if is_full(&error) => drop(self.give_up()?),
            Err(error) => return Err(LogError::io("allocate", &self.path())(error)),
        }
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let file = self.disk.open(&self.path(), Open::Create)?;
        file.allocate(bytes)?;
        file.sync_data()?;
        self.disk.sync_dir(&self.dir)
    }

    /// Does it, and once more if there is no room but that.
    fn with_room<T>(
        &mut self,
        work: impl Fn(&mut dyn CheckpointStore) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        match work(&mut *self.store) {
            Err(error) if error.kind() == ErrorKind::Full && self.give_up()? => {
                work(&mut *self.store)
            }
            done => done,
        }
    }
}

impl CheckpointStore for Reserved {
    fn generations(&mut self) -> Result<Vec<Mark>, LogError> {
        self.store.generations()
    }

    fn load(&mut self, generation: u64) -> Result<Option<Entries>, LogError> {
        self.with_room(|store| store.load(generation))
    }

    fn commit(
        &mut self,
        base: Option<u64>,
        generation: u64,
        at: u64,
        changes: &Changes,
    ) -> Result<Mark, LogError> {
        let mark = self.with_room(|store| store.commit(base, generation, at, changes))?;
        self.lay_aside()?;
        Ok(mark)
    }

    fn notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.store.notes());
        notes
    }
}

/// Stands in until the store is opened.
struct Nothing;

impl CheckpointStore for Nothing {
    fn generations(&mut self) -> Result<Vec<Mark>, LogError> {
        Ok(Vec::new())
    }

    fn load(&mut self, _generation: u64) -> Result<Option<Entries>, LogError> {
        Ok(None)
    }

    fn commit(
        &mut self,
        _base: Option<u64>,
        _generation: u64,
        _at: u64,
        _changes: &Changes,
    ) -> Result<Mark, LogError> {
        unreachable!("the store is opened before anything is committed to it")
    }

    fn notes(&mut self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimDisk;
    use crate::checkpoint::FileStore;

    const BYTES: u64 = 1 << 20;

    fn open(disk: &SimDisk) -> Result<Reserved, LogError> {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        shared.create_dir(Path::new("/data")).unwrap();
        let of = Arc::clone(&shared);
        Reserved::open(shared, Path::new("/data"), BYTES, || {
            Ok(Box::new(FileStore::open(
                of,
                Path::new("/data/checkpoints"),
            )?))
        })
    }

    fn is_laid_aside(disk: &SimDisk) -> bool {
        disk.exists(&Path::new("/data").join(RESERVE_FILE)).unwrap()
    }

    fn row(n: u8) -> (Vec<u8>, Option<Vec<u8>>) {
        (vec![n], Some(vec![n; 1000]))
    }

    #[test]
    fn a_checkpoint_on_a_full_medium_takes_what_was_laid_aside() {
        let disk = SimDisk::new(1);
        let mut store = open(&disk).unwrap();
        store.commit(None, 1, 10, &[row(1)]).unwrap();
        assert!(is_laid_aside(&disk));
        let used = u64::MAX - disk.free_bytes(Path::new("/data")).unwrap();
        disk.set_capacity(used);
        store.commit(Some(1), 2, 20, &[row(2)]).unwrap();
        let left = reserve_bytes(&disk, Path::new("/data")).unwrap();
        assert!(
            left > BYTES / 2 && left < BYTES,
            "{left}: it gave some of it"
        );
        disk.set_capacity(0);
        let error = store.commit(Some(2), 3, 30, &[row(3)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Full);
        disk.set_capacity(u64::MAX);
        store.commit(Some(2), 3, 30, &[row(3)]).unwrap();
        assert!(is_laid_aside(&disk), "there is room again");
        assert_eq!(store.load(3).unwrap().map(|rows| rows.len()), Some(3));
    }

    #[test]
    fn a_start_that_finds_too_little_gives_it_up_first() {
        let disk = SimDisk::new(2);
        drop(open(&disk).unwrap());
        assert!(is_laid_aside(&disk));
        let used = u64::MAX - disk.free_bytes(Path::new("/data")).unwrap();
        disk.set_capacity(used);
        let mut store = open(&disk).unwrap();
        assert!(!is_laid_aside(&disk));
        assert_eq!(store.notes().len(), 1);
        store.commit(None, 1, 10, &[row(1)]).unwrap();
        let again = || reserve_bytes(&disk, Path::new("/data")).unwrap();
        assert!(again() > BYTES / 2 && again() < BYTES, "what is left of it");
        disk.set_capacity(u64::MAX);
        store.commit(Some(1), 2, 20, &[row(2)]).unwrap();
        assert_eq!(again(), BYTES);
    }
}
