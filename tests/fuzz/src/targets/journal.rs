//! Journal recovery: bytes as files of a journal directory with its checkpoints. It opens, replays,
//! takes frames, takes a checkpoint, loses power and opens again.
//!
//! Asserted: it starts on any disk. What one start recovers the next one recovers, also where checksums
//! were made to fit. And, unless they were: what it recovered and what it took after that is there after
//! the power cut.
//!
//! Memory: the simulated disk's two images, and a group of at most 8 MiB, stored and plain.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_log::checkpoint::FileStore;
use headwater_log::disk::Crash;
use headwater_log::durable::{Durable, DurableConfig, Frame, Recovered};
use headwater_log::{Disk, ErrorKind, LogError, Position, SimDisk, inspect};

use super::{files, named};
use crate::Target;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "journal",
    run,
    seeds,
    input_bytes_max: 24 << 10,
    memory_bytes_max: 64 << 20,
};

fn names() -> Vec<PathBuf> {
    let journals = (1..=4).map(|n| format!("d/journal/{n:020}.journal"));
    let others = [
        "d/journal/spare-00000000000000000001.journal",
        "d/checkpoints/a.checkpoint",
        "d/checkpoints/b.checkpoint",
    ];
    journals
        .chain(others.map(str::to_owned))
        .map(PathBuf::from)
        .collect()
}

fn open(disk: &SimDisk, salt_seed: u64) -> Result<(Durable, Recovered), LogError> {
    let config = DurableConfig {
        file_bytes: 32 << 10,
        group_bytes_max: 4 << 10,
        files_max: 16,
        compress_above_bytes: 256,
        ..DurableConfig::new("d/journal", salt_seed)
    };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = FileStore::open(Arc::clone(&disk), Path::new("d/checkpoints"))?;
    Durable::open(disk, Box::new(store), config)
}

fn run(data: &[u8]) {
    let disk = SimDisk::new(1);
    let fits = files::lay(&disk, &names(), &mut Input::new(data));
    let mut sink = Vec::new();
    let _ = inspect::verify(&disk, Path::new("d"), &mut sink);
    let _ = inspect::dump(&disk, Path::new("d"), true, &mut sink);
    let (durable, recovered) = open(&disk, 2).expect("it starts on any disk");
    let first = Found::of(&durable, recovered);
    drop(durable);
    disk.crash(Crash::Kill);
    disk.restart();
    let (mut durable, recovered) = open(&disk, 4).expect("it starts again");
    let again = Found::of(&durable, recovered);
    first.is_in(&again);
    let before = again.frames;
    let Some(after) = write(&mut durable) else {
        return;
    };
    let (end, mut last) = (durable.end(), None);
    drop(durable);
    disk.crash(Crash::Power);
    disk.restart();
    let (durable, recovered) = open(&disk, 3).expect("it starts after a power cut");
    if fits != 0 {
        recovered.frames.for_each(drop);
        return;
    }
    assert!(durable.end() >= end, "positions fell");
    for frame in recovered.frames {
        let frame = frame.expect("what was recovered once can be read");
        assert!(
            last.is_none_or(|last| last < frame.position),
            "frames out of order"
        );
        last = Some(frame.position);
    }
    for payload in after {
        let found = durable.read(payload.0).expect("it was durable");
        assert_eq!(found.payload, payload.1);
    }
    for frame in before.iter().filter(|f| f.position >= durable.start()) {
        let found = durable.read(frame.position).expect("it was recovered");
        assert_eq!(found.payload, frame.payload);
    }
}

/// What a start recovered.
struct Found {
    frames: Vec<Frame>,
    start: Position,
    end: Position,
}

impl Found {
    fn of(durable: &Durable, recovered: Recovered) -> Found {
        Found {
            frames: recovered.frames.map_while(Result::ok).collect(),
            start: durable.start(),
            end: durable.end(),
        }
    }

    /// Nothing was written in between: whatever the files say, they say it again.
    fn is_in(&self, later: &Found) {
        assert!(later.end >= self.end, "positions fell");
        assert!(later.start >= self.start, "frames came back");
        let kept = self.frames.iter().filter(|f| f.position >= later.start);
        let mut found = later.frames.iter();
        for frame in kept {
            let same = |other: &&Frame| other.position == frame.position;
            let other = found.find(same);
            let other = other.unwrap_or_else(|| panic!("{:?} is gone", frame.position));
            assert_eq!((other.kind, &other.payload), (frame.kind, &frame.payload));
        }
    }
}

type Written = Vec<(Position, Vec<u8>)>;

/// Three frames, a checkpoint that covers none of them, and one more; None: the journal says that it
/// has no room, which damaged files may make true.
fn write(durable: &mut Durable) -> Option<Written> {
    let mut written = Written::new();
    let at = durable.end();
    for n in 0..3u8 {
        let payload = vec![n; 20 + 200 * usize::from(n)];
        let position = room(durable.stage(1, &payload))?;
        written.push((position, payload));
    }
    room(durable.commit())?;
    let changes = vec![(b"key".to_vec(), Some(b"value".to_vec()))];
    room(durable.checkpoint(at, changes, b"header".to_vec(), &[]))?;
    let position = room(durable.stage(1, b"last"))?;
    written.push((position, b"last".to_vec()));
    room(durable.commit())?;
    Some(written)
}

fn room<T>(result: Result<T, LogError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            None
        }
    }
}

/// A journal after `steps` of writing, with checkpoints when asked for, torn by a power cut.
fn history(steps: u8, checkpoints: bool) -> SimDisk {
    let disk = SimDisk::new(u64::from(steps));
    let (mut durable, _) = open(&disk, 9).expect("an empty disk opens");
    for n in 0..steps {
        let payload = vec![n; 30 + 40 * usize::from(n % 5)];
        durable.stage(1, &payload).expect("there is room");
        durable.stage(2, &[n; 300]).expect("there is room");
        durable.commit().expect("a simulated disk syncs");
        if checkpoints && n % 4 == 2 {
            let changes = vec![(vec![n], Some(vec![n; 9]))];
            let at = durable.end();
            let forward = [durable.start().max(Position(at.0 - 1))];
            durable
                .checkpoint(at, changes, vec![n; 5], &forward)
                .expect("a checkpoint");
        }
    }
    durable.stage(1, b"unsynced").expect("there is room");
    if let Ok(Some(job)) = durable.begin_write() {
        durable
            .finish_commit(job.run())
            .expect("a simulated disk writes");
    }
    drop(durable);
    disk.crash(Crash::Kill);
    disk.restart();
    disk
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let seed =
        |steps, checkpoints, fits| files::sections(&history(steps, checkpoints), &names(), fits);
    vec![
        named("young", seed(2, false, 0)),
        named("fitted", seed(3, false, 3)),
        named("checkpoints", seed(8, true, 7)),
        named("empty", Vec::new()),
    ]
}
