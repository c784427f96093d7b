//! Reading a journal file that may be torn or rotten: its header, and every group that proves
//! itself. Nothing is believed by its length alone; memory is reserved only for bounded windows.

use std::io;
use std::ops::Range;

use super::format::{
    ALIGN_BYTES, BLOCK_BYTES, FILE_HEADER_BYTES, FileHeader, GROUP_FRAMES_MAX, GROUP_HEADER_BYTES,
    GROUP_MAGIC, GroupHeader, HEADER_BYTES_MAX, body_at, decode_header, places,
};
use crate::checkpoint::POSITION_MAX;
use crate::disk::DiskFile;

const WINDOW_BYTES: usize = 128 * 1024;

/// The header of a file: whichever copy proves itself.
pub(crate) fn read_header(file: &dyn DiskFile) -> io::Result<Option<(FileHeader, Vec<u8>)>> {
    let most = HEADER_BYTES_MAX + FILE_HEADER_BYTES;
    let mut at = 0;
    // The second copy starts at the block that follows the first, whose length may be unreadable.
    while at <= most.next_multiple_of(BLOCK_BYTES) {
        let mut fixed = [0; FILE_HEADER_BYTES];
        if file.read_at(&mut fixed, at as u64)? < fixed.len() {
            break;
        }
        let owner = u32::from_le_bytes(fixed[12..16].try_into().expect("four bytes")) as usize;
        if fixed[..8] == super::format::FILE_MAGIC && owner <= HEADER_BYTES_MAX {
            let mut whole = vec![0; FILE_HEADER_BYTES + owner];
            let n = file.read_at(&mut whole, at as u64)?;
            if let Some(found) = decode_header(&whole[..n]) {
                return Ok(Some(found));
            }
        }
        at += BLOCK_BYTES;
    }
    Ok(None)
}

/// How far apart the places are that a reader may start from.
pub(crate) const STRIDE_BYTES: u64 = 32 * 1024;

/// Groups to start reading from, in order: number of the first frame, place in the file.
pub(crate) type Stops = Vec<(u64, u64)>;

/// Whole groups that follow each other without a hole, in bytes and in frame numbers.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub at: u64,
    pub end_at: u64,
    pub frames: Range<u64>,
    /// The highest synced position that one of its groups names.
    pub synced: u64,
    pub salt: u64,
    pub stops: Stops,
}

/// What every medium writes whole or not at all.
const SECTOR_BYTES: u64 = 512;
/// Salt and numbers of a header end here.
const NUMBERS_END: u64 = 32;
/// Places where the file's salt stands without a whole group around it, at most.
const TRACES_MAX: usize = 16;

/// What a scan of one file saw.
#[derive(Default)]
pub(crate) struct Scanned {
    pub runs: Vec<Run>,
    /// A group of this file after the last run that is not whole.
    pub torn: Option<Range<u64>>,
    /// What a header behind the last run says was synced, though its group is not whole, and where
    /// it stands. See [`claimed`].
    pub claimed: Option<(u64, Range<u64>)>,
    /// Where headers with the file's salt begin behind the last run.
    traces: Vec<u64>,
}

impl Scanned {
    fn trace(&mut self, at: u64) {
        if self.traces.len() == TRACES_MAX {
            self.traces.remove(0);
        }
        self.traces.push(at);
    }

    fn add(&mut self, at: u64, header: &GroupHeader) {
        let frames = header.frames_range();
        let end_at = at + header.total_bytes();
        self.torn = None;
        self.traces.clear();
        match self.runs.last_mut() {
            Some(run) if places(run.end_at).contains(&at) && run.frames.end == frames.start => {
                run.end_at = end_at;
                run.frames.end = frames.end;
                run.synced = run.synced.max(header.synced);
                if run.stops.last().is_none_or(|s| at - s.1 >= STRIDE_BYTES) {
                    run.stops.push((frames.start, at));
                }
            }
            _ => self.runs.push(Run {
                at,
                end_at,
                synced: header.synced,
                salt: header.salt,
                stops: vec![(frames.start, at)],
                frames,
            }),
        }
    }
}

/// All groups of a file whose header is `header`. An error is the operating system's: bytes that
/// cannot be read now are not known to be bad (U4).
pub(crate) fn scan(
    file: &dyn DiskFile,
    header: &FileHeader,
    owner_bytes: usize,
) -> io::Result<Scanned> {
    let mut seen = Scanned::default();
    let from = body_at(owner_bytes) as u64;
    let salt = Some(header.salt);
    scan_from(file, from, salt, |g| g.salt == header.salt, &mut seen)?;
    let (at, next) = seen
        .runs
        .last()
        .map_or((from, header.first), |r| (r.end_at, r.frames.end));
    for place in places(at) {
        if seen.torn.as_ref().is_none_or(|torn| place < torn.start) {
            let found = remains(file, place, header.salt, next)?;
            seen.torn = found.or(seen.torn);
        }
    }
    if seen.torn.is_some() || !seen.traces.is_empty() {
        seen.claimed = claimed(file, header.salt, at, next, &seen.traces)?;
        if let Some((_, place)) = &seen.claimed {
            seen.torn.get_or_insert_with(|| place.clone());
        }
    }
    Ok(seen)
}

/// What is known to be synced of frames from `next` on, none of which is in a whole group.
///
/// A group is written once all before it is synced, and says so in its header. A crash tears the last
/// one at most; so of several that are not whole the earlier ones rotted, and the last one's header
/// proves it. A checksum does not cover it any more. Instead it must carry the file's salt, which
/// nobody knows who could imitate it, in one sector with its two numbers, which must agree, and the bytes
/// before it must have room for the frames that it claims; or it stands where the group before it ends,
/// whose own header carries the salt, and claims exactly that group's end.
fn claimed(
    file: &dyn DiskFile,
    salt: u64,
    at: u64,
    next: u64,
    traces: &[u64],
) -> io::Result<Option<(u64, Range<u64>)>> {
    let mut claimed = None;
    let mut claims = |synced: u64, at: u64| {
        if synced > next && claimed.as_ref().is_none_or(|(most, _)| *most < synced) {
            claimed = Some((synced, at..at + GROUP_HEADER_BYTES as u64));
        }
    };
    let read = |at: u64| -> io::Result<Option<Numbers>> {
        let mut fixed = [0; GROUP_HEADER_BYTES];
        let n = file.read_at(&mut fixed, at)?;
        Ok((n == fixed.len()).then(|| Numbers::read(&fixed)))
    };
    for trace in traces {
        let Some(group) = read(*trace)?.filter(|g| g.salt == salt) else {
            continue;
        };
        let agree = group.synced <= group.first && group.first <= POSITION_MAX;
        let between = group.synced.saturating_sub(next);
        if is_of_one_write(*trace) && agree && between <= frames_max(at..*trace) {
            claims(group.synced, *trace);
        }
    }
    // From group to group, as far as headers say where each ends.
    let (mut at, mut next) = (at, next);
    'groups: loop {
        for place in places(at) {
            let Some(group) = read(place)? else { continue };
            let Some(whole) = group.header.filter(|h| h.salt == salt && h.first == next) else {
                continue;
            };
            (at, next) = (place + whole.total_bytes(), whole.frames_range().end);
            for place in places(at) {
                if read(place)?.is_some_and(|behind| behind.synced == next) {
                    claims(next, place);
                    continue 'groups;
                }
            }
        }
        return Ok(claimed);
    }
}

/// The most frames that groups in these bytes hold.
fn frames_max(bytes: Range<u64>) -> u64 {
    let groups = bytes.end.saturating_sub(bytes.start) / GROUP_HEADER_BYTES as u64;
    groups.saturating_mul(GROUP_FRAMES_MAX)
}

/// Whether salt and numbers of a header at `at` lie in one sector. Of a header on the border of two a
/// power cut keeps one, and beside our salt stands what an older file had there.
fn is_of_one_write(at: u64) -> bool {
    at / SECTOR_BYTES == (at + NUMBERS_END - 1) / SECTOR_BYTES
}

/// A group's header as it stands, with or without a right checksum.
struct Numbers {
    salt: u64,
    first: u64,
    synced: u64,
    header: Option<GroupHeader>,
}

impl Numbers {
    fn read(fixed: &[u8; GROUP_HEADER_BYTES]) -> Numbers {
        let word = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().expect("8 bytes"));
        Numbers {
            salt: word(8),
            first: word(16),
            synced: word(24),
            header: GroupHeader::decode(fixed),
        }
    }
}

/// Whether what stands at `at` was the header of a group of this file: its salt or its number is
/// right. So a flipped bit in the last group's header is told from a clean end.
fn remains(file: &dyn DiskFile, at: u64, salt: u64, next: u64) -> io::Result<Option<Range<u64>>> {
    let mut fixed = [0; GROUP_HEADER_BYTES];
    let n = file.read_at(&mut fixed, at)?;
    if n < fixed.len() || fixed == [0; GROUP_HEADER_BYTES] {
        return Ok(None);
    }
    let word = |at: usize| u64::from_le_bytes(fixed[at..at + 8].try_into().expect("eight bytes"));
    Ok((word(8) == salt || word(16) == next).then_some(at..at + n as u64))
}

/// All groups of a file without a readable header. Its salt is that of the first whole group with
/// a frame number in `frames`: what an older use of the file left has lower ones.
pub(crate) fn salvage(file: &dyn DiskFile, frames: Range<u64>) -> io::Result<Scanned> {
    let mut any = Scanned::default();
    let ours = |g: &GroupHeader| frames.contains(&g.first);
    scan_from(file, BLOCK_BYTES as u64, None, ours, &mut any)?;
    let Some(first) = any.runs.first() else {
        return Ok(any);
    };
    let mut seen = Scanned::default();
    let salt = Some(first.salt);
    scan_from(file, first.at, salt, |g| g.salt == first.salt, &mut seen)?;
    let last = seen.runs.last().expect("it begins with the first run");
    let (at, next) = (last.end_at, last.frames.end);
    seen.claimed = claimed(file, first.salt, at, next, &seen.traces)?;
    Ok(seen)
}

fn scan_from(
    file: &dyn DiskFile,
    from: u64,
    salt: Option<u64>,
    ours: impl Fn(&GroupHeader) -> bool,
    seen: &mut Scanned,
) -> io::Result<()> {
    let len = file.len()?;
    let mut window = Window {
        file,
        len,
        start: 0,
        bytes: Vec::new(),
        salt: salt.map(u64::to_le_bytes),
    };
    let mut at = from;
    while at + GROUP_HEADER_BYTES as u64 <= len {
        let header = GroupHeader::decode(window.load(at, GROUP_HEADER_BYTES)?);
        let header = header.filter(|h| ours(h) && at + h.total_bytes() <= len);
        match header {
            Some(header) if window.crc(at, &header)? == header.crc => {
                seen.add(at, &header);
                at += header.total_bytes();
            }
            other => {
                if let Some(header) = other {
                    seen.torn.get_or_insert(at..at + header.total_bytes());
                }
                at = window.next_magic(at + ALIGN_BYTES as u64, seen)?;
            }
        }
    }
    Ok(())
}

/// A bounded view on a file, moved forward.
struct Window<'a> {
    file: &'a dyn DiskFile,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
    /// The file's, once it is known.
    salt: Option<[u8; 8]>,
}

impl Window<'_> {
    /// `n` bytes at `at`, fewer at the end of the file.
    fn load(&mut self, at: u64, n: usize) -> io::Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at + n as u64 > end {
            let want = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
            self.bytes.resize(want.min(WINDOW_BYTES.max(n)), 0);
            let got = self.file.read_at(&mut self.bytes, at)?;
            self.bytes.truncate(got);
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(&self.bytes[from..(from + n).min(self.bytes.len())])
    }

    /// The first place from `at` on where a group may start; the file's length when there is none.
    /// Notes where the salt stands on the way.
    fn next_magic(&mut self, mut at: u64, seen: &mut Scanned) -> io::Result<u64> {
        while at + (GROUP_HEADER_BYTES as u64) <= self.len {
            self.load(at, GROUP_HEADER_BYTES)?;
            let held = &self.bytes[(at - self.start) as usize..];
            let mut found = None;
            for (i, chunk) in held.chunks_exact(ALIGN_BYTES).enumerate() {
                if chunk[..4] == GROUP_MAGIC {
                    found = Some(i);
                    break;
                }
                if self.salt.is_some_and(|salt| *chunk == salt) {
                    seen.trace(at + (i * ALIGN_BYTES) as u64 - ALIGN_BYTES as u64);
                }
            }
            match found {
                Some(i) => return Ok(at + (i * ALIGN_BYTES) as u64),
                None => at += (held.len() / ALIGN_BYTES * ALIGN_BYTES) as u64,
            }
        }
        Ok(self.len)
    }

    fn crc(&mut self, at: u64, header: &GroupHeader) -> io::Result<u32> {
        let mut hasher = crc32fast::Hasher::new();
        let mut from = at + 8;
        let end = at + (GROUP_HEADER_BYTES + header.stored_bytes as usize) as u64;
        while from < end {
            let n = (end - from).min(WINDOW_BYTES as u64) as usize;
            let part = self.load(from, n)?;
            if part.is_empty() {
                break;
            }
            hasher.update(part);
            from += part.len() as u64;
        }
        Ok(hasher.finalize())
    }
}
