//! Files that were let go of and are back.
//!
//! Trimming takes names away and syncs the directory once. A power cut before that sync brings some of
//! the names back, and others not.

use std::path::PathBuf;

use super::recover::Survey;
use crate::checkpoint::Mark;

impl Survey {
    /// Below both checkpoints that a header confirms files are let go of. A power cut may bring some of
    /// their names back and others not: what stands before such a hole counts no more, nor is it lost.
    pub(super) fn pass_over_remnants(&mut self) {
        let headers = || self.files.iter().filter_map(|f| f.header.as_ref());
        let both = |marks: &[Mark; 2]| marks.iter().all(|m| m.generation > 0);
        let older = headers().filter(|(h, _)| both(&h.marks));
        let older = older.filter_map(|(h, _)| h.marks.iter().map(|m| m.at).min());
        let trimmed = older.max().unwrap_or(0);
        let (mut reached, mut kept) = (0, 0);
        for i in 0..self.files.len() {
            let first = self.files[i].first();
            // One with a header: what later ones without any hold is judged by it.
            let told = self.files[i].header.is_some();
            let missing = i > 0 && self.files[i - 1].sequence + 1 < self.files[i].sequence;
            if missing && told && first.is_some_and(|first| reached < first && first <= trimmed) {
                kept = i;
            }
            let ends = self.files[i].scanned.runs.iter().map(|run| run.frames.end);
            let end = ends.max().map(|end| end.min(self.files[i].limit));
            reached = [Some(reached), first, end]
                .into_iter()
                .flatten()
                .max()
                .unwrap_or(0);
        }
        self.remnants = self.files.drain(..kept).collect();
        let gone = |path: &PathBuf| self.remnants.iter().any(|f| f.path == *path);
        self.report.headers_lost.retain(|path| !gone(path));
    }
}
