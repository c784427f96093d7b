//! Segments and their indexes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headwater_batch::{Decoder, Limits, Offset};

use super::{Damage, Place, Surveyed, Verified, open};
use crate::disk::{Disk, read_all};
use crate::error::LogError;
use crate::partition::list_segments;
use crate::segment::{
    INDEX_BYTES_MAX, INDEX_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES, TimeEntry, file_name,
    index_problem, resync, scan, timeindex_problem,
};

pub(super) fn log_path(partition: &Path, base: Offset) -> PathBuf {
    partition.join(file_name(base, "log"))
}

/// Walks over one segment, around damaged places.
pub(super) fn survey(
    disk: &dyn Disk,
    partition: &Path,
    base: Offset,
    visit: &mut dyn FnMut(Place<'_>) -> Result<(), LogError>,
) -> Result<Surveyed, LogError> {
    let path = log_path(partition, base);
    let file = open(disk, &path)?;
    let io = |op| LogError::io(op, &path);
    let bytes = file.len().map_err(io("look at"))?;
    let limits = Limits::UPLINK;
    let mut seen = Surveyed {
        end: base,
        newest: None,
        damages: Vec::new(),
        tail: None,
    };
    let (mut position, mut failed) = (0, Ok(()));
    loop {
        let newest = &mut seen.newest;
        let scanned = scan(
            file.as_ref(),
            position,
            bytes,
            seen.end,
            &limits,
            |view, position| {
                *newest = (*newest).max(Some(view.max_timestamp()));
                if failed.is_ok() {
                    failed = visit(Place { position, view });
                }
            },
        );
        let scanned = scanned.map_err(io("read"))?;
        seen.end = scanned.end;
        let Some(what) = scanned.problem else { break };
        let at = scanned.position;
        let damage = Damage {
            path: path.clone(),
            at,
            what,
        };
        let after = scanned.end..Offset::MAX;
        let found = resync(file.as_ref(), at + 1, bytes, after, &limits);
        match found.map_err(io("read"))? {
            Some((next, meta)) => {
                seen.damages.push(damage);
                (position, seen.end) = (next, meta.base);
            }
            None => {
                seen.tail = Some(damage);
                break;
            }
        }
    }
    failed.map(|()| seen)
}

/// All segments of a partition, and whether they follow on.
pub(super) fn verify(
    disk: &dyn Disk,
    partition: &Path,
    verified: &mut Verified,
) -> Result<(), LogError> {
    let segments = list_segments(disk, partition)?;
    let mut decoder = Decoder::new();
    for (i, &(base, bytes)) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        // Position and greatest timestamp of each batch, by its last offset.
        let mut batches = BTreeMap::new();
        let mut undecodable = Vec::new();
        let seen = survey(disk, partition, base, &mut |place| {
            verified.batches += 1;
            batches.insert(
                place.view.last_offset(),
                (place.position, place.view.max_timestamp()),
            );
            match place.view.check_records(&mut decoder, &Limits::UPLINK) {
                Ok(summary) => verified.records += u64::from(summary.count),
                Err(error) => undecodable.push((place.position, error.to_string())),
            }
            Ok(())
        })?;
        let path = log_path(partition, base);
        let undecodable = undecodable.into_iter().map(|(at, what)| Damage {
            path: path.clone(),
            at,
            what,
        });
        verified.damages.extend(undecodable);
        verified.damages.extend(seen.damages);
        match seen.tail {
            Some(tail) if last => verified.notes.push(tail),
            tail => verified.damages.extend(tail),
        }
        if let Some((next, _)) = segments.get(i + 1)
            && seen.end != *next
        {
            let what = format!(
                "ends at offset {}, the next segment begins at {next}",
                seen.end
            );
            verified.notes.push(Damage {
                path,
                at: bytes,
                what,
            });
        }
        verify_index(disk, partition, base, bytes, &batches, last, verified)?;
        verify_timeindex(disk, partition, base, &batches, last, verified)?;
    }
    Ok(())
}

type BatchesByLast = BTreeMap<Offset, (u64, i64)>;

/// The bytes of an index; a missing one is noted, since it will be rebuilt.
fn read_index(
    disk: &dyn Disk,
    path: &Path,
    verified: &mut Verified,
) -> Result<Option<Vec<u8>>, LogError> {
    match read_all(disk, path, INDEX_BYTES_MAX) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let what = "missing, will be rebuilt".to_owned();
            verified.notes.push(Damage {
                path: path.to_path_buf(),
                at: 0,
                what,
            });
            Ok(None)
        }
        Err(error) => Err(LogError::io("read", path)(error)),
    }
}

/// Problems of one index that are named one by one.
const SHOWN_MAX: usize = 16;

fn verify_index(
    disk: &dyn Disk,
    partition: &Path,
    base: Offset,
    log_bytes: u64,
    batches: &BatchesByLast,
    last: bool,
    verified: &mut Verified,
) -> Result<(), LogError> {
    let path = partition.join(file_name(base, "index"));
    let Some(bytes) = read_index(disk, &path, verified)? else {
        return Ok(());
    };
    let mut found = Vec::new();
    if let Some(what) = index_problem(&bytes, log_bytes) {
        found.push(Damage {
            path: path.clone(),
            at: 0,
            what,
        });
    }
    for (i, entry) in bytes.chunks_exact(INDEX_ENTRY_BYTES).enumerate() {
        let entry = OffsetEntry::decode(entry);
        let offset = Offset(base.0 + i64::from(entry.relative_offset));
        let position = u64::try_from(entry.position).ok();
        if batches.get(&offset).map(|batch| batch.0) != position {
            let at = (i * INDEX_ENTRY_BYTES) as u64;
            let what = format!(
                "no batch ends at offset {offset} at byte {}",
                entry.position
            );
            found.push(Damage {
                path: path.clone(),
                at,
                what,
            });
        }
    }
    sort_out(found, last, verified);
    Ok(())
}

fn verify_timeindex(
    disk: &dyn Disk,
    partition: &Path,
    base: Offset,
    batches: &BatchesByLast,
    last: bool,
    verified: &mut Verified,
) -> Result<(), LogError> {
    let path = partition.join(file_name(base, "timeindex"));
    let Some(bytes) = read_index(disk, &path, verified)? else {
        return Ok(());
    };
    let mut found = Vec::new();
    if let Some(what) = timeindex_problem(&bytes) {
        found.push(Damage {
            path: path.clone(),
            at: 0,
            what,
        });
    }
    for (i, entry) in bytes.chunks_exact(TIME_ENTRY_BYTES).enumerate() {
        let entry = TimeEntry::decode(entry);
        let offset = Offset(base.0 + i64::from(entry.relative_offset));
        if batches.get(&offset).map(|batch| batch.1) != Some(entry.timestamp) {
            let at = (i * TIME_ENTRY_BYTES) as u64;
            let what = format!(
                "no batch ends at offset {offset} with time {}",
                entry.timestamp
            );
            found.push(Damage {
                path: path.clone(),
                at,
                what,
            });
        }
    }
    sort_out(found, last, verified);
    Ok(())
}

/// The last segment's indexes are synced with its log; behind a crash they may be stale, and the
/// next start builds them anew.
fn sort_out(mut found: Vec<Damage>, last: bool, verified: &mut Verified) {
    // An index that is not this log's has something to say of each of its entries.
    let more = found.len().saturating_sub(SHOWN_MAX);
    if let Some(next) = found.get(SHOWN_MAX).cloned().filter(|_| more > 1) {
        found.truncate(SHOWN_MAX);
        let what = format!("this and {} more of the kind", more - 1);
        found.push(Damage { what, ..next });
    }
    match last {
        true => verified.notes.extend(found),
        false => verified.damages.extend(found),
    }
}
