//! Reads a stopped node's segments with nothing but the batch crate.

use std::path::Path;

use headwater_batch::{Decoder, Limits, batches};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub offset: i64,
    pub key: String,
    pub value: String,
    pub headers: Vec<(String, Vec<u8>)>,
}

/// Every record of a partition, in order; CRCs and offsets are checked on the way.
pub fn read(dir: &Path, partition: &str) -> Vec<Stored> {
    let mut files: Vec<_> = std::fs::read_dir(dir.join(partition))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    files.sort();
    let mut all = Vec::new();
    let mut decoder = Decoder::new();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        for batch in batches(&bytes, &Limits::UPLINK) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            for record in batch.records(&mut decoder, &Limits::UPLINK).unwrap() {
                let record = record.unwrap();
                assert_eq!(record.offset.0, all.len() as i64, "offsets follow on");
                let text = |bytes: Option<&[u8]>| {
                    String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap()
                };
                let headers = record.headers.iter().map(|header| {
                    (
                        header.key_str().unwrap().to_owned(),
                        header.value.unwrap().to_vec(),
                    )
                });
                all.push(Stored {
                    offset: record.offset.0,
                    key: text(record.key),
                    value: text(record.value),
                    headers: headers.collect(),
                });
            }
        }
    }
    all
}
