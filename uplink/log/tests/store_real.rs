//! The store on the real disk, end to end, with sled.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use headwater_batch::{BatchView, Decoder, Limits, NewRecord, Offset, TopicPartition};
use headwater_log::RealDisk;
use headwater_log::checkpoint::SledStore;
use headwater_log::store::{Chunk, Durability, Entry, Recovered, Store, StoreConfig};

fn tp(name: &str) -> TopicPartition {
    name.parse().unwrap()
}

fn config(dir: &std::path::Path) -> StoreConfig {
    let mut cfg = StoreConfig::new(dir);
    cfg.journal_file_bytes = 1 << 20;
    cfg.reserve_bytes = 1 << 20;
    cfg.segment_bytes = 256 << 10;
    cfg.batch_bytes = 16 << 10;
    cfg
}

fn open(cfg: &StoreConfig, boot: u64) -> (Store, Recovered) {
    let checkpoints = Box::new(SledStore::open(&cfg.dir.join("checkpoints")).unwrap());
    let incarnation = u128::from(boot) << 64;
    Store::open(
        Arc::new(RealDisk),
        checkpoints,
        cfg.clone(),
        0,
        boot,
        incarnation,
    )
    .unwrap()
}

fn entry(tp: &TopicPartition, n: i64) -> Entry {
    let value = format!("{{\"seq\":{n},\"value\":{}}}", n * 31 % 1000);
    let record = NewRecord::new(1_780_000_000_000 + n, format!("sensor-{}", n % 7), value);
    Entry {
        records: vec![(tp.clone(), record.header("edge", "gw-1"))],
        op: n.to_be_bytes().to_vec(),
        durability: Durability::Fsync,
    }
}

/// All values from `from` on, with their offsets.
fn read_all(store: &Store, tp: &TopicPartition, from: Offset) -> Vec<(i64, String)> {
    let mut reader = store.reader(tp).unwrap();
    let (mut at, mut all) = (from, Vec::new());
    let mut decoder = Decoder::new();
    loop {
        match reader.read(at, 1 << 20).unwrap() {
            Chunk::Batches(batches) => {
                for batch in batches {
                    let view = BatchView::parse(&batch, &Limits::UPLINK).unwrap();
                    view.verify_crc().unwrap();
                    for record in view.records(&mut decoder, &Limits::UPLINK).unwrap() {
                        let record = record.unwrap();
                        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                        all.push((record.offset.0, value));
                    }
                    at = view.next_offset();
                }
            }
            Chunk::End => return all,
            Chunk::Gap(gap) => panic!("{gap:?}"),
        }
    }
}

fn values(all: &[(i64, String)]) -> Vec<i64> {
    let seq = |(_, value): &(i64, String)| {
        let digits: String = value[7..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse().unwrap()
    };
    all.iter().map(seq).collect()
}

#[test]
fn records_survive_restarts_and_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = config(dir.path());
    let topic = tp("mqtt-0");
    let mut n = 0;
    for boot in 1..6u64 {
        let (mut store, recovered) = open(&cfg, boot);
        assert_eq!(
            recovered.kv.first().map(|kv| kv.0.clone()),
            (boot > 3).then(|| b"k".to_vec())
        );
        if boot > 1 {
            assert_eq!(store.next(&topic), Some(Offset(n)));
        }
        for _ in 0..2_000 {
            let staged = store.stage(entry(&topic, n), n as u64).unwrap();
            assert_eq!(staged.offsets, [Offset(n)]);
            n += 1;
            if n % 50 == 0 {
                let token = store.commit(n as u64).unwrap();
                assert!(token >= staged.token);
            }
        }
        store.commit(n as u64).unwrap();
        store.tick(n as u64 + 1_000).unwrap();
        assert_eq!(store.sealed_end(&topic), Some(Offset(n)));
        let all = read_all(&store, &topic, Offset::ZERO);
        assert_eq!(values(&all), (0..n).collect::<Vec<_>>(), "boot {boot}");
        assert!(
            all.iter()
                .enumerate()
                .all(|(i, (offset, _))| *offset == i as i64)
        );
        let lineage = store.lineage(&topic).unwrap();
        assert_eq!(lineage.incarnation, 1 << 64);
        assert_eq!(lineage.boots.len(), boot as usize);
        if boot >= 3 {
            store
                .checkpoint(vec![(b"k".to_vec(), Some(n.to_be_bytes().to_vec()))], 0)
                .unwrap();
        }
    }
    let (store, recovered) = open(&cfg, 9);
    assert_eq!(recovered.ops.len(), 0);
    assert_eq!(recovered.kv, [(b"k".to_vec(), n.to_be_bytes().to_vec())]);
    assert_eq!(
        values(&read_all(&store, &topic, Offset(4_321))).last(),
        Some(&(n - 1))
    );
}
