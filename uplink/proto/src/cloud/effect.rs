//! What the cloud's machine asks of its shell.

use bytes::Bytes;

use crate::{AlarmKind, Channel, FrameError, RejectCode, StreamEntry, StreamKey};

/// Names one commit within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Drain with [`super::CloudSession::poll_effect`] after every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloudEffect {
    /// Write to the control stream, in order.
    Send { channel: Channel, bytes: Bytes },
    /// Commit, keeping the order within a key; answer `committed` once it is applied, or `retry`
    /// when it is not known to be (no leader, stalled, refused for space).
    Commit {
        ticket: Ticket,
        key: StreamKey,
        entry: StreamEntry,
    },
    /// Log it, once, and show it to the operator.
    Alarm { key: StreamKey, kind: AlarmKind },
    /// Close the connection; the reason says who and why, and is for the log. The machine is spent.
    Close { reason: SessionError },
}

/// Why the cloud ends a session. Each names the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("edge {peer}: frame refused: {error}")]
    Frame { peer: String, error: FrameError },
    #[error("edge {peer} says in HELLO that it is {claimed:?}: the certificate decides")]
    WrongName { peer: String, claimed: String },
    #[error("edge {peer} sent {frame} {when}")]
    Unexpected {
        peer: String,
        frame: &'static str,
        when: &'static str,
    },
    #[error("edge {peer} announced stream {stream} {why}")]
    BadAnnounce {
        peer: String,
        stream: u32,
        why: &'static str,
    },
    #[error("edge {peer}, stream {stream}: {why}")]
    BadStream {
        peer: String,
        stream: u32,
        why: String,
    },
    #[error("edge {peer}: more than {bound} {what}")]
    TooMany {
        peer: String,
        bound: usize,
        what: &'static str,
    },
    #[error("edge {peer}, stream {stream}: the batch at {base} came damaged ({error})")]
    Damaged {
        peer: String,
        stream: u32,
        base: i64,
        error: String,
    },
}

/// How the shell may refuse a commit for good, without the state machine.
pub type Rejected = RejectCode;
