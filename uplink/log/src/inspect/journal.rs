//! The journal's files, group by group.

use std::io::Write;
use std::path::Path;

use super::{Damage, Verified, open, say};
use crate::disk::Disk;
use crate::error::LogError;
use crate::journal::{format::body_at, journal_path, list, read_header, scan};

pub(super) fn ls(disk: &dyn Disk, dir: &Path, out: &mut dyn Write) -> Result<(), LogError> {
    if !disk.exists(dir).map_err(LogError::io("look at", dir))? {
        return Ok(());
    }
    let mut verified = Verified::default();
    verify(disk, dir, &mut verified)?;
    let listing = list(disk, dir)?;
    let (files, spares) = (listing.sequences.len(), listing.spares.len());
    let frames = verified.journal_frames;
    say(
        out,
        format_args!("journal: {files} files, {spares} spares, {frames} frames"),
    )
}

/// Groups that do not prove themselves, and frames that are missing between files.
pub(super) fn verify(disk: &dyn Disk, dir: &Path, verified: &mut Verified) -> Result<(), LogError> {
    if !disk.exists(dir).map_err(LogError::io("look at", dir))? {
        return Ok(());
    }
    let sequences = list(disk, dir)?.sequences;
    let mut expected: Option<u64> = None;
    let mut synced = 0;
    let mut tails = Vec::new();
    for sequence in sequences {
        let path = journal_path(dir, sequence);
        let file = open(disk, &path)?;
        let damage = |at, what: String| Damage {
            path: path.clone(),
            at,
            what,
        };
        let header = read_header(file.as_ref()).map_err(LogError::io("read", &path))?;
        let Some((header, owner)) = header else {
            verified
                .damages
                .push(damage(0, "neither header is readable".to_owned()));
            expected = None;
            continue;
        };
        let seen = match scan(file.as_ref(), &header, owner.len()) {
            Ok(seen) => seen,
            Err(error) => {
                let what = format!("cannot be read: {error}");
                verified.damages.push(damage(0, what));
                expected = None;
                continue;
            }
        };
        let mut at = body_at(owner.len()) as u64;
        for run in &seen.runs {
            let next = *expected.get_or_insert(run.frames.start);
            if run.frames.start > next {
                let what = format!("frames {next}..{} are missing", run.frames.start);
                verified.damages.push(damage(at, what));
            }
            verified.journal_frames += run.frames.end.saturating_sub(run.frames.start.max(next));
            synced = synced.max(run.synced);
            expected = Some(run.frames.end.max(next));
            at = run.end_at;
        }
        synced = synced.max(seen.claimed.map_or(0, |(claimed, _)| claimed));
        if let Some(torn) = seen.torn {
            tails.push((
                expected.unwrap_or(0),
                damage(torn.start, "a group is not whole".into()),
            ));
        }
    }
    // J1: below the synced position it is rot, above it a tail that was never acked.
    for (frame, damage) in tails {
        match frame < synced {
            true => verified.damages.push(damage),
            false => verified.notes.push(damage),
        }
    }
    Ok(())
}
