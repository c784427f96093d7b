//! Frames, headers and replies.

use std::io::IoSlice;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

/// The largest request frame that is read by default: Kafka's `socket.request.max.bytes`.
pub const REQUEST_BYTES_MAX: usize = 100 << 20;

/// What is wrong with bytes from a client; the connection is closed for it.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("a frame of {len} bytes; at most {max} are taken")]
    FrameLength { len: i64, max: usize },
    #[error("api key {key} version {version} is not served")]
    Unsupported { key: i16, version: i16 },
    #[error("malformed request, api key {key} version {version}: {why}")]
    Malformed { key: i16, version: i16, why: String },
    #[error("a request header that ends early")]
    Header,
}

/// The length of the frame that follows the four bytes `prefix`; checked before memory is taken.
pub fn frame_bytes(prefix: [u8; 4], max: usize) -> Result<usize, WireError> {
    let len = i32::from_be_bytes(prefix);
    match usize::try_from(len) {
        Ok(bytes) if bytes <= max => Ok(bytes),
        _ => Err(WireError::FrameLength {
            len: i64::from(len),
            max,
        }),
    }
}

/// Which request is being answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    /// Empty when the client gave none.
    pub client_id: String,
}

/// A whole response frame, its length included, as chunks to be written one after the other.
/// Fetched records are chunks of their own: they are never copied into the response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    chunks: Vec<Bytes>,
}

impl Reply {
    /// The bytes to write, in order.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The same, for a vectored write.
    pub fn slices(&self) -> Vec<IoSlice<'_>> {
        self.chunks.iter().map(|c| IoSlice::new(c)).collect()
    }

    /// All bytes of the frame, length prefix included.
    pub fn byte_len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// One contiguous copy, for tests and tools.
    pub fn to_bytes(&self) -> Bytes {
        self.chunks.concat().into()
    }
}
