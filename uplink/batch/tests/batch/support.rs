//! What the tests share: a batch as text, foreign codecs, records to choose from.

use std::fmt::Write;
use std::io::{ErrorKind, Read};

use headwater_batch::*;
use proptest::{collection::vec, option, prelude::*};

/// Larger than any fixture decompresses to.
pub const LIMITS: Limits = Limits::UPLINK;

/// The lines that `BatchCheck.java` prints for the same bytes.
pub fn text(bytes: &[u8], decoder: &mut Decoder) -> Result<String, BatchError> {
    let mut out = String::new();
    for batch in batches(bytes, &LIMITS) {
        let batch = batch?;
        batch.verify_crc()?;
        let (header, attributes) = (batch.header(), batch.attributes());
        let time = match batch.timestamp_type() {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        };
        writeln!(
            out,
            "batch base={} last={} epoch={} codec={} time={time} max={} producer={}/{}/{} \
             transactional={} control={} count={}",
            header.base_offset,
            header.last_offset(),
            header.leader_epoch,
            header.compression().name(),
            header.max_timestamp,
            header.producer_id,
            header.producer_epoch,
            header.base_sequence,
            attributes.is_transactional(),
            attributes.is_control(),
            header.record_count,
        )
        .unwrap();
        for record in batch.records(decoder, &LIMITS)? {
            let record = record?;
            let (key, value) = (hex(record.key), hex(record.value));
            write!(
                out,
                "record {} {} {key} {value}",
                record.offset, record.timestamp
            )
            .unwrap();
            for header in record.headers {
                write!(out, " {}={}", hex(Some(header.key)), hex(header.value)).unwrap();
            }
            out.push('\n');
        }
    }
    Ok(out)
}

fn hex(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else {
        return "null".to_owned();
    };
    bytes
        .iter()
        .fold("\"".to_owned(), |text, byte| format!("{text}{byte:02x}"))
        + "\""
}

/// Owned records of one batch, with their offsets.
pub fn records(bytes: &[u8]) -> Result<Vec<(Offset, NewRecord)>, BatchError> {
    let batch = BatchView::parse(bytes, &LIMITS)?;
    batch.verify_crc()?;
    let mut decoder = Decoder::new();
    let records = batch.records(&mut decoder, &LIMITS)?;
    records
        .map(|record| record.map(|r| (r.offset, r.to_new().expect("UTF-8 keys"))))
        .collect()
}

/// gzip, snappy (bare, as librdkafka writes it, and in xerial's frames, as Java does) and lz4.
pub struct Foreign;

impl Decompress for Foreign {
    fn decompress(
        &mut self,
        codec: Compression,
        source: &[u8],
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        let damaged = |error: std::io::Error| BatchError::Decompress {
            codec,
            problem: error.to_string(),
        };
        let max = max as u64;
        match codec {
            Compression::Gzip => flate2::read::MultiGzDecoder::new(source)
                .take(max)
                .read_to_end(out),
            Compression::Lz4 => lz4_flex::frame::FrameDecoder::new(source)
                .take(max)
                .read_to_end(out),
            Compression::Snappy => snappy(source, max as usize, out),
            codec => return Err(BatchError::Codec(codec)),
        }
        .map_err(damaged)?;
        Ok(())
    }
}

/// Plain snappy, or the framing of the Java client. The length that a block claims is the
/// producer's word: it is held against `max` before memory is taken for it.
fn snappy(source: &[u8], max: usize, out: &mut Vec<u8>) -> std::io::Result<usize> {
    let Some(framed) = source.strip_prefix(b"\x82SNAPPY\0") else {
        return snappy_block(source, max, out);
    };
    let mut rest = framed.get(8..).ok_or(ErrorKind::UnexpectedEof)?;
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let (block, tail) = tail
            .split_at_checked(length)
            .ok_or(ErrorKind::UnexpectedEof)?;
        snappy_block(block, max, out)?;
        rest = tail;
    }
    Ok(out.len())
}

fn snappy_block(block: &[u8], max: usize, out: &mut Vec<u8>) -> std::io::Result<usize> {
    let length = snap::raw::decompress_len(block)?;
    if out.len().saturating_add(length) > max {
        return Err(ErrorKind::OutOfMemory.into());
    }
    out.extend(snap::raw::Decoder::new().decompress_vec(block)?);
    Ok(out.len())
}

/// Any record the builder takes, small enough for many to fit.
pub fn any_record() -> impl Strategy<Value = NewRecord> {
    let bytes = || option::of(vec(any::<u8>(), 0..80).prop_map(bytes_of));
    let header = (".{0,8}", bytes()).prop_map(|(key, value)| NewHeader { key, value });
    let timestamp = prop_oneof![
        8 => 1_763_800_000_000..1_763_800_100_000i64,
        1 => Just(-1),
        1 => 0..=i64::MAX
    ];
    (timestamp, bytes(), bytes(), vec(header, 0..4)).prop_map(|(timestamp, key, value, headers)| {
        NewRecord {
            timestamp,
            key,
            value,
            headers,
        }
    })
}

fn bytes_of(bytes: Vec<u8>) -> bytes::Bytes {
    bytes.into()
}

/// Records at rising offsets with holes between them, and how far the first is from the base.
pub fn any_records() -> impl Strategy<Value = Vec<(Offset, NewRecord)>> {
    let step = prop_oneof![4 => Just(1i64), 1 => 1..5i64, 1 => 1..100_000i64];
    (0..1i64 << 40, vec((step, any_record()), 1..40)).prop_map(|(base, steps)| {
        let mut offset = base - 1;
        let placed = steps.into_iter().map(|(step, record)| {
            offset += step;
            (Offset(offset), record)
        });
        placed.collect()
    })
}

pub fn any_level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::None), (-5..12i32).prop_map(Level::Zstd)]
}

/// One batch of `records`, which start at `base` or after it.
pub fn build(base: Offset, level: Level, records: &[(Offset, NewRecord)]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(base, level);
    for (offset, record) in records {
        builder
            .push_at(&record.at(*offset))
            .expect("room for a few records");
    }
    builder.finish()
}

/// The corner cases that the fixtures of all clients share, then readings that compress.
pub fn golden_records() -> Vec<NewRecord> {
    const T0: i64 = 1_763_800_000_000;
    let header = |key: &str, value: Option<&'static [u8]>| NewHeader {
        key: key.to_owned(),
        value: value.map(bytes::Bytes::from_static),
    };
    let mut records = vec![
        NewRecord::new(T0, "temp-07", "21.43").header("edge", "gw-1"),
        NewRecord {
            timestamp: T0 + 1,
            ..NewRecord::default()
        },
        NewRecord {
            headers: vec![
                header("", None),
                header("dup", Some(b"a")),
                header("dup", Some(b"b")),
                header("bin", Some(b"\x00\xff\x80")),
            ],
            ..NewRecord::new(T0 + 2, "", "")
        },
        NewRecord::new(T0 - 5000, "schlüssel/ключ", "earlier than the first"),
        NewRecord::new(T0 + 70_000_000_000, "far", "x".repeat(300)),
    ];
    for i in 5..25 {
        let (ts, sensor) = (T0 + 50 * i, i % 7);
        let value = format!(r#"{{"ts":{ts},"sensor":"temp-0{sensor}","value":21.{i},"unit":"C"}}"#);
        let record = NewRecord::new(ts, format!("site/3/temp-{sensor}"), value);
        records.push(record.header("edge", "gw-1"));
    }
    records
}
