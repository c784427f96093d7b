//! What the frames say. PROTOCOL.md gives each field's meaning; postcard writes them in this order,
//! so fields and variants are only ever added at the end, under a new version.

use headwater_batch::{Offset, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::stream::Opened;
use crate::{
    Attempt, BootSpan, BootStart, Digest, EdgeName, GapReason, Incarnation, Parent,
    QuarantineReason, RefuseReason, RejectCode, StreamId,
};

/// A frame's body, edge to cloud. The first three travel on `Control`, the rest on data lanes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToCloud {
    /// First frame of a connection, once.
    Hello { edge: EdgeName, software: String },
    /// HELLO of one stream; again after RETRY(0), FENCED, or with a new `stream` after a fork.
    Announce(Announce),
    /// The edge has another record than the last one the cloud stored: it sends nothing.
    Quarantined {
        stream: StreamId,
        reason: QuarantineReason,
    },
    /// Records `[base, next)`; the batch is the frame's tail.
    Data {
        stream: StreamId,
        base: Offset,
        next: Offset,
        lineage: Vec<BootStart>,
        digest: Digest,
    },
    Gap {
        stream: StreamId,
        from: Offset,
        to: Offset,
        reason: GapReason,
        lineage: Vec<BootStart>,
    },
    /// Ends the discarding that the cloud began with this attempt; DATA goes on from the right place.
    Resume { stream: StreamId, attempt: Attempt },
    /// Nothing was acknowledged for too long: where are we?
    Resync { stream: StreamId },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    pub stream: StreamId,
    pub tp: TopicPartition,
    /// How many partitions the edge's topic has (U6).
    pub partitions: u32,
    pub incarnation: Incarnation,
    pub origin: Offset,
    pub parent: Option<Parent>,
    pub start: Offset,
    pub end: Offset,
    pub acked: Offset,
    pub spans: Vec<BootSpan>,
}

/// A frame's body, cloud to edge, all on `Control`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToEdge {
    /// Answers HELLO.
    Server {
        wall_ms: i64,
        addresses: Vec<String>,
        window_bytes: u64,
    },
    /// SESSION(epoch) is applied; DATA starts at `next`.
    Welcome {
        stream: StreamId,
        opened: Opened,
    },
    Diverged {
        stream: StreamId,
        fork: Offset,
    },
    Quarantine {
        stream: StreamId,
        reason: QuarantineReason,
    },
    Refused {
        stream: StreamId,
        reason: RefuseReason,
    },
    Fenced {
        stream: StreamId,
    },
    /// Everything below the offset is durable. Cumulative.
    Ack {
        acks: Vec<(StreamId, Offset)>,
    },
    /// The cloud discards until RESUME(attempt), from `next`.
    OutOfOrder {
        stream: StreamId,
        attempt: Attempt,
        next: Offset,
    },
    /// The same, from the acknowledged offset: the outcome of something is not known.
    Resync {
        stream: StreamId,
        attempt: Attempt,
    },
    /// The same, after a pause: the shard is stalled. With attempt 0: ANNOUNCE again.
    Retry {
        stream: StreamId,
        attempt: Attempt,
        pause_ms: u32,
    },
    /// `[base, next)` can never be stored; the cloud discards until RESUME(attempt).
    Rejected {
        stream: StreamId,
        attempt: Attempt,
        base: Offset,
        next: Offset,
        code: RejectCode,
    },
    /// The cloud is about to close, and why.
    Goodbye {
        reason: String,
    },
}

impl ToCloud {
    pub fn name(&self) -> &'static str {
        match self {
            ToCloud::Hello { .. } => "HELLO",
            ToCloud::Announce(_) => "ANNOUNCE",
            ToCloud::Quarantined { .. } => "QUARANTINED",
            ToCloud::Data { .. } => "DATA",
            ToCloud::Gap { .. } => "GAP",
            ToCloud::Resume { .. } => "RESUME",
            ToCloud::Resync { .. } => "RESYNC",
        }
    }
}
