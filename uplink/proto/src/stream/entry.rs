//! What the sink commits for a stream.

use bytes::Bytes;
use headwater_batch::Offset;
use serde::{Deserialize, Serialize};

use crate::{BootSpan, BootStart, Digest, Epoch, GapReason, Parent};

/// One committed step of a stream. `at_ms` is the proposer's wall clock, for the operator's eyes and
/// the two-live alarm; no offset depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEntry {
    /// HELLO for this stream: opens a session with the next epoch (U3).
    Session(SessionEntry),
    Data(DataEntry),
    Gap(GapEntry),
    /// Asks where the stream is; changes nothing.
    Probe {
        epoch: Epoch,
    },
    /// The operator retires this incarnation by name (U2).
    Retire {
        at_ms: i64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// How many partitions the edge's topic has: the sink maps by it at first use (U6), no rule at
    /// apply looks at it.
    pub partitions: u32,
    /// Where this incarnation began: 0, or its parent's fork.
    pub origin: Offset,
    pub parent: Option<Parent>,
    /// The log's `[start, end)` on the edge.
    pub start: Offset,
    pub end: Offset,
    /// What the edge knows as acknowledged.
    pub acked: Offset,
    /// Oldest first; the last one is the boot that runs now, its end is `end`.
    pub spans: Vec<BootSpan>,
    pub at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataEntry {
    pub epoch: Epoch,
    /// Records `[base, next)`.
    pub base: Offset,
    pub next: Offset,
    /// The boot in force at `base`, and those that begin within.
    pub lineage: Vec<BootStart>,
    /// Digest of the last record.
    pub digest: Digest,
    pub at_ms: i64,
    /// The encoded batch, CRC checked, base offset as on the edge.
    pub batch: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapEntry {
    pub epoch: Epoch,
    pub from: Offset,
    pub to: Offset,
    pub reason: GapReason,
    /// The boot in force at `from`, and those that begin within.
    pub lineage: Vec<BootStart>,
    pub at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stream entry does not decode: {0}")]
pub struct EntryError(pub(crate) String);

/// `StreamEntry` without its batch, as postcard writes it.
#[derive(Serialize, Deserialize)]
enum Head {
    Session(SessionEntry),
    Data {
        epoch: Epoch,
        base: Offset,
        next: Offset,
        lineage: Vec<BootStart>,
        digest: Digest,
        at_ms: i64,
    },
    Gap(GapEntry),
    Probe {
        epoch: Epoch,
    },
    Retire {
        at_ms: i64,
    },
}

impl StreamEntry {
    /// Encodes for a journal: a small postcard head, and the batch's own bytes (empty unless Data).
    pub fn encode(&self) -> (Vec<u8>, Bytes) {
        let head = match self {
            StreamEntry::Session(s) => Head::Session(s.clone()),
            StreamEntry::Data(d) => Head::Data {
                epoch: d.epoch,
                base: d.base,
                next: d.next,
                lineage: d.lineage.clone(),
                digest: d.digest,
                at_ms: d.at_ms,
            },
            StreamEntry::Gap(g) => Head::Gap(g.clone()),
            StreamEntry::Probe { epoch } => Head::Probe { epoch: *epoch },
            StreamEntry::Retire { at_ms } => Head::Retire { at_ms: *at_ms },
        };
        let head = postcard::to_stdvec(&head).expect("plain data always encodes");
        (head, self.batch().cloned().unwrap_or_default())
    }

    /// Decodes what [`encode`](Self::encode) gave.
    pub fn decode(head: &[u8], batch: Bytes) -> Result<StreamEntry, EntryError> {
        let head = postcard::from_bytes(head).map_err(|e| EntryError(e.to_string()))?;
        if !matches!(head, Head::Data { .. }) && !batch.is_empty() {
            return Err(EntryError(format!("{} stray bytes", batch.len())));
        }
        Ok(match head {
            Head::Session(s) => StreamEntry::Session(s),
            Head::Data {
                epoch,
                base,
                next,
                lineage,
                digest,
                at_ms,
            } => StreamEntry::Data(DataEntry {
                epoch,
                base,
                next,
                lineage,
                digest,
                at_ms,
                batch,
            }),
            Head::Gap(g) => StreamEntry::Gap(g),
            Head::Probe { epoch } => StreamEntry::Probe { epoch },
            Head::Retire { at_ms } => StreamEntry::Retire { at_ms },
        })
    }

    /// The batch of a Data entry.
    pub fn batch(&self) -> Option<&Bytes> {
        match self {
            StreamEntry::Data(d) => Some(&d.batch),
            _ => None,
        }
    }
}
