//! Bytes of real clients, and of our own releases, are read for ever.
//!
//! `tests/golden/NAME.bin` holds batches, `NAME.txt` what Kafka's Java classes read in them.
//! `tests/golden/make/README.md` says how they were made. A fixture is added, never replaced.

use headwater_batch::*;

use crate::support::{Foreign, golden_records, records, text};

macro_rules! fixtures {
    ($($name:literal),* $(,)?) => {
        &[$((
            $name,
            include_bytes!(concat!("../golden/", $name, ".bin")),
            include_str!(concat!("../golden/", $name, ".txt")),
        )),*]
    };
}

const FIXTURES: &[(&str, &[u8], &str)] = fixtures![
    "java-none",
    "java-gzip",
    "java-snappy",
    "java-lz4",
    "java-zstd",
    "java-several",
    "java-idempotent",
    "java-transaction",
    "java-append-time",
    "java-holes",
    "java-delete-horizon",
    "java-empty",
    "librdkafka-none",
    "librdkafka-gzip",
    "librdkafka-snappy",
    "librdkafka-lz4",
    "librdkafka-zstd",
    "kafka-python-none",
    "kafka-python-gzip",
    "kafka-python-snappy",
    "kafka-python-lz4",
    "kafka-python-zstd",
    "kcat-none",
    "kcat-zstd",
    "ours-none",
    "ours-zstd",
    "ours-zstd-19",
    "ours-holes",
    "ours-slice",
    "ours-slice-empty",
    "ours-append-time",
    "ours-stamped",
];

fn fixture(name: &str) -> &'static [u8] {
    FIXTURES
        .iter()
        .find(|(found, ..)| *found == name)
        .expect("listed above")
        .1
}

#[test]
fn reads_what_java_reads() {
    let mut decoder = Decoder::with(Box::new(Foreign));
    for (name, bytes, expected) in FIXTURES {
        let read = text(bytes, &mut decoder).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(read, *expected, "{name}");
    }
}

#[test]
fn foreign_codecs_are_named_where_there_is_no_decoder() {
    let foreign = [
        ("java-gzip", Compression::Gzip),
        ("java-snappy", Compression::Snappy),
        ("librdkafka-lz4", Compression::Lz4),
    ];
    for (name, codec) in foreign {
        assert_eq!(
            text(fixture(name), &mut Decoder::new()),
            Err(BatchError::Codec(codec))
        );
    }
}

/// The builder makes the very bytes that Kafka's does.
#[test]
fn builds_what_java_builds() {
    let mut builder = BatchBuilder::new(Offset::ZERO, Level::None);
    for record in golden_records() {
        builder.push(&record).unwrap();
    }
    assert_eq!(builder.finish(), fixture("java-none"));
}

/// zstd's output may change with its version; what it says must not. Uncompressed is the same
/// byte for byte.
#[test]
fn builds_what_it_built_before() {
    write_if_asked();
    for (name, now) in ours() {
        let then = fixture(name);
        let mut decoder = Decoder::new();
        assert_eq!(text(&now, &mut decoder), text(then, &mut decoder), "{name}");
        if BatchView::parse(then, &Limits::UPLINK)
            .unwrap()
            .compression()
            == Compression::None
        {
            assert_eq!(now, then, "{name}");
        }
    }
}

/// Every client's batch of the common records can be cut anywhere.
#[test]
fn slices_what_clients_built() {
    let mut slicer = Slicer::with(Level::default(), Decoder::with(Box::new(Foreign)));
    let limits = Limits::UPLINK;
    for name in [
        "java-none",
        "java-zstd",
        "java-lz4",
        "librdkafka-snappy",
        "librdkafka-gzip",
    ] {
        let batch = BatchView::parse(fixture(name), &limits).unwrap();
        let base = batch.base_offset().0;
        for skip in 1..25 {
            let slice = slicer.slice(&batch, Offset(base + skip), &limits).unwrap();
            let kept: Vec<_> = records(&slice)
                .unwrap()
                .into_iter()
                .map(|(_, r)| r)
                .collect();
            let mut expected = golden_records().split_off(skip as usize);
            if name.starts_with("librdkafka") && skip <= 2 {
                // It does not take an empty header key.
                expected[2 - skip as usize].headers[0].key = "h".to_owned();
            }
            assert_eq!(kept, expected, "{name} from {skip}");
        }
    }
    let transaction = batches(fixture("java-transaction"), &limits)
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(
        slice(&transaction, Offset(9), Level::None, &limits),
        Err(BatchError::SliceTransactional)
    );
}

/// Only a hole is left: the batch covers it and keeps the broker's time.
#[test]
fn a_slice_without_records_keeps_its_range() {
    let mut bytes = fixture("java-empty").to_vec();
    set_log_append_time(&mut bytes, 77).unwrap();
    let limits = Limits::UPLINK;
    let batch = BatchView::parse(&bytes, &limits).unwrap();
    let slice = slice(&batch, Offset(25), Level::Zstd(3), &limits).unwrap();
    let slice = BatchView::parse(&slice, &limits).unwrap();
    slice.verify_crc().unwrap();
    assert_eq!(
        (slice.base_offset(), slice.last_offset()),
        (Offset(25), Offset(30))
    );
    assert_eq!((slice.record_count(), slice.max_timestamp()), (0, 77));
    assert_eq!(slice.timestamp_type(), TimestampType::LogAppendTime);
}

/// What each of our fixtures holds, built now.
fn ours() -> Vec<(&'static str, Vec<u8>)> {
    let limits = Limits::UPLINK;
    let all = |level| {
        let mut builder = BatchBuilder::new(Offset(5000), level);
        for record in golden_records() {
            builder.push(&record).unwrap();
        }
        builder.finish()
    };
    let holes = {
        let mut builder = BatchBuilder::new(Offset(40), Level::Zstd(3));
        for (record, offset) in golden_records()
            .iter()
            .zip([42, 43, 50, 1000, 2_000_000_000])
        {
            builder.push_at(&record.at(Offset(offset))).unwrap();
        }
        builder.finish()
    };
    let cut = |bytes: &[u8], from| {
        let batch = BatchView::parse(bytes, &limits).unwrap();
        slice(&batch, Offset(from), Level::Zstd(3), &limits).unwrap()
    };
    // Its last record is taken away by a slice of everything but the hole behind it.
    let slice_empty = {
        let mut bytes = fixture("java-empty").to_vec();
        stamp(&mut bytes, Offset(600), 4).unwrap();
        cut(&bytes, 603)
    };
    let mut append_time = all(Level::Zstd(3));
    set_log_append_time(&mut append_time, 1_763_900_000_000).unwrap();
    let mut stamped = all(Level::Zstd(3));
    stamp(&mut stamped, Offset(1 << 50), 17).unwrap();
    vec![
        ("ours-none", all(Level::None)),
        ("ours-zstd", all(Level::Zstd(3))),
        ("ours-zstd-19", all(Level::Zstd(19))),
        ("ours-slice", cut(&all(Level::Zstd(3)), 5007)),
        ("ours-slice-empty", slice_empty),
        ("ours-holes", holes),
        ("ours-append-time", append_time),
        ("ours-stamped", stamped),
    ]
}

/// A new fixture is listed above with an empty file beside the others, and filled once:
/// `HEADWATER_WRITE_GOLDEN=1 cargo test -p headwater-batch builds_what`. One that is there is kept.
#[allow(clippy::disallowed_methods, reason = "a tool, run by hand")]
fn write_if_asked() {
    if std::env::var_os("HEADWATER_WRITE_GOLDEN").is_none() {
        return;
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    for (name, bytes) in ours() {
        if fixture(name).is_empty() {
            let path = folder.join(name).with_extension("bin");
            std::fs::write(path, bytes).unwrap();
        }
    }
}
