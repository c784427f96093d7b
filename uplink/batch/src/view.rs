//! A batch seen through its bytes. Nothing is copied.

use crate::{
    Attributes, BatchError, Compression, Decoder, Header, Limits, Offset, Records, TimestampType,
    header::crc_of, layout::HEADER_BYTES,
};

/// One batch over borrowed bytes: the header decoded, the lengths checked, the CRC not yet.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    header: Header,
    bytes: &'a [u8],
}

/// What [`BatchView::check_records`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordsSummary {
    pub count: u32,
    /// The offset of the first and the last record that is there; `None` in an empty batch.
    pub offsets: Option<(Offset, Offset)>,
    /// The latest timestamp of the records; `None` in an empty batch.
    pub max_timestamp: Option<i64>,
    /// Deltas 0, 1, 2 ... up to the header's last: what a producer must send.
    pub contiguous: bool,
    /// A record without a key (a compacted topic refuses it).
    pub null_key: bool,
    /// The records, decompressed.
    pub bytes: usize,
}

impl<'a> BatchView<'a> {
    /// `bytes` are exactly one batch.
    ///
    /// Errors: those of [`Header::parse`], `Truncated` or `Trailing` if the length differs.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<BatchView<'a>, BatchError> {
        let (batch, rest) = BatchView::split_first(bytes, limits)?;
        match rest.len() {
            0 => Ok(batch),
            extra => Err(BatchError::Trailing { extra }),
        }
    }

    /// The batch at the front of `bytes`, and the bytes after it.
    pub fn split_first(
        bytes: &'a [u8],
        limits: &Limits,
    ) -> Result<(BatchView<'a>, &'a [u8]), BatchError> {
        let header = Header::parse(bytes, limits)?;
        let (bytes, rest) = bytes
            .split_at_checked(header.size)
            .ok_or(BatchError::Truncated {
                need: header.size,
                have: bytes.len(),
            })?;
        Ok((BatchView { header, bytes }, rest))
    }

    /// Compares the CRC-32C. Everything but base offset, length and leader epoch is covered;
    /// a wrong length shows because it moves the end.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc_of(self.bytes);
        match self.header.crc {
            stored if stored == computed => Ok(()),
            stored => Err(BatchError::Crc { stored, computed }),
        }
    }

    /// The records in order. They borrow from the batch, or from `decoder` if it is compressed.
    ///
    /// Errors: `Codec`, `Decompress`, and `TooLarge` over `limits.records_bytes_max`.
    pub fn records<'s>(
        &self,
        decoder: &'s mut Decoder,
        limits: &Limits,
    ) -> Result<Records<'s>, BatchError>
    where
        'a: 's,
    {
        Records::new(self.header, self.records_bytes(decoder, limits)?)
    }

    /// Reads every record and says what was there: for what comes from a stranger.
    pub fn check_records(
        &self,
        decoder: &mut Decoder,
        limits: &Limits,
    ) -> Result<RecordsSummary, BatchError> {
        let bytes = self.records_bytes(decoder, limits)?;
        let mut summary = RecordsSummary {
            count: self.header.record_count,
            offsets: None,
            max_timestamp: None,
            // Deltas rise and end at the last, so counting them tells of holes.
            contiguous: i64::from(self.header.record_count)
                == i64::from(self.header.last_offset_delta) + 1,
            null_key: false,
            bytes: bytes.len(),
        };
        for record in Records::new(self.header, bytes)? {
            let record = record?;
            let first = summary.offsets.map_or(record.offset, |(first, _)| first);
            summary.offsets = Some((first, record.offset));
            summary.max_timestamp = summary.max_timestamp.max(Some(record.timestamp));
            summary.null_key |= record.key.is_none();
        }
        Ok(summary)
    }

    /// The encoded records as they stand: compressed, if the batch is.
    pub fn stored_records(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The whole batch.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub const fn header(&self) -> &Header {
        &self.header
    }

    pub const fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    pub fn last_offset(&self) -> Offset {
        self.header.last_offset()
    }

    /// The offset after this batch.
    pub fn next_offset(&self) -> Offset {
        self.header.next_offset()
    }

    pub const fn size(&self) -> usize {
        self.header.size
    }

    pub const fn leader_epoch(&self) -> i32 {
        self.header.leader_epoch
    }

    pub const fn crc(&self) -> u32 {
        self.header.crc
    }

    pub const fn attributes(&self) -> Attributes {
        self.header.attributes
    }

    pub fn compression(&self) -> Compression {
        self.header.compression()
    }

    pub const fn timestamp_type(&self) -> TimestampType {
        self.header.attributes.timestamp_type()
    }

    pub const fn last_offset_delta(&self) -> i32 {
        self.header.last_offset_delta
    }

    pub const fn base_timestamp(&self) -> i64 {
        self.header.base_timestamp
    }

    pub const fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp
    }

    pub const fn producer_id(&self) -> i64 {
        self.header.producer_id
    }

    pub const fn producer_epoch(&self) -> i16 {
        self.header.producer_epoch
    }

    pub const fn base_sequence(&self) -> i32 {
        self.header.base_sequence
    }

    pub const fn record_count(&self) -> u32 {
        self.header.record_count
    }

    fn records_bytes<'s>(
        &self,
        decoder: &'s mut Decoder,
        limits: &Limits,
    ) -> Result<&'s [u8], BatchError>
    where
        'a: 's,
    {
        // A batch emptied by compaction keeps its header and has nothing to decompress.
        if self.stored_records().is_empty() && self.header.record_count == 0 {
            return Ok(&[]);
        }
        decoder.decode(
            self.compression(),
            self.stored_records(),
            limits.records_bytes_max,
        )
    }
}

/// The batches in `bytes`, one after the other: a segment's range, a fetch's answer. Ends at the
/// first error; a cut-off last batch is [`BatchError::Truncated`].
pub const fn batches<'a>(bytes: &'a [u8], limits: &Limits) -> Batches<'a> {
    Batches {
        rest: bytes,
        position: 0,
        limits: *limits,
    }
}

/// Iterates over concatenated batches; see [`batches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
    position: usize,
    limits: Limits,
}

impl Batches<'_> {
    /// The bytes before what comes next: after an error, how much was good.
    pub const fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match BatchView::split_first(self.rest, &self.limits) {
            Ok((batch, rest)) => {
                self.position += batch.size();
                self.rest = rest;
                Some(Ok(batch))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for Batches<'_> {}
