//! Reading groups back: the index of live files, [`Reader`] for single frames, [`Replay`] for all.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::format::{FLAG_ZSTD, GROUP_HEADER_BYTES, GroupHeader, next_frame, places};
use super::scan::Stops;
use super::{Frame, Position};
use crate::disk::DiskFile;
use crate::error::LogError;

/// A journal file in use.
#[derive(Clone)]
pub(crate) struct LiveFile {
    pub sequence: u64,
    pub first: u64,
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    pub salt: u64,
    pub stops: Stops,
    pub rotten: bool,
}

/// What readers and the writer share.
pub(crate) struct Index {
    pub files: VecDeque<LiveFile>,
    pub durable: u64,
}

impl Index {
    pub fn start(&self) -> u64 {
        self.files.front().map_or(self.durable, |f| f.first)
    }

    /// The file that holds a durable frame, and the place to start looking for it.
    fn find(&self, position: u64) -> Result<(LiveFile, u64), LogError> {
        let not_held = || LogError::NotHeld {
            position,
            from: self.start(),
            to: self.durable,
        };
        if position >= self.durable {
            return Err(not_held());
        }
        let file = self
            .files
            .iter()
            .rev()
            .find(|f| f.first <= position)
            .ok_or_else(not_held)?;
        let i = file.stops.partition_point(|s| s.0 <= position);
        let stop = i.checked_sub(1).map(|i| file.stops[i].1);
        let at = stop.ok_or_else(|| LogError::corrupt(&file.path, 0, "the frame is lost"))?;
        let found = LiveFile {
            stops: Vec::new(),
            ..file.clone()
        };
        Ok((found, at))
    }
}

pub(crate) type Shared = Arc<Mutex<Index>>;

pub(crate) fn lock(shared: &Shared) -> MutexGuard<'_, Index> {
    shared
        .lock()
        .expect("no code panics while it holds the index")
}

/// One group, checked and decompressed.
pub(crate) struct Group {
    pub header: GroupHeader,
    pub body: Vec<u8>,
}

/// The header of the group at `at`, if one of this salt starts there.
pub(crate) fn group_header(
    file: &dyn DiskFile,
    path: &Path,
    at: u64,
    salt: u64,
) -> Result<Option<GroupHeader>, LogError> {
    let mut fixed = [0; GROUP_HEADER_BYTES];
    let n = file
        .read_at(&mut fixed, at)
        .map_err(LogError::io("read", path))?;
    Ok(GroupHeader::decode(&fixed[..n]).filter(|h| h.salt == salt))
}

/// The group whose first frame is `number`, if it follows what ends at `end`: its place and header.
pub(crate) fn following(
    file: &dyn DiskFile,
    path: &Path,
    end: u64,
    salt: u64,
    number: u64,
) -> Result<Option<(u64, GroupHeader)>, LogError> {
    for at in places(end) {
        let header = group_header(file, path, at, salt)?;
        if let Some(header) = header.filter(|h| h.first == number) {
            return Ok(Some((at, header)));
        }
    }
    Ok(None)
}

/// Header, body and checksum as stored.
pub(crate) fn stored_group(
    file: &dyn DiskFile,
    path: &Path,
    at: u64,
    header: &GroupHeader,
) -> Result<Vec<u8>, LogError> {
    let mut stored = vec![0; GROUP_HEADER_BYTES + header.stored_bytes as usize];
    file.read_exact_at(&mut stored, at)
        .map_err(LogError::io("read", path))?;
    // Also against a change since the header was read: the checksum covers all but itself.
    let same = GroupHeader::decode(&stored) == Some(*header);
    if !same || crc32fast::hash(&stored[8..]) != header.crc {
        return Err(LogError::corrupt(
            path,
            at,
            "the checksum of a group does not match",
        ));
    }
    Ok(stored)
}

pub(crate) fn read_group(
    file: &dyn DiskFile,
    path: &Path,
    at: u64,
    header: GroupHeader,
) -> Result<Group, LogError> {
    let mut stored = stored_group(file, path, at, &header)?;
    let body = if header.flags & FLAG_ZSTD != 0 {
        zstd::bulk::decompress(&stored[GROUP_HEADER_BYTES..], header.plain_bytes as usize)
            .map_err(|e| LogError::corrupt(path, at, format!("zstd: {e}")))?
    } else {
        stored.drain(..GROUP_HEADER_BYTES);
        stored
    };
    if body.len() != header.plain_bytes as usize {
        return Err(LogError::corrupt(
            path,
            at,
            "a group's body has another length than it says",
        ));
    }
    Ok(Group { header, body })
}

/// Reads durable frames from any thread. Reading in order costs one disk read per group.
pub struct Reader {
    shared: Shared,
    cached: Mutex<Option<Group>>,
}

impl Clone for Reader {
    fn clone(&self) -> Self {
        Reader::new(self.shared.clone())
    }
}

impl Reader {
    pub(crate) fn new(shared: Shared) -> Reader {
        Reader {
            shared,
            cached: Mutex::new(None),
        }
    }

    /// A durable frame that is still in the journal.
    /// NotHeld: not durable yet, or trimmed. Corrupt: its bytes have rotted.
    pub fn read(&self, position: Position) -> Result<Frame, LogError> {
        let (file, at) = lock(&self.shared).find(position.0)?;
        let mut cached = self
            .cached
            .lock()
            .expect("no code panics while it holds the cache");
        let hit =
            |g: &Group| g.header.salt == file.salt && g.header.frames_range().contains(&position.0);
        if !cached.as_ref().is_some_and(hit) {
            *cached = None;
            let group = find_group(&file, at, position.0);
            // The file may have been trimmed, and reused, under our feet.
            lock(&self.shared).find(position.0)?;
            *cached = Some(group?);
        }
        let group = cached.as_ref().expect("filled above");
        frame_of(group, position.0).ok_or_else(|| LogError::corrupt(&file.path, at, MALFORMED))
    }
}

const MALFORMED: &str = "a group's frames do not add up";

/// Walks from the group at `at`. A header on the way is followed only if its number is in turn.
fn find_group(file: &LiveFile, mut at: u64, position: u64) -> Result<Group, LogError> {
    let (disk, path, salt) = (&*file.file, &file.path, file.salt);
    let lost = |at| LogError::corrupt(path, at, "the frame is lost");
    let mut header = group_header(disk, path, at, salt)?.ok_or_else(|| lost(at))?;
    loop {
        if header.first > position {
            return Err(lost(at));
        }
        if header.frames_range().contains(&position) {
            return read_group(disk, path, at, header);
        }
        let (end, next) = (at + header.total_bytes(), header.frames_range().end);
        (at, header) = following(disk, path, end, salt, next)?.ok_or_else(|| lost(end))?;
    }
}

fn frame_of(group: &Group, position: u64) -> Option<Frame> {
    let mut at = 0;
    for _ in group.header.first..position {
        next_frame(&group.body, group.header.flags, &mut at)?;
    }
    let raw = next_frame(&group.body, group.header.flags, &mut at)?;
    Some(Frame {
        position: Position(position),
        origin: Position(raw.origin.unwrap_or(position)),
        kind: raw.kind,
        payload: group.body[raw.payload].to_vec(),
    })
}

/// A stretch of groups to replay.
pub(crate) struct Stretch {
    pub file: Arc<dyn DiskFile>,
    pub path: PathBuf,
    pub salt: u64,
    pub at: u64,
    pub frames: Range<u64>,
}

/// The frames of a recovered journal, in order. One group is in memory at a time.
///
/// A frame that was copied forward (J8) comes once: at its first place when that is replayed.
/// An item is an error only when the medium fails between recovery and now; the next item
/// goes on after it.
pub struct Replay {
    stretches: VecDeque<Stretch>,
    /// Frames below are in the checkpoint.
    from: u64,
    lost: Vec<Range<u64>>,
    /// Origins of the copies that came already.
    copies: HashSet<u64>,
    group: Option<(Group, usize, u64)>,
}

impl Replay {
    pub(crate) fn new(stretches: Vec<Stretch>, from: u64, lost: Vec<Range<u64>>) -> Replay {
        Replay {
            stretches: stretches.into(),
            from,
            lost,
            copies: HashSet::new(),
            group: None,
        }
    }

    /// The next group that reaches `from`, if any is left.
    fn next_group(&mut self) -> Option<Result<Group, LogError>> {
        loop {
            let stretch = self.stretches.front_mut()?;
            // Its checksum is not known to be good: only the next number in turn is followed.
            let (end, number) = (stretch.at, stretch.frames.start);
            let found = following(&*stretch.file, &stretch.path, end, stretch.salt, number);
            let (at, header) = match found {
                Ok(Some(found)) if !stretch.frames.is_empty() => found,
                Ok(_) => {
                    self.stretches.pop_front();
                    continue;
                }
                Err(e) => {
                    self.stretches.pop_front();
                    return Some(Err(e));
                }
            };
            stretch.at = at + header.total_bytes();
            stretch.frames.start = header.frames_range().end;
            if header.frames_range().end > self.from {
                return Some(read_group(&*stretch.file, &stretch.path, at, header));
            }
        }
    }

    /// Whether neither the first place of a copied frame nor an earlier copy is replayed.
    fn copy_is_needed(&mut self, origin: u64) -> bool {
        let gone = origin < self.from || self.lost.iter().any(|l| l.contains(&origin));
        gone && self.copies.insert(origin)
    }
}

impl Iterator for Replay {
    type Item = Result<Frame, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((group, at, number)) = &mut self.group else {
                match self.next_group()? {
                    Ok(group) => {
                        let first = group.header.first;
                        self.group = Some((group, 0, first));
                        continue;
                    }
                    Err(e) => return Some(Err(e)),
                }
            };
            if *number == group.header.frames_range().end {
                self.group = None;
                continue;
            }
            let Some(raw) = next_frame(&group.body, group.header.flags, at) else {
                let path = self
                    .stretches
                    .front()
                    .map(|s| s.path.clone())
                    .unwrap_or_default();
                self.group = None;
                return Some(Err(LogError::corrupt(&path, 0, MALFORMED)));
            };
            let position = *number;
            *number += 1;
            let payload = group.body[raw.payload].to_vec();
            let origin = raw.origin.unwrap_or(position);
            let copied = raw.origin.is_some();
            if position < self.from || (copied && !self.copy_is_needed(origin)) {
                continue;
            }
            let (position, origin) = (Position(position), Position(origin));
            return Some(Ok(Frame {
                position,
                origin,
                kind: raw.kind,
                payload,
            }));
        }
    }
}
