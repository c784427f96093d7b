//! What waits in the queue for its time.

use bytes::Bytes;
use headwater_batch::TopicPartition;

use super::link::ConnId;
use crate::cloud::Ticket;
use crate::{Channel, Incarnation, RejectCode, StreamEntry, StreamKey};

#[derive(Debug, Clone)]
pub(super) enum Event {
    Chaos,
    Up {
        conn: ConnId,
        channel: Channel,
        bytes: Bytes,
    },
    Down {
        conn: ConnId,
        bytes: Bytes,
    },
    EdgeSees {
        conn: ConnId,
    },
    CloudSees {
        conn: ConnId,
    },
    Read {
        device: usize,
        run: u64,
        conn: ConnId,
        tp: TopicPartition,
        from: i64,
        batches: usize,
    },
    Durable {
        device: usize,
        run: u64,
        tp: TopicPartition,
        to: i64,
    },
    Forked {
        device: usize,
        run: u64,
        tp: TopicPartition,
        incarnation: Incarnation,
        at: i64,
    },
    DeadLettered {
        device: usize,
        run: u64,
        tp: TopicPartition,
        range: (i64, i64),
        code: RejectCode,
    },
    Apply {
        conn: ConnId,
        ticket: Ticket,
        key: StreamKey,
        entry: StreamEntry,
        /// For a first session: the cloud partition that it asks for (U6).
        wish: Option<u32>,
        answer: bool,
    },
    /// The budget takes what is on its way, and more: stored after all, it is no loss.
    Drop {
        device: usize,
        tp: TopicPartition,
        beyond: i64,
    },
    /// An operator looks at the incarnations of an edge partition.
    Operator {
        tp: TopicPartition,
    },
    Retry {
        conn: ConnId,
        ticket: Ticket,
    },
    Reject {
        conn: ConnId,
        ticket: Ticket,
    },
}
