//! Finding a batch in a segment through its index, and making the index anew when it is no good.

use std::io;
use std::sync::PoisonError;

use headwater_batch::{Limits, Offset};

use super::shared::{SegmentInfo, Shared};
use crate::disk::{DiskFile, read_all, replace};
use crate::error::is_full;
use crate::segment::{
    BatchMeta, INDEX_BYTES_MAX, INDEX_INTERVAL_BYTES, IndexBuilder, OffsetEntry, Window,
    index_problem, position_for, resync, scan, timeindex_problem,
};

/// A place in a log where a batch begins at `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) position: u64,
    pub(super) offset: Offset,
}

/// A spot at or before `offset`. A missing, short or wrong index of a sealed segment is rebuilt.
pub(super) fn seek(
    shared: &Shared,
    segment: SegmentInfo,
    sealed: bool,
    file: &dyn DiskFile,
    offset: Offset,
    limits: &Limits,
) -> io::Result<Spot> {
    let front = Spot {
        position: 0,
        offset: segment.base,
    };
    if let Some(spot) = through_index(shared, segment, file, offset, limits)? {
        return Ok(spot);
    }
    if !sealed {
        // The writer appends to it right now; the front of the segment is right too.
        return Ok(front);
    }
    let _one = shared.repair.lock().unwrap_or_else(PoisonError::into_inner);
    match rebuild_indexes(shared, segment.base, segment.bytes, file, limits) {
        // Reading on is what makes room: without an index it begins at the front.
        Err(error) if is_full(&error) => return Ok(front),
        done => done?,
    }
    Ok(through_index(shared, segment, file, offset, limits)?.unwrap_or(front))
}

/// `None`: the index cannot be used.
fn through_index(
    shared: &Shared,
    segment: SegmentInfo,
    file: &dyn DiskFile,
    offset: Offset,
    limits: &Limits,
) -> io::Result<Option<Spot>> {
    let path = shared.path(segment.base, "index");
    // Missing, too long or unreadable: a hint that is no good, not a reason to stop reading.
    let Ok(index) = read_all(shared.disk.as_ref(), &path, INDEX_BYTES_MAX) else {
        return Ok(None);
    };
    if index_problem(&index, segment.bytes).is_some() || is_short(&index, segment.bytes, limits) {
        return Ok(None);
    }
    let position = position_for(&index, segment.base, offset);
    if position == 0 {
        return Ok(Some(Spot {
            position,
            offset: segment.base,
        }));
    }
    let mut window = Window::new(file, segment.bytes);
    let spot = match window.batch(position, limits)? {
        Ok(view) if (segment.base..=offset).contains(&view.base_offset()) => Some(Spot {
            position,
            offset: view.base_offset(),
        }),
        // A batch that rotted, or an index that points nowhere: what comes before it tells.
        _ => None,
    };
    let front = Spot {
        position: 0,
        offset: segment.base,
    };
    // Asked only where the entry led nowhere: it reads at every entry of the index.
    Ok(spot.or_else(|| {
        points_at_batches(&index, segment.base, file, segment.bytes, limits).then_some(front)
    }))
}

/// Whether most entries hit a batch with their offset: then it is the log that is damaged.
fn points_at_batches(
    index: &[u8],
    base: Offset,
    file: &dyn DiskFile,
    bytes: u64,
    limits: &Limits,
) -> bool {
    let entries: Vec<_> = index
        .chunks_exact(crate::segment::INDEX_ENTRY_BYTES)
        .map(OffsetEntry::decode)
        .collect();
    let good = |entry: &&OffsetEntry| {
        let mut window = Window::new(file, bytes);
        let wanted = base.0 + i64::from(entry.relative_offset);
        let found = window.batch(entry.position as u64, limits);
        matches!(found, Ok(Ok(view)) if view.last_offset().0 == wanted)
    };
    entries.iter().filter(good).count() * 2 > entries.len()
}

/// A stretch without an entry that is longer than any can be.
fn is_short(index: &[u8], log_bytes: u64, limits: &Limits) -> bool {
    let last = index
        .chunks_exact(crate::segment::INDEX_ENTRY_BYTES)
        .next_back()
        .map_or(0, |bytes| OffsetEntry::decode(bytes).position as u64);
    log_bytes - last > INDEX_INTERVAL_BYTES + 2 * limits.batch_bytes_max as u64
}

/// Writes both indexes of a sealed segment anew from its log. Damaged batches are left out.
pub(crate) fn rebuild_indexes(
    shared: &Shared,
    base: Offset,
    bytes: u64,
    file: &dyn DiskFile,
    limits: &Limits,
) -> io::Result<()> {
    let (index, timeindex) = indexes_of(base, bytes, file, limits)?;
    debug_assert!(index_problem(&index, bytes).is_none());
    debug_assert!(timeindex_problem(&timeindex).is_none());
    let disk = shared.disk.as_ref();
    // Retention may have removed the segment since: then no index may come back.
    if !disk.exists(&shared.path(base, "log"))? {
        return Ok(());
    }
    replace(disk, &shared.path(base, "index"), &index)?;
    replace(disk, &shared.path(base, "timeindex"), &timeindex)
}

/// What the index files of a sealed log should hold.
pub(crate) fn indexes_of(
    base: Offset,
    bytes: u64,
    file: &dyn DiskFile,
    limits: &Limits,
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut builder = IndexBuilder::new(base);
    let (mut index, mut timeindex) = (Vec::new(), Vec::new());
    loop {
        let (from, expected) = (builder.position(), builder.end());
        let scanned = scan(file, from, bytes, expected, limits, |view, _| {
            let batch = BatchMeta::from(view.header());
            if !builder.fits(&batch) {
                // Not ours, whatever its checksum says: no index can lead to it.
                return;
            }
            let entries = builder.append(&batch);
            index.extend(entries.offset.iter().flat_map(|entry| entry.encode()));
            timeindex.extend(entries.time.iter().flat_map(|entry| entry.encode()));
        })?;
        if scanned.problem.is_none() {
            break;
        }
        let after = scanned.end..Offset::MAX;
        match resync(file, scanned.position + 1, bytes, after, limits)? {
            Some((position, meta)) => builder.skip_to(position, meta.base),
            None => break,
        }
    }
    timeindex.extend(builder.seal().iter().flat_map(|entry| entry.encode()));
    Ok((index, timeindex))
}
