//! Checkpoints on a medium that is full: each is written, or refused for want of room. None hangs,
//! what was written before is still there, and nothing stays open.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crash::room::Room;
use headwater_batch::SplitMix64;
use headwater_log::checkpoint::{CheckpointStore, SledStore};
use headwater_log::{ErrorKind, LogError};

use crate::LIMIT;

const ROOM_BYTES: u64 = 8 << 20;
/// Fresh stores, each filled up once.
const STORES: u64 = 150;
/// Checkpoints of each.
const CHECKPOINTS: u64 = 8;
/// More than what sled's threads and the standard streams hold open.
const OPEN_MAX: usize = 32;

pub fn checkpoints_find_no_room(scratch: &Path) {
    let mut draw = SplitMix64(4);
    let mut room = Room::mount(&scratch.join("room"), ROOM_BYTES).unwrap();
    let progress = Arc::new(AtomicU64::new(0));
    let _watch = Watch::start(&progress);
    let (mut written, mut refused) = (0, 0);
    for store in 0..STORES {
        progress.fetch_add(1, Ordering::Relaxed);
        let dir = scratch.join("room").join(store.to_string());
        one_store(&mut room, &dir, &mut draw, (&mut written, &mut refused));
        room.empty();
        std::fs::remove_dir_all(&dir).unwrap();
    }
    println!("{written} checkpoints written, {refused} refused for want of room");
    assert!(written > STORES && refused > STORES);
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open <= OPEN_MAX, "{open} files are open");
}

fn one_store(room: &mut Room, dir: &Path, draw: &mut SplitMix64, counts: (&mut u64, &mut u64)) {
    let (written, refused) = counts;
    let mut store = SledStore::open(dir).unwrap();
    let (fill_at, value_bytes) = (draw.below(4) + 1, 1 << draw.below(14));
    // The last that was written, and how many entries it has.
    let mut last = None;
    let mut keys = std::collections::BTreeSet::new();
    for at in 0..CHECKPOINTS {
        if at == fill_at {
            let most = 4096 << draw.below(9);
            room.fill_but(draw.below(most));
        }
        let mut after = keys.clone();
        let changes: Vec<_> = (0..draw.below(200))
            .map(|_| {
                let key = draw.below(500).to_be_bytes().to_vec();
                let bytes = draw.below(value_bytes) as usize;
                let value = (draw.below(8) > 0).then(|| vec![draw.below(256) as u8; bytes]);
                match value {
                    Some(_) => after.insert(key.clone()),
                    None => after.remove(&key),
                };
                (key, value)
            })
            .collect();
        let generation = last.unwrap_or(0) + 1;
        match store.commit(last, generation, at, &changes) {
            Ok(_) => {
                (last, keys) = (Some(generation), after);
                *written += 1;
            }
            Err(error) => {
                assert_full(&error);
                *refused += 1;
            }
        }
        if draw.one_in(3) {
            store = SledStore::open(dir).unwrap();
            let Some(generation) = last else { continue };
            match store.load(generation) {
                Ok(entries) => {
                    let entries = entries.unwrap_or_else(|| panic!("lost: {:?}", store.notes()));
                    let loaded = entries.into_iter().map(|(key, _)| key).collect();
                    assert_eq!(keys, loaded, "generation {generation}");
                }
                // It is read from a copy.
                Err(error) => assert_full(&error),
            }
        }
    }
}

fn assert_full(error: &LogError) {
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
}

/// Ends the process when a store takes longer than [`LIMIT`]: its thread cannot be ended.
struct Watch {
    done: Arc<AtomicBool>,
}

impl Watch {
    fn start(progress: &Arc<AtomicU64>) -> Watch {
        let done = Arc::new(AtomicBool::new(false));
        let (watched, progress) = (Arc::clone(&done), Arc::clone(progress));
        thread::spawn(move || {
            let (mut seen, mut since) = (0, std::time::Instant::now());
            while !watched.load(Ordering::Relaxed) {
                let now = progress.load(Ordering::Relaxed);
                if now != seen {
                    (seen, since) = (now, std::time::Instant::now());
                }
                if since.elapsed() > LIMIT {
                    println!("test checkpoints_find_no_room ... FAILED: store {seen} hangs");
                    std::process::exit(1);
                }
                thread::park_timeout(Duration::from_millis(200));
            }
        });
        Watch { done }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}
