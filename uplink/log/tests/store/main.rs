//! The store on the simulated disk: each promise by itself. Random histories are in `crash/`.
#![allow(clippy::unwrap_used)]

mod again;
mod faults;
mod full;
mod keep;
mod lineage;
mod lost;
mod read;

use std::path::Path;
use std::sync::Arc;

use headwater_batch::{BatchView, Decoder, Limits, NewRecord, Offset, TopicPartition};
use headwater_log::checkpoint::FileStore;
use headwater_log::disk::Crash;
use headwater_log::store::{Chunk, Entry, Ms, Store, StoreConfig};
use headwater_log::{Disk, LogError, SimDisk};

const NOW: i64 = 1_780_000_000_000;

fn tp(name: &str) -> TopicPartition {
    name.parse().unwrap()
}

fn config() -> StoreConfig {
    let mut cfg = StoreConfig::new("/data");
    cfg.journal_file_bytes = 64 << 10;
    cfg.reserve_bytes = 64 << 10;
    cfg.budget_bytes = 16 << 20;
    cfg.batch_bytes = 2048;
    cfg.segment_bytes = 8192;
    cfg.linger_ms = 100;
    cfg.hold_ms = 5_000;
    cfg
}

fn try_open(disk: &SimDisk, cfg: &StoreConfig, boot: u64) -> Result<Store, LogError> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let checkpoints = FileStore::open(Arc::clone(&shared), Path::new("/data/checkpoints"))?;
    let (checkpoints, cfg) = (Box::new(checkpoints), cfg.clone());
    let (store, _) = Store::open(shared, checkpoints, cfg, 0, boot, boot.into())?;
    Ok(store)
}

fn open(disk: &SimDisk, cfg: &StoreConfig, boot: u64) -> Store {
    try_open(disk, cfg, boot).unwrap()
}

fn restart(disk: &SimDisk, how: Crash) {
    disk.crash(how);
    disk.restart();
}

fn entry(tp: &TopicPartition, n: i64) -> Entry {
    let value: Vec<u8> = (0..100)
        .map(|i| (n as u8).wrapping_mul(i).rotate_left(3))
        .collect();
    let record = NewRecord::new(NOW + n, format!("k{n}"), value);
    Entry {
        records: vec![(tp.clone(), record)],
        ..Entry::default()
    }
}

/// Stages, commits and seals `count` records.
fn write(store: &mut Store, tp: &TopicPartition, count: i64, now: Ms) {
    for n in 0..count {
        store.stage(entry(tp, n), now).unwrap();
        if n % 16 == 15 {
            store.commit(now).unwrap();
        }
    }
    store.commit(now).unwrap();
    store.tick(now + 10_000).unwrap();
}

/// Offsets read from `from`, gaps left out.
fn offsets(store: &Store, tp: &TopicPartition, from: Offset) -> Vec<i64> {
    let (mut reader, mut at, mut all) = (store.reader(tp).unwrap(), from, Vec::new());
    loop {
        match reader.read(at, 4096) {
            Ok(Chunk::Batches(batches)) => {
                for batch in batches {
                    let view = BatchView::parse(&batch, &Limits::UPLINK).unwrap();
                    let mut decoder = Decoder::new();
                    let records = view.records(&mut decoder, &Limits::UPLINK).unwrap();
                    all.extend(records.map(|record| record.unwrap().offset.0));
                    at = view.next_offset();
                }
            }
            Ok(Chunk::Gap(gap)) => at = gap.to,
            Ok(Chunk::End) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}
