//! New files, with a header and with what is copied into them; and letting go of old ones.

use std::path::PathBuf;

use super::Journal;
use super::commit::Roll;
use super::files::{Spare, journal_path};
use super::format::{
    FLAG_FORWARDED, FRAME_OVERHEAD_MAX, FileHeader, GROUP_HEADER_BYTES, GroupHeader, encode_header,
    group_bytes, put_frame,
};
use super::read::{LiveFile, lock};
use super::scan::Stops;
use super::{Frame, Position};
use crate::checkpoint::Mark;
use crate::error::LogError;

impl Journal {
    /// A new file from a spare, and its header; nothing is written yet.
    pub(super) fn roll(
        &mut self,
        first: u64,
        synced: u64,
        groups_bytes: usize,
    ) -> Result<(LiveFile, Roll), LogError> {
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
        let Spare {
            path: spare, file, ..
        } = spare;
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

    /// Starts a file with the current header and marks, and `groups` in it that end at `synced`,
    /// here and now.
    /// On an error nothing has changed unless the journal is poisoned.
    pub(super) fn open_file(
        &mut self,
        first: u64,
        synced: u64,
        groups: Vec<Vec<u8>>,
        stops: Stops,
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
        // The file has its name: whatever fails from here on, the one before takes no more.
        let len = live.file.len();
        self.len = len.map_err(|e| self.poison(LogError::io("measure", &live.path)(e)))?;
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

    fn let_go(&mut self, gone: Vec<LiveFile>) -> Result<(), LogError> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut done = Ok(());
        for file in gone {
            let LiveFile {
                path,
                sequence,
                file,
                rotten,
                ..
            } = file;
            done = done.and(self.spares.recycle(&path, sequence, file, rotten));
        }
        // Also after an error: the ones before it may be spares by now.
        self.sync_names()?;
        done
    }

    /// Lets go of files of which every frame is void. They are not used again: their groups have
    /// numbers that others have by now, and a salvage goes by the numbers.
    pub(super) fn remove(&mut self, gone: Vec<(PathBuf, bool, u64)>) -> Result<(), LogError> {
        for (path, rotten, sequence) in &gone {
            self.spares.remove(path, *sequence, *rotten)?;
        }
        match gone.is_empty() {
            true => Ok(()),
            false => self.sync_names(),
        }
    }

    /// Before a spare is written: else a power cut could bring a trimmed name back over it.
    fn sync_names(&mut self) -> Result<(), LogError> {
        let synced = self
            .disk
            .sync_dir(&self.cfg.dir)
            .map_err(LogError::sync(&self.cfg.dir));
        synced.map_err(|e| self.poison(e))
    }
}

/// Different for every file and every start.
fn salt(seed: u64, sequence: u64) -> u64 {
    let mut z = seed ^ sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
