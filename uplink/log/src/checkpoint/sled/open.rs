//! The one place that opens sled. It is handed directories whose bytes are known to be good, and
//! still caught when it panics.
//!
//! Two defects of sled 0.34.7 shape this file. A value that goes into a file of its own
//! (`blob_io.rs`) and finds no room leaves its writer counted in the write buffer, so that the buffer
//! is never written and the flush of a closing store waits for it for ever: see [`fail`]. And an
//! error met where a reservation ends (`exit_reservation`) wakes nobody, which takes a second
//! reservation: entries go in one by one, never as a batch, which holds one open.
//!
//! `unsafe` is used for `flock`, to learn that sled's threads have let go of a file, and for `dup2`.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use super::{CACHE_BYTES, Digest, Entries, Mark};

/// The entry that goes with all changes: generation, position, digest.
const META_KEY: &[u8] = &[0];
/// Starts the owner's keys.
const OWNER: u8 = 1;
/// sled's file grows by this; larger values go into files of their own.
const SEGMENT_BYTES: usize = 64 << 10;
/// What makes sled write; a page of them, 17 at most, goes into no file of its own.
const FILLER_BYTES: usize = 512;
/// Enough to fill several of sled's write buffers, of a segment each.
const FILLERS: u32 = 1_024;
/// How long sled's threads may take to close a store.
const CLOSE_TRIES: u32 = 10_000;

type Why = io::Error;

fn open(path: &Path) -> Result<sled::Db, Why> {
    sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(None)
        .open()
        .map_err(Why::from)
}

/// Runs `work` on an open store and closes it, whatever happens. After an error, or a panic, what
/// the store holds is of no use.
fn with<T>(path: &Path, work: impl FnOnce(&sled::Db) -> Result<T, Why>) -> Result<T, Why> {
    let run = || {
        let db = open(path)?;
        let done = catch_unwind(AssertUnwindSafe(|| work(&db)))
            .unwrap_or_else(|_| Err(Why::other("sled panicked")));
        if done.is_err() && !fail(&db, path) {
            // What it holds is lost until the process ends, which is better than to wait for ever.
            std::mem::forget(db);
        }
        done
    };
    let done = catch_unwind(AssertUnwindSafe(run));
    let closed = closed(path);
    // The first error says why.
    let done = done.unwrap_or_else(|_| Err(Why::other("sled panicked")))?;
    closed.map(|()| done)
}

/// Makes the store know that it failed: then it closes without a flush. It learns that only from a
/// write that fails, so it gets its file to read only, and entries are put, into a tree of their own,
/// until one is refused.
fn fail(db: &sled::Db, path: &Path) -> bool {
    let path = path.join("db");
    let held = descriptors(&path).unwrap_or_default();
    let Ok(read_only) = OpenOptions::new().read(true).open(&path) else {
        return false;
    };
    for fd in &held {
        // SAFETY: both are open. The descriptor is sled's, the only one that has this file open, and
        // stays open and sled's; what writes through it from now on gets an error.
        if unsafe { libc::dup2(read_only.as_raw_fd(), *fd) } < 0 {
            return false;
        }
    }
    if held.is_empty() {
        return false;
    }
    // An error that is kept is a copy, without the system's number: others are of this attempt only.
    let failed = |e: sled::Error| matches!(e, sled::Error::Io(e) if e.raw_os_error().is_none());
    (0..FILLERS).any(|n| {
        // sled writes on a thread of its own: leave it time to say so.
        std::thread::park_timeout(Duration::from_millis(1));
        let tree = db.open_tree("filler");
        tree.and_then(|tree| tree.insert(n.to_be_bytes(), vec![0; FILLER_BYTES]))
            .is_err_and(failed)
    })
}

/// The descriptors of this process that have the file open.
fn descriptors(path: &Path) -> Result<Vec<RawFd>, Why> {
    let id = |meta: Metadata| (meta.dev(), meta.ino());
    let wanted = id(std::fs::metadata(path)?);
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let Ok(fd) = entry?.file_name().to_string_lossy().parse::<RawFd>() else {
            continue;
        };
        // SAFETY: it is only asked what it is, and not closed. Another thread may close it meanwhile:
        // then the answer is an error, or about another file.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
        if file.metadata().is_ok_and(|meta| id(meta) == wanted) {
            found.push(fd);
        }
    }
    Ok(found)
}

/// Waits until every handle is closed: sled locks its file, and its threads may outlive the `Db`.
fn closed(path: &Path) -> Result<(), Why> {
    let Ok(file) = OpenOptions::new().read(true).open(path.join("db")) else {
        return Ok(());
    };
    for _ in 0..CLOSE_TRIES {
        // SAFETY: a plain system call on a descriptor that `file` keeps open.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(());
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    Err(Why::other("sled does not close"))
}

fn meta(db: &sled::Db) -> Result<Option<Mark>, Why> {
    let Some(value) = db.get(META_KEY)? else {
        return Ok(None);
    };
    let words: [[u8; 8]; 3] = match value.chunks_exact(8).map(|c| c.try_into()).collect() {
        Ok::<Vec<_>, _>(words) => words
            .try_into()
            .map_err(|_| Why::other("a short meta entry"))?,
        Err(_) => return Err(Why::other("a short meta entry")),
    };
    let [generation, at, digest] = words.map(u64::from_le_bytes);
    Ok(Some(Mark {
        generation,
        at,
        digest,
    }))
}

/// All entries, checked against the mark. Opening writes: give it a copy.
pub(super) fn load(path: &Path, mark: &Mark) -> Result<Entries, Why> {
    with(path, |db| {
        if meta(db)? != Some(*mark) {
            return Err(Why::other(
                "the store is of another generation than its manifest",
            ));
        }
        let mut digest = Digest::default();
        let mut entries = Entries::new();
        for entry in db.range([OWNER]..) {
            let (key, value) = entry?;
            digest.add(&key[1..], &value);
            entries.push((key[1..].to_vec(), value.to_vec()));
        }
        if digest.0 != mark.digest {
            return Err(Why::other("the entries do not match the digest"));
        }
        Ok(entries)
    })
}

/// Applies changes, position included. Not durable yet.
pub(super) fn write(
    path: &Path,
    generation: u64,
    at: u64,
    changes: &BTreeMap<&[u8], Option<&[u8]>>,
) -> Result<Mark, Why> {
    with(path, |db| {
        let mut digest = Digest(meta(db)?.map_or(0, |m| m.digest));
        let mut stored = vec![OWNER];
        for (key, value) in changes {
            stored.truncate(1);
            stored.extend_from_slice(key);
            if let Some(old) = db.get(&stored)? {
                digest.remove(key, &old);
            }
            match value {
                Some(value) => {
                    digest.add(key, value);
                    db.insert(&stored[..], *value)?;
                }
                None => {
                    db.remove(&stored[..])?;
                }
            }
        }
        let mark = Mark {
            generation,
            at,
            digest: digest.0,
        };
        let meta: Vec<u8> = [generation, at, digest.0]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        db.insert(META_KEY, meta)?;
        db.flush()?;
        Ok(mark)
    })
}

/// Copies every entry of one store into a new one; the bytes of keys and values. Not durable yet.
pub(super) fn rebuild(from: &Path, to: &Path) -> Result<u64, Why> {
    with(from, |old| {
        with(to, |new| {
            let mut all = 0;
            for entry in old.iter() {
                let (key, value) = entry?;
                all += (key.len() + value.len()) as u64;
                new.insert(key, value)?;
            }
            new.flush()?;
            Ok(all)
        })
    })
}
