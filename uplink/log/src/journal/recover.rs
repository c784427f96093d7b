//! Recovery (J1, J4): what of the files counts, and a journal that goes on after it.
//!
//! ```text
//! file N     [header][group][group][ rot  ][group][group]
//! file N+1   [header][group][group][ tail, synced or not? ][ torn ]
//!                                  ^ bound                 ^ end
//! file N+2   [header, first = bound][ copy of the tail ]            <- made by recovery
//! ```
//! The *bound* is the highest position that anything on disk says was synced: a group's synced
//! position, a later file's first frame, a checkpoint, and in the last file the header of a group
//! that is not whole. Below it a missing frame is rot, from it on
//! the end. Frames of a file from the next file's first one on are void, for good: a file stays as
//! long as an older one holds frames that only it makes void, though none of its own be left.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::files::{Spares, journal_path, list};
use super::format::{FileHeader, body_at, group_bytes};
use super::read::{LiveFile, Replay, Stretch, following, lock, stored_group};
use super::scan::{Run, Scanned, Stops, read_header, salvage, scan};
use super::writer::Journal;
use super::{Cut, JournalConfig, JournalReport, Lost};
use crate::checkpoint::Mark;
use crate::disk::{Disk, DiskFile, Open};
use crate::error::LogError;

pub(super) struct Surveyed {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) header: Option<(FileHeader, Vec<u8>)>,
    pub(super) scanned: Scanned,
    /// Frames from here on are void.
    pub(super) limit: u64,
    rotten: bool,
}

impl Surveyed {
    /// Frames from here on in older files are void. Without a header: as far as its groups tell.
    pub(super) fn first(&self) -> Option<u64> {
        match &self.header {
            Some((header, _)) => Some(header.first),
            None => self.scanned.runs.first().map(|run| run.frames.start),
        }
    }

    /// The bytes behind its last whole group.
    fn behind(&self) -> Range<u64> {
        let end = self.scanned.runs.last().map_or(0, |run| run.end_at);
        let rest = end..self.file.len().unwrap_or(end);
        self.scanned.torn.clone().unwrap_or(rest)
    }

    /// Where the next group would go, if nothing in the file speaks against `next` going there.
    fn end_at(&self, next: u64) -> Option<u64> {
        let (header, owner) = self.header.as_ref()?;
        let clean = self.scanned.torn.is_none() && !self.rotten;
        let (end, at) = match self.scanned.runs.last() {
            Some(run) => (run.frames.end, run.end_at),
            None => (header.first, body_at(owner.len()) as u64),
        };
        (clean && end == next).then_some(at)
    }
}

/// What lies on disk, before anything is changed.
pub(crate) struct Survey {
    disk: Arc<dyn Disk>,
    cfg: JournalConfig,
    spares: Spares,
    pub(super) files: Vec<Surveyed>,
    /// Trimmed once, and back by a power cut before their names were gone for good.
    pub(super) remnants: Vec<Surveyed>,
    pub report: JournalReport,
}

/// Reads every file of the journal. Changes nothing but spares that do not fit.
pub(crate) fn survey(disk: Arc<dyn Disk>, cfg: &JournalConfig) -> Result<Survey, LogError> {
    let listing = list(&*disk, &cfg.dir)?;
    let spares = Spares::open(disk.clone(), &cfg.dir, cfg.file_bytes, &listing)?;
    let report = JournalReport::default();
    let mut files = Vec::new();
    for sequence in listing.sequences {
        let path = journal_path(&cfg.dir, sequence);
        let file = disk
            .open(&path, Open::Write)
            .map_err(LogError::io("open", &path))?;
        let found = read_header(&*file).map_err(LogError::io("read", &path))?;
        // A name that a lost rename brought back says another number inside.
        let header = found.filter(|(h, _)| h.sequence == sequence);
        let scanned = Scanned::default();
        let (limit, rotten) = (u64::MAX, header.is_none());
        files.push(Surveyed {
            sequence,
            path,
            file,
            header,
            scanned,
            limit,
            rotten,
        });
    }
    let mut survey = Survey {
        disk,
        cfg: cfg.clone(),
        spares,
        files,
        remnants: Vec::new(),
        report,
    };
    survey.set_limits();
    survey.scan()?;
    // Again, with what the groups of files without a header tell.
    survey.set_limits();
    survey.pass_over_remnants();
    Ok(survey)
}

impl Survey {
    fn set_limits(&mut self) {
        let mut limit = u64::MAX;
        for f in self.files.iter_mut().rev() {
            f.limit = limit;
            limit = f.first().map_or(limit, |first| limit.min(first));
        }
    }

    /// A file that cannot be read ends the start: what is in it is not lost, and only a failed
    /// checksum may make a GAP (U4).
    fn scan(&mut self) -> Result<(), LogError> {
        let mut reached = 0;
        for f in &mut self.files {
            let scanned = match &f.header {
                Some((header, owner)) => scan(&*f.file, header, owner.len()),
                None => salvage(&*f.file, reached..f.limit),
            };
            f.scanned = scanned.map_err(LogError::io("read", &f.path))?;
            if f.header.is_none() && !f.scanned.runs.is_empty() {
                self.report.headers_lost.push(f.path.clone());
            }
            // Not the last frame it holds: that one may be void, and the number used again.
            let first = f.header.as_ref().map_or(reached, |(h, _)| h.first);
            if first <= f.limit {
                reached = reached.max(first);
            }
        }
        Ok(())
    }

    /// Checkpoints that a header confirms, newest first.
    pub fn marks(&self) -> Vec<Mark> {
        let headers = self.files.iter().filter_map(|f| f.header.as_ref());
        let mut marks: Vec<Mark> = headers.flat_map(|(h, _)| h.marks).collect();
        marks.retain(|m| m.generation > 0);
        marks.sort_by_key(|m| std::cmp::Reverse(m.generation));
        marks.dedup();
        marks
    }

    /// Whether any file says what it is.
    pub fn has_headers(&self) -> bool {
        self.files.iter().any(|f| f.header.is_some())
    }

    /// Owner's headers with the first frame of their file, oldest first. A file that a later one
    /// makes void as a whole goes with this start, so what it says must not count in it.
    pub fn headers(&self) -> Vec<(u64, Vec<u8>)> {
        let headers = self.files.iter().filter_map(|f| {
            let (header, owner) = f.header.as_ref()?;
            (header.first <= f.limit).then(|| (header.first, owner.clone()))
        });
        headers.collect()
    }

    /// The first frame that the journal can know of.
    pub fn start(&self) -> u64 {
        let firsts = self.files.iter().filter_map(Surveyed::first);
        firsts.min().unwrap_or(0)
    }

    /// The highest position that is said to be synced (J1).
    fn bound(&self, from: u64) -> u64 {
        if !self.cfg.rules.j1() {
            return 0;
        }
        let mut bound = from;
        for f in &self.files {
            if let Some((h, _)) = &f.header {
                let marks = h.marks.iter().map(|m| m.at).max().unwrap_or(0);
                bound = bound.max(h.first).max(h.synced).max(marks);
            }
            bound = f
                .scanned
                .runs
                .iter()
                .map(|r| r.synced)
                .max()
                .unwrap_or(0)
                .max(bound);
        }
        // What older files claim behind their last whole group was cut, or counted, long ago.
        let claimed = self.files.last().and_then(|f| f.scanned.claimed.as_ref());
        bound.max(claimed.map_or(0, |(synced, _)| *synced))
    }

    /// A group is synced as a whole: who says that its first frames are, says it of all. Only forged
    /// numbers name less than that, and the rest of the group would be left behind with its file.
    fn group_end(&self, bound: u64) -> Result<u64, LogError> {
        for f in &self.files {
            let inside = |run: &&Run| run.frames.start < bound && bound < run.frames.end;
            let Some(run) = f.scanned.runs.iter().find(inside) else {
                continue;
            };
            let i = run.stops.partition_point(|s| s.0 <= bound).max(1) - 1;
            let (mut next, mut at) = run.stops[i];
            while next < bound {
                let Some((place, header)) = following(&*f.file, &f.path, at, run.salt, next)?
                else {
                    break;
                };
                next = header.frames_range().end;
                at = place + header.total_bytes();
            }
            return Ok(next.min(f.limit).max(bound));
        }
        Ok(bound)
    }

    /// Goes on after what counts: frames from `from` are replayed, older ones are in the
    /// checkpoint that `marks` names first. When it returns all that is replayed is synced.
    pub fn resume(
        mut self,
        from: u64,
        marks: [Mark; 2],
    ) -> Result<(Journal, Replay, JournalReport), LogError> {
        if self.cfg.rules.j4() {
            // A file that was let go of is written anew: its old name must not come back to it.
            let dir = &self.cfg.dir;
            self.disk.sync_dir(dir).map_err(LogError::sync(dir))?;
        }
        let bound = self.group_end(self.bound(from))?;
        let (end, void) = self.choose_runs(from, bound);
        if self.cfg.rules.j1() && self.cfg.rules.j4() {
            self.erase(&void, end)?;
        }
        self.report.files = self.files.len();
        self.report.frames = self.runs().map(|r| r.frames.end - r.frames.start).sum();

        // Without J1 nothing says what is synced; without J4 nothing is copied.
        let tail_from = if self.cfg.rules.j1() { bound } else { end };
        let (tail, stops) = self.tail(tail_from)?;
        self.report.tail_frames = end - tail_from;

        let Survey {
            disk,
            cfg,
            spares,
            files,
            remnants,
            report,
        } = self;
        let mut journal = Journal::new(disk, cfg, spares, end);
        journal.marks = marks;
        let newest = files.iter().rev().find_map(|f| f.header.as_ref());
        journal.header = newest.map(|(_, owner)| owner.clone()).unwrap_or_default();
        journal.sequence = files.last().map_or(0, |f| f.sequence);
        // A start that staged nothing costs no file; or a node that starts again and again on a
        // full disk would stop starting.
        let clean = end == bound && report.cut.is_none();
        let last_at = files.last().and_then(|f| f.end_at(end));
        let stays_in_place = last_at.is_some() && (clean || !journal.cfg.rules.j4());
        let limit = if stays_in_place { end } else { tail_from };
        let mut stretches = stretches(&files, from, limit);
        let next_first = if stays_in_place { u64::MAX } else { tail_from };
        let mut gone = adopt(&journal, files, limit, next_first);
        gone.extend(remnants.into_iter().map(|f| (f.path, f.rotten, f.sequence)));
        if let (true, Some(at)) = (stays_in_place, last_at) {
            journal.append_in_place(at)?;
        } else {
            journal.open_file(tail_from, end, tail, stops)?;
            stretches.extend(journal.tail_stretch(end));
        }
        journal.remove(gone)?;
        // Files below both generations that a crash kept from being trimmed.
        let older = marks.iter().map(|m| m.at).min().unwrap_or(0);
        journal.trim(older)?;
        journal.spares.fill()?;
        let lost = report.lost.iter().map(|l| l.frames.clone()).collect();
        Ok((journal, Replay::new(stretches, from, lost), report))
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.files.iter().flat_map(|f| &f.scanned.runs)
    }

    /// Keeps the runs that count, reports holes, and returns the number after the last frame and
    /// the runs, by file, that do not count or not to their end.
    fn choose_runs(&mut self, from: u64, bound: u64) -> (u64, Vec<(usize, Run)>) {
        let start = if self.files.is_empty() {
            from
        } else {
            self.start()
        };
        if from < start {
            self.report.lost.push(Lost {
                place: None,
                frames: from..start,
            });
        }
        let mut expected = start;
        let (mut cut, mut void) = (None, Vec::new());
        let report = &mut self.report;
        for i in 0..self.files.len() {
            let (before, rest) = self.files.split_at_mut(i);
            let f = &mut rest[0];
            // What this file's header says came before it, and no file has.
            let first = f.header.as_ref().map_or(0, |(h, _)| h.first);
            if let (true, Some(last)) = (expected < first.min(f.limit), before.last_mut())
                && first <= bound
                && cut.is_none()
            {
                let here = last.sequence + 1 == f.sequence || last.scanned.torn.is_some();
                last.rotten |= here;
                report.lost.push(Lost {
                    place: here.then(|| (last.path.clone(), last.behind())),
                    frames: expected..first,
                });
                expected = first;
            }
            let mut hole_at = None;
            let mut kept: Vec<Run> = Vec::new();
            for mut run in std::mem::take(&mut f.scanned.runs) {
                if run.frames.end > f.limit {
                    void.push((i, run.clone()));
                    run.frames.end = f.limit;
                    run.stops.retain(|s| s.0 < f.limit);
                }
                let hole = hole_at.replace(run.end_at).unwrap_or(0)..run.at;
                // Void, or below what came already, which only salvage can meet. Without it, what lies
                // before it may seem to be the file's end: nothing is appended there.
                let falls = !run.frames.is_empty() && run.frames.start < expected;
                f.rotten |= falls;
                if run.frames.is_empty() || falls || cut.is_some() {
                    void.push((i, run));
                    continue;
                }
                if run.frames.start > expected {
                    if run.frames.start > bound {
                        cut = Some((f.path.clone(), run.at..run.end_at));
                        void.push((i, run));
                        continue;
                    }
                    f.rotten = true;
                    let place = Some((f.path.clone(), hole));
                    report.lost.push(Lost {
                        place,
                        frames: expected..run.frames.start,
                    });
                }
                expected = run.frames.end;
                kept.push(run);
            }
            f.scanned.runs = kept;
        }
        let torn = self
            .files
            .last()
            .and_then(|f| Some((f.path.clone(), f.scanned.torn.clone()?)));
        if expected < bound {
            let place = torn.or_else(|| cut.clone());
            if let (Some(last), true) = (self.files.last_mut(), place.is_some()) {
                last.rotten = true;
            }
            report.lost.push(Lost {
                place,
                frames: expected..bound,
            });
            expected = bound;
            // The group whose header tells of it is not whole either.
            let last = self.files.last();
            let claimed = last.and_then(|f| Some((f.path.clone(), f.scanned.claimed.clone()?)));
            report.cut =
                claimed
                    .filter(|(_, (synced, _))| *synced == bound)
                    .map(|(path, (_, bytes))| Cut {
                        path,
                        bytes,
                        at: super::Position(bound),
                    });
        } else if let Some((path, bytes)) = cut.or(torn) {
            report.cut = Some(Cut {
                path,
                bytes,
                at: super::Position(expected),
            });
        }
        // What is in the checkpoint is not lost with the journal.
        report
            .lost
            .iter_mut()
            .for_each(|l| l.frames.start = l.frames.start.max(from));
        report.lost.retain(|l| !l.frames.is_empty());
        (expected.max(from), void)
    }

    /// The groups from `from` on, as stored, and stops with places relative to the first.
    fn tail(&self, from: u64) -> Result<(Vec<Vec<u8>>, Stops), LogError> {
        let mut groups = Vec::new();
        let mut stops = Vec::new();
        let mut to = 0;
        for f in &self.files {
            for run in f.scanned.runs.iter().filter(|r| r.frames.end > from) {
                let i = run.stops.partition_point(|s| s.0 <= from).max(1) - 1;
                let (mut next, mut at) = run.stops[i];
                while next < run.frames.end {
                    let found = following(&*f.file, &f.path, at, run.salt, next)?;
                    let Some((place, header)) = found else {
                        break;
                    };
                    next = header.frames_range().end;
                    if header.first >= from {
                        let mut group = stored_group(&*f.file, &f.path, place, &header)?;
                        group.resize(group_bytes(header.stored_bytes as usize), 0);
                        stops.push((header.first, to));
                        to += group.len() as u64;
                        groups.push(group);
                    }
                    at = place + header.total_bytes();
                }
            }
        }
        Ok((groups, stops))
    }
}

/// What is to be replayed of frames in `from..limit`.
fn stretches(files: &[Surveyed], from: u64, limit: u64) -> Vec<Stretch> {
    let mut stretches = Vec::new();
    for f in files {
        for run in &f.scanned.runs {
            let frames = run.frames.start.max(from)..run.frames.end.min(limit);
            if frames.is_empty() {
                continue;
            }
            let i = run.stops.partition_point(|s| s.0 <= frames.start).max(1) - 1;
            let (first, at) = run.stops[i];
            let frames = first..frames.end;
            let (file, path, salt) = (f.file.clone(), f.path.clone(), run.salt);
            stretches.push(Stretch {
                file,
                path,
                salt,
                at,
                frames,
            });
        }
    }
    stretches
}

/// Moves the files that count into the index; returns the others. A file counts that has frames
/// below `limit`, or that makes frames of older files void which no later file does: the next one
/// made will start at `next_first`. So does one whose header a later file without any needs.
fn adopt(
    journal: &Journal,
    files: Vec<Surveyed>,
    limit: u64,
    next_first: u64,
) -> Vec<(PathBuf, bool, u64)> {
    let mut gone = Vec::new();
    let mut index = lock(&journal.shared);
    // Where a header is lost the ones before it tell which of the file's groups are not older than its use.
    let last_bare = files.iter().rposition(|f| f.header.is_none());
    for (n, f) in files.into_iter().enumerate() {
        let first = f.first().unwrap_or(u64::MAX);
        let counts = f.header.is_some() && first <= f.limit;
        let bounds = counts && last_bare.is_some_and(|bare| n < bare);
        let mut stops = Stops::new();
        for run in &f.scanned.runs {
            stops.extend(run.stops.iter().filter(|s| s.0 < limit));
        }
        if stops.is_empty() && f.limit.min(next_first) <= first && !bounds {
            gone.push((f.path, f.rotten, f.sequence));
            continue;
        }
        let salt = match (&f.header, f.scanned.runs.first()) {
            (Some((h, _)), _) => h.salt,
            (None, Some(run)) => run.salt,
            (None, None) => 0,
        };
        index.files.push_back(LiveFile {
            sequence: f.sequence,
            first,
            path: f.path,
            file: f.file,
            salt,
            stops,
            rotten: f.rotten,
        });
    }
    gone
}

impl Journal {
    /// The tail as it stands in the new file.
    fn tail_stretch(&self, end: u64) -> Option<Stretch> {
        let index = lock(&self.shared);
        let live = index.files.back()?;
        let (first, at) = *live.stops.first()?;
        let (file, path, salt) = (live.file.clone(), live.path.clone(), live.salt);
        let frames = first..end;
        Some(Stretch {
            file,
            path,
            salt,
            at,
            frames,
        })
    }

    /// Goes on in the last file. Right only when all of it is known to be synced.
    fn append_in_place(&mut self, at: u64) -> Result<(), LogError> {
        let last = lock(&self.shared).files.back().cloned();
        let last = last.expect("the last file was kept");
        self.at = at;
        self.len = last
            .file
            .len()
            .map_err(LogError::io("measure", &last.path))?;
        self.sealed = self.len.saturating_sub(at) < group_bytes(self.cfg.group_bytes_max) as u64;
        Ok(())
    }
}
