//! Checkpoints as plain files on any [`Disk`]: one file per generation, written whole.
//!
//! Meant for tests on a simulated disk and for small states. See FORMAT.md, "Checkpoint files".

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Changes, CheckpointStore, Digest, Entries, Mark, apply};
use crate::disk::{Disk, create_dirs, read_all, replace};
use crate::error::LogError;

/// Starts a checkpoint file. The last two characters are the format's version.
pub const FILE_STORE_MAGIC: [u8; 8] = *b"HWCKPT01";
/// Magic, CRC-32, a zero word, generation, position, digest, count of entries.
pub const FILE_STORE_HEADER_BYTES: usize = 48;
/// The largest checkpoint file.
pub const FILE_STORE_BYTES_MAX: u64 = 256 << 20;

/// Generations as plain files on any [`Disk`]. For tests on a
/// [`SimDisk`](crate::disk::SimDisk).
pub struct FileStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    notes: Vec<String>,
}

impl FileStore {
    /// `dir` is made when missing and belongs to the store alone.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<FileStore, LogError> {
        create_dirs(&*disk, dir).map_err(LogError::io("create", dir))?;
        Ok(FileStore {
            disk,
            dir: dir.to_path_buf(),
            notes: Vec::new(),
        })
    }

    fn slot(&self, i: usize) -> PathBuf {
        self.dir.join(if i == 0 {
            "a.checkpoint"
        } else {
            "b.checkpoint"
        })
    }

    /// The content of a slot, if it proves itself.
    fn read(&mut self, i: usize) -> Result<Option<(Mark, Entries)>, LogError> {
        let path = self.slot(i);
        let bytes = match read_all(&*self.disk, &path, FILE_STORE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(LogError::io("read", &path)(e)),
        };
        let decoded = decode(&bytes);
        if decoded.is_none() {
            self.move_aside(&path)?;
        }
        Ok(decoded)
    }

    fn move_aside(&mut self, path: &Path) -> Result<(), LogError> {
        let aside = path.with_extension("damaged");
        self.notes.push(format!(
            "{} is damaged: moved to {}",
            path.display(),
            aside.display()
        ));
        self.disk
            .rename(path, &aside)
            .map_err(LogError::io("rename", path))
    }

    fn slot_of(&mut self, generation: u64) -> Result<Option<(usize, Entries)>, LogError> {
        for i in 0..2 {
            if let Some((mark, entries)) = self.read(i)? {
                if mark.generation == generation {
                    return Ok(Some((i, entries)));
                }
            }
        }
        Ok(None)
    }
}

impl CheckpointStore for FileStore {
    fn generations(&mut self) -> Result<Vec<Mark>, LogError> {
        let mut marks = Vec::new();
        for i in 0..2 {
            marks.extend(self.read(i)?.map(|(mark, _)| mark));
        }
        marks.sort_by_key(|m| std::cmp::Reverse(m.generation));
        Ok(marks)
    }

    fn load(&mut self, generation: u64) -> Result<Option<Entries>, LogError> {
        Ok(self.slot_of(generation)?.map(|(_, entries)| entries))
    }

    fn commit(
        &mut self,
        base: Option<u64>,
        generation: u64,
        at: u64,
        changes: &Changes,
    ) -> Result<Mark, LogError> {
        let mut state = BTreeMap::new();
        let mut into = 0;
        if let Some(base) = base {
            let missing = || LogError::corrupt(&self.dir, 0, "the generation in use is gone");
            let missing = missing();
            let (slot, entries) = self.slot_of(base)?.ok_or(missing)?;
            state.extend(entries);
            into = 1 - slot;
        }
        apply(&mut state, changes);
        let (mark, bytes) = encode(generation, at, &state);
        let path = self.slot(into);
        replace(&*self.disk, &path, &bytes).map_err(LogError::io("write", &path))?;
        Ok(mark)
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

fn encode(generation: u64, at: u64, entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> (Mark, Vec<u8>) {
    let mut digest = Digest::default();
    let mut bytes = FILE_STORE_MAGIC.to_vec();
    bytes.resize(FILE_STORE_HEADER_BYTES, 0);
    for (key, value) in entries {
        digest.add(key, value);
        for part in [key, value] {
            let len = u32::try_from(part.len()).expect("keys and values are bounded");
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(part);
        }
    }
    let words = [generation, at, digest.0, entries.len() as u64];
    for (i, word) in words.into_iter().enumerate() {
        bytes[16 + 8 * i..24 + 8 * i].copy_from_slice(&word.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[12..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    (
        Mark {
            generation,
            at,
            digest: digest.0,
        },
        bytes,
    )
}

fn decode(bytes: &[u8]) -> Option<(Mark, Entries)> {
    let fixed = bytes.get(..FILE_STORE_HEADER_BYTES)?;
    let crc = u32::from_le_bytes(fixed[8..12].try_into().ok()?);
    if fixed[..8] != FILE_STORE_MAGIC || crc32fast::hash(&bytes[12..]) != crc {
        return None;
    }
    let word = |i: usize| {
        u64::from_le_bytes(
            fixed[16 + 8 * i..24 + 8 * i]
                .try_into()
                .expect("eight bytes"),
        )
    };
    let mark = Mark {
        generation: word(0),
        at: word(1),
        digest: word(2),
    };
    let mut rest = &bytes[FILE_STORE_HEADER_BYTES..];
    let mut entries = Vec::new();
    let mut digest = Digest::default();
    while !rest.is_empty() {
        let (key, value) = (take(&mut rest)?, take(&mut rest)?);
        digest.add(key, value);
        entries.push((key.to_vec(), value.to_vec()));
    }
    (mark.is_plausible() && digest.0 == mark.digest && entries.len() as u64 == word(3))
        .then_some((mark, entries))
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::from_le_bytes(rest.get(..4)?.try_into().ok()?) as usize;
    let part = rest.get(4..4usize.checked_add(len)?)?;
    *rest = &rest[4 + len..];
    Some(part)
}
