//! Names and numbers that both machines share.

use std::fmt;
use std::sync::Arc;

use headwater_batch::{Offset, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::bounds::EDGE_NAME_BYTES_MAX;

/// Milliseconds of a monotonic clock that the shell passes in.
pub type Ms = u64;

/// An edge's name, as its certificate says it: 1 to 64 of `[a-zA-Z0-9._-]`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EdgeName(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("edge name {0:?}: want 1 to 64 of letters, digits, '.', '_' and '-'")]
pub struct EdgeNameError(pub String);

impl EdgeName {
    pub fn new(name: &str) -> Result<EdgeName, EdgeNameError> {
        let fits = !name.is_empty() && name.len() <= EDGE_NAME_BYTES_MAX;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if fits && name.bytes().all(plain) {
            Ok(EdgeName(name.into()))
        } else {
            Err(EdgeNameError(name.chars().take(80).collect()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EdgeName {
    type Error = EdgeNameError;
    fn try_from(name: String) -> Result<EdgeName, EdgeNameError> {
        EdgeName::new(&name)
    }
}

impl From<EdgeName> for String {
    fn from(name: EdgeName) -> String {
        name.0.to_string()
    }
}

impl fmt::Display for EdgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EdgeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one history of one edge partition's log (U1). Random, taken when the log is made or forks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u128);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One start of an edge: the random number of its BOOT frame (U1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootId(pub u64);

/// A boot and the offset its first record has. What DATA carries and the cloud keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BootStart {
    pub boot: BootId,
    pub start: Offset,
}

/// A boot and its records `[start, end)`. The last span of an edge ends at the offset that
/// its next record gets, sealed or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BootSpan {
    pub boot: BootId,
    pub start: Offset,
    pub end: Offset,
}

/// Makes spans of the (boot, start) pairs that a log keeps. `end` is the offset its next record gets.
pub fn boot_spans(boots: &[(u64, Offset)], end: Offset) -> Vec<BootSpan> {
    let ends = boots.iter().skip(1).map(|b| b.1).chain([end]);
    boots
        .iter()
        .zip(ends)
        .map(|(&(boot, start), end)| BootSpan {
            boot: BootId(boot),
            start,
            end: end.max(start),
        })
        .collect()
}

/// Counts a stream's sessions; a later one fences the earlier (U3). The first session is 1.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

/// Counts the rewinds of a stream within one connection; RESUME names the one it answers (U3).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Attempt(pub u32);

/// An edge's short number for a stream, good within one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub u32);

/// What dedup state is keyed by (U2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamKey {
    pub edge: EdgeName,
    pub incarnation: Incarnation,
    pub tp: TopicPartition,
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.edge, self.tp, self.incarnation)
    }
}

/// The last record that the cloud stored of a stream: what U1 compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LastRecord {
    pub offset: Offset,
    pub digest: crate::Digest,
}

/// Where an incarnation came from when a log forked (U1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Parent {
    pub incarnation: Incarnation,
    pub fork: Offset,
}

/// One ordered byte stream of a connection. `Data` lanes go from the edge to the cloud only; the
/// edge numbers them from 0, the cloud's shell may number them as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    Control,
    Data(u64),
}

/// Why records do not travel (U4). Stands in the cloud's loss ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GapReason {
    /// The operator chose `drop-oldest` and the budget ran out.
    Budget,
    /// A checksum failed: the medium rotted.
    Corrupt,
    /// The cloud refused the batch for good; it is in the edge's dead-letter file (U5).
    Rejected(RejectCode),
    /// Records the cloud once acknowledged and lost, given up by the operator.
    GivenUp,
}

/// Why a batch can never be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RejectCode {
    /// Not a batch, or its offsets are not those announced.
    Malformed,
    /// Larger than the sink takes.
    TooLarge,
    /// The sink will not take this topic or these records.
    Unacceptable,
}

/// What the operator must hear of (U1-U5). Both sides raise them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlarmKind {
    /// The cloud's `next` lies below what it acknowledged: it was restored from a backup.
    CloudWentBack { acked: Offset, next: Offset },
    /// Same boot, other records: the image of a running machine.
    Quarantine(QuarantineReason),
    /// Two cards of one edge are in use at the same time.
    TwoLive { other: Incarnation },
    /// The log forked: an image was restored, a card cloned, or a card lost its tail.
    Forked {
        parent: Incarnation,
        fork: Offset,
        incarnation: Incarnation,
    },
    /// A session of the same stream took over.
    Fenced,
    /// The cloud refuses the stream.
    Refused(RefuseReason),
    /// The log cannot be read here and does not say why; the stream waits.
    LogUnreadable { from: Offset },
    /// A batch was refused for good and put into the dead-letter file.
    DeadLetter {
        from: Offset,
        to: Offset,
        code: RejectCode,
    },
    /// More partitions than one connection carries: this one is not sent.
    TooManyStreams { bound: u32 },
    /// The edge cannot make a fork or dead letters from here on durable; the stream waits and tries
    /// again.
    LogUnwritable { from: Offset },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum QuarantineReason {
    /// The last 8 boots on the cloud and those of the edge have none in common.
    NoCommonBoot,
    /// The boot is still running, yet its log is shorter than what it sent.
    SameBootShorter,
    /// The record before `next` is another one than the cloud stored.
    OtherDigest,
    /// One boot with two different starts.
    BootMoved,
    /// One incarnation with two different origins.
    OriginMoved,
    /// The cloud lost its dedup state with all its copies: it cannot tell what it has, until the
    /// operator trusts this edge's own word.
    StateLost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RefuseReason {
    /// 16 incarnations of this edge partition are known; retire one by name (U2).
    TooManyIncarnations,
    /// The operator retired this incarnation.
    Retired,
    /// The sink does not take this edge or topic.
    NotAllowed,
}
