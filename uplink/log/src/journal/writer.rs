//! The writing half of a journal: staging, group commit, new files, trimming.

use std::sync::{Arc, Mutex};

use super::commit::{CommitDone, CommitJob, Kit};
use super::files::Spares;
use super::format::{
    FRAME_BYTES_MAX, FRAME_OVERHEAD_MAX, GROUP_HEADER_BYTES, GroupHeader, HEADER_BYTES_MAX,
    body_at, group_bytes, put_frame,
};
use super::read::{Index, LiveFile, Reader, Shared, lock};
use super::scan::STRIDE_BYTES;
use super::{JournalConfig, Position};
use crate::checkpoint::Mark;
use crate::disk::Disk;
use crate::error::LogError;

/// Files that recovery and checkpoints may open above `files_max`.
const CHECKPOINT_FILES: usize = 2;

/// The writer of a journal's files.
pub(crate) struct Journal {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) cfg: JournalConfig,
    pub(crate) shared: Shared,
    pub(crate) spares: Spares,
    /// Owner's bytes for the header of the next file.
    pub(crate) header: Vec<u8>,
    pub(crate) marks: [Mark; 2],
    /// Where the next group goes in the last file.
    pub(crate) at: u64,
    /// Length of the last file.
    pub(crate) len: u64,
    /// The last file takes no further group.
    pub(crate) sealed: bool,
    pub(crate) kit: Option<Kit>,
    /// Header room and frames of the next group.
    pub(crate) pending: Vec<u8>,
    pub(crate) pending_frames: u32,
    /// Number of the next frame.
    pub(crate) next: u64,
    /// Frames below are written.
    pub(crate) written: u64,
    /// Frames below are synced.
    pub(crate) durable: u64,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) poisoned: Option<String>,
    pub(crate) sequence: u64,
}

/// What the journal becomes when the job succeeds.
pub(crate) struct InFlight {
    written: u64,
    sync: bool,
    first: u64,
    roll: Option<LiveFile>,
}

impl Journal {
    /// `next`, `written` and `durable` start at `next`.
    pub(super) fn new(disk: Arc<dyn Disk>, cfg: JournalConfig, spares: Spares, next: u64) -> Self {
        let index = Index {
            files: Default::default(),
            durable: next,
        };
        Journal {
            disk,
            cfg,
            shared: Arc::new(Mutex::new(index)),
            spares,
            header: Vec::new(),
            marks: [Mark::default(); 2],
            at: 0,
            len: 0,
            sealed: true,
            kit: Some(Kit {
                group: Vec::new(),
                packed: Vec::new(),
                zstd: None,
            }),
            pending: vec![0; GROUP_HEADER_BYTES],
            pending_frames: 0,
            next,
            written: next,
            durable: next,
            in_flight: None,
            poisoned: None,
            sequence: 0,
        }
    }

    pub fn check_alive(&self) -> Result<(), LogError> {
        match &self.poisoned {
            Some(cause) => Err(LogError::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Stops for good (J6).
    pub fn poison(&mut self, error: LogError) -> LogError {
        let cause = error.to_string();
        self.poisoned.get_or_insert(cause.clone());
        LogError::Poisoned { cause }
    }

    pub fn stage(&mut self, kind: u8, parts: &[&[u8]]) -> Result<Position, LogError> {
        self.check_alive()?;
        let bytes = parts.iter().map(|p| p.len()).sum::<usize>();
        let max = FRAME_BYTES_MAX.min(self.cfg.group_bytes_max - FRAME_OVERHEAD_MAX);
        if bytes > max {
            let (bytes, max) = (bytes as u64, max as u64);
            return Err(LogError::TooLarge {
                what: "a frame",
                bytes,
                max,
            });
        }
        let pending = self.pending.len() - GROUP_HEADER_BYTES;
        if pending + bytes + FRAME_OVERHEAD_MAX > self.cfg.group_bytes_max {
            return Err(LogError::Busy {
                what: "the pending group is full",
            });
        }
        if self.pending_frames == 0 && !self.has_room()? {
            let need = self.cfg.file_bytes;
            return Err(LogError::Full {
                what: "the journal",
                need,
                have: 0,
            });
        }
        put_frame(&mut self.pending, kind, None, parts);
        self.pending_frames += 1;
        self.next += 1;
        Ok(Position(self.next - 1))
    }

    /// Whether another group may come. A spare stays behind for the recovery that may follow,
    /// and for the checkpoint that will empty the journal.
    fn has_room(&mut self) -> Result<bool, LogError> {
        let (files, spares) = (usize::from(self.sealed), 1 + usize::from(self.sealed));
        if self.files() + files > self.cfg.files_max {
            return Ok(false);
        }
        Ok(self.spares.count() >= spares || self.spares.fill()? || self.spares.count() >= spares)
    }

    /// Whether a checkpoint may open one more file.
    pub fn check_files(&self) -> Result<(), LogError> {
        if self.files() < self.cfg.files_max + CHECKPOINT_FILES {
            return Ok(());
        }
        Err(LogError::Full {
            what: "the journal",
            need: self.cfg.file_bytes,
            have: 0,
        })
    }

    fn files(&self) -> usize {
        lock(&self.shared).files.len()
    }

    /// Room for bodies of groups, as if each filled its file to the seal, if so many files are left over.
    pub fn room_bytes(&self, spared: usize) -> u64 {
        let Some(free_files) = self.cfg.files_max.checked_sub(self.files() + spared) else {
            return 0;
        };
        let header = body_at(self.header.len()) as u64;
        let per_file = self
            .cfg
            .file_bytes
            .saturating_sub(header + self.group_room());
        let free_files = match self.spares.count() {
            0 | 1 => 0,
            _ => free_files as u64,
        };
        let pending = (self.pending.len() - GROUP_HEADER_BYTES) as u64;
        let group = self.cfg.group_bytes_max as u64;
        let here = if self.sealed {
            if self.pending_frames > 0 {
                group.saturating_sub(pending)
            } else {
                0
            }
        } else {
            self.len
                .saturating_sub(self.at)
                .saturating_sub(self.group_room() + pending)
        };
        here + free_files * per_file
    }

    pub(super) fn group_room(&self) -> u64 {
        group_bytes(self.cfg.group_bytes_max) as u64
    }

    pub fn begin(&mut self, sync: bool) -> Result<Option<CommitJob>, LogError> {
        self.check_alive()?;
        let lagging = sync && self.durable < self.written;
        if self.in_flight.is_some() || (self.pending_frames == 0 && !lagging) {
            return Ok(None);
        }
        let mut kit = self.kit.take().expect("back since nothing is in flight");
        let header = (self.pending_frames > 0).then(|| self.take_pending(&mut kit));
        let roll = match header {
            // `stage` saw to a spare; without one nothing would be left to do but stop.
            Some(_) if self.sealed => Some(
                self.roll(self.written, self.written, 0)
                    .map_err(|e| self.poison(e))?,
            ),
            _ => None,
        };
        let mut in_flight = InFlight {
            written: self.next,
            sync,
            first: self.written,
            roll: None,
        };
        let (path, file, salt);
        let mut rolled = None;
        match roll {
            Some((live, roll)) => {
                (path, file, salt) = (live.path.clone(), live.file.clone(), live.salt);
                self.at = roll.content.len() as u64;
                self.len = self.cfg.file_bytes;
                in_flight.roll = Some(live);
                rolled = Some(roll);
            }
            None => {
                let index = lock(&self.shared);
                let last = index.files.back().expect("an open journal has a file");
                (path, file, salt) = (last.path.clone(), last.file.clone(), last.salt);
            }
        }
        let plain = kit.group.len().saturating_sub(GROUP_HEADER_BYTES);
        let room_after = self.len.saturating_sub(self.at + group_bytes(plain) as u64);
        self.sealed = room_after < self.group_room();
        let next_group = if self.sealed { 0 } else { self.group_room() };
        let end_max = self.cfg.whole_pages.then(|| self.len - next_group);
        self.in_flight = Some(in_flight);
        Ok(Some(CommitJob {
            kit,
            header: header.map(|h| GroupHeader { salt, ..h }),
            roll: rolled,
            file,
            path,
            at: self.at,
            end_max,
            sync,
            compress_above: self.cfg.compress_above_bytes,
            retry_failed_sync: !self.cfg.rules.j6(),
        }))
    }

    /// Moves the pending frames into the kit; the salt and the stored length come later.
    fn take_pending(&mut self, kit: &mut Kit) -> GroupHeader {
        kit.group.clear();
        kit.group.resize(GROUP_HEADER_BYTES, 0);
        std::mem::swap(&mut kit.group, &mut self.pending);
        let frames = std::mem::take(&mut self.pending_frames);
        self.group_header(
            self.written,
            frames,
            0,
            kit.group.len() - GROUP_HEADER_BYTES,
        )
    }

    pub(super) fn group_header(
        &self,
        first: u64,
        frames: u32,
        flags: u32,
        plain: usize,
    ) -> GroupHeader {
        let plain_bytes = u32::try_from(plain).expect("bounded by group_bytes_max");
        let synced = self.durable;
        GroupHeader {
            salt: 0,
            first,
            synced,
            frames,
            flags,
            plain_bytes,
            stored_bytes: plain_bytes,
            crc: 0,
        }
    }

    pub fn finish(&mut self, done: CommitDone) -> Result<Position, LogError> {
        let in_flight = self.in_flight.take();
        self.kit = Some(done.kit);
        self.check_alive()?;
        let in_flight = in_flight.expect("a job comes from begin_commit and is finished once");
        let written = match done.result {
            Ok(written) => written,
            Err(e) => return Err(self.poison(e)),
        };
        {
            let mut index = lock(&self.shared);
            if let Some(live) = in_flight.roll {
                index.files.push_back(live);
            }
            let last = index.files.back_mut().expect("an open journal has a file");
            let far = |s: &(u64, u64)| written.start - s.1 >= STRIDE_BYTES;
            if !written.is_empty() && last.stops.last().is_none_or(far) {
                last.stops.push((in_flight.first, written.start));
            }
            self.at = written.end;
            self.written = in_flight.written.max(self.written);
            if in_flight.sync {
                self.durable = self.written;
                index.durable = self.durable;
            }
        }
        if self.spares.count() < 2 && self.files() < self.cfg.files_max {
            // No room for a spare is said by `stage` when one is needed.
            self.spares.fill().map_err(|e| self.poison(e))?;
        }
        Ok(Position(self.durable))
    }

    pub fn commit(&mut self) -> Result<Position, LogError> {
        if self.in_flight.is_some() {
            return Err(LogError::Busy {
                what: "a commit is in flight",
            });
        }
        while let Some(job) = self.begin(true)? {
            self.finish(job.run())?;
        }
        Ok(Position(self.durable))
    }

    /// J3: the state after everything staged so far may go into the header now.
    pub fn wants_header(&self) -> bool {
        self.sealed && self.pending_frames == 0
    }

    pub fn check_header(&self, header: &[u8]) -> Result<(), LogError> {
        let fits = |n: usize| body_at(n) as u64 + self.group_room() <= self.cfg.file_bytes;
        if header.len() <= HEADER_BYTES_MAX && fits(header.len()) {
            return Ok(());
        }
        let room = self.cfg.file_bytes.saturating_sub(self.group_room()) / 2;
        let max = (room.saturating_sub(4096)).min(HEADER_BYTES_MAX as u64);
        Err(LogError::TooLarge {
            what: "a journal header",
            bytes: header.len() as u64,
            max,
        })
    }

    pub fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    pub fn start(&self) -> u64 {
        lock(&self.shared).start()
    }

    /// Preallocated files, used or spare.
    pub fn held_bytes(&self) -> u64 {
        self.files() as u64 * self.cfg.file_bytes + self.spares.held_bytes()
    }

    /// Files but the last in full, and the last as far as it is written.
    pub fn live_bytes(&self) -> u64 {
        self.files().saturating_sub(1) as u64 * self.cfg.file_bytes + self.at
    }
}
