//! Whatever is pushed is read; whatever is sliced is the rest of what was there.

use headwater_batch::*;
use proptest::prelude::*;

use crate::support::{LIMITS, any_level, any_record, any_records, build, records};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn what_is_pushed_is_read(
        placed in any_records(),
        before in 0..3i64,
        level in any_level(),
    ) {
        let base = Offset((placed[0].0.0 - before).max(0));
        let bytes = build(base, level, &placed);
        let batch = BatchView::parse(&bytes, &LIMITS).unwrap();
        prop_assert_eq!(batch.base_offset(), base);
        prop_assert_eq!(batch.last_offset(), placed.last().unwrap().0);
        prop_assert_eq!(batch.record_count() as usize, placed.len());
        let latest = placed.iter().map(|(_, record)| record.timestamp).max();
        prop_assert_eq!(Some(batch.max_timestamp()), latest);
        prop_assert_eq!(records(&bytes).unwrap(), placed.clone());

        let summary = batch.check_records(&mut Decoder::new(), &LIMITS).unwrap();
        prop_assert_eq!(summary.offsets, Some((placed[0].0, batch.last_offset())));
        prop_assert_eq!(summary.max_timestamp, latest);
        prop_assert_eq!(summary.null_key, placed.iter().any(|(_, record)| record.key.is_none()));
        let holes = placed.iter().enumerate().any(|(at, (o, _))| o.0 != base.0 + at as i64);
        prop_assert_eq!(summary.contiguous, !holes);
    }

    #[test]
    fn a_slice_is_the_rest(
        placed in any_records(),
        cut in any::<prop::sample::Index>(),
        levels in (any_level(), any_level()),
        append_time in proptest::option::of(0..=i64::MAX),
    ) {
        let mut bytes = build(placed[0].0, levels.0, &placed);
        if let Some(time) = append_time {
            set_log_append_time(&mut bytes, time).unwrap();
        }
        let all = records(&bytes).unwrap();
        let batch = BatchView::parse(&bytes, &LIMITS).unwrap();
        let (first, last) = (batch.base_offset(), batch.last_offset());
        let from = Offset(first.0 + cut.index((last.0 - first.0 + 1) as usize) as i64);

        let sliced = slice(&batch, from, levels.1, &LIMITS).unwrap();
        let view = BatchView::parse(&sliced, &LIMITS).unwrap();
        let kept: Vec<_> = all.into_iter().filter(|(offset, _)| *offset >= from).collect();
        prop_assert_eq!(records(&sliced).unwrap(), kept);
        prop_assert_eq!((view.base_offset(), view.last_offset()), (from, last));
        prop_assert_eq!(view.timestamp_type(), batch.timestamp_type());
        if from > first {
            prop_assert_eq!(view.producer_id(), -1);
        } else {
            prop_assert_eq!(&sliced, &bytes);
        }

        // Cut again: the same as cutting there at once.
        let again = Offset(from.0 + cut.index((last.0 - from.0 + 1) as usize) as i64);
        let twice = slice(&view, again, Level::None, &LIMITS).unwrap();
        let once = slice(&batch, again, Level::None, &LIMITS).unwrap();
        prop_assert_eq!(records(&twice).unwrap(), records(&once).unwrap());
        let beyond = slice(&batch, last.next(), Level::None, &LIMITS);
        prop_assert_eq!(beyond, Err(BatchError::SliceRange { from: last.next(), last }));
    }

    #[test]
    fn stamping_moves_records_and_keeps_the_crc(
        placed in any_records(),
        to in 0..i64::MAX >> 1,
        epoch in any::<i32>(),
    ) {
        let mut bytes = build(placed[0].0, Level::Zstd(1), &placed);
        stamp(&mut bytes, Offset(to), epoch).unwrap();
        let moved = |offset: Offset| Offset(offset.0 - placed[0].0.0 + to);
        let expected: Vec<_> =
            placed.iter().map(|(offset, record)| (moved(*offset), record.clone())).collect();
        prop_assert_eq!(records(&bytes).unwrap(), expected);
        prop_assert_eq!(BatchView::parse(&bytes, &LIMITS).unwrap().leader_epoch(), epoch);
    }

    #[test]
    fn log_append_time_is_every_records_time(placed in any_records(), time in 0..=i64::MAX) {
        let mut bytes = build(placed[0].0, Level::Zstd(1), &placed);
        set_log_append_time(&mut bytes, time).unwrap();
        for (record, (offset, before)) in records(&bytes).unwrap().iter().zip(&placed) {
            prop_assert_eq!(record, &(*offset, NewRecord { timestamp: time, ..before.clone() }));
        }
    }

    /// Limits are kept whatever is pushed, the sizes told are bounds, and nothing is lost between
    /// one batch and the next.
    #[test]
    fn a_builder_refuses_at_its_bounds(
        pushed in prop::collection::vec(any_record(), 1..60),
        batch_bytes_max in 100..600usize,
        level in any_level(),
    ) {
        let limits = Limits::new(batch_bytes_max);
        let mut builder = BatchBuilder::with_limits(Offset(7), level, &limits);
        let (mut built, mut taken) = (Vec::new(), Vec::new());
        for record in pushed {
            if builder.push(&record) == Err(PushError::Full) {
                built.push(finish(&mut builder, &limits)?);
                let alone = builder.push(&record);
                prop_assert_ne!(alone, Err(PushError::Full), "alone it fits or never does");
                if alone.is_err() { continue }
            } else if builder.is_empty() || builder.next_offset().0 != 8 + taken.len() as i64 {
                let bound = record.bytes_bound();
                prop_assert!(bound + HEADER_BYTES > batch_bytes_max, "{bound} B fit");
                continue;
            }
            taken.push(record);
        }
        if !builder.is_empty() {
            built.push(finish(&mut builder, &limits)?);
        }
        let read: Vec<_> = built.iter().flat_map(|bytes| records(bytes).unwrap()).collect();
        let expected: Vec<_> =
            taken.into_iter().enumerate().map(|(at, r)| (Offset(7 + at as i64), r)).collect();
        prop_assert_eq!(read, expected);
        prop_assert_eq!(builder.finish(), Vec::<u8>::new(), "no records, no batch");
    }

    #[test]
    fn a_record_survives_serde(record in any_record()) {
        let bytes = postcard::to_stdvec(&record).unwrap();
        prop_assert_eq!(postcard::from_bytes::<NewRecord>(&bytes).unwrap(), record);
    }
}

fn finish(builder: &mut BatchBuilder, limits: &Limits) -> Result<Vec<u8>, TestCaseError> {
    let (bound, next) = (builder.uncompressed_size(), builder.next_offset());
    let bytes = builder.finish();
    prop_assert!(bytes.len() <= bound && bound <= limits.batch_bytes_max);
    prop_assert_eq!(builder.base_offset(), next);
    prop_assert_eq!(builder.uncompressed_size(), HEADER_BYTES);
    BatchView::parse(&bytes, limits).unwrap();
    Ok(bytes)
}
