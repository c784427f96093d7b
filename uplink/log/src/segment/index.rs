//! Entries of the two indexes, and what is wrong with an index file.

/// One entry of an `.index` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Last offset of the batch, from the base offset.
    pub relative_offset: i32,
    /// Where that batch begins in the log.
    pub position: i32,
}

/// One entry of a `.timeindex` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// The greatest timestamp up to here.
    pub timestamp: i64,
    /// Last offset of the batch that holds it, from the base offset.
    pub relative_offset: i32,
}

pub const INDEX_ENTRY_BYTES: usize = 8;
pub const TIME_ENTRY_BYTES: usize = 12;

impl OffsetEntry {
    pub fn encode(self) -> [u8; INDEX_ENTRY_BYTES] {
        let mut bytes = [0; INDEX_ENTRY_BYTES];
        bytes[..4].copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes[4..].copy_from_slice(&self.position.to_be_bytes());
        bytes
    }

    /// `bytes` holds at least one entry.
    pub fn decode(bytes: &[u8]) -> OffsetEntry {
        OffsetEntry {
            relative_offset: i32_at(bytes, 0),
            position: i32_at(bytes, 4),
        }
    }
}

impl TimeEntry {
    pub fn encode(self) -> [u8; TIME_ENTRY_BYTES] {
        let mut bytes = [0; TIME_ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[8..].copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes
    }

    /// `bytes` holds at least one entry.
    pub fn decode(bytes: &[u8]) -> TimeEntry {
        let timestamp = i64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"));
        TimeEntry {
            timestamp,
            relative_offset: i32_at(bytes, 8),
        }
    }
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// What is wrong with an `.index` of a log of `log_bytes`; `None` if it can be used.
pub fn index_problem(index: &[u8], log_bytes: u64) -> Option<String> {
    if index.len() % INDEX_ENTRY_BYTES != 0 {
        return Some(format!("{} bytes are not whole entries", index.len()));
    }
    let mut last = OffsetEntry {
        relative_offset: -1,
        position: -1,
    };
    for (i, bytes) in index.chunks_exact(INDEX_ENTRY_BYTES).enumerate() {
        let entry = OffsetEntry::decode(bytes);
        if entry.relative_offset <= last.relative_offset || entry.position <= last.position {
            return Some(format!("entry {i} does not grow"));
        }
        if entry.position as u64 >= log_bytes {
            return Some(format!(
                "entry {i} points at {}, log ends at {log_bytes}",
                entry.position
            ));
        }
        last = entry;
    }
    None
}

/// What is wrong with a `.timeindex`; `None` if it can be used.
pub fn timeindex_problem(timeindex: &[u8]) -> Option<String> {
    if timeindex.len() % TIME_ENTRY_BYTES != 0 {
        return Some(format!("{} bytes are not whole entries", timeindex.len()));
    }
    let mut last: Option<TimeEntry> = None;
    for (i, bytes) in timeindex.chunks_exact(TIME_ENTRY_BYTES).enumerate() {
        let entry = TimeEntry::decode(bytes);
        let grows = last.is_none_or(|last| {
            entry.timestamp > last.timestamp && entry.relative_offset >= last.relative_offset
        });
        if !grows || entry.relative_offset < 0 {
            return Some(format!("entry {i} does not grow"));
        }
        last = Some(entry);
    }
    None
}
