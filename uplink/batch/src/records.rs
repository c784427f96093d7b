//! The records of one batch, in order, borrowed.

use crate::{
    BatchError, Header, Headers, Offset, Record, TimestampType,
    layout::RECORD_BYTES_MIN,
    varint::{Cursor, Problem},
};

/// Iterates over a batch's records. After an error there is nothing more.
///
/// Beyond each record's own lengths it checks that offsets rise and stay inside the batch, and
/// that the bytes hold as many records as the header says and nothing else.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    header: Header,
    cursor: Cursor<'a>,
    index: u32,
    offset_delta_min: i32,
    failed: bool,
}

/// A record with what [`slice`](crate::slice()) needs to write it again bit for bit.
pub(crate) struct Parts<'a> {
    pub(crate) record: Record<'a>,
    pub(crate) attributes: u8,
    pub(crate) timestamp_delta: i64,
    /// Key, value and headers as they stand.
    pub(crate) body: &'a [u8],
}

impl<'a> Records<'a> {
    /// `bytes` are the decompressed records of the batch that `header` heads.
    pub(crate) fn new(header: Header, bytes: &'a [u8]) -> Result<Records<'a>, BatchError> {
        if header.record_count as usize > bytes.len() / RECORD_BYTES_MIN {
            let value = header.record_count.into();
            return Err(BatchError::Field {
                field: "record count",
                value,
            });
        }
        let cursor = Cursor::new(bytes);
        Ok(Records {
            header,
            cursor,
            index: 0,
            offset_delta_min: 0,
            failed: false,
        })
    }

    /// How many records are still to come, unless one of them is damaged.
    pub fn remaining(&self) -> u32 {
        if self.failed {
            0
        } else {
            self.header.record_count - self.index
        }
    }

    /// The bytes still to be read.
    pub(crate) fn bytes(&self) -> usize {
        self.cursor.rest().len()
    }

    pub(crate) fn next_parts(&mut self) -> Option<Result<Parts<'a>, BatchError>> {
        if self.failed {
            return None;
        }
        let at = self.cursor.position();
        let failure = if self.index < self.header.record_count {
            match self.parse() {
                Ok(parts) => return Some(Ok(parts)),
                Err(problem) => problem,
            }
        } else if self.cursor.is_at_end() {
            return None;
        } else {
            "bytes after the last record"
        };
        self.failed = true;
        Some(Err(BatchError::Record {
            index: self.index,
            at,
            problem: failure,
        }))
    }

    fn parse(&mut self) -> Result<Parts<'a>, Problem> {
        let length = self.cursor.length()?;
        let mut cursor = Cursor::new(self.cursor.take(length)?);
        let attributes = cursor.byte()?;
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        let body = cursor.rest();
        let key = cursor.nullable()?;
        let value = cursor.nullable()?;
        let count = cursor.length()?;
        let headers = Headers::parse(&mut cursor, count)?;
        if !cursor.is_at_end() {
            return Err("longer than its fields");
        }
        let timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => self
                .header
                .base_timestamp
                .checked_add(timestamp_delta)
                .ok_or("timestamp out of range")?,
        };
        let offset = self.offset(offset_delta)?;
        self.index += 1;
        let record = Record {
            offset,
            timestamp,
            key,
            value,
            headers,
        };
        Ok(Parts {
            record,
            attributes,
            timestamp_delta,
            body,
        })
    }

    fn offset(&mut self, delta: i32) -> Result<Offset, Problem> {
        if delta < self.offset_delta_min {
            return Err("offset does not rise");
        }
        if delta > self.header.last_offset_delta {
            return Err("offset past the end of the batch");
        }
        // The header's check has shown that base plus last delta has a successor.
        self.offset_delta_min = delta.saturating_add(1);
        Ok(Offset(self.header.base_offset.0 + i64::from(delta)))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_parts()?.map(|parts| parts.record))
    }
}

impl std::iter::FusedIterator for Records<'_> {}
