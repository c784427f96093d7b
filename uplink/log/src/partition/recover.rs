//! Opening a partition: what the last segment holds behind the place where it was last synced.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use headwater_batch::{Limits, Offset, TopicPartition};

use super::log::{Active, IndexFile, PartitionLog, Synced, list_segments, remove_segment};
use super::shared::{SegmentInfo, Shared};
use crate::disk::{Disk, DiskFile, Open};
use crate::error::{ErrorKind, LogError, is_full};
use crate::segment::{
    BatchMeta, INDEX_BYTES_MAX, INDEX_ENTRY_BYTES, INDEX_INTERVAL_BYTES, IndexBuilder, OffsetEntry,
    TIME_ENTRY_BYTES, TimeEntry, index_problem, resync, scan, timeindex_problem,
};

/// Damaged bytes that are kept for a look, per damaged place.
const QUARANTINE_BYTES_MAX: u64 = 4 << 20;

/// An opened partition, and what was found.
pub(crate) struct Opened {
    pub(crate) log: PartitionLog,
    /// One line for each thing that was cut, kept aside or rebuilt.
    pub(crate) notes: Vec<String>,
}

/// What recovery is told about a partition.
pub(crate) struct Known {
    /// The last sync that a checkpoint, or the journal, remembers.
    pub(crate) synced: Option<Synced>,
    /// Everything that was ever packed may be missing from the journal, so nothing is cut that
    /// is followed by good batches.
    pub(crate) journal_lost: bool,
    pub(crate) segment_bytes: u64,
    pub(crate) stamp: u64,
}

/// Opens the partition in `dir`, which exists.
pub(crate) fn open(
    disk: &Arc<dyn Disk>,
    dir: PathBuf,
    tp: TopicPartition,
    known: &Known,
    limits: &Limits,
) -> Result<Opened, LogError> {
    let mut notes = Vec::new();
    let segments = list_segments(disk.as_ref(), &dir)?;
    let shared = Arc::new(Shared::new(Arc::clone(disk), dir, tp));
    remove_orphans(&shared, &segments)?;
    let mut log = PartitionLog::new(Arc::clone(&shared), known.segment_bytes);
    let info = |(base, bytes): (Offset, u64)| SegmentInfo {
        base,
        bytes,
        stamp: known.stamp,
    };
    {
        let mut state = shared.state();
        state.segments = segments.iter().copied().map(info).collect();
    }
    if let Some(&(base, bytes)) = segments.last() {
        let tail = Tail::find(&shared, base, bytes, known, limits, &mut notes)?;
        tail.install(&mut log, known.stamp)?;
    }
    if let Some(synced) = known.synced {
        log.synced = synced;
    }
    // Whatever was read back from the page cache is synced by the next checkpoint.
    log.names_unsynced = true;
    Ok(Opened { log, notes })
}

/// Writes again what was read back but is not known to be synced: after a failed sync the page
/// cache calls such pages clean, and no later sync would write them (J4).
fn rewrite(file: &dyn DiskFile, range: std::ops::Range<u64>) -> std::io::Result<()> {
    const CHUNK_BYTES: u64 = 256 << 10;
    let mut at = range.start;
    while at < range.end {
        let mut bytes = vec![0; CHUNK_BYTES.min(range.end - at) as usize];
        file.read_exact_at(&mut bytes, at)?;
        file.write_at(&bytes, at)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// Index files whose log is gone: a deletion was cut short.
fn remove_orphans(shared: &Shared, segments: &[(Offset, u64)]) -> Result<(), LogError> {
    let dir = &shared.dir;
    let names = shared.disk.list(dir).map_err(LogError::io("list", dir))?;
    for listed in names.iter().filter(|listed| !listed.is_dir) {
        let Some((digits, "index" | "timeindex")) = listed.name.rsplit_once('.') else {
            continue;
        };
        let Some(base) = crate::segment::base_of(&format!("{digits}.log")) else {
            continue;
        };
        if segments.binary_search_by_key(&base, |s| s.0).is_err() {
            remove_segment(shared, base)?;
        }
    }
    Ok(())
}

/// The last segment, as recovery leaves it.
struct Tail {
    active: Active,
    /// Nothing is appended to it, an empty segment takes its place: readers find what follows a
    /// damaged place by name, and the next start, to which nothing may tell how far this one was
    /// trusted, cuts what it takes for a torn tail in the last segment only.
    seals: bool,
}

impl Tail {
    fn find(
        shared: &Shared,
        base: Offset,
        bytes: u64,
        known: &Known,
        limits: &Limits,
        notes: &mut Vec<String>,
    ) -> Result<Tail, LogError> {
        let path = shared.path(base, "log");
        let io = |op| LogError::io(op, &path);
        let open = |suffix: &str| {
            let path = shared.path(base, suffix);
            let file = shared.disk.open(&path, Open::Create);
            file.map_err(LogError::io("open", &path))
        };
        let log = open("log")?;
        let (index, timeindex) = (open("index")?, open("timeindex")?);
        // Bytes of this segment that a sync has covered. A later segment's sync covers all of it.
        let trusted = match known.synced {
            Some(synced) if synced.base == base => synced.position.min(bytes),
            Some(synced) if synced.base > base => bytes,
            Some(_) => 0,
            None if known.journal_lost => bytes,
            None => 0,
        };
        let mut resumed =
            resume(log.as_ref(), base, trusted, &index, &timeindex, limits).map_err(io("read"))?;
        if let Some(note) = &resumed.note {
            notes.push(format!("{}: {note}", shared.tp));
        }
        let mut seals = known.journal_lost;
        loop {
            let (from, expected) = (resumed.builder.position(), resumed.builder.end());
            let mut misfit = false;
            let mut scanned = scan(log.as_ref(), from, bytes, expected, limits, |view, _| {
                let batch = BatchMeta::from(view.header());
                misfit |= !resumed.builder.fits(&batch);
                if !misfit {
                    resumed.append(&batch);
                }
            })
            .map_err(io("read"))?;
            if misfit {
                // Its checksum is right, and no segment of ours could hold it.
                scanned.position = resumed.builder.position();
                scanned.end = resumed.builder.end();
                scanned.problem = Some("a batch too far from the segment's base".to_owned());
            }
            let Some(problem) = scanned.problem else {
                break;
            };
            let at = scanned.position;
            if at < trusted {
                seals = true;
                // No batch of this segment lies further: what says so has a rotten base offset.
                let most = base.0.saturating_add(i64::from(i32::MAX) + 1);
                let after = scanned.end..Offset(most);
                let found = resync(log.as_ref(), at + 1, trusted, after, limits);
                if let Some((position, meta)) = found.map_err(io("read"))? {
                    let range = at..position;
                    quarantine(shared, base, log.as_ref(), range, &problem, notes);
                    resumed.builder.skip_to(position, meta.base);
                    continue;
                }
                quarantine(shared, base, log.as_ref(), at..bytes, &problem, notes);
            } else {
                let cut = bytes - at;
                let name = path.display();
                notes.push(format!(
                    "{name}: torn tail of {cut} bytes cut at {at}: {problem}"
                ));
            }
            log.set_len(at).map_err(io("cut"))?;
            break;
        }
        rewrite(log.as_ref(), trusted..resumed.builder.position()).map_err(io("rewrite"))?;
        let active = resumed.write(log, index, timeindex).map_err(io("index"))?;
        Ok(Tail { active, seals })
    }

    fn install(self, log: &mut PartitionLog, stamp: u64) -> Result<(), LogError> {
        let indexes = &self.active.indexes;
        let (base, end, bytes) = (indexes.base(), indexes.end(), indexes.position());
        log.active = Some(self.active);
        {
            let mut state = log.shared.state();
            state.end = end;
            if let Some(last) = state.segments.last_mut() {
                last.bytes = bytes;
            }
        }
        if self.seals && end > base {
            log.roll(stamp)?;
            match log.begin_segment(end, stamp).and_then(|()| log.sync()) {
                Err(error) if error.kind() == ErrorKind::Full => {}
                begun => begun?,
            }
        }
        Ok(())
    }
}

/// Indexes of the last segment: entries that are kept, and those to be added.
struct Resumed {
    builder: IndexBuilder,
    index: Vec<u8>,
    timeindex: Vec<u8>,
    note: Option<String>,
}

impl Resumed {
    fn append(&mut self, batch: &BatchMeta) {
        let entries = self.builder.append(batch);
        if let Some(entry) = entries.offset {
            self.index.extend_from_slice(&entry.encode());
        }
        if let Some(entry) = entries.time {
            self.timeindex.extend_from_slice(&entry.encode());
        }
    }

    fn write(
        self,
        log: Arc<dyn DiskFile>,
        index: Arc<dyn DiskFile>,
        timeindex: Arc<dyn DiskFile>,
    ) -> std::io::Result<Active> {
        let replace = |file: Arc<dyn DiskFile>, entries: Vec<u8>| {
            file.set_len(0)?;
            let bytes = match file.write_at(&entries, 0) {
                Ok(()) => entries.len() as u64,
                // An index is a hint: without room it begins with what comes next.
                Err(error) if is_full(&error) => 0,
                Err(error) => return Err(error),
            };
            std::io::Result::Ok(IndexFile { file, bytes })
        };
        Ok(Active {
            index: replace(index, self.index)?,
            timeindex: replace(timeindex, self.timeindex)?,
            indexes: self.builder,
            log,
        })
    }
}

/// Where to begin: the last index entry within the trusted bytes, if the indexes are good; else
/// the front, which builds them anew.
fn resume(
    log: &dyn DiskFile,
    base: Offset,
    trusted: u64,
    index: &Arc<dyn DiskFile>,
    timeindex: &Arc<dyn DiskFile>,
    limits: &Limits,
) -> std::io::Result<Resumed> {
    let mut fresh = Resumed {
        builder: IndexBuilder::new(base),
        index: Vec::new(),
        timeindex: Vec::new(),
        note: None,
    };
    if trusted == 0 {
        return Ok(fresh);
    }
    let (mut offsets, mut times) = (read_index(index.as_ref())?, read_index(timeindex.as_ref())?);
    let kept = keep_below(&mut offsets, &mut times, trusted);
    // More than this is never left without an entry.
    let gap_max = INDEX_INTERVAL_BYTES + 2 * limits.batch_bytes_max as u64;
    let problem = index_problem(&offsets, trusted).or_else(|| timeindex_problem(&times));
    // A position that rotted may lie anywhere.
    let at = kept.map_or(0, |entry| entry.position as u64);
    let short = trusted.checked_sub(at).is_none_or(|rest| rest > gap_max);
    let Some(entry) = kept.filter(|_| problem.is_none() && !short) else {
        if problem.is_some() || short {
            let why = problem.unwrap_or_else(|| "entries are missing".to_owned());
            fresh.note = Some(format!("index of segment {base} rebuilt: {why}"));
        }
        return Ok(fresh);
    };
    let mut window = crate::segment::Window::new(log, trusted);
    let indexed = window.batch(entry.position as u64, limits)?;
    let wanted = base.0 + i64::from(entry.relative_offset);
    match indexed {
        Ok(view) if view.last_offset().0 == wanted => {
            let time = times
                .chunks_exact(TIME_ENTRY_BYTES)
                .next_back()
                .map(TimeEntry::decode);
            let at = entry.position as u64;
            Ok(Resumed {
                builder: IndexBuilder::resume(base, at, view.base_offset(), time),
                index: offsets,
                timeindex: times,
                note: None,
            })
        }
        _ => {
            fresh.note = Some(format!(
                "index of segment {base} rebuilt: it points at no batch"
            ));
            Ok(fresh)
        }
    }
}

/// Drops entries of bytes at or behind `trusted`; gives the last offset entry that stays.
fn keep_below(offsets: &mut Vec<u8>, times: &mut Vec<u8>, trusted: u64) -> Option<OffsetEntry> {
    offsets.truncate(offsets.len() / INDEX_ENTRY_BYTES * INDEX_ENTRY_BYTES);
    times.truncate(times.len() / TIME_ENTRY_BYTES * TIME_ENTRY_BYTES);
    let entries = |bytes: &[u8]| -> Vec<OffsetEntry> {
        bytes
            .chunks_exact(INDEX_ENTRY_BYTES)
            .map(OffsetEntry::decode)
            .collect()
    };
    let keep = entries(offsets)
        .iter()
        .take_while(|entry| (entry.position as i64) < trusted as i64)
        .count();
    offsets.truncate(keep * INDEX_ENTRY_BYTES);
    let last = entries(offsets).last().copied();
    let last_offset = last.map_or(-1, |entry| entry.relative_offset);
    let keep = times
        .chunks_exact(TIME_ENTRY_BYTES)
        .take_while(|bytes| TimeEntry::decode(bytes).relative_offset <= last_offset)
        .count();
    times.truncate(keep * TIME_ENTRY_BYTES);
    last
}

fn read_index(file: &dyn DiskFile) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.len()?.min(INDEX_BYTES_MAX) as usize];
    let got = file.read_at(&mut bytes, 0)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// Copies damaged bytes to `<data directory>/quarantine`, as well as it can be done.
pub(super) fn quarantine(
    shared: &Shared,
    base: Offset,
    file: &dyn DiskFile,
    range: std::ops::Range<u64>,
    problem: &str,
    notes: &mut Vec<String>,
) {
    let (from, to) = (range.start, range.end);
    let dir = shared
        .dir
        .parent()
        .unwrap_or(Path::new("."))
        .join("quarantine");
    let path = dir.join(format!("{}-{}-{from}.bad", shared.tp, base));
    let copy = || {
        let mut bytes = vec![0; (to - from).min(QUARANTINE_BYTES_MAX) as usize];
        let got = file.read_at(&mut bytes, from)?;
        shared.disk.create_dir(&dir)?;
        crate::disk::replace(shared.disk.as_ref(), &path, &bytes[..got])
    };
    let kept = match copy() {
        Ok(()) => format!("kept as {}", path.display()),
        Err(error) => format!("not kept: {error}"),
    };
    let log = shared.path(base, "log");
    notes.push(format!(
        "{}: bytes {from}..{to} are damaged ({problem}), {kept}",
        log.display()
    ));
}
