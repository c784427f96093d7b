//! Making a segment: the index entries that belong to each appended batch.

use headwater_batch::{BatchError, BatchView, Limits, Offset};

use super::{BatchMeta, INDEX_INTERVAL_BYTES, OffsetEntry, SEGMENT_BYTES_MAX, TimeEntry};

/// Decides which index entries a segment gets, as Kafka's `LogSegment.append` does.
/// Used for files (the edge) and for memory (the cloud's object store) alike.
#[derive(Clone, Debug)]
pub struct IndexBuilder {
    base: Offset,
    position: u64,
    end: Offset,
    unindexed_bytes: u64,
    newest: Option<TimeEntry>,
    last_time_entry: Option<i64>,
}

/// The entries that one append produces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewEntries {
    pub offset: Option<OffsetEntry>,
    pub time: Option<TimeEntry>,
}

impl IndexBuilder {
    pub fn new(base: Offset) -> IndexBuilder {
        IndexBuilder {
            base,
            position: 0,
            end: base,
            unindexed_bytes: 0,
            newest: None,
            last_time_entry: None,
        }
    }

    /// Goes on where an entry was made: the batch at `position`, which begins at `offset`, was
    /// just indexed and is appended next. `time` is the last time entry.
    pub fn resume(
        base: Offset,
        position: u64,
        offset: Offset,
        time: Option<TimeEntry>,
    ) -> IndexBuilder {
        IndexBuilder {
            base,
            position,
            end: offset,
            unindexed_bytes: 0,
            newest: time,
            last_time_entry: time.map(|entry| entry.timestamp),
        }
    }

    /// Leaves out damaged bytes: the next batch lies at `position` and begins at `offset`.
    pub fn skip_to(&mut self, position: u64, offset: Offset) {
        assert!(
            position >= self.position && offset >= self.end,
            "a log only grows"
        );
        self.unindexed_bytes += position - self.position;
        self.position = position;
        self.end = offset;
    }

    pub fn base(&self) -> Offset {
        self.base
    }

    /// Length of the log so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The offset after the last batch; the base offset when empty.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The greatest timestamp so far.
    pub fn max_timestamp(&self) -> Option<i64> {
        self.newest.map(|entry| entry.timestamp)
    }

    /// Whether the batch can still be addressed by i32 and follows what is there.
    pub fn fits(&self, batch: &BatchMeta) -> bool {
        batch.base >= self.end
            && batch.last.0 - self.base.0 <= i64::from(i32::MAX)
            && self.position + (batch.bytes as u64) <= SEGMENT_BYTES_MAX
    }

    /// Accounts for a batch that [`fits`](IndexBuilder::fits) and is written at
    /// [`position`](IndexBuilder::position).
    pub fn append(&mut self, batch: &BatchMeta) -> NewEntries {
        assert!(
            self.fits(batch),
            "the segment is rolled before a batch does not fit"
        );
        let relative_offset = (batch.last.0 - self.base.0) as i32;
        if self
            .newest
            .is_none_or(|newest| batch.max_timestamp > newest.timestamp)
        {
            self.newest = Some(TimeEntry {
                timestamp: batch.max_timestamp,
                relative_offset,
            });
        }
        let mut entries = NewEntries::default();
        if self.unindexed_bytes > INDEX_INTERVAL_BYTES {
            entries.offset = Some(OffsetEntry {
                relative_offset,
                position: self.position as i32,
            });
            entries.time = self.time_entry();
            self.unindexed_bytes = 0;
        }
        self.position += batch.bytes as u64;
        self.unindexed_bytes += batch.bytes as u64;
        self.end = batch.end();
        entries
    }

    /// The last time entry, written when the segment is sealed.
    pub fn seal(&mut self) -> Option<TimeEntry> {
        self.time_entry()
    }

    fn time_entry(&mut self) -> Option<TimeEntry> {
        let newest = self.newest?;
        // Kafka starts with -1: a time without a clock is no entry.
        let grown = newest.timestamp > self.last_time_entry.unwrap_or(-1);
        grown.then(|| {
            self.last_time_entry = Some(newest.timestamp);
            newest
        })
    }
}

/// A segment in memory: the three files' bytes, for an upload.
#[derive(Debug)]
pub struct SegmentBuilder {
    indexes: IndexBuilder,
    bytes: SegmentBytes,
}

/// What the three files of a segment hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentBytes {
    pub log: Vec<u8>,
    pub index: Vec<u8>,
    pub timeindex: Vec<u8>,
}

impl SegmentBuilder {
    pub fn new(base: Offset) -> SegmentBuilder {
        SegmentBuilder {
            indexes: IndexBuilder::new(base),
            bytes: SegmentBytes::default(),
        }
    }

    /// Appends one whole encoded batch; its CRC is not checked here.
    ///
    /// Errors: not a batch within `limits`, an offset below [`end`](SegmentBuilder::end), or a
    /// segment beyond the i32 bounds. Nothing is appended then.
    pub fn append(&mut self, batch: &[u8], limits: &Limits) -> Result<(), BatchError> {
        let view = BatchView::parse(batch, limits)?;
        let meta = BatchMeta::from(view.header());
        if !self.indexes.fits(&meta) {
            return Err(BatchError::Field {
                field: "base offset",
                value: meta.base.0,
            });
        }
        let entries = self.indexes.append(&meta);
        self.bytes.log.extend_from_slice(batch);
        if let Some(entry) = entries.offset {
            self.bytes.index.extend_from_slice(&entry.encode());
        }
        if let Some(entry) = entries.time {
            self.bytes.timeindex.extend_from_slice(&entry.encode());
        }
        Ok(())
    }

    pub fn base(&self) -> Offset {
        self.indexes.base()
    }

    /// The offset after the last record.
    pub fn end(&self) -> Offset {
        self.indexes.end()
    }

    /// Bytes of the log so far.
    pub fn log_bytes(&self) -> usize {
        self.bytes.log.len()
    }

    pub fn max_timestamp(&self) -> Option<i64> {
        self.indexes.max_timestamp()
    }

    /// Seals the segment.
    pub fn finish(mut self) -> SegmentBytes {
        if let Some(entry) = self.indexes.seal() {
            self.bytes.timeindex.extend_from_slice(&entry.encode());
        }
        self.bytes
    }
}
