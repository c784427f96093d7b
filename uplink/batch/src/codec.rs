//! Compression: zstd both ways with bounds, and a door for the codecs that only the cloud reads.

use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, get_frame_content_size, zstd_sys};

use crate::BatchError;

/// How a batch's records are compressed: bits 0-2 of its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Compression {
    /// The codec of attribute bits 0-2; `None` for the three values that mean nothing.
    pub const fn from_bits(bits: u16) -> Option<Compression> {
        Some(match bits {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return None,
        })
    }

    pub const fn bits(self) -> u16 {
        self as u16
    }

    /// Kafka's name for it, as in `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// How a built batch is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Stored as it is.
    None,
    /// zstd at this level, brought into -7 to 22.
    Zstd(i32),
}

impl Level {
    /// What DESIGN.md's figures are for: 17 B a reading at little CPU.
    pub const DEFAULT: Level = Level::Zstd(3);
}

impl Default for Level {
    fn default() -> Level {
        Level::DEFAULT
    }
}

/// The library goes far lower, to where nothing gets smaller.
const ZSTD_LEVEL_MIN: i32 = -7;

/// A decoder for codecs this crate does not have: gzip, snappy and lz4, in the cloud.
pub trait Decompress {
    /// Decompresses the records section `source` into `out`, which is empty but may have capacity.
    ///
    /// The input is not to be trusted: at most `max` bytes may be reserved or written, and the
    /// answer beyond that is [`BatchError::TooLarge`]. Damaged data is
    /// [`BatchError::Decompress`], a codec it does not have [`BatchError::Codec`].
    fn decompress(
        &mut self,
        codec: Compression,
        source: &[u8],
        max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), BatchError>;
}

/// Decompresses batches, one at a time, into a buffer that is kept between them.
///
/// Bound: the buffer never grows beyond the largest `records_bytes_max` it was used with.
#[derive(Default)]
pub struct Decoder {
    zstd: Option<DCtx<'static>>,
    foreign: Option<Box<dyn Decompress + Send>>,
    buffer: Vec<u8>,
}

impl Decoder {
    /// Decodes uncompressed and zstd batches; the others are [`BatchError::Codec`].
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// As [`Decoder::new`], with `foreign` for gzip, snappy and lz4.
    pub fn with(foreign: Box<dyn Decompress + Send>) -> Decoder {
        Decoder {
            foreign: Some(foreign),
            ..Decoder::default()
        }
    }

    /// What the buffer holds on to.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// The decompressed form of `source`, at most `max` bytes of it.
    pub(crate) fn decode<'s>(
        &'s mut self,
        codec: Compression,
        source: &'s [u8],
        max: usize,
    ) -> Result<&'s [u8], BatchError> {
        self.buffer.clear();
        match codec {
            Compression::None => {
                within("uncompressed records", source.len(), max)?;
                return Ok(source);
            }
            Compression::Zstd => {
                let context = match &mut self.zstd {
                    Some(context) => context,
                    empty => empty.insert(DCtx::try_create().ok_or_else(out_of_memory)?),
                };
                unzstd(context, source, max, &mut self.buffer)?;
            }
            codec => match &mut self.foreign {
                Some(foreign) => foreign.decompress(codec, source, max, &mut self.buffer)?,
                None => return Err(BatchError::Codec(codec)),
            },
        }
        within("decompressed records", self.buffer.len(), max)?;
        Ok(&self.buffer)
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("capacity", &self.buffer.capacity())
            .finish_non_exhaustive()
    }
}

/// Compresses batches. Holds zstd's working memory (about 1 MiB at level 3), so one may serve many
/// [`BatchBuilder`](crate::BatchBuilder)s through
/// [`finish_with`](crate::BatchBuilder::finish_with).
#[derive(Default)]
pub struct Encoder {
    zstd: Option<(CCtx<'static>, i32)>,
    buffer: Vec<u8>,
}

impl Encoder {
    pub fn new() -> Encoder {
        Encoder::default()
    }

    /// The compressed form of `source`, unless it is no smaller: then it is better stored.
    pub(crate) fn encode(&mut self, level: Level, source: &[u8]) -> Option<&[u8]> {
        let Level::Zstd(level) = level else {
            return None;
        };
        let context = match &mut self.zstd {
            Some((context, set)) if *set == level => context,
            // A context that cannot be made or set costs compression, never data.
            slot => &mut slot.insert((context_at(level)?, level)).0,
        };
        // Room for one byte less than the source: what does not fit is not worth it.
        let room = source.len().checked_sub(1)?;
        reserve_anew(&mut self.buffer, room);
        let written = context.compress2(&mut self.buffer, source).ok()?;
        (written <= room).then_some(&self.buffer[..])
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

fn context_at(level: i32) -> Option<CCtx<'static>> {
    let mut context = CCtx::try_create()?;
    let level = level.clamp(ZSTD_LEVEL_MIN, zstd_safe::max_c_level());
    context
        .set_parameter(CParameter::CompressionLevel(level))
        .ok()?;
    Some(context)
}

fn within(what: &'static str, size: usize, max: usize) -> Result<(), BatchError> {
    if size > max {
        return Err(BatchError::TooLarge {
            what,
            size: size as u64,
            max: max as u64,
        });
    }
    Ok(())
}

/// Room for `bytes` in an emptied buffer, never holding the old and the new room at once.
fn reserve_anew(buffer: &mut Vec<u8>, bytes: usize) {
    buffer.clear();
    if buffer.capacity() < bytes {
        *buffer = Vec::new();
        buffer.reserve_exact(bytes);
    }
}

fn out_of_memory() -> BatchError {
    damaged("no memory for a context")
}

fn damaged(problem: impl Into<String>) -> BatchError {
    BatchError::Decompress {
        codec: Compression::Zstd,
        problem: problem.into(),
    }
}

/// Decompresses all frames of `source` into `out`, reserving at most `max` bytes.
///
/// One-shot on purpose: a streaming decoder reserves the window that the frame's header asks for
/// (up to 128 MiB), here the output is the window. Frames without a content size, which Java and
/// librdkafka write, are tried with the room that is there from the batch before, then with doubled
/// room, so the work is at most twice that of the last try.
fn unzstd(
    context: &mut DCtx<'static>,
    source: &[u8],
    max: usize,
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    const TOO_SMALL: usize =
        (zstd_sys::ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg();
    const FIRST_GUESS_BYTES_MIN: usize = 16 << 10;

    let told = get_frame_content_size(source).map_err(|_| damaged("no zstd frame"))?;
    if let Some(size) = told {
        within(
            "decompressed records",
            usize::try_from(size).unwrap_or(usize::MAX),
            max,
        )?;
    }
    let mut room = match told {
        Some(size) => size as usize,
        None => source
            .len()
            .saturating_mul(4)
            .max(FIRST_GUESS_BYTES_MIN)
            .max(out.capacity())
            .min(max),
    };
    loop {
        reserve_anew(out, room);
        match context.decompress(out, source) {
            Ok(_) => return Ok(()),
            Err(TOO_SMALL) if room < max => {
                room = room.saturating_mul(2).max(FIRST_GUESS_BYTES_MIN).min(max);
            }
            Err(TOO_SMALL) => {
                let size = max as u64 + 1;
                return Err(BatchError::TooLarge {
                    what: "decompressed records",
                    size,
                    max: max as u64,
                });
            }
            Err(code) => return Err(damaged(zstd_safe::get_error_name(code))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| ((at / 7) ^ at) as u8).collect()
    }

    /// Streamed frames tell no size (Java, librdkafka), and there may be several.
    #[test]
    fn frames_of_any_making_are_read() {
        let mut decoder = Decoder::new();
        for bytes in [0, 1, 100, 16 << 10, (16 << 10) + 1, 100_000, 1 << 20] {
            let data = data(bytes);
            let streamed = zstd::stream::encode_all(&data[..], 3).unwrap();
            let told = zstd::bulk::compress(&data, 3).unwrap();
            for (frames, times) in [
                (streamed.clone(), 1),
                (told.clone(), 1),
                ([&told[..], &streamed].concat(), 2),
                ([&streamed[..], &told, &streamed].concat(), 3),
            ] {
                let all = data.repeat(times);
                let read = decoder.decode(Compression::Zstd, &frames, all.len());
                assert_eq!(read.unwrap(), all, "{bytes} B, {times} frames");
                if let Some(less) = all.len().checked_sub(1) {
                    let error = decoder
                        .decode(Compression::Zstd, &frames, less)
                        .unwrap_err();
                    assert_eq!(error.kind(), crate::ErrorKind::TooLarge);
                }
            }
        }
    }

    #[test]
    fn damaged_frames_are_errors() {
        let mut decoder = Decoder::new();
        let frame = zstd::stream::encode_all(&data(5000)[..], 3).unwrap();
        for length in 0..frame.len() {
            let error = decoder
                .decode(Compression::Zstd, &frame[..length], 1 << 20)
                .unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Corrupt, "{length}");
        }
        // And the context is none the worse for it.
        assert_eq!(
            decoder.decode(Compression::Zstd, &frame, 1 << 20).unwrap(),
            data(5000)
        );
    }

    #[test]
    fn every_level_is_taken() {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let data = data(5000);
        for level in [i32::MIN, -7, 0, 1, 3, 19, 22, i32::MAX] {
            let encoded = encoder.encode(Level::Zstd(level), &data).unwrap();
            let decoded = decoder
                .decode(Compression::Zstd, encoded, data.len())
                .unwrap();
            assert_eq!(decoded, data, "level {level}");
        }
        assert_eq!(encoder.encode(Level::None, &data), None);
        assert_eq!(encoder.encode(Level::Zstd(3), &[]), None);
    }
}
