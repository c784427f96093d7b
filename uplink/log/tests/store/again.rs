//! What one start recovered the next one recovers, also from what no store of ours wrote under checksums
//! that are right.

use std::path::Path;
use std::sync::Arc;

use headwater_batch::{NewRecord, Offset, TopicPartition};
use headwater_log::checkpoint::FileStore;
use headwater_log::disk::Crash;
use headwater_log::durable::{Durable, DurableConfig, Position};
use headwater_log::store::{Gap, GapReason, Lineage, StoreConfig};
use headwater_log::{Disk, SimDisk};

use super::{NOW, offsets, open, restart, tp, write};

/// Kinds of frames, and the key of a partition in the checkpoint: see FORMAT.md.
const ENTRY: u8 = 1;
const BOOT: u8 = 2;
const PARTITION: u8 = 3;
const CHECKPOINT_KEY: &[u8] = b"spa-0";

/// With room in a group for the largest frame.
fn config() -> StoreConfig {
    let mut cfg = super::config();
    cfg.journal_file_bytes = 4 << 20;
    cfg.budget_bytes = 64 << 20;
    cfg
}

fn journal(disk: &SimDisk) -> Durable {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let checkpoints = FileStore::open(Arc::clone(&shared), Path::new("/data/checkpoints")).unwrap();
    let cfg = DurableConfig {
        file_bytes: config().journal_file_bytes,
        ..DurableConfig::new("/data/journal", 9)
    };
    Durable::open(shared, Box::new(checkpoints), cfg).unwrap().0
}

/// A journal with these frames.
fn with_frames(frames: &[(u8, Vec<u8>)]) -> SimDisk {
    let disk = SimDisk::new(1);
    let mut journal = journal(&disk);
    for (kind, payload) in frames {
        journal.stage(*kind, payload).unwrap();
    }
    journal.commit().unwrap();
    disk
}

fn bytes(frame: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_stdvec(frame).unwrap()
}

/// ENTRY with one record.
fn entry(total: u64, offset: i64, record: &NewRecord) -> (u8, Vec<u8>) {
    (
        ENTRY,
        bytes(&(total, vec![(tp("a-0"), Offset(offset), record)])),
    )
}

type Found = (
    [Option<Offset>; 4],
    Vec<Gap>,
    Option<(u128, Offset)>,
    Vec<i64>,
);

/// What three starts make of `a-0`, the same each time.
fn same_each_time(disk: &SimDisk) -> Found {
    let a = tp("a-0");
    let mut all: Vec<Found> = (2..5)
        .map(|boot| {
            restart(disk, Crash::Kill);
            let store = open(disk, &config(), boot);
            let name = |lineage: Lineage| (lineage.incarnation, lineage.since);
            let numbers = [
                store.start(&a),
                store.acked(&a),
                store.next(&a),
                store.sealed_end(&a),
            ];
            let start = store.start(&a).unwrap_or_default();
            let read = store.reader(&a).map(|_| offsets(&store, &a, start));
            (
                numbers,
                store.gaps(&a),
                store.lineage(&a).map(name),
                read.unwrap_or_default(),
            )
        })
        .collect();
    let last = all.pop().unwrap();
    for (n, found) in all.iter().enumerate() {
        assert_eq!(found, &last, "start {} and the last", n + 1);
    }
    last
}

/// A partition's state in headers and checkpoints.
fn state(tp: &TopicPartition, next: i64, start: i64, acked: i64) -> impl serde::Serialize {
    state_with(tp, next, start, acked, Vec::new())
}

fn state_with(
    tp: &TopicPartition,
    next: i64,
    start: i64,
    acked: i64,
    gaps: Vec<Gap>,
) -> impl serde::Serialize {
    let boots = vec![(1u64, 0i64)];
    let synced: Option<(i64, u64, i64)> = None;
    let (stamps, digest) = (Vec::<(i64, u64)>::new(), None::<(i64, u64)>);
    let lineage = (1u128, 0i64, 0u32);
    let (incarnation, since, forks) = lineage;
    (
        (tp.clone(), next, start, acked),
        (incarnation, since, forks),
        (boots, gaps, synced, stamps, digest),
    )
}

/// A start that opens a new journal file copies the newest header into it, behind the checkpoint.
#[test]
fn a_header_that_knows_more_than_its_checkpoint() {
    let disk = SimDisk::new(1);
    let a = tp("a-0");
    let mut journal = journal(&disk);
    journal
        .stage(BOOT, &bytes(&(0u64, 0u64, 1u64, Vec::<u8>::new())))
        .unwrap();
    journal.commit().unwrap();
    let changes = vec![(CHECKPOINT_KEY.to_vec(), Some(bytes(&state(&a, 9, 0, 2))))];
    let header = bytes(&((9u64, 0u64), vec![state(&a, 9, 4, 6)]));
    let at = journal.end();
    journal.checkpoint(at, changes, header, &[]).unwrap();
    // Not known to be synced, so the next start copies it into a new file.
    journal
        .stage(BOOT, &bytes(&(9u64, 0u64, 1u64, Vec::<u8>::new())))
        .unwrap();
    let job = journal.begin_write().unwrap().unwrap();
    journal.finish_commit(job.run()).unwrap();
    drop(journal);
    let (numbers, ..) = same_each_time(&disk);
    assert_eq!(numbers[..2], [Some(Offset(4)), Some(Offset(6))]);
}

/// The lineage's own files hold the birth from the first start on.
#[test]
fn a_birth_above_the_next_offset() {
    let birth = (tp("a-0"), 1u128, 1u64, Offset(13));
    let disk = with_frames(&[(PARTITION, bytes(&birth))]);
    let (numbers, ..) = same_each_time(&disk);
    assert_eq!(numbers[2], Some(Offset(13)));
}

/// What is told to be gone was given out, and no record that is taken later may lie there: nobody
/// could read it.
#[test]
fn a_next_offset_below_what_is_gone() {
    let a = tp("a-0");
    let gap = |from, to| {
        let (from, to, reason) = (Offset(from), Offset(to), GapReason::Dropped);
        vec![Gap { from, to, reason }]
    };
    for (start, gaps) in [(13, vec![]), (0, gap(9, 13)), (0, gap(11, 13))] {
        for by_checkpoint in [true, false] {
            for rot in [true, false] {
                let state = || state_with(&a, 9, start, 0, gaps.clone());
                let (changes, header) = match by_checkpoint {
                    true => (
                        vec![(CHECKPOINT_KEY.to_vec(), Some(bytes(&state())))],
                        vec![],
                    ),
                    false => (vec![], bytes(&((9u64, 0u64), vec![state()]))),
                };
                let disk = SimDisk::new(1);
                let mut journal = journal(&disk);
                let fine = NewRecord::new(NOW, "k", "v");
                for (kind, payload) in [entry(7, 7, &fine), entry(8, 8, &fine)] {
                    journal.stage(kind, &payload).unwrap();
                    journal.commit().unwrap();
                }
                // The header tells of a later moment, and the frames before it count as well.
                journal
                    .checkpoint(Position(0), changes, header, &[])
                    .unwrap();
                drop(journal);
                if rot {
                    let file = Path::new("/data/journal/00000000000000000001.journal");
                    disk.rot(file, 8192 + 60, 4).unwrap();
                }
                let (numbers, ..) = same_each_time(&disk);
                let case = format!("{start} {gaps:?} {by_checkpoint} {rot}");
                assert_eq!(numbers[2], Some(Offset(13)), "{case}");
                let mut store = open(&disk, &config(), 9);
                write(&mut store, &a, 1, 0);
                drop(store);
                let (.., read) = same_each_time(&disk);
                assert_eq!(read.last(), Some(&13), "{case}");
            }
        }
    }
}

#[test]
fn a_record_that_no_batch_takes() {
    let fine = NewRecord::new(NOW, "k", "v");
    let negative = NewRecord::new(-2, "k", "v");
    let large = NewRecord::new(NOW, "k", vec![7u8; (1 << 20) + 100]);
    for wrong in [&negative, &large] {
        let disk = SimDisk::new(1);
        let mut journal = journal(&disk);
        for (kind, payload) in [entry(0, 0, &fine), entry(1, 1, wrong), entry(2, 2, &fine)] {
            journal.stage(kind, &payload).unwrap();
            journal.commit().unwrap();
        }
        drop(journal);
        let (.., read) = same_each_time(&disk);
        assert_eq!(read, [0, 2]);
    }
}
