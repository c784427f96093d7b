//! Void groups that must never count again.
//!
//! Headers of later files say from where on frames are void; headers can rot. A void group whose
//! frames were reported lost, or cut so that others get their numbers, would then come back. So
//! its header is overwritten with zeros before recovery goes on. Void originals of frames that
//! stand in a later file are left alone: they say the same.

use super::format::GROUP_HEADER_BYTES;
use super::read::following;
use super::recover::Survey;
use super::scan::Run;
use crate::error::LogError;

impl Survey {
    /// Erases groups of `void` with frames that are lost, or from `end` on.
    pub(super) fn erase(&self, void: &[(usize, Run)], end: u64) -> Result<(), LogError> {
        let lost = &self.report.lost;
        let gone = |number: u64| number >= end || lost.iter().any(|l| l.frames.contains(&number));
        for (file, run) in void {
            if lost.is_empty() && run.frames.end <= end {
                continue;
            }
            let f = &self.files[*file];
            let (mut next, mut at, mut erased) = (run.frames.start, run.at, false);
            while at < run.end_at {
                let Some((place, header)) = following(&*f.file, &f.path, at, run.salt, next)?
                else {
                    break;
                };
                if gone(header.first) {
                    let zeros = [0; GROUP_HEADER_BYTES];
                    let written = f.file.write_at(&zeros, place);
                    written.map_err(LogError::io("erase in", &f.path))?;
                    erased = true;
                }
                next = header.frames_range().end;
                at = place + header.total_bytes();
            }
            if erased {
                let synced = f.file.sync_data();
                synced.map_err(LogError::sync(&f.path))?;
            }
        }
        Ok(())
    }
}
