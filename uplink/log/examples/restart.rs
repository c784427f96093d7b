//! How long a start takes: fills a store, kills the process that does it, and opens what it left.
//!
//! `cargo run --release -p headwater-log --example restart -- DIR [GIGABYTES]`
//!
//! `DIR` must not exist; it is left behind, to be opened again with `GIGABYTES` 0.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use headwater_batch::{Level, NewRecord, Offset, TopicPartition};
use headwater_log::RealDisk;
use headwater_log::checkpoint::SledStore;
use headwater_log::store::{Entry, Store, StoreConfig};

const PARTITIONS: u64 = 8;
const RECORD_BYTES: usize = 1000;

fn config(dir: &Path) -> StoreConfig {
    let mut cfg = StoreConfig::new(dir);
    cfg.budget_bytes = 64 << 30;
    cfg.level = Level::None;
    cfg
}

fn open(dir: &Path, boot: u64) -> Store {
    let cfg = config(dir);
    let checkpoints = SledStore::open(&dir.join("checkpoints")).unwrap();
    let checkpoints = Box::new(checkpoints);
    let disk = Arc::new(RealDisk);
    let (store, recovered) = Store::open(disk, checkpoints, cfg, 0, boot, 1).unwrap();
    println!("  notes: {:.600?}", recovered.notes);
    store
}

/// Writes until the store holds that much; then goes on until killed.
fn fill(dir: &Path, bytes: u64) {
    let mut store = open(dir, 1);
    let partitions: Vec<TopicPartition> = (0..PARTITIONS)
        .map(|n| format!("sensors-{n}").parse().unwrap())
        .collect();
    let (mut now, mut written, mut said) = (0, 0, false);
    for n in 0u64.. {
        let value: Vec<u8> = (0..RECORD_BYTES as u64)
            .map(|i| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 57)) as u8)
            .collect();
        let record = NewRecord::new(1_780_000_000_000, format!("k{n}"), value);
        let tp = &partitions[(n % PARTITIONS) as usize];
        let entry = || Entry {
            records: vec![(tp.clone(), record.clone())],
            ..Entry::default()
        };
        if store.stage(entry(), now).is_err() {
            now += 5;
            store.commit(now).unwrap();
            store.tick(now).unwrap();
            if store.wants_checkpoint() {
                store.checkpoint(Vec::new(), now).unwrap();
            }
            store.stage(entry(), now).unwrap();
        }
        written += RECORD_BYTES as u64;
        if written >= bytes && !said {
            said = true;
            std::fs::write(dir.join("filled"), "").unwrap();
        }
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().expect("a directory");
    let gigabytes: f64 = args.next().map_or(2.0, |n| n.parse().expect("a number"));
    let dir = Path::new(&dir);
    if args.next().is_some() {
        return fill(dir, (gigabytes * 1e9) as u64);
    }
    if gigabytes > 0.0 {
        let begun = Instant::now();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([dir.to_str().unwrap(), &gigabytes.to_string(), "fill"])
            .spawn()
            .unwrap();
        while !dir.join("filled").exists() {
            assert!(child.try_wait().unwrap().is_none(), "it died by itself");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        std::thread::sleep(std::time::Duration::from_millis(1_700));
        child.kill().unwrap();
        child.wait().unwrap();
        println!("filled {gigabytes} GB in {:.1?}, killed", begun.elapsed());
    }
    for start in ["first", "second"] {
        let begun = Instant::now();
        let store = open(dir, 2);
        println!("{start} start: {:.1?}", begun.elapsed());
        let records: i64 = store
            .partitions()
            .iter()
            .map(|tp| store.next(tp).unwrap_or(Offset::ZERO).0)
            .sum();
        println!("  {records} records, {:?}", store.usage());
    }
}
