//! Bytes of a journal file: see FORMAT.md, chapter "Journal". Everything is little endian.

use std::ops::Range;

use crate::checkpoint::{Mark, POSITION_MAX};

/// Starts a file header. The last two characters are the format's version.
pub const FILE_MAGIC: [u8; 8] = *b"HWJRNL01";
/// Starts a group.
pub const GROUP_MAGIC: [u8; 4] = *b"HWGR";
/// Fixed part of a file header; the owner's header bytes follow.
pub const FILE_HEADER_BYTES: usize = 96;
/// A file header is written twice, each copy padded to a multiple of this.
pub const BLOCK_BYTES: usize = 4096;
/// Fixed part of a group; its body follows.
pub const GROUP_HEADER_BYTES: usize = 48;
/// Groups start at multiples of this.
pub const ALIGN_BYTES: usize = 8;
/// A group may leave the rest of such a page free, when it touches a page less behind it.
pub const PAGE_BYTES: usize = 4096;
/// Body is one zstd frame.
pub const FLAG_ZSTD: u32 = 1;
/// Frames carry the position they were copied from (J8).
pub const FLAG_FORWARDED: u32 = 2;
/// The most bytes of a group's body, plain or stored, that a reader accepts.
pub const BODY_BYTES_MAX: usize = 8 << 20;
/// The most frames of a group: each takes two bytes at least.
pub const GROUP_FRAMES_MAX: u64 = BODY_BYTES_MAX as u64 / 2;
/// The most bytes in one frame's payload: a batch of 1 MiB and what describes it.
pub const FRAME_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// The most bytes of the owner in a file header.
pub const HEADER_BYTES_MAX: usize = 256 << 10;
/// What a frame takes beside its payload: kind, origin, length.
pub const FRAME_OVERHEAD_MAX: usize = 1 + 8 + 5;

/// A file header, without the owner's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub salt: u64,
    /// The number in the file's name.
    pub sequence: u64,
    /// Every earlier frame is durable in earlier files; theirs from here on are void.
    pub first: u64,
    /// Frames below were durable when the file got its name: a copied tail included.
    pub synced: u64,
    /// The checkpoints that count (J5), newest first.
    pub marks: [Mark; 2],
}

/// Length of one padded copy.
pub(crate) fn header_block_bytes(owner_bytes: usize) -> usize {
    (FILE_HEADER_BYTES + owner_bytes).next_multiple_of(BLOCK_BYTES)
}

/// Where groups start in a file whose owner header has this length.
pub(crate) fn body_at(owner_bytes: usize) -> usize {
    2 * header_block_bytes(owner_bytes)
}

/// Both copies.
pub(crate) fn encode_header(header: &FileHeader, owner: &[u8]) -> Vec<u8> {
    let block = header_block_bytes(owner.len());
    let mut out = Vec::with_capacity(2 * block);
    out.extend_from_slice(&FILE_MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&u32::try_from(owner.len()).expect("bounded").to_le_bytes());
    for n in [header.salt, header.sequence, header.first, header.synced] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    for mark in &header.marks {
        for n in [mark.generation, mark.at, mark.digest] {
            out.extend_from_slice(&n.to_le_bytes());
        }
    }
    debug_assert_eq!(out.len(), FILE_HEADER_BYTES);
    out.extend_from_slice(owner);
    let crc = crc32fast::hash(&out[12..]);
    out[8..12].copy_from_slice(&crc.to_le_bytes());
    out.resize(block, 0);
    out.extend_from_within(..);
    out
}

/// One copy, from the front of `bytes`. `None` when it does not prove itself.
pub(crate) fn decode_header(bytes: &[u8]) -> Option<(FileHeader, Vec<u8>)> {
    let fixed = bytes.get(..FILE_HEADER_BYTES)?;
    let owner_bytes = u32_at(fixed, 12) as usize;
    if fixed[..8] != FILE_MAGIC || owner_bytes > HEADER_BYTES_MAX {
        return None;
    }
    let whole = bytes.get(..FILE_HEADER_BYTES + owner_bytes)?;
    if crc32fast::hash(&whole[12..]) != u32_at(fixed, 8) {
        return None;
    }
    let mark = |at| Mark {
        generation: u64_at(fixed, at),
        at: u64_at(fixed, at + 8),
        digest: u64_at(fixed, at + 16),
    };
    let header = FileHeader {
        salt: u64_at(fixed, 16),
        sequence: u64_at(fixed, 24),
        first: u64_at(fixed, 32),
        synced: u64_at(fixed, 40),
        marks: [mark(48), mark(72)],
    };
    let numbers = [header.sequence, header.first, header.synced];
    // What a checkpoint holds was synced before the file began.
    let end = header.first.max(header.synced);
    let holds = |mark: &Mark| mark.is_plausible() && mark.at <= end;
    if numbers.iter().any(|n| *n > POSITION_MAX) || !header.marks.iter().all(holds) {
        return None;
    }
    Some((header, whole[FILE_HEADER_BYTES..].to_vec()))
}

/// The fixed part of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub salt: u64,
    /// Number of its first frame.
    pub first: u64,
    /// Frames below this were durable when the group was written (J1).
    pub synced: u64,
    pub frames: u32,
    pub flags: u32,
    pub plain_bytes: u32,
    pub stored_bytes: u32,
    pub crc: u32,
}

impl GroupHeader {
    pub fn decode(bytes: &[u8]) -> Option<GroupHeader> {
        let b = bytes.get(..GROUP_HEADER_BYTES)?;
        let header = GroupHeader {
            crc: u32_at(b, 4),
            salt: u64_at(b, 8),
            first: u64_at(b, 16),
            synced: u64_at(b, 24),
            frames: u32_at(b, 32),
            flags: u32_at(b, 36),
            plain_bytes: u32_at(b, 40),
            stored_bytes: u32_at(b, 44),
        };
        let fits = header.plain_bytes.max(header.stored_bytes) as usize <= BODY_BYTES_MAX;
        // A frame takes two bytes at least. What is in a group was not synced when it was written.
        let fits = fits && header.frames <= header.plain_bytes / 2 && header.synced <= header.first;
        (b[..4] == GROUP_MAGIC
            && fits
            && header.frames > 0
            && header.end().is_some_and(|end| end <= POSITION_MAX))
        .then_some(header)
    }

    /// Number of the frame after its last.
    pub fn end(&self) -> Option<u64> {
        self.first.checked_add(u64::from(self.frames))
    }

    pub fn frames_range(&self) -> Range<u64> {
        self.first..self.end().expect("checked when decoded")
    }

    /// Length with padding.
    pub fn total_bytes(&self) -> u64 {
        group_bytes(self.stored_bytes as usize) as u64
    }

    /// Fills in the front of `group`, which is header, body and padding, checksum included.
    pub fn seal(&self, group: &mut [u8]) {
        group[..4].copy_from_slice(&GROUP_MAGIC);
        for (at, n) in [(8, self.salt), (16, self.first), (24, self.synced)] {
            group[at..at + 8].copy_from_slice(&n.to_le_bytes());
        }
        let small = [self.frames, self.flags, self.plain_bytes, self.stored_bytes];
        for (i, n) in small.into_iter().enumerate() {
            group[32 + 4 * i..36 + 4 * i].copy_from_slice(&n.to_le_bytes());
        }
        let crc = crc32fast::hash(&group[8..GROUP_HEADER_BYTES + self.stored_bytes as usize]);
        group[4..8].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Length of a group with padding.
pub(crate) fn group_bytes(stored: usize) -> usize {
    (GROUP_HEADER_BYTES + stored).next_multiple_of(ALIGN_BYTES)
}

/// Where a group may stand behind one that ends at `end`.
pub(crate) fn places(end: u64) -> [u64; 2] {
    [end, end.next_multiple_of(PAGE_BYTES as u64)]
}

/// Where a group of `bytes` touches the fewest pages: at `at`, or at the next page's start.
pub(crate) fn place(at: u64, bytes: usize) -> u64 {
    let page = PAGE_BYTES as u64;
    let pages = |at: u64| (at + bytes as u64).div_ceil(page) - at / page;
    let [here, next] = places(at);
    if pages(next) < pages(here) {
        next
    } else {
        here
    }
}

/// Appends a frame to a group's body.
pub(crate) fn put_frame(body: &mut Vec<u8>, kind: u8, origin: Option<u64>, parts: &[&[u8]]) {
    body.push(kind);
    if let Some(origin) = origin {
        body.extend_from_slice(&origin.to_le_bytes());
    }
    let mut len = parts.iter().map(|p| p.len()).sum::<usize>();
    while len >= 0x80 {
        body.push(len as u8 | 0x80);
        len >>= 7;
    }
    body.push(len as u8);
    parts.iter().for_each(|p| body.extend_from_slice(p));
}

/// One frame inside a plain body.
pub(crate) struct RawFrame {
    pub kind: u8,
    pub origin: Option<u64>,
    pub payload: Range<usize>,
}

/// The frame that starts at `*at`, which moves past it. `None` when the body is malformed.
pub(crate) fn next_frame(body: &[u8], flags: u32, at: &mut usize) -> Option<RawFrame> {
    let kind = *body.get(*at)?;
    let mut i = *at + 1;
    let mut origin = None;
    if flags & FLAG_FORWARDED != 0 {
        origin = Some(u64::from_le_bytes(body.get(i..i + 8)?.try_into().ok()?));
        i += 8;
    }
    let mut len = 0usize;
    for shift in (0..35).step_by(7) {
        let byte = *body.get(i)?;
        i += 1;
        len |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            let end = i.checked_add(len)?;
            body.get(i..end)?;
            *at = end;
            return Some(RawFrame {
                kind,
                origin,
                payload: i..end,
            });
        }
    }
    None
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().expect("eight bytes"))
}
