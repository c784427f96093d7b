//! A walk over a whole request before anything is decoded.
//!
//! The decoders of `kafka-protocol` reserve memory for an array length that they have not
//! checked: Metadata v1 with the body `7fffffff` asks for 154 GB. The walk knows where every
//! length stands (`wire::schema`) and compares it with the bytes that remain, so after it
//!
//! - every array has as many elements as it says, every string and byte field is there,
//! - all arrays and tagged fields together have at most [`ELEMENTS_MAX`] elements,
//! - the decoder reads the same positions: known tagged fields, whose stated size it does not
//!   look at, have exactly that size.
//!
//! The walk takes no memory and is linear in the request.

/// Elements of all arrays and tagged fields of one request. In memory an element takes a few
/// hundred bytes where it may take two on the wire, so this bounds a request to some 50 MB.
pub const ELEMENTS_MAX: usize = 100_000;

/// What stands at a place.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// i16 length, or a compact one; may be null.
    Str,
    /// i32 length, or a compact one; may be null.
    Bytes,
    Array(&'static Kind),
    Struct(&'static [Field]),
    /// A struct with tagged fields that the decoder knows.
    Tagged(&'static [Field], &'static [Tag]),
}

/// A field and the versions that have it.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub min: i16,
    pub max: i16,
    pub kind: Kind,
}

/// A tagged field that the decoder reads by its kind, not by its stated size.
#[derive(Debug, Clone, Copy)]
pub struct Tag {
    pub tag: u32,
    pub min: i16,
    pub kind: Kind,
}

/// A request body.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The first version with compact lengths and tagged fields.
    pub flexible: i16,
    pub body: Kind,
}

impl Shape {
    /// Walks `body`; what follows the request in the frame is ignored, as Kafka does.
    /// Gives the bytes that were walked.
    pub fn check(&self, body: &[u8], version: i16) -> Result<usize, &'static str> {
        let mut walk = Walk {
            rest: body,
            version,
            flexible: version >= self.flexible,
            elements: 0,
        };
        walk.one(&self.body)?;
        Ok(body.len() - walk.rest.len())
    }
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

type Checked<T = ()> = Result<T, &'static str>;

impl Walk<'_> {
    fn one(&mut self, kind: &Kind) -> Checked {
        match kind {
            Kind::Fixed(bytes) => self.skip(*bytes),
            Kind::Str => {
                let length = if self.flexible {
                    self.compact()?
                } else {
                    self.short()?
                };
                self.skip(length.unwrap_or(0))
            }
            Kind::Bytes => {
                let length = self.length()?;
                self.skip(length.unwrap_or(0))
            }
            Kind::Array(element) => {
                let count = self.length()?.unwrap_or(0);
                self.count(count)?;
                // Bounded by the walk of the elements, each of which takes at least a byte.
                (0..count).try_for_each(|_| self.one(element))
            }
            Kind::Struct(fields) => self.fields(fields, &[]),
            Kind::Tagged(fields, tags) => self.fields(fields, tags),
        }
    }

    fn fields(&mut self, fields: &[Field], tags: &[Tag]) -> Checked {
        for field in fields {
            if (field.min..=field.max).contains(&self.version) {
                self.one(&field.kind)?;
            }
        }
        if self.flexible {
            self.tags(tags)
        } else {
            Ok(())
        }
    }

    fn tags(&mut self, known: &[Tag]) -> Checked {
        let count = self.varint()? as usize;
        self.count(count)?;
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            let before = self.rest.len();
            if size > before {
                return Err("a tagged field that ends after the request");
            }
            match known.iter().find(|k| k.tag == tag) {
                Some(known) if known.min <= self.version => {
                    self.one(&known.kind)?;
                    if before - self.rest.len() != size {
                        return Err("a tagged field whose size is not its content's");
                    }
                }
                _ => self.skip(size)?,
            }
        }
        Ok(())
    }

    fn count(&mut self, more: usize) -> Checked {
        self.elements = self.elements.saturating_add(more);
        if more > self.rest.len() {
            return Err("an array with more elements than bytes");
        }
        if self.elements > ELEMENTS_MAX {
            Err("too many array elements")
        } else {
            Ok(())
        }
    }

    fn skip(&mut self, bytes: usize) -> Checked {
        self.rest = self
            .rest
            .get(bytes..)
            .ok_or("a field that ends after the request")?;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Checked<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or("ends early")?;
        self.rest = rest;
        Ok(*head)
    }

    /// The length of bytes or an array; None for null.
    fn length(&mut self) -> Checked<Option<usize>> {
        if self.flexible {
            return self.compact();
        }
        match i32::from_be_bytes(self.take()?) {
            -1 => Ok(None),
            n => usize::try_from(n)
                .map(Some)
                .map_err(|_| "a negative length"),
        }
    }

    fn short(&mut self) -> Checked<Option<usize>> {
        match i16::from_be_bytes(self.take()?) {
            -1 => Ok(None),
            n => usize::try_from(n)
                .map(Some)
                .map_err(|_| "a negative length"),
        }
    }

    fn compact(&mut self) -> Checked<Option<usize>> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    /// Reads as the decoder does, which takes five bytes at most and drops what does not fit.
    fn varint(&mut self) -> Checked<u32> {
        let mut value = 0u32;
        for i in 0..5 {
            let [byte] = self.take()?;
            value |= u32::from(byte & 0x7f) << (i * 7);
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }
}

/// Skips the tagged fields of a request header; gives what follows.
pub fn skip_header_tags(bytes: &[u8]) -> Result<usize, &'static str> {
    let mut walk = Walk {
        rest: bytes,
        version: 0,
        flexible: true,
        elements: 0,
    };
    walk.tags(&[])?;
    Ok(bytes.len() - walk.rest.len())
}
