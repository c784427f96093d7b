//! Rates of a store on a real disk: staged and packed, read and checked, started again.
//!
//! `cargo run --release -p headwater-log --example rates -- DIR`, where `DIR` must not exist.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::sync::Arc;
use std::time::Instant;

use headwater_batch::{BatchView, Limits, NewRecord, Offset, TopicPartition};
use headwater_log::RealDisk;
use headwater_log::checkpoint::SledStore;
use headwater_log::store::{Chunk, Entry, Store, StoreConfig};

fn open(cfg: &StoreConfig, boot: u64) -> Store {
    let checkpoints = Box::new(SledStore::open(&cfg.dir.join("checkpoints")).unwrap());
    let disk = Arc::new(RealDisk);
    let (store, _) = Store::open(disk, checkpoints, cfg.clone(), 0, boot, 1).unwrap();
    store
}

fn main() {
    let dir = std::env::args().nth(1).expect("a directory");
    let mut cfg = StoreConfig::new(dir);
    cfg.segment_bytes = 8 << 20;
    let mut store = open(&cfg, 1);
    let topic: TopicPartition = "mqtt-0".parse().unwrap();
    let count: i64 = 400_000;
    let entries: Vec<_> = (0..count)
        .map(|n| {
            let value = format!(
                "{{\"ts\":{},\"sensor\":\"temp-{:02}\",\"value\":{}.{:02},\"unit\":\"C\",\"seq\":{n},\
                 \"batt\":3.7,\"status\":\"ok\"}}",
                1_780_000_000_000 + n,
                n % 20,
                20 + n % 3,
                n * 37 % 100
            );
            let record = NewRecord::new(1_780_000_000_000 + n, format!("s/temp-{}", n % 20), value);
            Entry { records: vec![(topic.clone(), record.header("edge", "gw"))], ..Entry::default() }
        })
        .collect();
    let began = Instant::now();
    let mut staging = std::time::Duration::ZERO;
    for (n, entry) in entries.into_iter().enumerate() {
        let at = Instant::now();
        store.stage(entry, n as u64 / 100).unwrap();
        staging += at.elapsed();
        if n % 1_000 == 999 {
            store.commit(n as u64 / 100).unwrap();
            if store.wants_checkpoint() {
                store.checkpoint(Vec::new(), n as u64 / 100).unwrap();
            }
        }
    }
    store.commit(10_000).unwrap();
    store.checkpoint(Vec::new(), 10_000).unwrap();
    let took = began.elapsed();
    let usage = store.usage();
    println!(
        "{:.0} records/s staged and packed ({:.0}/s staged only), {:.1} B a record in segments",
        count as f64 / took.as_secs_f64(),
        count as f64 / staging.as_secs_f64(),
        usage.segment_bytes as f64 / count as f64
    );
    let began = Instant::now();
    let (mut reader, mut at, mut bytes) = (store.reader(&topic).unwrap(), Offset::ZERO, 0);
    while let Chunk::Batches(batches) = reader.read(at, 1 << 20).unwrap() {
        bytes += batches.iter().map(|batch| batch.len()).sum::<usize>();
        let last = batches.last().unwrap();
        at = BatchView::parse(last, &Limits::UPLINK)
            .unwrap()
            .next_offset();
    }
    println!(
        "{:.0} MB/s read and checked",
        bytes as f64 / 1e6 / began.elapsed().as_secs_f64()
    );
    drop(store);
    let began = Instant::now();
    let store = open(&cfg, 2);
    println!(
        "start in {:?}, next {:?}",
        began.elapsed(),
        store.next(&topic)
    );
}
