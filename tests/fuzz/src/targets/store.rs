//! The edge's whole log: bytes as journal, checkpoints, segments and indexes of a data directory. It
//! opens, reads every partition, takes a record, seals, takes a checkpoint, loses power, opens again.
//!
//! Asserted: it starts on any disk and never gives out a batch that does not prove itself. And, unless
//! checksums were made to fit: the record that it took stands at its offset after the power cut.
//!
//! Memory: the simulated disk's two images, batches of 1 MiB, a journal group of 8 MiB.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_batch::{BatchView, Decoder, Limits, NewRecord, Offset, TopicPartition};
use headwater_log::checkpoint::FileStore;
use headwater_log::disk::Crash;
use headwater_log::store::{Chunk, Entry, Refused, Store, StoreConfig};
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

const NOW: i64 = 1_780_000_000_000;

fn names() -> Vec<PathBuf> {
    let journals = (1..=3).map(|n| format!("d/journal/{n:020}.journal"));
    let bases = [0, 24];
    let kinds = ["log", "index", "timeindex"];
    let segments = bases
        .iter()
        .flat_map(|base| kinds.map(|kind| format!("d/t-0/{base:020}.{kind}")));
    let others = ["d/checkpoints/a.checkpoint", "d/checkpoints/b.checkpoint"];
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
    for tp in store.partitions() {
        read_all(&store, &tp);
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

/// The offsets that can be read; what is between them is a gap, said as such.
fn read_all(store: &Store, tp: &TopicPartition) -> Vec<i64> {
    let mut reader = store.reader(tp).expect("it was listed");
    let mut at = store.start(tp).expect("it was listed");
    let mut found = Vec::new();
    let _ = reader.offset_for_time(NOW + 3);
    loop {
        match reader.read(at, 2048) {
            Ok(Chunk::Batches(batches)) => {
                for batch in batches {
                    let view = BatchView::parse(&batch, &Limits::UPLINK).expect("it was checked");
                    view.verify_crc().expect("it was checked");
                    let mut decoder = Decoder::new();
                    if let Ok(records) = view.records(&mut decoder, &Limits::UPLINK) {
                        found.extend(records.map_while(Result::ok).map(|r| r.offset.0));
                    }
                    assert!(view.next_offset() > at, "reading goes on");
                    at = view.next_offset();
                }
            }
            Ok(Chunk::Gap(gap)) => {
                assert!(gap.to > at, "reading goes on");
                at = gap.to;
            }
            Ok(Chunk::End) | Err(_) => return found,
        }
    }
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
        named("checkpoint", seed(20, 10, 15)),
        named("segments", seed(60, 40, 15)),
        named("empty", Vec::new()),
    ]
}
