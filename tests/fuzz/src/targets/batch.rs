//! Record batches: headers, records in all five codecs as the cloud decodes them, slicing, stamping.
//!
//! The first byte says whether length and CRC are made to fit first, and where to slice. What is
//! asserted beyond "no panic": a slice holds exactly the records that the batch has from there on.
//!
//! Memory: records of at most 1 MiB come out of a batch, twice (the batch's and the slice's), and
//! lz4 keeps two blocks of at most 8 MiB.

use headwater_batch::layout::{ATTRIBUTES, BATCH_LENGTH, CRC, CRC_FROM, LENGTH_PREFIX_BYTES};
use headwater_batch::{
    BatchView, Decoder, HEADER_BYTES, Level, Limits, Offset, Slicer, batches, set_log_append_time,
    stamp,
};
use headwater_kafka::Foreign;

use super::named;
use crate::Target;

pub const TARGET: Target = Target {
    name: "batch",
    run,
    seeds,
    input_bytes_max: 64 << 10,
    memory_bytes_max: 32 << 20,
};

const FIT: u8 = 1;

fn run(data: &[u8]) {
    let Some((&flags, bytes)) = data.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if flags & FIT != 0 {
        fit(&mut bytes);
    }
    for batch in batches(&bytes, &Limits::UPLINK) {
        let Ok(batch) = batch else { break };
        one(&batch, flags >> 1);
    }
    let _ = set_log_append_time(&mut bytes, 1_700_000_000_000);
    if stamp(&mut bytes, Offset(77), 3).is_ok() {
        if let Ok(view) = BatchView::parse(&bytes, &Limits::UPLINK) {
            assert_eq!(view.base_offset(), Offset(77));
        }
    }
}

/// Makes length and CRC those of one batch over all the bytes.
pub(super) fn fit(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let length = (bytes.len() - LENGTH_PREFIX_BYTES) as i32;
    bytes[BATCH_LENGTH].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[CRC].copy_from_slice(&crc.to_be_bytes());
}

fn one(view: &BatchView<'_>, choice: u8) {
    let limits = Limits::UPLINK;
    let _ = view.verify_crc();
    let mut decoder = Decoder::with(Box::new(Foreign));
    let checked = view.check_records(&mut decoder, &limits);
    let Some(all) = offsets(view) else { return };
    if let Ok(summary) = checked {
        assert_eq!(summary.count as usize, all.len());
    }
    let span = view.next_offset().0 - view.base_offset().0;
    let from = Offset(view.base_offset().0 + span * i64::from(choice) / 128);
    let decoder = Decoder::with(Box::new(Foreign));
    let sliced = Slicer::with(Level::Zstd(1), decoder).slice(view, from, &limits);
    let Ok(sliced) = sliced else { return };
    let sliced = BatchView::parse(&sliced, &limits).expect("a slice is a batch");
    sliced
        .verify_crc()
        .expect("a slice has its CRC, or the batch's own");
    let kept = offsets(&sliced).expect("a slice's records are sound");
    let wanted: Vec<i64> = all.into_iter().filter(|o| *o >= from.0).collect();
    assert_eq!(kept, wanted);
}

/// The records' offsets, if all of them are sound and the CRC is right.
fn offsets(view: &BatchView<'_>) -> Option<Vec<i64>> {
    let mut decoder = Decoder::with(Box::new(Foreign));
    let records = view.records(&mut decoder, &Limits::UPLINK).ok()?;
    let offsets: Option<Vec<i64>> = records.map(|r| r.ok().map(|r| r.offset.0)).collect();
    view.verify_crc().ok()?;
    offsets
}

macro_rules! golden {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../../../uplink/batch/tests/golden/", $name, ".bin")))),*]
    };
}

/// Bytes of real clients.
pub(super) const GOLDEN: &[(&str, &[u8])] = golden![
    "java-none",
    "java-gzip",
    "java-snappy",
    "java-lz4",
    "java-zstd",
    "java-holes",
    "java-empty",
    "java-append-time",
    "librdkafka-snappy",
    "librdkafka-lz4",
    "kafka-python-snappy",
    "ours-zstd",
    "ours-slice-empty",
];

/// Golden batches above this are left out: the corpus stays small.
const SEED_BYTES_MAX: usize = 3_000;

fn seeds() -> Vec<(String, Vec<u8>)> {
    let small = GOLDEN.iter().filter(|(_, b)| b.len() <= SEED_BYTES_MAX);
    let mut all: Vec<_> = small
        .map(|(name, bytes)| named(*name, [&[64 | FIT][..], bytes].concat()))
        .collect();
    // One block of snappy, whose length lies.
    let mut lie = GOLDEN[0].1[..HEADER_BYTES].to_vec();
    lie[ATTRIBUTES].copy_from_slice(&2u16.to_be_bytes());
    lie.extend([0x80, 0x80, 0x80, 0x80, 0x08, 0, 0, 0]);
    all.push(named("snappy-lie", [&[FIT][..], &lie].concat()));
    all
}
