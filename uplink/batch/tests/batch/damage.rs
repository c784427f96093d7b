//! Bytes from a stranger, from a worn card, from an attacker: an error, never a panic.

use headwater_batch::*;
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::support::{Foreign, LIMITS, any_level, any_records, build, golden_records};

fn golden(level: Level) -> Vec<u8> {
    let records: Vec<_> = golden_records()
        .into_iter()
        .zip(100..)
        .map(|(r, at)| (Offset(at), r))
        .collect();
    build(Offset(100), level, &records)
}

/// Everything that is done to bytes from outside. Panics are what is looked for.
pub fn exercise(bytes: &[u8], limits: &Limits) -> Result<(), BatchError> {
    let mut copy = bytes.to_vec();
    let _ = stamp(&mut copy, Offset(i64::MAX - 5), 3);
    let _ = set_log_append_time(&mut copy, i64::MIN);
    let (batch, _) = BatchView::split_first(bytes, limits)?;
    let _ = batch.verify_crc();
    let mut decoder = Decoder::with(Box::new(Foreign));
    let middle = Offset(batch.base_offset().0 + i64::from(batch.last_offset_delta()) / 2);
    for from in [
        Offset(i64::MIN),
        middle,
        batch.last_offset(),
        batch.next_offset(),
    ] {
        if let Ok(slice) = slice(&batch, from, Level::Zstd(1), limits) {
            let slice = BatchView::parse(&slice, limits).expect("a slice is a batch");
            // From its start on, a batch is handed on unread.
            if from <= batch.base_offset() {
                continue;
            }
            slice
                .check_records(&mut decoder, limits)
                .expect("of good records");
        }
    }
    for record in batch.records(&mut decoder, limits)? {
        let record = record?;
        assert!(record.offset >= batch.base_offset() && record.offset <= batch.last_offset());
        assert_eq!(record.headers.iter().count(), record.headers.len());
        let _ = (record.to_new(), record.bytes_bound());
    }
    batch.check_records(&mut decoder, limits).map(drop)
}

/// Every single bit of a batch: under the CRC it is detected by the CRC; in the length, the magic
/// and the CRC itself it is detected too; base offset and leader epoch are free by design.
#[test]
fn any_flipped_bit_is_detected() {
    for level in [Level::None, Level::Zstd(3)] {
        let mut bytes = golden(level);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let outcome = BatchView::parse(&bytes, &LIMITS).and_then(|b| b.verify_crc());
            match bit / 8 {
                0..8 | 12..16 => {}
                21.. => match outcome {
                    Err(BatchError::Crc { .. }) => {}
                    // Lengths and counts no batch can have are told before the CRC is computed.
                    Err(BatchError::Field { .. } | BatchError::TooLarge { .. }) if bit < 61 * 8 => {
                    }
                    other => panic!("bit {bit}: {other:?}"),
                },
                _ => assert!(outcome.is_err(), "bit {bit}"),
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        BatchView::parse(&bytes, &LIMITS)
            .unwrap()
            .verify_crc()
            .unwrap();
    }
}

#[test]
fn a_batch_cut_short_is_truncated() {
    let bytes = golden(Level::Zstd(3));
    for length in 0..bytes.len() {
        let error = BatchView::parse(&bytes[..length], &LIMITS).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Truncated, "{length}: {error}");
    }
    let several = [&bytes[..], &bytes, &bytes[..70]].concat();
    let mut walk = batches(&several, &LIMITS);
    assert_eq!(walk.by_ref().take_while(Result::is_ok).count(), 2);
    assert_eq!(walk.position(), 2 * bytes.len());
    assert!(walk.next().is_none(), "nothing after an error");
    let trailing = BatchView::parse(&several, &LIMITS).unwrap_err();
    assert_eq!(
        trailing,
        BatchError::Trailing {
            extra: bytes.len() + 70
        }
    );
}

#[test]
fn older_formats_are_named() {
    let mut bytes = golden(Level::None);
    for magic in [0, 1, 3, 255] {
        bytes[16] = magic;
        assert_eq!(
            Header::parse(&bytes, &LIMITS),
            Err(BatchError::Magic(magic))
        );
    }
}

#[test]
fn headers_that_cannot_be_are_refused() {
    let refused = |at: usize, value: u8| {
        let mut bytes = golden(Level::None);
        bytes[at] = value;
        match Header::parse(&bytes, &LIMITS) {
            Err(BatchError::Field { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(layout::BASE_OFFSET.start, 0x80), "base offset");
    assert_eq!(refused(layout::BATCH_LENGTH.start, 0x80), "batch length");
    assert_eq!(
        refused(layout::LAST_OFFSET_DELTA.start, 0x80),
        "last offset delta"
    );
    assert_eq!(refused(layout::RECORD_COUNT.start, 0x80), "record count");
    assert_eq!(refused(layout::RECORD_COUNT.end - 1, 26), "record count");
    for codec in 5..8 {
        assert_eq!(refused(layout::ATTRIBUTES.end - 1, codec), "compression");
    }
}

/// Records that lie with a valid CRC.
#[test]
fn records_that_cannot_be_are_refused() {
    let record = |length: u8, delta: u8, rest: &[u8]| [&[length, 0, 0, delta], rest].concat();
    let body = [1, 1, 0]; // null, null, no headers
    let good = record(12, 0, &body);
    let second = record(12, 2, &body);
    let bad: &[(&str, Vec<u8>, u32)] = &[
        (
            "longer than its fields",
            [record(14, 0, &body), vec![0]].concat(),
            1,
        ),
        ("cut short", [record(10, 0, &[1, 1]), vec![0]].concat(), 1),
        (
            "bytes after the last record",
            [good.clone(), vec![0]].concat(),
            1,
        ),
        (
            "offset does not rise",
            [good.clone(), good.clone()].concat(),
            2,
        ),
        (
            "offset past the end of the batch",
            [good.clone(), record(12, 4, &body)].concat(),
            2,
        ),
        ("more headers than bytes", record(12, 0, &[1, 1, 2]), 1),
        ("negative length", record(12, 0, &[3, 1, 0]), 1),
        ("negative length", record(12, 0, &[1, 1, 1]), 1),
        ("length runs past the end", record(14, 0, &body), 1),
        ("length runs past the end", record(12, 0, &[20, 1, 0]), 1),
    ];
    for (problem, records, count) in bad {
        let batch = forge(records, *count, 1);
        let error = exercise(&batch, &LIMITS).unwrap_err();
        let BatchError::Record { problem: found, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(found, problem, "{records:?}");
    }
    exercise(&forge(&[good, second].concat(), 2, 1), &LIMITS).unwrap();
}

/// A valid header in front of any records.
fn forge(records: &[u8], count: u32, last_offset_delta: i32) -> Vec<u8> {
    let mut bytes = golden(Level::None)[..HEADER_BYTES].to_vec();
    bytes.extend_from_slice(records);
    let length = (bytes.len() - LENGTH_PREFIX_BYTES) as u32;
    bytes[layout::BATCH_LENGTH].copy_from_slice(&length.to_be_bytes());
    bytes[layout::LAST_OFFSET_DELTA].copy_from_slice(&last_offset_delta.to_be_bytes());
    bytes[layout::RECORD_COUNT].copy_from_slice(&count.to_be_bytes());
    fix_crc(&mut bytes);
    bytes
}

fn fix_crc(bytes: &mut [u8]) {
    if bytes.len() >= HEADER_BYTES {
        let crc = crc32c::crc32c(&bytes[layout::CRC_FROM..]);
        bytes[layout::CRC].copy_from_slice(&crc.to_be_bytes());
    }
}

/// A record count that no bytes can hold is refused without walking or reserving.
#[test]
fn impossible_counts_are_refused() {
    let mut bytes = golden(Level::Zstd(3));
    bytes[layout::RECORD_COUNT].copy_from_slice(&(LIMITS.records_max as u32).to_be_bytes());
    bytes[layout::LAST_OFFSET_DELTA].copy_from_slice(&i32::MAX.to_be_bytes());
    let error = exercise(&bytes, &LIMITS).unwrap_err();
    assert!(
        matches!(
            error,
            BatchError::Field {
                field: "record count",
                ..
            }
        ),
        "{error}"
    );
    bytes[layout::RECORD_COUNT].copy_from_slice(&(LIMITS.records_max as u32 + 1).to_be_bytes());
    assert_eq!(
        exercise(&bytes, &LIMITS).unwrap_err().kind(),
        ErrorKind::TooLarge
    );
}

/// Offsets at the end of the range: the offset after the batch must exist.
#[test]
fn offsets_do_not_overflow() {
    let mut bytes = golden(Level::None);
    let last = BatchView::parse(&bytes, &LIMITS)
        .unwrap()
        .last_offset_delta();
    stamp(&mut bytes, Offset(i64::MAX - i64::from(last)), 0).unwrap();
    assert!(matches!(
        exercise(&bytes, &LIMITS),
        Err(BatchError::Field { .. })
    ));
    stamp(&mut bytes, Offset(i64::MAX - i64::from(last) - 1), 0).unwrap();
    exercise(&bytes, &LIMITS).unwrap();
    assert_eq!(
        BatchView::parse(&bytes, &LIMITS).unwrap().next_offset(),
        Offset::MAX
    );
    stamp(&mut bytes, Offset(-1), 0).unwrap_err();
    stamp(&mut bytes[..60], Offset(1), 0).unwrap_err();

    let record = &golden_records()[0];
    let mut builder = BatchBuilder::new(Offset(i64::MAX - 2), Level::None);
    builder.push(record).unwrap();
    assert!(matches!(
        builder.push(record),
        Err(PushError::Offset { .. })
    ));
    let mut builder = BatchBuilder::new(Offset(5), Level::None);
    assert!(matches!(
        builder.push_at(&record.at(Offset(4))),
        Err(PushError::Offset { .. })
    ));
    let far = Offset(6 + i64::from(i32::MAX));
    assert!(matches!(
        builder.push_at(&record.at(far)),
        Err(PushError::Offset { .. })
    ));
    builder.push(record).unwrap();
    assert_eq!(builder.push_at(&record.at(far)), Err(PushError::Full));
    assert!(matches!(
        builder.push_at(&record.at(Offset(5))),
        Err(PushError::Offset { .. })
    ));
    let past = NewRecord {
        timestamp: -2,
        ..record.clone()
    };
    assert_eq!(builder.push(&past), Err(PushError::Timestamp(-2)));

    // Too far apart for one batch's deltas: the next batch takes it.
    let mut builder = BatchBuilder::new(Offset(5), Level::None);
    builder
        .push(&NewRecord {
            timestamp: -1,
            ..record.clone()
        })
        .unwrap();
    let far = NewRecord {
        timestamp: i64::MAX,
        ..record.clone()
    };
    assert_eq!(builder.push(&far), Err(PushError::Full));
    builder.finish();
    builder.push(&far).unwrap();
    exercise(&builder.finish(), &LIMITS).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) })]

    #[test]
    fn any_bytes(mut bytes in vec(any::<u8>(), 0..300), as_batch in any::<bool>()) {
        if as_batch && bytes.len() >= HEADER_BYTES {
            // Get past the first checks, into the records.
            let length = (bytes.len() - LENGTH_PREFIX_BYTES) as u32;
            bytes[layout::BATCH_LENGTH].copy_from_slice(&length.to_be_bytes());
            bytes[16] = layout::MAGIC;
            bytes[21] = 0;
            bytes[22] %= 5;
            bytes[layout::RECORD_COUNT][..3].fill(0);
            bytes[layout::LAST_OFFSET_DELTA][0] &= 0x7f;
            bytes[0] &= 0x7f;
        }
        let _ = exercise(&bytes, &LIMITS);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Damage behind a CRC that fits: an attacker, or a bug of another producer.
    #[test]
    fn mutated_batches(
        placed in any_records(),
        level in any_level(),
        changes in vec((any::<Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<Index>()),
    ) {
        let mut bytes = build(placed[0].0, level, &placed);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fix_crc(&mut bytes);
        let _ = exercise(&bytes, &LIMITS);
        let _ = exercise(&bytes, &Limits::new(256));
    }
}
