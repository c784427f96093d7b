//! State derived from the journal, kept so that the journal can be short.
//!
//! A checkpoint is a sorted map of byte keys to byte values together with the journal position it
//! was taken at: neither counts without the other. Two generations are kept (J5), each in a
//! slot of its own, so that writing one never touches the other. The journal's file headers say
//! which generations count.
//!
//! Nothing on the medium keeps a store from opening: what does not prove itself is moved aside
//! and rebuilt from the other generation, or from the journal.

mod file;
mod reserved;
mod sled;

pub use file::{FILE_STORE_HEADER_BYTES, FILE_STORE_MAGIC, FileStore};
pub use reserved::{RESERVE_FILE, Reserved, reserve_bytes};
pub use sled::{MANIFEST_HEADER_BYTES, MANIFEST_MAGIC, SledStore};

use crate::error::LogError;

/// One change of an entry; `None` removes it.
pub type Change = (Vec<u8>, Option<Vec<u8>>);
/// The entries of a checkpoint, in key order.
pub type Entries = Vec<(Vec<u8>, Vec<u8>)>;
/// Changes to a checkpoint's entries; `None` removes. Later ones win.
pub type Changes = [Change];

/// The longest key.
pub const KEY_BYTES_MAX: usize = 64 << 10;
/// The longest value.
pub const VALUE_BYTES_MAX: usize = 8 << 20;

/// What a generation is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Counts checkpoints from 1; 0 is none.
    pub generation: u64,
    /// The first frame that is not in it.
    pub at: u64,
    /// [`Digest`] over all entries.
    pub digest: u64,
}

/// No log comes so far: generations and positions above it are not believed, and sums below it do
/// not overflow.
pub const POSITION_MAX: u64 = 1 << 62;

impl Mark {
    pub(crate) fn is_plausible(&self) -> bool {
        self.generation.max(self.at) <= POSITION_MAX
    }
}

/// A place for two generations of checkpoints.
pub trait CheckpointStore: Send {
    /// The generations that are there, newest first. They are not proven yet.
    fn generations(&mut self) -> Result<Vec<Mark>, LogError>;

    /// The entries of a generation, if they prove themselves against its digest. `None`: damaged,
    /// and moved aside.
    fn load(&mut self, generation: u64) -> Result<Option<Entries>, LogError>;

    /// Writes a generation that is `base` (nothing, for `None`) with `changes`, into the slot that
    /// does not hold `base`. It is durable, names included, when this returns `Ok`. After an error
    /// `base` is untouched.
    fn commit(
        &mut self,
        base: Option<u64>,
        generation: u64,
        at: u64,
        changes: &Changes,
    ) -> Result<Mark, LogError>;

    /// What was moved aside or rebuilt since the last call, for the log.
    fn notes(&mut self) -> Vec<String>;
}

impl<S: CheckpointStore + ?Sized> CheckpointStore for Box<S> {
    fn generations(&mut self) -> Result<Vec<Mark>, LogError> {
        (**self).generations()
    }

    fn load(&mut self, generation: u64) -> Result<Option<Entries>, LogError> {
        (**self).load(generation)
    }

    fn commit(
        &mut self,
        base: Option<u64>,
        generation: u64,
        at: u64,
        changes: &Changes,
    ) -> Result<Mark, LogError> {
        (**self).commit(base, generation, at, changes)
    }

    fn notes(&mut self) -> Vec<String> {
        (**self).notes()
    }
}

/// A digest over a set of entries that is kept up to date one entry at a time: the wrapping sum
/// of a mixed CRC-32 and length of each. A missing, added or changed entry shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(pub u64);

impl Digest {
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(entry(key, value));
    }

    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_sub(entry(key, value));
    }
}

fn entry(key: &[u8], value: &[u8]) -> u64 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&(key.len() as u32).to_le_bytes());
    crc.update(key);
    crc.update(value);
    let mut z = (u64::from(crc.finalize()) << 32) ^ ((key.len() + value.len()) as u64) ^ SEED;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const SEED: u64 = 0x6865_6164_7761_7465;

#[cfg(test)]
fn apply(entries: &mut std::collections::BTreeMap<Vec<u8>, Vec<u8>>, changes: &Changes) {
    for (key, value) in changes {
        match value {
            Some(value) => entries.insert(key.clone(), value.clone()),
            None => entries.remove(key),
        };
    }
}
