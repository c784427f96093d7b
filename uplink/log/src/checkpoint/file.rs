//! Checkpoints as plain files on any [`Disk`]: one file per generation, written whole.
//!
//! See FORMAT.md, "Checkpoint files". A file may be of any length: it is checked, and the next one is
//! made from it, in pieces of [`PIECE_BYTES`]; only [`CheckpointStore::load`] has all of it in memory,
//! which is what it is for. Writing costs reading the last generation once, and as many bytes again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Changes, CheckpointStore, Digest, Entries, KEY_BYTES_MAX, Mark, VALUE_BYTES_MAX};
use crate::disk::{Disk, DiskFile, Open, clear, create_dirs};
use crate::error::LogError;

/// Starts a checkpoint file. The last two characters are the format's version.
pub const FILE_STORE_MAGIC: [u8; 8] = *b"HWCKPT01";
/// Magic, CRC-32, a zero word, generation, position, digest, count of entries.
pub const FILE_STORE_HEADER_BYTES: usize = 48;
/// What is read and written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Generations as plain files on any [`Disk`].
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

    /// Gives each entry of a slot to `take`, in key order. `None`: there is nothing that proves
    /// itself, which may be known only after entries were given.
    fn walk(
        &mut self,
        i: usize,
        take: &mut dyn FnMut(Vec<u8>, Vec<u8>) -> io::Result<()>,
    ) -> Result<Option<Mark>, LogError> {
        let path = self.slot(i);
        let walked = match self.disk.open(&path, Open::Read) {
            Ok(file) => walk(&*file, take),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => Err(e),
        };
        let walked = match walked {
            Err(e) if e.kind() == io::ErrorKind::IsADirectory => Ok(None),
            walked => walked,
        };
        let mark = walked.map_err(LogError::io("read", &path))?;
        if mark.is_none() {
            self.move_aside(&path)?;
        }
        Ok(mark)
    }

    fn move_aside(&mut self, path: &Path) -> Result<(), LogError> {
        let aside = path.with_extension("damaged");
        self.notes.push(format!(
            "{} is damaged: moved to {}",
            path.display(),
            aside.display()
        ));
        // Of an earlier damage, which may have been a file where this is a directory.
        clear(&*self.disk, &aside).map_err(LogError::io("remove", &aside))?;
        self.disk
            .rename(path, &aside)
            .map_err(LogError::io("rename", path))
    }

    /// Where a generation is. It is proven here, and once more by whoever reads it.
    fn slot_of(&mut self, generation: u64) -> Result<Option<usize>, LogError> {
        for i in 0..2 {
            let mark = self.walk(i, &mut |_, _| Ok(()))?;
            if mark.is_some_and(|mark| mark.generation == generation) {
                return Ok(Some(i));
            }
        }
        Ok(None)
    }
}

impl CheckpointStore for FileStore {
    fn generations(&mut self) -> Result<Vec<Mark>, LogError> {
        let mut marks = Vec::new();
        for i in 0..2 {
            marks.extend(self.walk(i, &mut |_, _| Ok(()))?);
        }
        marks.sort_by_key(|m| std::cmp::Reverse(m.generation));
        Ok(marks)
    }

    fn load(&mut self, generation: u64) -> Result<Option<Entries>, LogError> {
        let Some(slot) = self.slot_of(generation)? else {
            return Ok(None);
        };
        let mut entries = Entries::new();
        let proven = self.walk(slot, &mut |key, value| {
            entries.push((key, value));
            Ok(())
        })?;
        Ok(proven.map(|_| entries))
    }

    fn commit(
        &mut self,
        base: Option<u64>,
        generation: u64,
        at: u64,
        changes: &Changes,
    ) -> Result<Mark, LogError> {
        let mut changed: BTreeMap<&[u8], Option<&[u8]>> = BTreeMap::new();
        for (key, value) in changes {
            changed.insert(key, value.as_deref());
        }
        let gone = LogError::corrupt(&self.dir, 0, "the generation in use is gone");
        let from = match base {
            None => None,
            Some(base) => match self.slot_of(base)? {
                None => return Err(gone),
                slot => slot,
            },
        };
        let path = self.slot(from.map_or(0, |slot| 1 - slot));
        let fresh = path.with_extension("new");
        let io = |e| LogError::io("write", &path)(e);
        let file = self.disk.open(&fresh, Open::Create).map_err(io)?;
        file.set_len(0).map_err(io)?;
        let mut written = Written::new(&*file);
        if let Some(slot) = from {
            let proven = self.walk(slot, &mut |key, value| {
                written.put_below(&mut changed, &key)?;
                match changed.remove(&key[..]) {
                    Some(None) => Ok(()),
                    Some(Some(value)) => written.put(&key, value),
                    None => written.put(&key, &value),
                }
            })?;
            if proven.is_none() {
                return Err(gone);
            }
        }
        written.put_all(changed).map_err(io)?;
        let mark = written.finish(generation, at).map_err(io)?;
        file.sync_data().map_err(io)?;
        self.disk.rename(&fresh, &path).map_err(io)?;
        self.disk.sync_dir(&self.dir).map_err(io)?;
        Ok(mark)
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}

/// A file that is being written: its header comes last, since it says what is in the rest.
struct Written<'a> {
    file: &'a dyn DiskFile,
    /// Not written yet: what lies from `at` on. Begins with room for the header.
    piece: Vec<u8>,
    at: u64,
    crc: crc32fast::Hasher,
    digest: Digest,
    count: u64,
}

impl Written<'_> {
    fn new(file: &dyn DiskFile) -> Written<'_> {
        Written {
            file,
            piece: vec![0; FILE_STORE_HEADER_BYTES],
            at: 0,
            crc: crc32fast::Hasher::new(),
            digest: Digest::default(),
            count: 0,
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.digest.add(key, value);
        self.count += 1;
        let from = self.piece.len();
        for part in [key, value] {
            let len = u32::try_from(part.len()).expect("keys and values are bounded");
            self.piece.extend_from_slice(&len.to_le_bytes());
            self.piece.extend_from_slice(part);
        }
        self.crc.update(&self.piece[from..]);
        match self.piece.len() < PIECE_BYTES {
            true => Ok(()),
            false => self.flush(),
        }
    }

    /// The changes of keys before `key`.
    fn put_below(
        &mut self,
        changed: &mut BTreeMap<&[u8], Option<&[u8]>>,
        key: &[u8],
    ) -> io::Result<()> {
        while let Some(first) = changed.first_entry().filter(|e| *e.key() < key) {
            if let (key, Some(value)) = first.remove_entry() {
                self.put(key, value)?;
            }
        }
        Ok(())
    }

    fn put_all(&mut self, changed: BTreeMap<&[u8], Option<&[u8]>>) -> io::Result<()> {
        for (key, value) in changed {
            if let Some(value) = value {
                self.put(key, value)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.piece, self.at)?;
        self.at += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }

    fn finish(mut self, generation: u64, at: u64) -> io::Result<Mark> {
        let mut header = FILE_STORE_MAGIC.to_vec();
        header.resize(FILE_STORE_HEADER_BYTES, 0);
        let words = [generation, at, self.digest.0, self.count];
        for (i, word) in words.into_iter().enumerate() {
            header[16 + 8 * i..24 + 8 * i].copy_from_slice(&word.to_le_bytes());
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header[12..]);
        crc.combine(&self.crc);
        header[8..12].copy_from_slice(&crc.finalize().to_le_bytes());
        if self.at == 0 {
            self.piece[..FILE_STORE_HEADER_BYTES].copy_from_slice(&header);
            self.flush()?;
        } else {
            self.flush()?;
            self.file.write_at(&header, 0)?;
        }
        let digest = self.digest.0;
        Ok(Mark {
            generation,
            at,
            digest,
        })
    }
}

/// Gives each entry to `take`. `None`: the file does not prove itself.
fn walk(
    file: &dyn DiskFile,
    take: &mut dyn FnMut(Vec<u8>, Vec<u8>) -> io::Result<()>,
) -> io::Result<Option<Mark>> {
    let mut pieces = Pieces::new(file)?;
    let Some(fixed) = pieces.take(FILE_STORE_HEADER_BYTES)? else {
        return Ok(None);
    };
    if fixed[..8] != FILE_STORE_MAGIC {
        return Ok(None);
    }
    pieces.crc = crc32fast::Hasher::new();
    pieces.crc.update(&fixed[12..]);
    let word = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().expect("eight bytes"));
    let crc = u32::from_le_bytes(fixed[8..12].try_into().expect("four bytes"));
    let mark = Mark {
        generation: word(16),
        at: word(24),
        digest: word(32),
    };
    let (mut digest, mut count) = (Digest::default(), 0);
    while !pieces.is_at_end() {
        let Some(key) = pieces.part(KEY_BYTES_MAX)? else {
            return Ok(None);
        };
        let Some(value) = pieces.part(VALUE_BYTES_MAX)? else {
            return Ok(None);
        };
        digest.add(&key, &value);
        count += 1;
        take(key, value)?;
    }
    let is_proven = pieces.crc.finalize() == crc
        && mark.is_plausible()
        && digest.0 == mark.digest
        && count == word(40);
    Ok(is_proven.then_some(mark))
}

/// A file from its front on.
struct Pieces<'a> {
    file: &'a dyn DiskFile,
    len: u64,
    /// After the bytes that are in `piece`.
    read_to: u64,
    piece: Vec<u8>,
    from: usize,
    /// Of what was taken.
    crc: crc32fast::Hasher,
}

impl Pieces<'_> {
    fn new(file: &dyn DiskFile) -> io::Result<Pieces<'_>> {
        Ok(Pieces {
            file,
            len: file.len()?,
            read_to: 0,
            piece: Vec::new(),
            from: 0,
            crc: crc32fast::Hasher::new(),
        })
    }

    fn left(&self) -> u64 {
        self.len - self.read_to + (self.piece.len() - self.from) as u64
    }

    fn is_at_end(&self) -> bool {
        self.left() == 0
    }

    /// The next `bytes` bytes; `None` where the file is shorter.
    fn take(&mut self, bytes: usize) -> io::Result<Option<Vec<u8>>> {
        if self.left() < bytes as u64 {
            return Ok(None);
        }
        let mut taken = Vec::with_capacity(bytes);
        while taken.len() < bytes {
            if self.from == self.piece.len() {
                let more = (self.len - self.read_to).min(PIECE_BYTES as u64) as usize;
                self.piece.resize(more, 0);
                self.file.read_exact_at(&mut self.piece, self.read_to)?;
                (self.read_to, self.from) = (self.read_to + more as u64, 0);
            }
            let part = (bytes - taken.len()).min(self.piece.len() - self.from);
            taken.extend_from_slice(&self.piece[self.from..self.from + part]);
            self.from += part;
        }
        self.crc.update(&taken);
        Ok(Some(taken))
    }

    /// A key or a value, after its length.
    fn part(&mut self, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(len) = self.take(4)? else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(len[..].try_into().expect("four bytes")) as usize;
        match len <= bytes_max {
            true => self.take(len),
            false => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    fn store(disk: &SimDisk) -> FileStore {
        FileStore::open(Arc::new(disk.clone()), Path::new("c")).unwrap()
    }

    fn value(n: u32) -> Vec<u8> {
        n.to_le_bytes().repeat(1000)
    }

    /// Longer than a piece, so that entries lie across the borders of pieces: what is merged is what a
    /// map would hold, and a flipped bit anywhere is seen.
    #[test]
    fn long_files_are_merged_and_proven_in_pieces() {
        let disk = SimDisk::new(1);
        let mut store = store(&disk);
        let key = |n: u32| n.to_be_bytes().to_vec();
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for generation in 1..=6 {
            // Some new, some changed, some gone; a later change of one key counts.
            let mut changes: Vec<super::super::Change> = Vec::new();
            for n in (0..1200).filter(|n| generation == 1 || n % 7 == generation) {
                changes.push((key(3 * n + generation % 3), Some(value(n))));
                changes.push((key(3 * n), (n % 2 == 0).then(|| value(n + generation))));
            }
            super::super::apply(&mut model, &changes);
            let base = (generation > 1).then(|| u64::from(generation) - 1);
            let mark = store.commit(base, generation.into(), 9, &changes).unwrap();
            assert!(store.generations().unwrap().contains(&mark));
            let entries = store.load(generation.into()).unwrap().unwrap();
            assert_eq!(entries, model.clone().into_iter().collect::<Vec<_>>());
        }
        let path = Path::new("c").join("b.checkpoint");
        let len = disk.open(&path, Open::Read).unwrap().len().unwrap();
        assert!(len > 3 * PIECE_BYTES as u64, "{len}");
        for at in [0, 9, 13, 20, 40, 47, 48, 50, len / 2, len - 1] {
            let mut damaged = self::store(&disk);
            disk.rot(&path, at, 0x10).unwrap();
            assert_eq!(damaged.load(6).unwrap(), None, "byte {at}");
            assert!(!damaged.notes().is_empty());
            let aside = path.with_extension("damaged");
            disk.rename(&aside, &path).unwrap();
            disk.rot(&path, at, 0x10).unwrap();
        }
        assert!(store.load(6).unwrap().is_some());
    }
}
