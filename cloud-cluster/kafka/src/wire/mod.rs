//! Frames, headers and replies.
//!
//! ```text
//! request   | length i32 | api key i16 | version i16 | correlation id i32 | client id (i16, utf-8)
//!           | tagged fields, from the first flexible version on | body |
//! response  | length i32 | correlation id i32 | tagged fields if flexible, never for ApiVersions | body |
//! ```

mod asked;
pub(crate) mod schema;
pub(crate) mod shape;
mod versions;

use std::io::IoSlice;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable};

pub use asked::{Asked, asked};
pub use shape::ELEMENTS_MAX;
pub use versions::{SERVED, Served, served};

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
    #[error("no response could be encoded, api key {key} version {version}: {why}")]
    Response { key: i16, version: i16, why: String },
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

/// A request header that was understood.
#[derive(Debug)]
pub(crate) enum Incoming {
    Call(Call, Bytes),
    /// ApiVersions of a version from the future: answered in version 0, and the client retries.
    FutureApiVersions(Call),
}

/// Reads the header of `frame`. A key or version that is not served is an error, as Kafka closes
/// the connection for it (SocketServer), save for ApiVersions.
pub(crate) fn parse_header(mut frame: Bytes) -> Result<Incoming, WireError> {
    let (head, rest) = frame.split_first_chunk::<10>().ok_or(WireError::Header)?;
    let key = i16::from_be_bytes([head[0], head[1]]);
    let version = i16::from_be_bytes([head[2], head[3]]);
    let correlation_id = i32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    // The client id stays a string with an i16 length in flexible headers too.
    let id_bytes = match i16::from_be_bytes([head[8], head[9]]) {
        -1 => 0,
        n => usize::try_from(n).map_err(|_| WireError::Header)?,
    };
    let id = rest.get(..id_bytes).ok_or(WireError::Header)?;
    let client_id = String::from_utf8(id.to_vec()).map_err(|_| WireError::Header)?;

    let unsupported = WireError::Unsupported { key, version };
    let Some(row) = served(key) else {
        return Err(unsupported);
    };
    let api = row.api;
    if !row.accepts(version) {
        if api == ApiKey::ApiVersions {
            let call = Call {
                api,
                version: 0,
                correlation_id,
                client_id,
            };
            return Ok(Incoming::FutureApiVersions(call));
        }
        return Err(unsupported);
    }
    let mut skip = head.len() + id_bytes;
    if api.request_header_version(version) >= 2 {
        skip += shape::skip_header_tags(&frame[skip..]).map_err(|_| WireError::Header)?;
    }
    Ok(Incoming::Call(
        Call {
            api,
            version,
            correlation_id,
            client_id,
        },
        frame.split_off(skip),
    ))
}

/// Walks a request's body against its bytes, as is done before every decoding; gives the bytes
/// that belong to the request. For tests and fuzzing.
pub fn walk(api: ApiKey, version: i16, body: &[u8]) -> Result<usize, &'static str> {
    schema::of(api).ok_or("not served")?.check(body, version)
}

impl Call {
    /// Decodes the request's body; its shape is walked first, so that no length is believed.
    pub(crate) fn decode<M: Decodable>(&self, mut body: Bytes) -> Result<M, WireError> {
        let malformed = |why: String| WireError::Malformed {
            key: self.api as i16,
            version: self.version,
            why,
        };
        let shape = schema::of(self.api).ok_or_else(|| malformed("no schema".into()))?;
        shape
            .check(&body, self.version)
            .map_err(|why| malformed(why.into()))?;
        M::decode(&mut body, self.version).map_err(|why| malformed(why.to_string()))
    }

    /// The reply that carries `message`.
    ///
    /// Gives an empty reply if the message does not fit the version, which is a fault of ours
    /// (or a text that is too long for the version): the connection is then closed.
    pub(crate) fn reply<M: Encodable>(&self, message: &M) -> Reply {
        let mut bytes = self.response_start(512);
        match message.encode(&mut bytes, self.version) {
            Ok(()) => Reply::framed(bytes),
            Err(why) => {
                debug_assert!(false, "{:?} v{}: {why}", self.api, self.version);
                Reply::default()
            }
        }
    }

    /// Room for the length, then the response header.
    pub(crate) fn response_start(&self, capacity: usize) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(capacity);
        bytes.put_i32(0);
        bytes.put_i32(self.correlation_id);
        if self.api.response_header_version(self.version) >= 1 {
            bytes.put_u8(0);
        }
        bytes
    }
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

    /// No response could be encoded: close the connection.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// One contiguous copy, for tests and tools.
    pub fn to_bytes(&self) -> Bytes {
        self.chunks.concat().into()
    }

    /// A frame in one piece; its first four bytes are set to the length.
    fn framed(bytes: BytesMut) -> Reply {
        Reply::from_chunks(bytes, Vec::new())
    }

    /// `first` starts with room for the length; the frame goes on with `more`.
    pub(crate) fn from_chunks(mut first: BytesMut, more: Vec<Bytes>) -> Reply {
        let total = first.len() + more.iter().map(Bytes::len).sum::<usize>();
        let Ok(length) = i32::try_from(total - 4) else {
            return Reply::default();
        };
        first[..4].copy_from_slice(&length.to_be_bytes());
        let mut chunks = Vec::with_capacity(1 + more.len());
        chunks.push(first.freeze());
        chunks.extend(more);
        Reply { chunks }
    }
}
