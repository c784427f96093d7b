//! Walking over the batches of a log file, and finding the way again behind a damaged one.

use std::io;

use headwater_batch::{BatchView, HEADER_BYTES, Limits, Offset, layout};

use super::BatchMeta;
use crate::disk::DiskFile;

/// Read at once while scanning.
const WINDOW_BYTES: usize = 256 << 10;

/// How far [`scan`] came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The end of the last good batch, in bytes and as offset.
    pub position: u64,
    pub end: Offset,
    /// Why it stopped there, unless the range was at its end.
    pub problem: Option<String>,
}

/// A sliding window over a file: no read is repeated while one goes forward.
pub struct Window<'f> {
    file: &'f dyn DiskFile,
    to: u64,
    at: u64,
    bytes: Vec<u8>,
}

impl<'f> Window<'f> {
    /// Reads nothing at or behind `to`.
    pub fn new(file: &'f dyn DiskFile, to: u64) -> Window<'f> {
        Window {
            file,
            to,
            at: 0,
            bytes: Vec::new(),
        }
    }

    /// At least `need` bytes from `position`, fewer only at the end.
    pub fn from(&mut self, position: u64, need: usize) -> io::Result<&[u8]> {
        let left = self.to.saturating_sub(position);
        let need = (need as u64).min(left) as usize;
        let held = position
            .checked_sub(self.at)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| self.bytes.len() >= skip + need);
        if let Some(skip) = held {
            return Ok(&self.bytes[skip..]);
        }
        let want = (need.max(WINDOW_BYTES) as u64).min(left) as usize;
        self.bytes.resize(want, 0);
        let got = self.file.read_at(&mut self.bytes, position)?;
        self.bytes.truncate(got);
        self.at = position;
        Ok(&self.bytes)
    }

    /// The whole batch at `position` with a good CRC, or what is wrong there.
    pub fn batch(
        &mut self,
        position: u64,
        limits: &Limits,
    ) -> io::Result<Result<BatchView<'_>, String>> {
        let size = {
            let front = self.from(position, HEADER_BYTES)?;
            match headwater_batch::Header::parse(front, limits) {
                Ok(header) => header.size,
                Err(error) => return Ok(Err(error.to_string())),
            }
        };
        let bytes = self.from(position, size)?;
        let checked = BatchView::split_first(bytes, limits)
            .and_then(|(view, _)| view.verify_crc().map(|()| view));
        Ok(checked.map_err(|error| error.to_string()))
    }
}

/// Visits the good batches of `from..to`, the first of which must have base offset `expected`
/// and each further one must follow on. CRCs are checked: base offsets are outside the CRC, so
/// that they follow on is their check.
pub fn scan(
    file: &dyn DiskFile,
    from: u64,
    to: u64,
    expected: Offset,
    limits: &Limits,
    mut visit: impl FnMut(&BatchView<'_>, u64),
) -> io::Result<Scanned> {
    let mut window = Window::new(file, to);
    let mut scanned = Scanned {
        position: from,
        end: expected,
        problem: None,
    };
    while scanned.position < to {
        match window.batch(scanned.position, limits)? {
            Ok(view) if view.base_offset() == scanned.end => {
                visit(&view, scanned.position);
                scanned.position += view.size() as u64;
                scanned.end = view.next_offset();
            }
            Ok(view) => {
                let (found, want) = (view.base_offset(), scanned.end);
                scanned.problem = Some(format!("base offset {found} where {want} follows"));
                break;
            }
            Err(problem) => {
                scanned.problem = Some(problem);
                break;
            }
        }
    }
    Ok(scanned)
}

/// The first good batch in `from..to` whose offsets lie in `after..before`, and its position.
///
/// Every byte is tried: behind a damaged length nothing says where the next batch begins. The
/// format byte and the offset's range leave few places where a CRC must be computed.
pub fn resync(
    file: &dyn DiskFile,
    from: u64,
    to: u64,
    offsets: std::ops::Range<Offset>,
    limits: &Limits,
) -> io::Result<Option<(u64, BatchMeta)>> {
    let mut window = Window::new(file, to);
    let mut at = from;
    while at + (HEADER_BYTES as u64) <= to {
        let bytes = window.from(at, HEADER_BYTES)?;
        if bytes.len() < HEADER_BYTES {
            return Ok(None);
        }
        let starts = bytes.len() - HEADER_BYTES + 1;
        let Some(skip) = (0..starts).find(|i| plausible(&bytes[*i..], &offsets)) else {
            at += starts as u64;
            continue;
        };
        at += skip as u64;
        if let Ok(view) = window.batch(at, limits)? {
            let meta = BatchMeta::from(view.header());
            if meta.end() <= offsets.end {
                return Ok(Some((at, meta)));
            }
        }
        at += 1;
    }
    Ok(None)
}

fn plausible(bytes: &[u8], offsets: &std::ops::Range<Offset>) -> bool {
    if bytes[layout::MAGIC_AT.start] != layout::MAGIC {
        return false;
    }
    let base = bytes[layout::BASE_OFFSET]
        .try_into()
        .expect("eight bytes by the layout");
    offsets.contains(&Offset(i64::from_be_bytes(base)))
}
