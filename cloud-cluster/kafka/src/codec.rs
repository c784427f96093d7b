//! gzip, snappy and lz4, for checking what producers send. Nothing is ever written in them.
//!
//! Bound: no more than `max` bytes come out, and never more than a block beyond that is reserved.

use std::io::Read;

use headwater_batch::{BatchError, Compression, Decompress};

/// What precedes snappy blocks in the framing of the Java library (xerial): 16 bytes with versions.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\x00";
const XERIAL_HEADER_BYTES: usize = 16;

/// The codecs that `headwater-batch` leaves out.
#[derive(Debug, Default)]
pub struct Foreign;

impl Decompress for Foreign {
    fn decompress(
        &mut self,
        codec: Compression,
        source: &[u8],
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        match codec {
            Compression::Gzip => {
                bounded(codec, flate2::read::MultiGzDecoder::new(source), max, out)
            }
            Compression::Lz4 => {
                bounded(codec, lz4_flex::frame::FrameDecoder::new(source), max, out)
            }
            Compression::Snappy => snappy(source, max, out),
            Compression::None | Compression::Zstd => Err(BatchError::Codec(codec)),
        }
    }
}

fn bounded(
    codec: Compression,
    from: impl Read,
    max: usize,
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let read = from.take(max as u64 + 1).read_to_end(out);
    read.map_err(|error| damaged(codec, error.to_string()))?;
    within(out.len(), max)
}

fn snappy(source: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    if !source.starts_with(XERIAL_MAGIC) {
        return snappy_block(source, max, out);
    }
    let short = || damaged(Compression::Snappy, "a framed block is cut short".into());
    let mut rest = source.get(XERIAL_HEADER_BYTES..).ok_or_else(short)?;
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, tail) = tail.split_at_checked(length).ok_or_else(short)?;
        snappy_block(block, max, out)?;
        rest = tail;
    }
    Ok(())
}

/// Appends one block; its stated length is checked before memory is reserved for it.
fn snappy_block(block: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let failed = |error: snap::Error| damaged(Compression::Snappy, error.to_string());
    let length = snap::raw::decompress_len(block).map_err(failed)?;
    let start = out.len();
    within(start.saturating_add(length), max)?;
    out.resize(start + length, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(failed)?;
    out.truncate(start + written);
    Ok(())
}

fn within(size: usize, max: usize) -> Result<(), BatchError> {
    if size <= max {
        return Ok(());
    }
    Err(BatchError::TooLarge {
        what: "decompressed records",
        size: size as u64,
        max: max as u64,
    })
}

fn damaged(codec: Compression, problem: String) -> BatchError {
    BatchError::Decompress { codec, problem }
}
