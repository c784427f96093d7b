//! The writing side of a partition. It belongs to the store alone.

use std::io;
use std::path::Path;
use std::sync::Arc;

use headwater_batch::Offset;

use super::shared::{SegmentInfo, Shared};
use crate::disk::{DiskFile, Open};
use crate::error::{LogError, is_full};
use crate::segment::{BatchMeta, INDEX_ENTRY_BYTES, IndexBuilder, TIME_ENTRY_BYTES, base_of};

/// How far a partition's segments are known to be on the medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Synced {
    /// The segment that was active.
    pub(crate) base: Offset,
    /// Good bytes of it.
    pub(crate) position: u64,
    /// The offset after them.
    pub(crate) end: Offset,
}

pub(crate) struct PartitionLog {
    pub(crate) shared: Arc<Shared>,
    pub(super) active: Option<Active>,
    segment_bytes: u64,
    /// What [`PartitionLog::sync`] has covered.
    pub(super) synced: Synced,
    /// A file was created since its directory was synced.
    pub(super) names_unsynced: bool,
}

/// The segment that is appended to.
pub(super) struct Active {
    pub(super) indexes: IndexBuilder,
    pub(super) log: Arc<dyn DiskFile>,
    pub(super) index: IndexFile,
    pub(super) timeindex: IndexFile,
}

/// An index file and its length. What lies beyond the length is a failed write's.
pub(super) struct IndexFile {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) bytes: u64,
}

impl IndexFile {
    fn append(&mut self, entry: &[u8]) -> io::Result<()> {
        self.file.write_at(entry, self.bytes)?;
        self.bytes += entry.len() as u64;
        Ok(())
    }
}

impl PartitionLog {
    pub(crate) fn new(shared: Arc<Shared>, segment_bytes: u64) -> PartitionLog {
        PartitionLog {
            shared,
            active: None,
            segment_bytes,
            synced: Synced::default(),
            names_unsynced: false,
        }
    }

    /// The offset after the last batch.
    pub(crate) fn end(&self) -> Offset {
        self.shared.state().end
    }

    pub(crate) fn synced(&self) -> Synced {
        self.synced
    }

    /// Appends a batch to the page cache. On `Err` nothing was appended, and the same batch may
    /// be tried again.
    ///
    /// `stamp` is the store's persisted clock.
    pub(crate) fn append(
        &mut self,
        batch: &[u8],
        meta: &BatchMeta,
        stamp: u64,
    ) -> Result<(), LogError> {
        let end = self.end();
        assert!(meta.base >= end, "offsets of a partition only grow");
        if self.active.as_ref().is_some_and(|active| {
            let full = active.indexes.position() + meta.bytes as u64 > self.segment_bytes;
            let empty = active.indexes.position() == 0;
            // Only an empty segment whose base is wrong has to go without a roll.
            (full && !empty) || !active.indexes.fits(meta) || meta.base != active.indexes.end()
        }) {
            self.roll(stamp)?;
        }
        if self.active.is_none() {
            self.begin_segment(meta.base, stamp)?;
        }
        let active = self.active.as_mut().expect("begun above");
        let base = active.indexes.base();
        let path = self.shared.path(base, "log");
        let position = active.indexes.position();
        active
            .log
            .write_at(batch, position)
            .map_err(LogError::io("append to", &path))?;
        let entries = active.indexes.append(meta);
        // An entry that found no room is left out: indexes are hints, and sparse ones are good.
        let hint = |file: &mut IndexFile, entry: &[u8]| match file.append(entry) {
            Err(error) if !is_full(&error) => Err(error),
            _ => Ok(()),
        };
        if let Some(entry) = entries.offset {
            hint(&mut active.index, &entry.encode()).map_err(LogError::io("index", &path))?;
        }
        if let Some(entry) = entries.time {
            hint(&mut active.timeindex, &entry.encode()).map_err(LogError::io("index", &path))?;
        }
        let bytes = active.indexes.position();
        let mut state = self.shared.state();
        state.end = meta.end();
        let last = state
            .segments
            .last_mut()
            .expect("the active segment is listed");
        last.bytes = bytes;
        Ok(())
    }

    /// Whether [`PartitionLog::sync`] has anything to do.
    pub(crate) fn is_dirty(&self) -> bool {
        self.names_unsynced
            || self
                .active
                .as_ref()
                .is_some_and(|active| active.indexes.end() != self.synced.end)
    }

    /// Puts everything appended so far on the medium, names included.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        if let Some(active) = &self.active {
            let path = self.shared.path(active.indexes.base(), "log");
            let sync = |file: &Arc<dyn DiskFile>| file.sync_data().map_err(LogError::sync(&path));
            if active.indexes.end() != self.synced.end || self.names_unsynced {
                sync(&active.log)?;
                sync(&active.index.file)?;
                sync(&active.timeindex.file)?;
            }
            self.synced = Synced {
                base: active.indexes.base(),
                position: active.indexes.position(),
                end: active.indexes.end(),
            };
        }
        if self.names_unsynced {
            let dir = &self.shared.dir;
            self.shared
                .disk
                .sync_dir(dir)
                .map_err(LogError::sync(dir))?;
            self.names_unsynced = false;
        }
        Ok(())
    }

    /// Seals the active segment: its last time entry, exact lengths, synced. The next append
    /// starts a new one.
    pub(crate) fn roll(&mut self, stamp: u64) -> Result<(), LogError> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let base = active.indexes.base();
        let path = self.shared.path(base, "log");
        if let Some(entry) = active.indexes.seal() {
            match active.timeindex.append(&entry.encode()) {
                Err(error) if !is_full(&error) => {
                    return Err(LogError::io("index", &path)(error));
                }
                _ => {}
            }
        }
        let lengths = [
            (&active.log, active.indexes.position()),
            (&active.index.file, active.index.bytes),
            (&active.timeindex.file, active.timeindex.bytes),
        ];
        for (file, bytes) in lengths {
            let exact = file.len().map_err(LogError::io("look at", &path))? == bytes;
            if !exact {
                file.set_len(bytes).map_err(LogError::io("cut", &path))?;
            }
        }
        // Invariant: what is not the last segment is synced, so recovery need not look at it.
        self.names_unsynced = true;
        self.sync()?;
        self.active = None;
        if let Some(last) = self.shared.state().segments.last_mut() {
            last.stamp = stamp;
        }
        Ok(())
    }

    /// Creates an empty segment at `base`, which becomes the active one.
    pub(crate) fn begin_segment(&mut self, base: Offset, stamp: u64) -> Result<(), LogError> {
        let create = |suffix: &str| {
            let path = self.shared.path(base, suffix);
            let file = self
                .shared
                .disk
                .open(&path, Open::Create)
                .map_err(LogError::io("create", &path))?;
            // A file of that name is what a failed attempt, or a deleted segment, left behind.
            if file.len().map_err(LogError::io("look at", &path))? != 0 {
                file.set_len(0).map_err(LogError::io("cut", &path))?;
            }
            Ok::<_, LogError>(file)
        };
        let active = Active {
            indexes: IndexBuilder::new(base),
            log: create("log")?,
            index: IndexFile {
                file: create("index")?,
                bytes: 0,
            },
            timeindex: IndexFile {
                file: create("timeindex")?,
                bytes: 0,
            },
        };
        self.active = Some(active);
        self.names_unsynced = true;
        let mut state = self.shared.state();
        // An empty segment that never got a batch is replaced, not followed.
        state.segments.retain(|segment| segment.base < base);
        state.segments.push(SegmentInfo {
            base,
            bytes: 0,
            stamp,
        });
        state.end = base;
        Ok(())
    }

    /// Deletes the segments that lie wholly below `start`, and hides what is below from readers.
    /// The owner has made that durable before. The last segment stays.
    pub(crate) fn delete_below(&mut self, start: Offset) -> Result<(), LogError> {
        let gone = {
            let mut state = self.shared.state();
            state.start = state.start.max(start);
            let keep = state.segments.len().saturating_sub(1);
            let below = (0..keep).take_while(|i| state.segments[i + 1].base <= start);
            let count = below.count();
            state.segments.drain(..count).collect::<Vec<_>>()
        };
        for segment in gone {
            remove_segment(&self.shared, segment.base)?;
        }
        Ok(())
    }

    /// J5 switched off: believes in what was never synced.
    pub(crate) fn pretend_synced(&mut self) {
        if let Some(active) = &self.active {
            self.synced = Synced {
                base: active.indexes.base(),
                position: active.indexes.position(),
                end: active.indexes.end(),
            };
        }
    }

    /// Gives sealed segments the times at which they were sealed.
    pub(crate) fn restamp(&self, stamps: &[(Offset, u64)]) {
        let mut state = self.shared.state();
        for segment in &mut state.segments {
            if let Some((_, stamp)) = stamps.iter().find(|(base, _)| *base == segment.base) {
                segment.stamp = *stamp;
            }
        }
    }

    /// Segments of which nothing tells when they were sealed: at the latest now, when the clock
    /// stands at `stamp`. They are kept too long rather than too short (J9).
    pub(crate) fn stamp_others(&self, known: &[(Offset, u64)], stamp: u64) {
        let mut state = self.shared.state();
        let is_known = |base: Offset| known.iter().any(|(known, _)| *known == base);
        let others = state.segments.iter_mut().filter(|s| !is_known(s.base));
        others.for_each(|segment| segment.stamp = segment.stamp.max(stamp));
    }

    /// Bytes of all files: logs and an upper bound of their indexes.
    pub(crate) fn bytes(&self) -> u64 {
        let state = self.shared.state();
        let log = state.bytes();
        let entry = (INDEX_ENTRY_BYTES + TIME_ENTRY_BYTES) as u64;
        log + log / crate::segment::INDEX_INTERVAL_BYTES * entry
    }
}

/// Removes the three files; a missing one is no matter.
pub(super) fn remove_segment(shared: &Shared, base: Offset) -> Result<(), LogError> {
    for suffix in ["log", "index", "timeindex"] {
        let path = shared.path(base, suffix);
        match shared.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LogError::io("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The segments of a directory: base offset and length of the log, in order.
pub(crate) fn list_segments(
    disk: &dyn crate::disk::Disk,
    dir: &Path,
) -> Result<Vec<(Offset, u64)>, LogError> {
    let names = disk.list(dir).map_err(LogError::io("list", dir))?;
    let logs = names.iter().filter(|listed| !listed.is_dir);
    let mut segments: Vec<_> = logs
        .filter_map(|listed| Some((base_of(&listed.name)?, listed.bytes)))
        .collect();
    segments.sort();
    Ok(segments)
}
