//! What the edge's machine asks of its shell, and what the shell tells it.

use bytes::Bytes;
use headwater_batch::{Offset, TopicPartition};

use crate::{AlarmKind, BootSpan, Channel, GapReason, Incarnation, Ms, Parent, RejectCode};

/// One edge partition's log, as the shell knows it: what ANNOUNCE says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    pub tp: TopicPartition,
    /// Partitions of its topic on this edge, `tp.partition + 1` at least (U6).
    pub partitions: u32,
    pub incarnation: Incarnation,
    /// Where this incarnation began: 0, or the fork.
    pub origin: Offset,
    pub parent: Option<Parent>,
    /// `[start, end)` of what can be read: sealed and durable.
    pub start: Offset,
    pub end: Offset,
    /// The durable uplink cursor.
    pub acked: Offset,
    /// Boots since the last verified position, oldest first; the last is the one that runs now and
    /// ends at the log's NEXT offset (records not yet sealed count). See [`crate::boot_spans`].
    pub spans: Vec<BootSpan>,
    /// Larger goes first when several streams have data. 0 is normal.
    pub priority: i32,
}

impl StreamInfo {
    /// The log's next offset, records included that are not sealed yet.
    pub(super) fn log_end(&self) -> Offset {
        self.spans.last().map_or(self.end, |span| span.end)
    }
}

/// Drain with [`super::EdgeSession::poll_effect`] after every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EdgeEffect {
    /// Write to the channel, in order. A frame may come as several of these. A data lane is opened
    /// (unidirectional) at its first use.
    Send { channel: Channel, bytes: Bytes },
    /// Read whole batches; the first may hold `from` inside, and comes even if it is larger than
    /// `max_bytes`. Checksums are verified by the log. Answer with `batches`, `log_gap` or
    /// `read_failed`; at most one read per stream is out.
    Read {
        tp: TopicPartition,
        from: Offset,
        max_bytes: usize,
    },
    /// Everything below `offset` is durable in the cloud: store as the uplink cursor.
    Acked { tp: TopicPartition, offset: Offset },
    /// History is the same below `at`: boots whose span ends below `at` may be forgotten.
    Verified { tp: TopicPartition, at: Offset },
    /// Durably give the log a new incarnation that starts at `at`, with the uplink cursor there;
    /// then call `fork_durable`, or `fork_failed`. Nothing of this stream is sent before. After a
    /// failure the same comes again; one that became durable all the same may be made twice.
    PersistFork {
        tp: TopicPartition,
        parent: Incarnation,
        incarnation: Incarnation,
        at: Offset,
    },
    /// Durably copy records `[from, to)` into the dead-letter file, then call `dead_lettered`, or
    /// `dead_letter_failed`: it comes again.
    DeadLetter {
        tp: TopicPartition,
        from: Offset,
        to: Offset,
        code: RejectCode,
    },
    /// The stream will be announced again (fenced, or its shard was stalled): give its log's state
    /// as of now with `described`.
    Describe { tp: TopicPartition },
    /// Log it, once, and show it on the status page.
    Alarm { tp: TopicPartition, kind: AlarmKind },
    /// The cloud answered. The back-off starts small again; addresses are for the next try.
    Connected {
        server_ms: i64,
        addresses: Vec<String>,
    },
    /// Close the connection and reconnect after the back-off. The machine is spent.
    Close { reason: CloseReason },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    #[error("the cloud broke the protocol: {0}")]
    Protocol(String),
    #[error("nothing heard from the cloud for {0} ms")]
    Silent(Ms),
    #[error("the cloud ended the session: {0}")]
    ByPeer(String),
}

/// The answer to a read that found no records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogGap {
    pub tp: TopicPartition,
    pub from: Offset,
    pub to: Offset,
    pub reason: GapReason,
}
