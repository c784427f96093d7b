//! Reading a partition while it is written.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use headwater_batch::{BatchView, Decoder, HEADER_BYTES, Limits, Offset, TopicPartition, digest};

use super::seek::{Spot, seek};
use super::shared::{SegmentInfo, Shared};
use crate::disk::{DiskFile, Open};
use crate::error::LogError;
use crate::segment::{INDEX_BYTES_MAX, TIME_ENTRY_BYTES, TimeEntry, Window, resync, time_floor};
use crate::store::{Chunk, Digest};

/// Reads one partition, on any thread, while the store appends and retention deletes.
/// Cheap to clone; each clone remembers its own place, so reading on is quick.
#[derive(Clone)]
pub struct PartitionReader {
    shared: Arc<Shared>,
    limits: Limits,
    place: Option<Place>,
}

/// Where the last read ended.
#[derive(Clone)]
struct Place {
    base: Offset,
    file: Arc<dyn DiskFile>,
    spot: Spot,
}

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Retention has deleted it.
    #[error("offset {from} is below the log's start {start}")]
    BelowStart { from: Offset, start: Offset },
    /// A checksum failed: tell [`Store::add_gap`](crate::store::Store::add_gap), then read on at
    /// `to`.
    #[error("offsets {from}..{to} are damaged: {what}")]
    Corrupt {
        from: Offset,
        to: Offset,
        what: String,
    },
    /// The disk said no (EIO): stop this stream, make no GAP (U4).
    #[error(transparent)]
    Io(#[from] LogError),
}

/// A segment may be deleted between looking it up and opening it: look again, this often.
const LOOKS_MAX: usize = 8;

/// What is at an offset, by the list of segments.
enum Found {
    Segment(SegmentInfo, SegmentRange),
    Other(Result<Chunk, ReadError>),
}

#[derive(Clone, Copy)]
struct SegmentRange {
    /// Where the next segment begins.
    end: Offset,
    /// The next known gap begins here.
    gap: Offset,
    sealed: bool,
}

impl PartitionReader {
    pub(crate) fn new(shared: Arc<Shared>) -> PartitionReader {
        PartitionReader {
            shared,
            limits: Limits::UPLINK,
            place: None,
        }
    }

    /// Bytes of its segments' logs, and how many segments there are.
    pub fn size(&self) -> (u64, usize) {
        let state = self.shared.state();
        (state.bytes(), state.segments.len())
    }

    pub fn partition(&self) -> &TopicPartition {
        &self.shared.tp
    }

    /// Whole batches from the one that holds `from`, up to `max_bytes` but at least one.
    /// Their CRCs are right and their offsets follow on.
    pub fn read(&mut self, from: Offset, max_bytes: usize) -> Result<Chunk, ReadError> {
        let mut looks = 0;
        loop {
            let (segment, range) = match self.find(from) {
                Found::Segment(segment, range) => (segment, range),
                Found::Other(answer) => return answer,
            };
            let path = self.shared.path(segment.base, "log");
            match self.read_segment(segment, range, from, max_bytes) {
                Ok(answer) => return answer,
                Err(error) if error.kind() == io::ErrorKind::NotFound && looks < LOOKS_MAX => {
                    looks += 1;
                    self.place = None;
                }
                Err(error) => {
                    self.place = None;
                    return Err(LogError::io("read", &path)(error).into());
                }
            }
        }
    }

    /// The first offset that can be read.
    pub fn start(&self) -> Offset {
        self.shared.state().start
    }

    /// The offset after the last sealed batch.
    pub fn sealed_end(&self) -> Offset {
        self.shared.state().end
    }

    /// The first offset whose record has this timestamp or a later one, and its timestamp.
    pub fn offset_for_time(&mut self, timestamp: i64) -> Result<Option<(Offset, i64)>, ReadError> {
        let segments = self.shared.state().segments.clone();
        let mut decoder = Decoder::new();
        for (i, segment) in segments.iter().enumerate() {
            let sealed = i + 1 < segments.len();
            let times = self.read_times(segment.base).unwrap_or_default();
            let newest = times.chunks_exact(TIME_ENTRY_BYTES).next_back();
            // Sealed segments end with an entry of their greatest timestamp.
            let too_old = newest.is_some_and(|e| TimeEntry::decode(e).timestamp < timestamp);
            if sealed && too_old {
                continue;
            }
            let floor = time_floor(&times, timestamp).map_or(0, |e| i64::from(e.relative_offset));
            let from = Offset(segment.base.0 + floor).max(self.start());
            let to = segments.get(i + 1).map_or(Offset::MAX, |next| next.base);
            if let Some(found) = self.search_time(from, to, timestamp, &mut decoder)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The digest of the record before `offset`; `None` if it is not there.
    pub fn digest_before(&mut self, offset: Offset) -> Result<Option<Digest>, ReadError> {
        let Some(last) = offset
            .0
            .checked_sub(1)
            .filter(|last| *last >= 0)
            .map(Offset)
        else {
            return Ok(None);
        };
        let batches = match self.read(last, 1) {
            Ok(Chunk::Batches(batches)) => batches,
            Ok(Chunk::Gap(_) | Chunk::End) | Err(ReadError::BelowStart { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut decoder = Decoder::new();
        let mut found = None;
        for batch in &batches {
            self.each_record(batch, &mut decoder, |record| {
                if record.offset == last {
                    found = Some(digest(record));
                }
                found.is_none()
            })?;
        }
        Ok(found)
    }

    fn find(&self, from: Offset) -> Found {
        let state = self.shared.state();
        if let Some(gap) = state.gap_at(from) {
            return Found::Other(Ok(Chunk::Gap(gap)));
        }
        if from < state.start {
            let start = state.start;
            return Found::Other(Err(ReadError::BelowStart { from, start }));
        }
        if from >= state.end {
            return Found::Other(Ok(Chunk::End));
        }
        let Some((segment, end)) = state.segment_at(from) else {
            let to = state.segments.first().map_or(state.end, |first| first.base);
            let what = "the segment is missing".to_owned();
            return Found::Other(Err(ReadError::Corrupt { from, to, what }));
        };
        let after = state.gaps.partition_point(|gap| gap.from <= from);
        let gap = state.gaps.get(after).map_or(Offset::MAX, |gap| gap.from);
        let sealed = state
            .segments
            .last()
            .is_some_and(|last| last.base != segment.base);
        Found::Segment(segment, SegmentRange { end, gap, sealed })
    }

    fn read_segment(
        &mut self,
        segment: SegmentInfo,
        range: SegmentRange,
        from: Offset,
        max_bytes: usize,
    ) -> io::Result<Result<Chunk, ReadError>> {
        let held = self.place.take().filter(|place| place.base == segment.base);
        let (file, spot) = match held {
            Some(Place { file, spot, .. }) if spot.offset == from => (file, Some(spot)),
            Some(Place { file, .. }) => (file, None),
            None => {
                let path = self.shared.path(segment.base, "log");
                (self.shared.disk.open(&path, Open::Read)?, None)
            }
        };
        let spot = match spot {
            Some(spot) => spot,
            None => seek(
                &self.shared,
                segment,
                range.sealed,
                file.as_ref(),
                from,
                &self.limits,
            )?,
        };
        let found = self.walk(file.as_ref(), segment, range, spot, from)?;
        let spot = match found {
            Ok(spot) => spot,
            Err(error) => return Ok(Err(error)),
        };
        let (batches, spot) = self.collect(file.as_ref(), segment, range, spot, max_bytes)?;
        let base = segment.base;
        self.place = Some(Place { base, file, spot });
        Ok(Ok(Chunk::Batches(batches)))
    }

    /// Steps from `spot` to the good batch that holds `from`, around damaged places before it.
    fn walk(
        &self,
        file: &dyn DiskFile,
        segment: SegmentInfo,
        range: SegmentRange,
        spot: Spot,
        from: Offset,
    ) -> io::Result<Result<Spot, ReadError>> {
        let mut window = Window::new(file, segment.bytes);
        let mut spot = spot;
        let damaged = |to, what| Ok(Err(ReadError::Corrupt { from, to, what }));
        loop {
            if spot.position >= segment.bytes {
                return damaged(range.end, "records are missing".to_owned());
            }
            let problem = match window.batch(spot.position, &self.limits)? {
                Ok(view) if view.base_offset() != spot.offset => {
                    format!(
                        "base offset {} where {} follows",
                        view.base_offset(),
                        spot.offset
                    )
                }
                Ok(view) if view.last_offset() >= from => return Ok(Ok(spot)),
                Ok(view) => {
                    spot.position += view.size() as u64;
                    spot.offset = view.next_offset();
                    continue;
                }
                Err(problem) => problem,
            };
            let (after, bytes) = (spot.offset..range.end, segment.bytes);
            match resync(file, spot.position + 1, bytes, after, &self.limits)? {
                Some((position, meta)) if meta.base <= from => {
                    spot = Spot {
                        position,
                        offset: meta.base,
                    };
                }
                Some((_, meta)) => return damaged(meta.base, problem),
                None => return damaged(range.end, problem),
            }
        }
    }

    /// Whole good batches from `spot`, which is known to be one, and where they end.
    fn collect(
        &self,
        file: &dyn DiskFile,
        segment: SegmentInfo,
        range: SegmentRange,
        spot: Spot,
        max_bytes: usize,
    ) -> io::Result<(Vec<Bytes>, Spot)> {
        let left = segment.bytes - spot.position;
        let mut want = (max_bytes.max(HEADER_BYTES) as u64).min(left) as usize;
        let mut buffer = vec![0; want];
        file.read_exact_at(&mut buffer, spot.position)?;
        if let Ok(header) = headwater_batch::Header::parse(&buffer, &self.limits)
            && header.size > want
        {
            want = (header.size as u64).min(left) as usize;
            buffer.resize(want, 0);
            file.read_exact_at(&mut buffer, spot.position)?;
        }
        let bytes = Bytes::from(buffer);
        let (mut batches, mut at, mut offset) = (Vec::new(), 0, spot.offset);
        while at < bytes.len() && offset < range.gap.min(range.end) {
            let good = BatchView::split_first(&bytes[at..], &self.limits)
                .ok()
                .map(|(view, _)| view)
                .filter(|view| view.base_offset() == offset && view.verify_crc().is_ok());
            let Some(view) = good else { break };
            let size = view.size();
            offset = view.next_offset();
            batches.push(bytes.slice(at..at + size));
            at += size;
        }
        let position = spot.position + at as u64;
        if batches.is_empty() {
            // It was good a moment ago.
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a batch changed while read",
            ));
        }
        Ok((batches, Spot { position, offset }))
    }

    fn read_times(&self, base: Offset) -> Option<Vec<u8>> {
        let path = self.shared.path(base, "timeindex");
        let disk = self.shared.disk.as_ref();
        let times = crate::disk::read_all(disk, &path, INDEX_BYTES_MAX).ok()?;
        crate::segment::timeindex_problem(&times)
            .is_none()
            .then_some(times)
    }

    fn search_time(
        &mut self,
        from: Offset,
        to: Offset,
        timestamp: i64,
        decoder: &mut Decoder,
    ) -> Result<Option<(Offset, i64)>, ReadError> {
        let mut at = from;
        while at < to {
            let batches = match self.read(at, 1 << 20) {
                Ok(Chunk::Batches(batches)) => batches,
                Ok(Chunk::Gap(gap)) => {
                    at = gap.to;
                    continue;
                }
                Err(ReadError::Corrupt { to, .. }) => {
                    at = to;
                    continue;
                }
                Ok(Chunk::End) => return Ok(None),
                Err(ReadError::BelowStart { start, .. }) => {
                    at = start;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for batch in &batches {
                let view = self.view(batch)?;
                at = view.next_offset();
                if view.max_timestamp() < timestamp {
                    continue;
                }
                let mut found = None;
                self.each_record(batch, decoder, |record| {
                    if record.timestamp >= timestamp && record.offset >= from {
                        found = Some((record.offset, record.timestamp));
                    }
                    found.is_none()
                })?;
                if found.is_some() {
                    return Ok(found);
                }
            }
        }
        Ok(None)
    }

    fn view<'b>(&self, batch: &'b [u8]) -> Result<BatchView<'b>, ReadError> {
        BatchView::parse(batch, &self.limits).map_err(|error| self.undecodable(&error))
    }

    /// Visits records until `visit` says false.
    fn each_record(
        &self,
        batch: &[u8],
        decoder: &mut Decoder,
        mut visit: impl FnMut(&headwater_batch::Record<'_>) -> bool,
    ) -> Result<(), ReadError> {
        let view = self.view(batch)?;
        let records = view.records(decoder, &self.limits);
        for record in records.map_err(|error| self.undecodable(&error))? {
            if !visit(&record.map_err(|error| self.undecodable(&error))?) {
                break;
            }
        }
        Ok(())
    }

    /// A batch whose CRC is right and whose records are not: written wrong, so not a GAP.
    fn undecodable(&self, error: &headwater_batch::BatchError) -> ReadError {
        LogError::corrupt(&self.shared.dir, 0, error.to_string()).into()
    }
}
