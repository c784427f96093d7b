//! One record: borrowed as it is read, owned as it is made.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Offset,
    layout::RECORD_BYTES_MIN,
    varint::{self, Cursor, Problem, VARINT_BYTES_MAX, VARLONG_BYTES_MAX},
};

/// A record that borrows its bytes. Cheap to copy; nothing in it is allocated.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub offset: Offset,
    /// Milliseconds since 1970; -1 is none.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// A record to be written: it has no offset yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRecord {
    /// Milliseconds since 1970; -1 is none.
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<NewHeader>,
}

/// A record header to be written. Kafka's clients read the key as UTF-8. Keys may repeat; order
/// is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewHeader {
    pub key: String,
    pub value: Option<Bytes>,
}

/// A record header that borrows its bytes. The key should be UTF-8; bytes from outside are not
/// checked for it, and are passed on as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRef<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// A record's headers, decoded one by one as they are asked for.
#[derive(Clone, Copy)]
pub struct Headers<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// Invariant: `bytes` hold exactly `count` well-formed headers.
    Encoded {
        count: u32,
        bytes: &'a [u8],
    },
    New(&'a [NewHeader]),
    Borrowed(&'a [HeaderRef<'a>]),
}

/// Iterates over [`Headers`].
#[derive(Clone, Debug)]
pub struct HeadersIter<'a>(Iter<'a>);

#[derive(Clone, Debug)]
enum Iter<'a> {
    Encoded { left: u32, cursor: Cursor<'a> },
    New(std::slice::Iter<'a, NewHeader>),
    Borrowed(std::slice::Iter<'a, HeaderRef<'a>>),
}

impl NewRecord {
    /// A record with key and value and no headers.
    pub fn new(timestamp: i64, key: impl Into<Bytes>, value: impl Into<Bytes>) -> NewRecord {
        NewRecord {
            timestamp,
            key: Some(key.into()),
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> NewRecord {
        self.headers.push(NewHeader {
            key: key.into(),
            value: Some(value.into()),
        });
        self
    }

    /// The same record, borrowed, at `offset`.
    pub fn at(&self, offset: Offset) -> Record<'_> {
        Record {
            offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: Headers::new(&self.headers),
        }
    }

    /// The most bytes this record takes in a batch's uncompressed records.
    pub fn bytes_bound(&self) -> usize {
        self.at(Offset::ZERO).bytes_bound()
    }
}

impl Record<'_> {
    /// A copy that owns its bytes. `None` if a header's key is not UTF-8.
    pub fn to_new(&self) -> Option<NewRecord> {
        let own = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        let headers = self.headers.iter().map(|header| {
            Some(NewHeader {
                key: header.key_str()?.to_owned(),
                value: own(header.value),
            })
        });
        Some(NewRecord {
            timestamp: self.timestamp,
            key: own(self.key),
            value: own(self.value),
            headers: headers.collect::<Option<_>>()?,
        })
    }

    /// The most bytes this record takes in a batch's uncompressed records, whatever its deltas are.
    pub fn bytes_bound(&self) -> usize {
        let deltas = 1 + VARLONG_BYTES_MAX + VARINT_BYTES_MAX;
        VARINT_BYTES_MAX + deltas + self.body_bytes()
    }

    /// The bytes of key, value and headers, encoded.
    pub(crate) fn body_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|header| nullable_bytes(Some(header.key)) + nullable_bytes(header.value))
            .fold(0, usize::saturating_add);
        varint::size(self.headers.len() as i64)
            .saturating_add(headers)
            .saturating_add(nullable_bytes(self.key))
            .saturating_add(nullable_bytes(self.value))
    }

    /// Appends key, value and headers to `out`.
    pub(crate) fn put_body(&self, out: &mut Vec<u8>) {
        put_nullable(out, self.key);
        put_nullable(out, self.value);
        varint::put(out, self.headers.len() as i64);
        for header in self.headers.iter() {
            put_nullable(out, Some(header.key));
            put_nullable(out, header.value);
        }
    }
}

/// Compares what the record says, not how its headers are held.
impl PartialEq for Record<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.offset, self.timestamp, self.key, self.value)
            == (other.offset, other.timestamp, other.key, other.value)
            && self.headers == other.headers
    }
}

impl Eq for Record<'_> {}

impl<'a> HeaderRef<'a> {
    /// The key as text; `None` if it is not UTF-8.
    pub fn key_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.key).ok()
    }
}

impl<'a> Headers<'a> {
    pub const NONE: Headers<'static> = Headers(Source::New(&[]));

    pub const fn new(headers: &'a [NewHeader]) -> Headers<'a> {
        Headers(Source::New(headers))
    }

    pub const fn borrowed(headers: &'a [HeaderRef<'a>]) -> Headers<'a> {
        Headers(Source::Borrowed(headers))
    }

    /// Reads `count` headers that must fill `bytes`, so that iterating cannot fail later.
    pub(crate) fn parse(cursor: &mut Cursor<'a>, count: usize) -> Result<Headers<'a>, Problem> {
        let bytes = cursor.rest();
        // Two bytes are the least a header takes: refuse a count that cannot be before walking.
        if count > bytes.len() / 2 {
            return Err("more headers than bytes");
        }
        for _ in 0..count {
            parse_header(cursor)?;
        }
        let length = bytes.len() - cursor.rest().len();
        Ok(Headers(Source::Encoded {
            count: count as u32,
            bytes: &bytes[..length],
        }))
    }

    pub const fn len(&self) -> usize {
        match self.0 {
            Source::Encoded { count, .. } => count as usize,
            Source::New(headers) => headers.len(),
            Source::Borrowed(headers) => headers.len(),
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> HeadersIter<'a> {
        HeadersIter(match self.0 {
            Source::Encoded { count, bytes } => Iter::Encoded {
                left: count,
                cursor: Cursor::new(bytes),
            },
            Source::New(headers) => Iter::New(headers.iter()),
            Source::Borrowed(headers) => Iter::Borrowed(headers.iter()),
        })
    }

    /// The value of the last header named `key`, as Kafka's `Headers.lastHeader` has it. The outer
    /// `None`: there is no such header.
    pub fn last(&self, key: &str) -> Option<Option<&'a [u8]>> {
        self.iter()
            .filter(|header| header.key == key.as_bytes())
            .last()
            .map(|header| header.value)
    }
}

impl PartialEq for Headers<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl std::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Headers<'a> {
    type Item = HeaderRef<'a>;
    type IntoIter = HeadersIter<'a>;
    fn into_iter(self) -> HeadersIter<'a> {
        self.iter()
    }
}

impl<'a> Iterator for HeadersIter<'a> {
    type Item = HeaderRef<'a>;

    fn next(&mut self) -> Option<HeaderRef<'a>> {
        match &mut self.0 {
            Iter::Encoded { left, cursor } => {
                *left = left.checked_sub(1)?;
                parse_header(cursor).ok()
            }
            Iter::New(headers) => headers.next().map(|header| HeaderRef {
                key: header.key.as_bytes(),
                value: header.value.as_deref(),
            }),
            Iter::Borrowed(headers) => headers.next().copied(),
        }
    }
}

fn parse_header<'a>(cursor: &mut Cursor<'a>) -> Result<HeaderRef<'a>, Problem> {
    let length = cursor.length()?;
    Ok(HeaderRef {
        key: cursor.take(length)?,
        value: cursor.nullable()?,
    })
}

fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint::size(bytes.len() as i64).saturating_add(bytes.len()),
        None => 1,
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            varint::put(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
        None => varint::put(out, -1),
    }
}

// A record of empty fields is as small as the layout says.
const _: () = assert!(varint::size(0) * RECORD_BYTES_MIN == RECORD_BYTES_MIN);
