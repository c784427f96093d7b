//! Batches as foreign producers write them: every codec, and headers changed by hand.

use bytes::{Bytes, BytesMut};
use headwater_batch::layout::{ATTRIBUTES, BATCH_LENGTH, CRC, CRC_FROM, HEADER_BYTES};
use headwater_batch::{BatchBuilder, Level, NewRecord, Offset};

/// The plain batch of `n` records with its records compressed by `codec` and its CRC set right.
pub fn batch_in(codec: u8, n: usize, compress: impl Fn(&[u8]) -> Vec<u8>) -> Bytes {
    let mut builder = BatchBuilder::new(Offset(0), Level::None);
    for i in 0..n {
        builder
            .push(&NewRecord::new(
                1_700_000_000_000 + i as i64,
                "key",
                "value",
            ))
            .unwrap();
    }
    let plain = builder.finish().to_vec();
    let mut bytes = BytesMut::from(&plain[..HEADER_BYTES]);
    bytes.extend_from_slice(&compress(&plain[HEADER_BYTES..]));
    let length = (bytes.len() - 12) as i32;
    bytes[BATCH_LENGTH].copy_from_slice(&length.to_be_bytes());
    bytes[ATTRIBUTES.start + 1] |= codec;
    seal(bytes)
}

pub fn seal(mut bytes: BytesMut) -> Bytes {
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[CRC].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut from = flate2::read::GzEncoder::new(data, flate2::Compression::fast());
    std::io::Read::read_to_end(&mut from, &mut out).unwrap();
    out
}

pub fn lz4(data: &[u8]) -> Vec<u8> {
    let mut to = lz4_flex::frame::FrameEncoder::new(Vec::new());
    std::io::Write::write_all(&mut to, data).unwrap();
    to.finish().unwrap()
}

pub fn snappy(data: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(data).unwrap()
}

/// As the Java library frames it: a header, then blocks with their lengths.
pub fn xerial(data: &[u8]) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01".to_vec();
    for block in data.chunks(10) {
        let block = snappy(block);
        out.extend((block.len() as u32).to_be_bytes());
        out.extend(block);
    }
    out
}
