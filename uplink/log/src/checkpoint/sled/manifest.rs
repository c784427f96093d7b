//! What a slot's files are: written after sled has closed them, checked before it opens them.

use std::path::{Path, PathBuf};

use super::Mark;
use crate::disk::{Disk, Open, RealDisk, read_all, replace};
use crate::error::LogError;

/// Starts a manifest. The last two characters are the format's version.
pub const MANIFEST_MAGIC: [u8; 8] = *b"HWSLED01";
/// Magic, CRC-32, count of files, generation, position, digest.
pub const MANIFEST_HEADER_BYTES: usize = 40;
/// The largest manifest; a store has a handful of files.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
const COPY_BYTES: usize = 64 << 10;

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Path below the slot.
    name: String,
    bytes: u64,
    crc: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub mark: Mark,
    files: Vec<Entry>,
}

impl Manifest {
    /// Reads and fsyncs every file below `dir`, and every directory.
    pub fn of(dir: &Path, mark: Mark) -> Result<Manifest, LogError> {
        let mut files = Vec::new();
        for name in walk(dir, true)? {
            let path = dir.join(&name);
            let (bytes, crc) = checksum(&path, true)?;
            files.push(Entry { name, bytes, crc });
        }
        Ok(Manifest { mark, files })
    }

    /// Why the files below `dir` are not what they were.
    pub fn verify(&self, dir: &Path) -> Result<(), String> {
        let names = walk(dir, false).map_err(|e| e.to_string())?;
        if !names.iter().eq(self.files.iter().map(|f| &f.name)) {
            return Err("files are missing or new".to_owned());
        }
        for file in &self.files {
            let (bytes, crc) = checksum(&dir.join(&file.name), false).map_err(|e| e.to_string())?;
            if (bytes, crc) != (file.bytes, file.crc) {
                return Err(format!("{} is damaged", file.name));
            }
        }
        Ok(())
    }

    pub fn write(&self, path: &Path) -> Result<(), LogError> {
        let mut out = MANIFEST_MAGIC.to_vec();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        for word in [self.mark.generation, self.mark.at, self.mark.digest] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for file in &self.files {
            out.extend_from_slice(&(file.name.len() as u32).to_le_bytes());
            out.extend_from_slice(file.name.as_bytes());
            out.extend_from_slice(&file.bytes.to_le_bytes());
            out.extend_from_slice(&file.crc.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        replace(&RealDisk, path, &out).map_err(LogError::io("write", path))
    }

    pub fn read(path: &Path) -> Result<Manifest, LogError> {
        let bytes =
            read_all(&RealDisk, path, MANIFEST_BYTES_MAX).map_err(LogError::io("read", path))?;
        decode(&bytes).ok_or_else(|| LogError::corrupt(path, 0, "a damaged manifest"))
    }
}

fn decode(bytes: &[u8]) -> Option<Manifest> {
    let fixed = bytes.get(..MANIFEST_HEADER_BYTES)?;
    let crc = u32::from_le_bytes(fixed[8..12].try_into().ok()?);
    if fixed[..8] != MANIFEST_MAGIC || crc32fast::hash(&bytes[12..]) != crc {
        return None;
    }
    let count = u32::from_le_bytes(fixed[12..16].try_into().ok()?);
    let word = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().expect("eight bytes"));
    let mark = Mark {
        generation: word(16),
        at: word(24),
        digest: word(32),
    };
    let mut rest = &bytes[MANIFEST_HEADER_BYTES..];
    let mut take = |n: usize| {
        let (part, left) = rest.split_at_checked(n)?;
        rest = left;
        Some(part)
    };
    let mut files = Vec::new();
    for _ in 0..count {
        let n = u32::from_le_bytes(take(4)?.try_into().ok()?) as usize;
        let name = String::from_utf8(take(n)?.to_vec()).ok()?;
        let bytes = u64::from_le_bytes(take(8)?.try_into().ok()?);
        let crc = u32::from_le_bytes(take(4)?.try_into().ok()?);
        files.push(Entry { name, bytes, crc });
    }
    mark.is_plausible().then_some(Manifest { mark, files })
}

/// Names of all files below `dir`, sorted; directories are synced when asked.
fn walk(dir: &Path, sync: bool) -> Result<Vec<String>, LogError> {
    let mut names = Vec::new();
    let mut dirs = vec![PathBuf::new()];
    while let Some(below) = dirs.pop() {
        let here = dir.join(&below);
        for entry in RealDisk.list(&here).map_err(LogError::io("list", &here))? {
            let path = below.join(&entry.name);
            if entry.is_dir {
                dirs.push(path);
            } else {
                names.push(path.to_string_lossy().into_owned());
            }
        }
        if sync {
            RealDisk.sync_dir(&here).map_err(LogError::sync(&here))?;
        }
    }
    names.sort();
    Ok(names)
}

/// Length and CRC-32 of a file, which is fsynced first when asked.
fn checksum(path: &Path, sync: bool) -> Result<(u64, u32), LogError> {
    let how = if sync { Open::Write } else { Open::Read };
    let file = RealDisk
        .open(path, how)
        .map_err(LogError::io("open", path))?;
    if sync {
        file.sync_data().map_err(LogError::sync(path))?;
    }
    let mut crc = crc32fast::Hasher::new();
    let mut buf = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let n = file
            .read_at(&mut buf, at)
            .map_err(LogError::io("read", path))?;
        crc.update(&buf[..n]);
        at += n as u64;
        if n < buf.len() {
            return Ok((at, crc.finalize()));
        }
    }
}

/// Copies a slot's files. Nothing is synced.
/// Bytes of all files below `dir`; none if there is no such directory.
pub(super) fn dir_bytes(dir: &Path) -> Result<u64, LogError> {
    let mut bytes = 0;
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let listed = match RealDisk.list(&dir) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            listed => listed.map_err(LogError::io("list", &dir))?,
        };
        for entry in listed {
            match entry.is_dir {
                true => dirs.push(dir.join(entry.name)),
                false => bytes += entry.bytes,
            }
        }
    }
    Ok(bytes)
}

pub(super) fn copy_dir(from: &Path, to: &Path) -> Result<(), LogError> {
    RealDisk
        .create_dir(to)
        .map_err(LogError::io("create", to))?;
    let mut buf = vec![0; COPY_BYTES];
    for name in walk(from, false)? {
        let (source, target) = (from.join(&name), to.join(&name));
        if let Some(parent) = target.parent() {
            RealDisk
                .create_dir(parent)
                .map_err(LogError::io("create", parent))?;
        }
        let read = RealDisk
            .open(&source, Open::Read)
            .map_err(LogError::io("open", &source))?;
        let write = RealDisk
            .open(&target, Open::Create)
            .map_err(LogError::io("open", &target))?;
        let mut at = 0;
        loop {
            let n = read
                .read_at(&mut buf, at)
                .map_err(LogError::io("read", &source))?;
            write
                .write_at(&buf[..n], at)
                .map_err(LogError::io("write", &target))?;
            at += n as u64;
            if n < buf.len() {
                break;
            }
        }
    }
    Ok(())
}
