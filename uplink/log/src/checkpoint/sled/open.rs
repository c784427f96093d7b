//! The one place that opens sled. It is handed directories whose bytes are known to be good, and
//! still caught when it panics.
//!
//! `unsafe` is used for `flock`, to learn that sled's threads have let go of a file.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use super::{CACHE_BYTES, Digest, Entries, Mark};

/// The entry that goes with every batch: generation, position, digest.
const META_KEY: &[u8] = &[0];
/// Starts the owner's keys.
const OWNER: u8 = 1;
/// sled's file grows by this; larger values go into files of their own.
const SEGMENT_BYTES: usize = 64 << 10;
/// Entries that are copied at once.
const REBUILD_BATCH_BYTES: usize = 256 << 10;
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

/// Runs `work` on an open store and closes it, whatever happens.
fn with<T>(path: &Path, work: impl FnOnce(&sled::Db) -> Result<T, Why>) -> Result<T, Why> {
    let run = || {
        let db = open(path)?;
        let done = work(&db)?;
        drop(db);
        Ok(done)
    };
    let done = catch_unwind(AssertUnwindSafe(run)).map_err(|_| Why::other("sled panicked"))?;
    closed(path)?;
    done
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

/// Applies changes, position included, in one batch. Not durable yet.
pub(super) fn write(
    path: &Path,
    generation: u64,
    at: u64,
    changes: &BTreeMap<&[u8], Option<&[u8]>>,
) -> Result<Mark, Why> {
    with(path, |db| {
        let mut digest = Digest(meta(db)?.map_or(0, |m| m.digest));
        let mut batch = sled::Batch::default();
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
                    batch.insert(&stored[..], *value);
                }
                None => batch.remove(&stored[..]),
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
        batch.insert(META_KEY, meta);
        db.apply_batch(batch)?;
        db.flush()?;
        Ok(mark)
    })
}

/// Copies every entry of one store into a new one; the bytes of keys and values. Not durable yet.
pub(super) fn rebuild(from: &Path, to: &Path) -> Result<u64, Why> {
    with(from, |old| {
        with(to, |new| {
            let (mut batch, mut waiting, mut all) = (sled::Batch::default(), 0, 0);
            for entry in old.iter() {
                let (key, value) = entry?;
                waiting += key.len() + value.len();
                all += (key.len() + value.len()) as u64;
                batch.insert(key, value);
                if waiting >= REBUILD_BATCH_BYTES {
                    new.apply_batch(std::mem::take(&mut batch))?;
                    waiting = 0;
                }
            }
            new.apply_batch(batch)?;
            new.flush()?;
            Ok(all)
        })
    })
}
