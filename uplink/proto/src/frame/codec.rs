//! The frame itself.
//!
//! ```text
//!  0        1              5              9          13          17
//!  +--------+--------------+--------------+----------+-----------+- - - -+- - - -+
//!  | version| body length  | tail length  | sequence | CRC-32    | body  | tail  |
//!  +--------+--------------+--------------+----------+-----------+- - - -+- - - -+
//!    u8       u32 LE         u32 LE         u32 LE     u32 LE      postcard  raw batch
//! ```
//! The CRC-32 (ISO-HDLC) covers the 13 bytes before it and the body. The tail has its own CRC-32C,
//! and its offsets stand in the body, so a batch is neither copied nor read twice.

use bytes::{Buf, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use crate::bounds::{
    FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, FRAME_TAIL_BYTES_MAX, FRAME_VERSION,
};

/// Why a frame is refused. The channel cannot go on after it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("version {0}, not {FRAME_VERSION}")]
    Version(u8),
    #[error("a body of 0 bytes")]
    Empty,
    #[error("a body of {0} bytes; at most {FRAME_BODY_BYTES_MAX}")]
    BodyTooLarge(u32),
    #[error("a batch of {0} bytes; at most {FRAME_TAIL_BYTES_MAX}")]
    TailTooLarge(u32),
    #[error("sequence {got} where {want} is due: replayed or lost")]
    Sequence { want: u32, got: u32 },
    #[error("CRC-32 {got:08x}, not {want:08x}")]
    Checksum { want: u32, got: u32 },
    #[error("body does not decode: {0}")]
    Body(String),
    #[error("{0} bytes after the body's end")]
    Trailing(usize),
    #[error("{0} carries {1} bytes of batch")]
    Tail(&'static str, usize),
    #[error("more than {0} {1}")]
    TooMany(usize, &'static str),
}

/// A frame whose header and checksum are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub body: Bytes,
    pub tail: Bytes,
}

impl Frame {
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        let (value, rest) = postcard::take_from_bytes(&self.body)
            .map_err(|error| FrameError::Body(error.to_string()))?;
        match rest.len() {
            0 => Ok(value),
            n => Err(FrameError::Trailing(n)),
        }
    }
}

/// Numbers the frames of one channel and writes their heads.
#[derive(Debug, Default)]
pub struct Encoder {
    sequence: u32,
}

impl Encoder {
    /// Header and body; the `tail_bytes` bytes of the tail follow as they are.
    pub fn head<T: Serialize>(&mut self, body: &T, tail_bytes: usize) -> Bytes {
        let mut out = vec![0; FRAME_HEADER_BYTES];
        out = postcard::to_extend(body, out).expect("plain data always encodes");
        let body_bytes = out.len() - FRAME_HEADER_BYTES;
        assert!(
            body_bytes <= FRAME_BODY_BYTES_MAX,
            "senders keep their lists bounded"
        );
        assert!(
            tail_bytes <= FRAME_TAIL_BYTES_MAX,
            "senders check a batch before it is framed"
        );
        out[0] = FRAME_VERSION;
        out[1..5].copy_from_slice(&(body_bytes as u32).to_le_bytes());
        out[5..9].copy_from_slice(&(tail_bytes as u32).to_le_bytes());
        out[9..13].copy_from_slice(&self.sequence.to_le_bytes());
        let crc = checksum(&out[..13], &out[FRAME_HEADER_BYTES..]);
        out[13..17].copy_from_slice(&crc.to_le_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        out.into()
    }
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(body);
    crc.finalize()
}

/// Takes a channel's bytes as they come and gives whole frames.
///
/// Memory: what has arrived of one frame, never what a header merely promises. A frame that lies
/// whole in one chunk is not copied.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What did not fit a frame yet.
    partial: BytesMut,
    /// Bytes not looked at, behind `partial`.
    chunk: Bytes,
    sequence: u32,
    failed: bool,
}

/// What a header says, checked.
#[derive(Clone, Copy)]
struct Head {
    body: usize,
    tail: usize,
    sequence: u32,
    crc: u32,
}

impl Decoder {
    /// Adds bytes. Call `next_frame` until it gives None before adding more.
    pub fn push(&mut self, bytes: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = bytes;
        } else {
            // The shell pushed twice without draining: keep the order, at the price of a copy.
            self.partial.extend_from_slice(&self.chunk);
            self.chunk = bytes;
        }
    }

    /// The next whole frame, or None until more bytes come. After an error there is no next.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.failed {
            return Ok(None);
        }
        let frame = self.take();
        self.failed = frame.is_err();
        frame
    }

    /// Bytes held back for a frame that is not whole.
    pub fn buffered_bytes(&self) -> usize {
        self.partial.len() + self.chunk.len()
    }

    /// What is reserved for partial frames: nothing between frames.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.partial.capacity() + self.chunk.len()
    }

    fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        if !self.gather(FRAME_HEADER_BYTES) {
            return Ok(None);
        }
        let from_partial = !self.partial.is_empty();
        let head = self.head(if from_partial {
            &self.partial
        } else {
            &self.chunk
        })?;
        let total = FRAME_HEADER_BYTES + head.body + head.tail;
        if !self.gather(total) {
            return Ok(None);
        }
        let mut frame = match !self.partial.is_empty() {
            true => self.partial.split_to(total).freeze(),
            false => self.chunk.split_to(total),
        };
        if self.partial.is_empty() {
            // The buffer goes with the frame: an idle channel holds none.
            self.partial = BytesMut::new();
        }
        let got = checksum(&frame[..13], &frame[FRAME_HEADER_BYTES..][..head.body]);
        if got != head.crc {
            return Err(FrameError::Checksum {
                want: head.crc,
                got,
            });
        }
        self.sequence = head.sequence.wrapping_add(1);
        frame.advance(FRAME_HEADER_BYTES);
        let body = frame.split_to(head.body);
        Ok(Some(Frame { body, tail: frame }))
    }

    /// Makes `need` bytes lie in one piece, if they have arrived. Takes no more of the chunk than
    /// that, so that what follows can still be given out without a copy.
    fn gather(&mut self, need: usize) -> bool {
        if self.partial.is_empty() {
            if self.chunk.len() >= need {
                return true;
            }
            self.partial.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
            return false;
        }
        if self.partial.len() < need {
            let n = (need - self.partial.len()).min(self.chunk.len());
            self.partial.extend_from_slice(&self.chunk.split_to(n));
        }
        self.partial.len() >= need
    }

    fn head(&self, bytes: &[u8]) -> Result<Head, FrameError> {
        let word = |at: usize| {
            u32::from_le_bytes(
                bytes[at..at + 4]
                    .try_into()
                    .expect("four bytes of a whole header"),
            )
        };
        if bytes[0] != FRAME_VERSION {
            return Err(FrameError::Version(bytes[0]));
        }
        let (body, tail, sequence, crc) = (word(1), word(5), word(9), word(13));
        if body == 0 {
            return Err(FrameError::Empty);
        }
        if body as usize > FRAME_BODY_BYTES_MAX {
            return Err(FrameError::BodyTooLarge(body));
        }
        if tail as usize > FRAME_TAIL_BYTES_MAX {
            return Err(FrameError::TailTooLarge(tail));
        }
        if sequence != self.sequence {
            return Err(FrameError::Sequence {
                want: self.sequence,
                got: sequence,
            });
        }
        Ok(Head {
            body: body as usize,
            tail: tail as usize,
            sequence,
            crc,
        })
    }
}
