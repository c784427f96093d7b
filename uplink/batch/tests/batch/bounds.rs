//! Memory: nothing is reserved beyond the limits, and nothing at all per record.
//!
//! Counts this thread's allocations; zstd's own working memory, which does not depend on the
//! input here (see `codec`), is outside of it.
#![allow(
    unsafe_code,
    reason = "a counting allocator has no other form; it only forwards"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use headwater_batch::*;
use proptest::{prelude::*, sample::Index};

use crate::{
    damage::exercise,
    support::{LIMITS, golden_records},
};

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    HELD.set(HELD.get() + bytes);
    PEAK.set(PEAK.get().max(HELD.get()));
    if bytes > 0 {
        CALLS.set(CALLS.get() + 1);
    }
}

// SAFETY: every call is forwarded unchanged; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were held at once while `work` ran, and how often any were asked for.
fn measure(work: impl FnOnce()) -> (usize, usize) {
    let (before, calls) = (HELD.get(), CALLS.get());
    PEAK.set(before);
    work();
    ((PEAK.get() - before) as usize, CALLS.get() - calls)
}

fn many(level: Level) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Offset(9), level);
    let records = golden_records();
    for record in records.iter().cycle().take(2000) {
        builder.push(record).unwrap();
    }
    builder.finish()
}

#[test]
fn reading_allocates_nothing_per_record() {
    for level in [Level::None, Level::Zstd(3)] {
        let bytes = many(level);
        let mut decoder = Decoder::new();
        let mut read = || {
            let batch = BatchView::parse(&bytes, &LIMITS).unwrap();
            batch.verify_crc().unwrap();
            let mut sum = 0;
            for record in batch.records(&mut decoder, &LIMITS).unwrap() {
                let record = record.unwrap();
                sum += record.key.map_or(0, <[u8]>::len);
                sum += record.headers.iter().map(|h| h.key.len()).sum::<usize>();
            }
            assert!(sum > 0);
        };
        let (_, first) = measure(&mut read);
        assert!(first <= 3, "{level:?}: {first} allocations for the buffer");
        let (_, again) = measure(&mut read);
        assert_eq!(
            again, 0,
            "{level:?}: a decoder that is warm allocates nothing"
        );
    }
}

#[test]
fn building_allocates_nothing_per_record() {
    let records = golden_records();
    let mut builder = BatchBuilder::new(Offset(0), Level::Zstd(3));
    let mut fill = || {
        for record in records.iter().cycle().take(2000) {
            builder.push(record).unwrap();
        }
        builder.finish()
    };
    let first = fill();
    let (_, calls) = measure(|| assert_eq!(fill().len(), first.len()));
    assert_eq!(calls, 1, "the batch that is handed out, and nothing else");
}

/// A zstd frame that says nothing about its size, asks for a window of 128 MiB, and unpacks to
/// `blocks` times 128 KiB of zeros.
fn bomb(blocks: usize, content_size: Option<u64>) -> Vec<u8> {
    const BLOCK: u32 = 128 << 10;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    match content_size {
        None => frame.extend([0x00, 17 << 3]),
        // Eight bytes of content size.
        Some(size) => frame.extend([&[0xc0, 17 << 3][..], &size.to_le_bytes()].concat()),
    }
    for block in 1..=blocks {
        let last = u32::from(block == blocks);
        // Type 1: one byte, repeated.
        frame.extend_from_slice(&(last | 1 << 1 | BLOCK << 3).to_le_bytes()[..3]);
        frame.push(0);
    }
    let mut batch = many(Level::Zstd(1))[..HEADER_BYTES].to_vec();
    batch.extend(frame);
    let length = (batch.len() - LENGTH_PREFIX_BYTES) as u32;
    batch[layout::BATCH_LENGTH].copy_from_slice(&length.to_be_bytes());
    batch
}

#[test]
fn bombs_are_refused_within_the_limit() {
    let bombs = [
        bomb(16, None),
        bomb(100_000, None),
        bomb(1, Some(u64::MAX - 2)),
        bomb(1, Some(1 << 40)),
        bomb(9, Some(9 * (128 << 10))),
    ];
    for bomb in bombs {
        let (peak, _) = measure(|| {
            let batch = BatchView::parse(&bomb, &LIMITS).unwrap();
            let error = batch
                .check_records(&mut Decoder::new(), &LIMITS)
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
        });
        assert!(peak <= LIMITS.records_bytes_max, "{peak} B held");
    }
    // The same frame within the limit is unpacked, window or not; its zeros are no records.
    let batch = bomb(4, None);
    let batch = BatchView::parse(&batch, &LIMITS).unwrap();
    let error = batch
        .check_records(&mut Decoder::new(), &LIMITS)
        .unwrap_err();
    assert!(matches!(error, BatchError::Record { .. }), "{error}");
}

#[test]
fn limits_are_checked_before_anything_else() {
    let too_large = |what: &str, result: Result<(), BatchError>| match result {
        Err(BatchError::TooLarge { what: found, .. }) => found == what,
        Err(error) => panic!("{error}"),
        Ok(()) => false,
    };
    for level in [Level::None, Level::Zstd(3)] {
        let bytes = many(level);
        let exact = Limits {
            batch_bytes_max: bytes.len(),
            ..LIMITS
        };
        let batch = BatchView::parse(&bytes, &exact).unwrap();
        let read = |limits| batch.records(&mut Decoder::new(), limits).map(drop);
        let records_bytes_max = batch
            .check_records(&mut Decoder::new(), &exact)
            .unwrap()
            .bytes;
        let exact = Limits {
            records_bytes_max,
            records_max: 2000,
            ..exact
        };
        read(&exact).unwrap();
        Header::parse(&bytes, &exact).unwrap();

        let less = Limits {
            batch_bytes_max: bytes.len() - 1,
            ..exact
        };
        assert!(too_large("batch", Header::parse(&bytes, &less).map(drop)));
        let less = Limits {
            records_max: 1999,
            ..exact
        };
        assert!(too_large(
            "record count",
            Header::parse(&bytes, &less).map(drop)
        ));
        let less = Limits {
            records_bytes_max: records_bytes_max - 1,
            ..exact
        };
        let kind = match level {
            Level::None => "uncompressed records",
            Level::Zstd(_) => "decompressed records",
        };
        assert!(too_large(kind, read(&less)));
    }
}

#[test]
fn a_builder_counts_its_records() {
    let limits = Limits {
        records_max: 2,
        ..LIMITS
    };
    let mut builder = BatchBuilder::with_limits(Offset(0), Level::None, &limits);
    let record = NewRecord::new(5, "k", "v");
    builder.push(&record).unwrap();
    builder.push(&record).unwrap();
    assert_eq!(builder.push(&record), Err(PushError::Full));
    BatchView::parse(&builder.finish(), &limits).unwrap();
    assert_eq!(builder.push(&record), Ok(Offset(2)));
}

/// Slicing at a lower level than the batch was built with, or data that does not compress: the
/// answer still fits, and takes a bounded multiple of the limit.
#[test]
fn a_slice_always_fits() {
    let mut noise = 1u32;
    let value: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    })
    .take(1000)
    .collect();
    let mut builder = BatchBuilder::new(Offset(0), Level::None);
    while builder.push(&NewRecord::new(5, "k", value.clone())).is_ok() {}
    let full = builder.finish();
    assert!(full.len() > BATCH_BYTES_MAX - 1100);
    let batch = BatchView::parse(&full, &LIMITS).unwrap();
    let (peak, _) = measure(|| {
        let slice = slice(&batch, Offset(1), Level::Zstd(-7), &LIMITS).unwrap();
        assert!(slice.len() < full.len());
    });
    assert!(peak <= 4 * BATCH_BYTES_MAX, "{peak} B held");
}

#[test]
fn what_does_not_compress_is_stored() {
    let mut builder = BatchBuilder::new(Offset(0), Level::Zstd(3));
    builder.push(&NewRecord::new(5, "k", "v")).unwrap();
    let bound = builder.uncompressed_size();
    let bytes = builder.finish();
    assert_eq!(bytes.len(), bound);
    assert_eq!(
        BatchView::parse(&bytes, &LIMITS).unwrap().compression(),
        Compression::None
    );
}

#[test]
fn the_estimate_follows_what_was_built() {
    let mut builder = BatchBuilder::new(Offset(0), Level::Zstd(3));
    let records = golden_records();
    let fill = |builder: &mut BatchBuilder| {
        for record in records.iter().cycle().take(500) {
            builder.push(record).unwrap();
        }
    };
    fill(&mut builder);
    assert_eq!(
        builder.estimated_size(),
        builder.uncompressed_size(),
        "nothing known yet"
    );
    builder.finish();
    fill(&mut builder);
    let estimate = builder.estimated_size() as f64;
    let size = builder.finish().len() as f64;
    assert!(
        (0.8..1.25).contains(&(estimate / size)),
        "{estimate} for {size}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Whatever is done to a batch, reading it holds no more than the limits allow: one
    /// decompressed copy to read, and a bounded number of them to slice.
    #[test]
    fn damage_reserves_nothing(at in any::<Index>(), value in any::<u8>(), zstd in any::<bool>()) {
        let mut bytes = many(if zstd { Level::Zstd(1) } else { Level::None });
        // Headers of the batch, of zstd's frame and of the first records: where lengths are.
        let at = at.index(100.min(bytes.len()));
        bytes[at] = value;
        let limits = Limits::new(1 << 20);
        let (peak, _) = measure(|| {
            if let Ok((batch, _)) = BatchView::split_first(&bytes, &limits) {
                let _ = batch.check_records(&mut Decoder::new(), &limits).map(drop);
            }
        });
        prop_assert!(peak <= limits.records_bytes_max + 1024, "{} B held", peak);
        let (peak, _) = measure(|| drop(exercise(&bytes, &limits)));
        prop_assert!(peak <= 5 * limits.batch_bytes_max, "{} B held by all of it", peak);
    }
}
