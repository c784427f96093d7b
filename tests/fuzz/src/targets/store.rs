//! The edge's whole log: bytes as journal, checkpoints, segments and indexes of a data directory. It
//! opens, reads every partition, is killed and opens again, loses power and opens again; then it takes a record, seals, takes a
//! checkpoint, loses power, opens again.
//!
//! Asserted: it starts on any disk and never gives out a batch that does not prove itself. What one
//! start recovers the next one recovers, also where checksums were made to fit. And, unless they were:
//! the record that it took stands at its offset after the power cut.
//!
//! Memory: the simulated disk's two images, batches of 1 MiB, a journal group of 8 MiB.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_batch::{BatchView, Decoder, Limits, NewRecord, Offset, TopicPartition, digest};
use headwater_log::checkpoint::FileStore;
use headwater_log::disk::Crash;
use headwater_log::store::{
    Chunk, Entry, Gap, Lineage, ReadError, Refused, Store, StoreConfig, Token,
};
use headwater_log::{Disk, LogError, SimDisk, inspect};

use super::{files, named};
use crate::Target;
use crate::input::Input;

pub const TARGET: Target = Target {
    name: "store",
    run,
    seeds,
    input_bytes_max: 32 << 10,
    memory_bytes_max: 96 << 20,
};

/// A journal numbers its frames from 0 and believes no number above 2^62. Only who forges a checksum gets
/// there: what a start writes then has no number that the next one believes.
const NUMBERS_USED_UP: Token = Token(1 << 61);

const NOW: i64 = 1_780_000_000_000;

fn names() -> Vec<PathBuf> {
    let journals = (1..=3).map(|n| format!("d/journal/{n:020}.journal"));
    let bases = [0, 24];
    let kinds = ["log", "index", "timeindex"];
    let segments = bases
        .iter()
        .flat_map(|base| kinds.map(|kind| format!("d/t-0/{base:020}.{kind}")));
    let others = [
        "d/checkpoints/a.checkpoint",
        "d/checkpoints/b.checkpoint",
        "d/lineage",
        "d/lineage.copy",
    ];
    let others = others.into_iter().map(str::to_owned);
    journals
        .chain(segments)
        .chain(others)
        .map(PathBuf::from)
        .collect()
}

fn config() -> StoreConfig {
    let mut config = StoreConfig::new("d");
    config.journal_file_bytes = 64 << 10;
    config.reserve_bytes = 64 << 10;
    config.budget_bytes = 16 << 20;
    config.batch_bytes = 1024;
    config.segment_bytes = 4096;
    config.linger_ms = 100;
    config
}

fn open(disk: &SimDisk, boot: u64) -> Result<Store, LogError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let checkpoints = FileStore::open(Arc::clone(&disk), Path::new("d/checkpoints"))?;
    let opened = Store::open(disk, Box::new(checkpoints), config(), 0, boot, boot.into());
    opened.map(|(store, _)| store)
}

fn tp() -> TopicPartition {
    "t-0".parse().expect("a valid partition")
}

fn entry(n: usize) -> Entry {
    let record = NewRecord::new(NOW + n as i64, format!("key {n}"), vec![n as u8; 40]);
    Entry {
        records: vec![(tp(), record)],
        op: vec![n as u8; 3],
        ..Entry::default()
    }
}

fn run(data: &[u8]) {
    let disk = SimDisk::new(1);
    let fits = files::lay(&disk, &names(), &mut Input::new(data));
    let mut sink = Vec::new();
    let _ = inspect::ls(&disk, Path::new("d"), &mut sink);
    let _ = inspect::verify(&disk, Path::new("d"), &mut sink);
    let _ = inspect::dump(&disk, Path::new("d"), true, &mut sink);
    let mut store = open(&disk, 2).expect("it starts on any disk");
    if store.durable() > NUMBERS_USED_UP {
        return;
    }
    let mut first = found(&store);
    for (boot, how) in [(4, Crash::Kill), (5, Crash::Power)] {
        // What was never synced may be claimed to be where checksums were made to fit.
        if how == Crash::Kill || fits == 0 {
            drop(store);
            disk.crash(how);
            disk.restart();
            store = open(&disk, boot).expect("it starts again");
            let again = found(&store);
            same(&first, &again, boot);
            first = again;
        }
    }
    let Some(offset) = write(&mut store) else {
        return;
    };
    drop(store);
    disk.crash(Crash::Power);
    disk.restart();
    let store = open(&disk, 3).expect("it starts after a power cut");
    if fits != 0 {
        for tp in store.partitions() {
            read_all(&store, &tp);
        }
        return;
    }
    // Damage below it may end a reading from the front; the record itself is not touched by it.
    if store.sealed_end(&tp()) > Some(offset) {
        let mut reader = store.reader(&tp()).expect("it has a record");
        let chunk = reader
            .read(offset, 2048)
            .expect("what was just taken can be read");
        let Chunk::Batches(batches) = chunk else {
            panic!("record {offset} is gone: {chunk:?}");
        };
        let view = BatchView::parse(&batches[0], &Limits::UPLINK).expect("it was checked");
        assert!(view.base_offset() <= offset && offset < view.next_offset());
    }
    assert!(
        store.next(&tp()) > Some(offset),
        "offset {offset} is given out again"
    );
}

/// A record, sealed, and a checkpoint; None: refused, since damaged files may use up the budget.
fn write(store: &mut Store) -> Option<Offset> {
    let staged = match store.stage(entry(200), 10) {
        Ok(staged) => staged,
        Err(Refused::Full { .. } | Refused::Busy { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    store.commit(10).expect("a simulated disk syncs");
    store.tick(20_000).expect("a batch can be sealed");
    store.checkpoint(Vec::new(), 20_000).expect("a checkpoint");
    Some(staged.offsets[0])
}

/// What a start recovered of a partition.
#[derive(Debug, PartialEq)]
struct Found {
    start: Option<Offset>,
    next: Option<Offset>,
    sealed_end: Option<Offset>,
    acked: Option<Offset>,
    in_doubt: bool,
    gaps: Vec<Gap>,
    lineage: Option<Lineage>,
    /// What a reader meets from the start on.
    read: Vec<Read>,
}

#[derive(Debug, PartialEq)]
enum Read {
    /// Offset, timestamp, digest of the rest.
    Record(Offset, i64, u64),
    Undecodable(Offset),
    Gap(Gap),
    Damaged(Offset, Offset),
}

fn found(store: &Store) -> Vec<(TopicPartition, Found)> {
    let all = store.partitions().into_iter();
    all.map(|tp| {
        let found = Found {
            start: store.start(&tp),
            next: store.next(&tp),
            sealed_end: store.sealed_end(&tp),
            acked: store.acked(&tp),
            in_doubt: store.in_doubt(&tp),
            gaps: store.gaps(&tp),
            lineage: store.lineage(&tp),
            read: read_all(store, &tp),
        };
        (tp, found)
    })
    .collect()
}

/// Nothing was written in between: whatever the files say, they say it again. Only the start itself
/// is new.
fn same(first: &[(TopicPartition, Found)], again: &[(TopicPartition, Found)], boot: u64) {
    let names = |all: &[(TopicPartition, Found)]| -> Vec<_> {
        all.iter().map(|(tp, _)| tp.clone()).collect()
    };
    assert_eq!(names(first), names(again), "the partitions");
    for ((tp, first), (_, again)) in first.iter().zip(again) {
        assert_eq!(first.start, again.start, "{tp}: start");
        assert_eq!(first.next, again.next, "{tp}: next");
        assert_eq!(first.sealed_end, again.sealed_end, "{tp}: sealed end");
        assert_eq!(first.acked, again.acked, "{tp}: acked");
        assert_eq!(first.in_doubt, again.in_doubt, "{tp}: in doubt");
        assert_eq!(first.gaps, again.gaps, "{tp}: gaps");
        assert_eq!(first.read, again.read, "{tp}: what can be read");
        let (Some(ours), Some(theirs)) = (&first.lineage, &again.lineage) else {
            panic!("{tp}: no lineage after a start");
        };
        let name = |lineage: &Lineage| (lineage.incarnation, lineage.since);
        assert_eq!(name(ours), name(theirs), "{tp}: incarnation");
        let mut boots = ours.boots.clone();
        boots.push((boot, first.next.expect("it was listed")));
        assert_eq!(boots, theirs.boots, "{tp}: boots");
    }
}

/// All that can be read, in order.
fn read_all(store: &Store, tp: &TopicPartition) -> Vec<Read> {
    let mut reader = store.reader(tp).expect("it was listed");
    let mut at = store.start(tp).expect("it was listed");
    let mut found = Vec::new();
    let _ = reader.offset_for_time(NOW + 3);
    loop {
        let before = at;
        match reader.read(at, 2048) {
            Ok(Chunk::Batches(batches)) => {
                for batch in batches {
                    let view = BatchView::parse(&batch, &Limits::UPLINK).expect("it was checked");
                    view.verify_crc().expect("it was checked");
                    records(&view, &mut found);
                    assert!(view.next_offset() > at, "reading goes on");
                    at = view.next_offset();
                }
            }
            Ok(Chunk::Gap(gap)) => {
                found.push(Read::Gap(gap));
                at = gap.to;
            }
            Err(ReadError::Corrupt { from, to, .. }) => {
                found.push(Read::Damaged(from, to));
                at = to;
            }
            Ok(Chunk::End) | Err(_) => return found,
        }
        assert!(at > before, "reading goes on");
    }
}

fn records(view: &BatchView<'_>, found: &mut Vec<Read>) {
    let mut decoder = Decoder::new();
    let Ok(records) = view.records(&mut decoder, &Limits::UPLINK) else {
        found.push(Read::Undecodable(view.base_offset()));
        return;
    };
    let records = records.map_while(Result::ok);
    found.extend(records.map(|r| Read::Record(r.offset, r.timestamp, digest(&r))));
}

fn history(records: usize, checkpoint_at: usize) -> SimDisk {
    let disk = SimDisk::new(5);
    let mut store = open(&disk, 1).expect("an empty disk opens");
    for n in 0..records {
        let now = 50 * n as u64;
        store.stage(entry(n), now).expect("there is room");
        if n % 3 == 2 {
            store.commit(now).expect("a simulated disk syncs");
            store.tick(now + 200).expect("a batch can be sealed");
        }
        if n == checkpoint_at {
            let changes = vec![(b"k".to_vec(), Some(b"v".to_vec()))];
            store.checkpoint(changes, now).expect("a checkpoint");
            store.set_acked(&tp(), Offset(3), now);
        }
    }
    store.commit(60_000).expect("a simulated disk syncs");
    drop(store);
    disk.crash(Crash::Kill);
    disk.restart();
    disk
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let seed = |records, at, fits| files::sections(&history(records, at), &names(), fits);
    vec![
        named("young", seed(8, 1_000, 0)),
        named("checkpoint", seed(20, 10, 31)),
        named("segments", seed(60, 40, 31)),
        named("empty", Vec::new()),
    ]
}
