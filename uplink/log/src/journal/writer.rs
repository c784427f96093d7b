//! The writing half of a journal: staging, group commit, new files, trimming.

use std::sync::{Arc, Mutex};

use super::commit::{CommitDone, CommitJob, Kit, Roll};
use super::files::{Spare, Spares, journal_path};
use super::format::{
    FLAG_FORWARDED, FRAME_BYTES_MAX, FRAME_OVERHEAD_MAX, FileHeader, GROUP_HEADER_BYTES,
    GroupHeader, HEADER_BYTES_MAX, body_at, encode_header, group_bytes, put_frame,
};
use super::read::{Index, LiveFile, Reader, Shared, lock};
use super::scan::STRIDE_BYTES;
use super::{Frame, JournalConfig, Position};
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
        Err(LogError::Full { what: "the journal", need: self.cfg.file_bytes, have: 0 })
    }

    fn files(&self) -> usize {
        lock(&self.shared).files.len()
    }

    /// Room for bodies of groups, as if each filled its file to the seal.
    pub fn room_bytes(&self) -> u64 {
        let body = self.cfg.file_bytes - body_at(self.header.len()) as u64;
        let per_file = body.saturating_sub(self.group_room());
        let free_files = match self.spares.count() {
            0 | 1 => 0,
            _ => self.cfg.files_max.saturating_sub(self.files()) as u64,
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

    fn group_room(&self) -> u64 {
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
            Some(_) if self.sealed => Some(self.roll(self.written, self.written, 0).map_err(|e| self.poison(e))?),
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
        self.in_flight = Some(in_flight);
        Ok(Some(CommitJob {
            kit,
            header: header.map(|h| GroupHeader { salt, ..h }),
            roll: rolled,
            file,
            path,
            at: self.at,
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

    fn group_header(&self, first: u64, frames: u32, flags: u32, plain: usize) -> GroupHeader {
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

    /// A new file from a spare, and its header; nothing is written yet.
    fn roll(&mut self, first: u64, synced: u64, groups_bytes: usize) -> Result<(LiveFile, Roll), LogError> {
        let owner: &[u8] = if self.cfg.rules.j3() {
            &self.header
        } else {
            &[]
        };
        self.sequence += 1;
        let salt = salt(self.cfg.salt_seed, self.sequence);
        let header = FileHeader {
            salt,
            sequence: self.sequence,
            first,
            synced,
            marks: self.marks,
        };
        let content = encode_header(&header, owner);
        let spare = match self.spares.take() {
            Some(spare) => spare,
            // Only recovery and checkpoints come here: a file just large enough to let them pass.
            None => self.spares.preallocate(self.cfg.file_bytes).or_else(|_| {
                let need = (content.len() + groups_bytes).next_multiple_of(4096);
                self.spares.preallocate(need as u64)
            })?,
        };
        let Spare { path: spare, file } = spare;
        let path = journal_path(&self.cfg.dir, self.sequence);
        let unsynced = {
            let index = lock(&self.shared);
            let lagging = self.durable < self.written;
            index
                .files
                .back()
                .filter(|_| lagging)
                .map(|f| (f.path.clone(), f.file.clone()))
        };
        let live = LiveFile {
            sequence: self.sequence,
            first,
            path: path.clone(),
            file,
            salt,
            stops: Vec::new(),
            rotten: false,
        };
        let (disk, dir) = (self.disk.clone(), self.cfg.dir.clone());
        Ok((
            live,
            Roll {
                disk,
                dir,
                spare,
                path,
                content,
                unsynced,
            },
        ))
    }

    pub fn finish(&mut self, done: CommitDone) -> Result<Position, LogError> {
        let in_flight = self.in_flight.take();
        self.kit = Some(done.kit);
        self.check_alive()?;
        let in_flight = in_flight.expect("a job comes from begin_commit and is finished once");
        let bytes = match done.result {
            Ok(bytes) => bytes,
            Err(e) => return Err(self.poison(e)),
        };
        {
            let mut index = lock(&self.shared);
            if let Some(live) = in_flight.roll {
                index.files.push_back(live);
            }
            let last = index.files.back_mut().expect("an open journal has a file");
            let far = |s: &(u64, u64)| self.at - s.1 >= STRIDE_BYTES;
            if bytes > 0 && last.stops.last().is_none_or(far) {
                last.stops.push((in_flight.first, self.at));
            }
            self.at += bytes;
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

    /// Starts a file with the current header and marks, and `groups` in it that end at `synced`,
    /// here and now.
    /// On an error nothing has changed unless the journal is poisoned.
    pub(super) fn open_file(
        &mut self,
        first: u64,
        synced: u64,
        groups: Vec<Vec<u8>>,
        stops: Vec<(u64, u64)>,
    ) -> Result<(), LogError> {
        let bytes = groups.iter().map(Vec::len).sum();
        let (mut live, mut roll) = self.roll(first, synced, bytes)?;
        let body = roll.content.len() as u64;
        for mut group in groups {
            let header = GroupHeader::decode(&group).expect("made by this crate");
            GroupHeader {
                salt: live.salt,
                ..header
            }
            .seal(&mut group);
            roll.content.extend_from_slice(&group);
        }
        live.stops = stops
            .into_iter()
            .map(|(first, at)| (first, at + body))
            .collect();
        if let Err(e) = roll.run(&*live.file) {
            return Err(self.poison(e));
        }
        self.at = roll.content.len() as u64;
        self.len = live
            .file
            .len()
            .map_err(LogError::io("measure", &live.path))?;
        self.sealed = self.len.saturating_sub(self.at) < self.group_room();
        lock(&self.shared).files.push_back(live);
        Ok(())
    }

    /// A file that starts after everything committed, with copies of `forward` in it (J5, J8).
    /// Returns their new places.
    pub fn begin_file(
        &mut self,
        header: Vec<u8>,
        marks: [Mark; 2],
        forward: &[Frame],
    ) -> Result<Vec<Position>, LogError> {
        debug_assert!(self.pending_frames == 0 && self.durable == self.next);
        let first = self.next;
        let mut groups = Vec::new();
        let mut stops = Vec::new();
        let mut at = 0;
        let mut rest = forward;
        let mut number = first;
        while !rest.is_empty() {
            let mut group = vec![0; GROUP_HEADER_BYTES];
            let mut frames = 0;
            while let Some((frame, others)) = rest.split_first() {
                let more = frame.payload.len() + FRAME_OVERHEAD_MAX;
                if frames > 0 && group.len() + more > self.cfg.group_bytes_max {
                    break;
                }
                put_frame(
                    &mut group,
                    frame.kind,
                    Some(frame.origin.0),
                    &[&frame.payload],
                );
                frames += 1;
                rest = others;
            }
            let plain = group.len() - GROUP_HEADER_BYTES;
            let header = self.group_header(number, frames, FLAG_FORWARDED, plain);
            header.seal(&mut group);
            group.resize(group_bytes(plain), 0);
            stops.push((number, at));
            at += group.len() as u64;
            number += u64::from(frames);
            groups.push(group);
        }
        self.header = header;
        self.marks = marks;
        self.open_file(first, number, groups, stops)?;
        self.next = number;
        self.written = number;
        self.durable = number;
        lock(&self.shared).durable = number;
        Ok((first..number).map(Position).collect())
    }

    /// Lets go of files whose frames are all below `to`. The last file stays.
    pub fn trim(&mut self, to: u64) -> Result<(), LogError> {
        let mut gone = Vec::new();
        {
            let mut index = lock(&self.shared);
            while index.files.len() > 1 && index.files[1].first <= to {
                gone.extend(index.files.pop_front());
            }
        }
        self.let_go(gone)
    }

    pub(super) fn let_go(&mut self, gone: Vec<LiveFile>) -> Result<(), LogError> {
        if gone.is_empty() {
            return Ok(());
        }
        for file in gone {
            self.spares
                .recycle(&file.path, file.sequence, file.file, file.rotten)?;
        }
        // Before a spare is written: else a power cut could bring a trimmed name back over it.
        let synced = self
            .disk
            .sync_dir(&self.cfg.dir)
            .map_err(LogError::io("sync", &self.cfg.dir));
        synced.map_err(|e| self.poison(e))
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

/// Different for every file and every start.
fn salt(seed: u64, sequence: u64) -> u64 {
    let mut z = seed ^ sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
