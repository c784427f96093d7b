//! State derived from the journal, kept so that the journal can be short.
//!
//! A checkpoint is a sorted map of byte keys to byte values together with the journal position it
//! was taken at. Two generations are kept (J5).

use crate::error::LogError;

/// What a generation is known by. The journal's file headers repeat it; one that they do not
/// confirm does not count (J5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Counts checkpoints from 1.
    pub generation: u64,
    /// The first frame that is not in it.
    pub at: u64,
    /// [`digest`](self) over all entries.
    pub digest: u64,
}

/// A place for two generations of checkpoints.
pub trait CheckpointStore: Send {
    /// The generations whose content proves itself, newest first, and what was wrong with others.
    /// Never an error because of what is on the medium: a damaged store is moved aside.
    fn generations(&mut self) -> Result<Vec<Mark>, LogError>;
}

/// Generations in sled, on the real disk. For products.
pub struct SledStore;

impl SledStore {
    /// `dir` is made when missing and belongs to the store alone.
    pub fn open(_dir: &std::path::Path) -> Result<SledStore, LogError> {
        unimplemented!()
    }
}

impl CheckpointStore for SledStore {
    fn generations(&mut self) -> Result<Vec<Mark>, LogError> {
        unimplemented!()
    }
}

/// Generations as plain files on any [`Disk`](crate::disk::Disk). For tests on a
/// [`SimDisk`](crate::disk::SimDisk).
pub struct FileStore;

impl FileStore {
    /// `dir` is made when missing and belongs to the store alone.
    pub fn open(
        _disk: std::sync::Arc<dyn crate::disk::Disk>,
        _dir: &std::path::Path,
    ) -> Result<FileStore, LogError> {
        unimplemented!()
    }
}

impl CheckpointStore for FileStore {
    fn generations(&mut self) -> Result<Vec<Mark>, LogError> {
        unimplemented!()
    }
}
