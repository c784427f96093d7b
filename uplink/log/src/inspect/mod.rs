//! Looking at a data directory offline: `ls`, `dump` and `verify`. Nothing is written to it.
//!
//! A directory is a store's data directory, or one `<topic>-<partition>` directory of an edge or of
//! a cloud node. Do not run these beside a process that writes there: they would see half a batch.

mod journal;
mod segments;

use std::io::Write;
use std::path::{Path, PathBuf};

use headwater_batch::{Decoder, Limits, Offset};

use crate::disk::{Disk, DiskFile, Open};
use crate::error::LogError;
use crate::partition::list_segments;
use crate::store::damaged_lineages;

/// Something on the medium that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: PathBuf,
    /// Byte in the file.
    pub at: u64,
    pub what: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} at byte {}: {}",
            self.path.display(),
            self.at,
            self.what
        )
    }
}

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub damages: Vec<Damage>,
    /// What need not be damage: the tail of what was written last, holes that a GAP may explain.
    pub notes: Vec<Damage>,
    pub batches: u64,
    pub records: u64,
    pub journal_frames: u64,
}

/// Lists partitions and their segments: offsets, bytes, newest timestamp.
pub fn ls(disk: &dyn Disk, dir: &Path, out: &mut dyn Write) -> Result<(), LogError> {
    for partition in partitions(disk, dir)? {
        let segments = list_segments(disk, &partition)?;
        let bytes: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
        let name = partition
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        say(
            out,
            format_args!("{name}: {} segments, {bytes} bytes", segments.len()),
        )?;
        for (base, bytes) in segments {
            let seen = segments::survey(disk, &partition, base, &mut |_| Ok(()))?;
            let (end, newest) = (seen.end, seen.newest.unwrap_or(-1));
            say(
                out,
                format_args!("  {base}..{end}  {bytes} bytes  newest timestamp {newest}"),
            )?;
        }
    }
    journal::ls(disk, &dir.join("journal"), out)
}

/// Prints every batch, and with `records` every record's offset, timestamp, key and sizes.
pub fn dump(
    disk: &dyn Disk,
    dir: &Path,
    records: bool,
    out: &mut dyn Write,
) -> Result<(), LogError> {
    let mut decoder = Decoder::new();
    for partition in partitions(disk, dir)? {
        for (base, _) in list_segments(disk, &partition)? {
            let path = segments::log_path(&partition, base);
            say(out, format_args!("{}", path.display()))?;
            let seen = segments::survey(disk, &partition, base, &mut |place| {
                let view = place.view;
                say(
                    out,
                    format_args!(
                        "  @{} {}..{} records {} {} {} bytes, timestamps {}..{}, crc {:08x}",
                        place.position,
                        view.base_offset(),
                        view.last_offset(),
                        view.record_count(),
                        view.compression().name(),
                        view.size(),
                        view.base_timestamp(),
                        view.max_timestamp(),
                        view.crc(),
                    ),
                )?;
                match records {
                    true => dump_records(view, &mut decoder, out),
                    false => Ok(()),
                }
            })?;
            for damage in seen.damages {
                say(
                    out,
                    format_args!("  DAMAGED at byte {}: {}", damage.at, damage.what),
                )?;
            }
        }
    }
    Ok(())
}

/// Reads everything and compares: CRCs, offsets that follow on, records that decode, indexes that
/// point where they should, the journal's groups. Prints one line for each thing that is wrong.
pub fn verify(disk: &dyn Disk, dir: &Path, out: &mut dyn Write) -> Result<Verified, LogError> {
    let mut verified = Verified::default();
    for partition in partitions(disk, dir)? {
        segments::verify(disk, &partition, &mut verified)?;
    }
    journal::verify(disk, &dir.join("journal"), &mut verified)?;
    verify_lineages(disk, dir, &mut verified)?;
    for damage in &verified.damages {
        say(out, format_args!("damaged: {damage}"))?;
    }
    for note in &verified.notes {
        say(out, format_args!("note: {note}"))?;
    }
    let Verified {
        batches,
        records,
        journal_frames,
        ..
    } = &verified;
    let found = verified.damages.len();
    say(
        out,
        format_args!(
            "{batches} batches, {records} records, {journal_frames} journal frames: {found} damages"
        ),
    )?;
    Ok(verified)
}

fn verify_lineages(disk: &dyn Disk, dir: &Path, verified: &mut Verified) -> Result<(), LogError> {
    let damaged = damaged_lineages(disk, dir)?.into_iter();
    let damage = |(path, what)| Damage { path, at: 0, what };
    verified.damages.extend(damaged.map(damage));
    Ok(())
}

fn dump_records(
    view: &headwater_batch::BatchView<'_>,
    decoder: &mut Decoder,
    out: &mut dyn Write,
) -> Result<(), LogError> {
    let records = match view.records(decoder, &Limits::UPLINK) {
        Ok(records) => records,
        Err(error) => return say(out, format_args!("    {error}")),
    };
    for record in records {
        match record {
            Ok(record) => say(
                out,
                format_args!(
                    "    {} {} key {:?} value {} bytes, {} headers",
                    record.offset,
                    record.timestamp,
                    record.key.map(String::from_utf8_lossy),
                    record.value.map_or(0, <[u8]>::len),
                    record.headers.len(),
                ),
            )?,
            Err(error) => say(out, format_args!("    {error}"))?,
        }
    }
    Ok(())
}

/// The partitions' directories in `dir`, or `dir` itself if it is one.
fn partitions(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, LogError> {
    let listed = disk.list(dir).map_err(LogError::io("list", dir))?;
    let base = |name: &str| crate::segment::base_of(name).is_some();
    if listed.iter().any(|listed| base(&listed.name)) {
        return Ok(vec![dir.to_path_buf()]);
    }
    let named = |name: &str| name.parse::<headwater_batch::TopicPartition>().is_ok();
    let found = listed
        .iter()
        .filter(|listed| listed.is_dir && named(&listed.name));
    Ok(found.map(|listed| dir.join(&listed.name)).collect())
}

fn open(disk: &dyn Disk, path: &Path) -> Result<std::sync::Arc<dyn DiskFile>, LogError> {
    disk.open(path, Open::Read)
        .map_err(LogError::io("open", path))
}

fn say(out: &mut dyn Write, line: std::fmt::Arguments<'_>) -> Result<(), LogError> {
    writeln!(out, "{line}").map_err(LogError::io("write to", Path::new("the output")))
}

/// Where a batch lies.
struct Place<'a> {
    position: u64,
    view: &'a headwater_batch::BatchView<'a>,
}

/// What a walk over one segment saw.
struct Surveyed {
    end: Offset,
    newest: Option<i64>,
    damages: Vec<Damage>,
    /// The bytes behind the last good batch are no batch: a torn tail, if it is the last segment.
    tail: Option<Damage>,
}
