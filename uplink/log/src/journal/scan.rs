//! Reading a journal file that may be torn or rotten: its header, and every group that proves
//! itself. Nothing is believed by its length alone; memory is reserved only for bounded windows.

use std::io;
use std::ops::Range;

use super::format::{
    ALIGN_BYTES, BLOCK_BYTES, FILE_HEADER_BYTES, FileHeader, GROUP_HEADER_BYTES, GROUP_MAGIC,
    GroupHeader, HEADER_BYTES_MAX, body_at, decode_header, places,
};
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

/// What a scan of one file saw.
#[derive(Default)]
pub(crate) struct Scanned {
    pub runs: Vec<Run>,
    /// A group of this file after the last run that is not whole.
    pub torn: Option<Range<u64>>,
}

impl Scanned {
    fn add(&mut self, at: u64, header: &GroupHeader) {
        let frames = header.frames_range();
        let end_at = at + header.total_bytes();
        self.torn = None;
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
    scan_from(file, from, |g| g.salt == header.salt, &mut seen)?;
    if seen.torn.is_none() {
        let (at, next) = seen
            .runs
            .last()
            .map_or((from, header.first), |r| (r.end_at, r.frames.end));
        for place in places(at) {
            seen.torn = seen.torn.or(remains(file, place, header.salt, next)?);
        }
    }
    Ok(seen)
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
    scan_from(file, BLOCK_BYTES as u64, ours, &mut any)?;
    let Some(first) = any.runs.first() else {
        return Ok(any);
    };
    let mut seen = Scanned::default();
    scan_from(file, first.at, |g| g.salt == first.salt, &mut seen)?;
    Ok(seen)
}

fn scan_from(
    file: &dyn DiskFile,
    from: u64,
    ours: impl Fn(&GroupHeader) -> bool,
    seen: &mut Scanned,
) -> io::Result<()> {
    let len = file.len()?;
    let mut window = Window {
        file,
        len,
        start: 0,
        bytes: Vec::new(),
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
                at = window.next_magic(at + ALIGN_BYTES as u64)?;
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
    fn next_magic(&mut self, mut at: u64) -> io::Result<u64> {
        while at + (GROUP_HEADER_BYTES as u64) <= self.len {
            self.load(at, GROUP_HEADER_BYTES)?;
            let held = &self.bytes[(at - self.start) as usize..];
            let found = held
                .chunks_exact(ALIGN_BYTES)
                .position(|c| c[..4] == GROUP_MAGIC);
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
