//! One group on its way to the disk, detached from the journal so that any thread can carry it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{FLAG_ZSTD, GROUP_HEADER_BYTES, GroupHeader, group_bytes, place};
use crate::disk::{Disk, DiskFile};
use crate::error::LogError;

/// A zstd context and two buffers that go around with the jobs: no allocation per commit.
pub(crate) struct Kit {
    /// Header and plain body.
    pub group: Vec<u8>,
    /// Header and compressed body.
    pub packed: Vec<u8>,
    /// Made when first needed: an edge with small groups never pays for it.
    pub zstd: Option<zstd::bulk::Compressor<'static>>,
}

/// Starts a new file: `spare` gets a header and then its name.
pub(super) struct Roll {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub spare: PathBuf,
    pub path: PathBuf,
    /// Both header copies, and groups that belong to them.
    pub content: Vec<u8>,
    /// The file before, when not all of it is synced.
    pub unsynced: Option<(PathBuf, Arc<dyn DiskFile>)>,
}

impl Roll {
    /// Header durable, then the name: a journal file is there whole or not at all.
    pub fn run(&self, file: &dyn DiskFile) -> Result<(), LogError> {
        if let Some((path, before)) = &self.unsynced {
            before.sync_data().map_err(LogError::sync(path))?;
        }
        file.write_at(&self.content, 0)
            .map_err(LogError::io("write", &self.spare))?;
        file.sync_data().map_err(LogError::sync(&self.spare))?;
        self.disk
            .rename(&self.spare, &self.path)
            .map_err(LogError::io("rename", &self.spare))?;
        self.disk
            .sync_dir(&self.dir)
            .map_err(LogError::sync(&self.dir))
    }
}

/// One group on its way to the disk. [`CommitJob::run`] may run on any thread.
/// Dropping it unfinished leaves the journal in flight for ever: run it.
#[must_use = "run it, then give the result to finish_commit"]
pub struct CommitJob {
    pub(super) kit: Kit,
    pub(super) header: Option<GroupHeader>,
    pub(super) roll: Option<Roll>,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) path: PathBuf,
    pub(super) at: u64,
    /// The group may begin a page later, if it then ends at most here.
    pub(super) end_max: Option<u64>,
    pub(super) sync: bool,
    pub(super) compress_above: usize,
    pub(super) retry_failed_sync: bool,
}

/// What became of a [`CommitJob`].
#[must_use = "give it to finish_commit"]
pub struct CommitDone {
    pub(super) kit: Kit,
    /// Where the group stands in the file.
    pub(super) result: Result<Range<u64>, LogError>,
}

impl CommitJob {
    /// One write and one fdatasync; before them the header of a new file where the group opens
    /// one. Blocks for as long as the disk takes.
    pub fn run(mut self) -> CommitDone {
        let result = self.write();
        CommitDone {
            kit: self.kit,
            result,
        }
    }

    fn write(&mut self) -> Result<Range<u64>, LogError> {
        if let Some(roll) = &self.roll {
            roll.run(&*self.file)?;
        }
        let mut written = self.at..self.at;
        if let Some(header) = self.header {
            let group = pack(&mut self.kit, header, self.compress_above, &self.path)?;
            let (better, bytes) = (place(self.at, group.len()), group.len() as u64);
            let fits = self.end_max.is_some_and(|max| better + bytes <= max);
            let at = if fits { better } else { self.at };
            self.file
                .write_at(group, at)
                .map_err(LogError::io("write", &self.path))?;
            written = at..at + bytes;
        }
        if self.sync {
            let mut synced = self.file.sync_data();
            if synced.is_err() && self.retry_failed_sync {
                synced = self.file.sync_data();
            }
            synced.map_err(LogError::sync(&self.path))?;
        }
        Ok(written)
    }
}

/// Compresses where it pays, pads and seals. `kit.group` starts with room for the header.
fn pack<'a>(
    kit: &'a mut Kit,
    mut header: GroupHeader,
    compress_above: usize,
    path: &Path,
) -> Result<&'a [u8], LogError> {
    let plain = kit.group.len() - GROUP_HEADER_BYTES;
    let mut stored = plain;
    if plain > compress_above {
        let zstd = match &mut kit.zstd {
            Some(zstd) => zstd,
            none => {
                none.insert(zstd::bulk::Compressor::new(1).map_err(LogError::io("zstd", path))?)
            }
        };
        // A body that does not shrink fails for want of room and stays plain.
        kit.packed.resize(GROUP_HEADER_BYTES + plain, 0);
        let room = &mut kit.packed[GROUP_HEADER_BYTES..];
        if let Ok(n) = zstd.compress_to_buffer(&kit.group[GROUP_HEADER_BYTES..], room) {
            if n < plain {
                stored = n;
                header.flags |= FLAG_ZSTD;
            }
        }
    }
    let group = if stored < plain {
        &mut kit.packed
    } else {
        &mut kit.group
    };
    header.stored_bytes = u32::try_from(stored).expect("bounded by group_bytes_max");
    group.truncate(GROUP_HEADER_BYTES + stored);
    header.seal(group);
    group.resize(group_bytes(stored), 0);
    Ok(group)
}
