//! What goes into the machine and what comes out of it.

use bytes::{Bytes, BytesMut};

use crate::Publish;

/// Names one network connection. The shell chooses it and never uses one twice in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Names one [`Append`]. Rises by at least one with each append, across restarts too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Token(pub u64);

/// What the shell knows about a connection when it opens.
#[derive(Debug, Clone, Default)]
pub struct ConnInfo {
    /// The listener it came in by; handed on to [`crate::Access`].
    pub listener: u16,
    /// The peer's address as text, for logs and status.
    pub remote: String,
    /// The user that a client certificate names, if the listener checks them. It counts before the
    /// one in CONNECT, which anybody may write there.
    pub certificate_user: Option<String>,
    /// CONNECT is answered with this reason, whatever it holds.
    pub refuse: Option<u8>,
    /// What its listener allows.
    pub limits: Limits,
}

/// Limits of one listener. Where [`crate::Config`] has the same one, the lower counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections of this listener at most; the next one gets reason 0x97 (v5) or 0x03.
    pub connections_max: usize,
    /// A packet of the client at most; CONNACK says so on v5.
    pub packet_bytes_max: usize,
    pub receive_maximum: u16,
    pub inflight_max: u16,
    /// What may wait for one client: at QoS 0 for the socket, above that for the session. A session that
    /// outlives the connection keeps this bound, over restarts too, until its client comes by another
    /// listener.
    pub queue_bytes_max: usize,
    /// Publishes a second, and at once after a pause; 0: no limit. Above it reading pauses: a
    /// DISCONNECT (0x96) would only make the client send the same again.
    pub messages_per_second: u32,
}

impl Default for Limits {
    /// None beyond those of [`crate::Config`].
    fn default() -> Limits {
        Limits {
            connections_max: usize::MAX,
            packet_bytes_max: usize::MAX,
            receive_maximum: u16::MAX,
            inflight_max: u16::MAX,
            queue_bytes_max: usize::MAX,
            messages_per_second: 0,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A connection was accepted (and its TLS or WebSocket handshake is over).
    Opened { conn: ConnId, info: ConnInfo },
    /// The peer sent these bytes.
    Received { conn: ConnId, bytes: BytesMut },
    /// So many more bytes of what was sent have been handed to the network.
    Written { conn: ConnId, bytes: usize },
    /// The connection is gone, by the peer or by an error.
    Closed { conn: ConnId },
    /// Every frame up to and including this one is durable, except those refused.
    Durable(Token),
    /// This frame was not written and will not be.
    Refused { token: Token, reason: Refusal },
    /// The answer to [`Effect::Authenticate`].
    Authenticated { conn: ConnId, accepted: bool },
    /// Close this connection for a reason of the operator's (DISCONNECT 0x98 on v5).
    Kick { conn: ConnId },
    /// Close this connection with this reason: in DISCONNECT, or in CONNACK while its login is checked.
    Refuse { conn: ConnId, reason: u8 },
    /// The access rules are others now: who has a will that it may not publish any more is closed
    /// (0x87) without it. Subscriptions stay, and get what may still be received.
    AccessChanged,
    /// The node stops: every connection gets DISCONNECT 0x8B and is closed; sessions stay.
    Shutdown,
    /// The time armed by [`Effect::ArmTimer`] has come.
    Timer,
}

/// Why the log did not take a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The disk budget is used up. v5: reason 0x97. v3.1.1: see [`crate::broker`].
    QuotaExceeded,
    /// This message can never be stored (too large for a batch, no valid route). v5: reason 0x83
    /// or 0x90; v3.1.1: the connection is closed.
    Unacceptable,
}

/// What the shell is to do, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Write these bytes; report them with [`Event::Written`].
    Send {
        conn: ConnId,
        bytes: Bytes,
    },
    /// Stage one journal frame.
    Append(Append),
    /// Check a login (passwords are slow to hash, so not in the machine). Only asked when
    /// [`crate::Config::authenticate`] is set. Reading is paused meanwhile.
    Authenticate {
        conn: ConnId,
        info: ConnInfo,
        login: crate::Login,
    },
    /// Write what was sent, then close.
    Close {
        conn: ConnId,
        reason: CloseReason,
    },
    PauseReading(ConnId),
    ResumeReading(ConnId),
    /// Send [`Event::Timer`] at this time. Replaces the last.
    ArmTimer {
        at_ms: u64,
    },
}

/// One journal frame: the record that a publish becomes, and the change of session state that must
/// be durable with it. At least one of the two is there.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    pub token: Token,
    /// The message to route into the log.
    pub publish: Option<Publish>,
    /// Opaque; given back, in order, to [`crate::Broker::restore`]. Empty: nothing to keep.
    pub op: Vec<u8>,
    /// A publish that is offered again when the log is full (3.1.1), and whose. Once one of a
    /// connection is refused, so is every later one of it that was appended before the machine
    /// knew: it would overtake.
    pub held_for: Option<ConnId>,
    /// Only lets go of session state: a log that is full takes it from its reserve, or what it is
    /// full of would never go.
    pub frees_room: bool,
}

/// Why the machine closed a connection; for the log line and the metrics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    #[error("the client disconnected")]
    Disconnected,
    #[error("nothing came from the client for 1.5 times its keep-alive")]
    KeepAlive,
    #[error("no CONNECT came in time")]
    ConnectTimeout,
    #[error("another connection took the session over")]
    TakenOver,
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    #[error("packet above the size limit")]
    PacketTooLarge,
    #[error("CONNECT refused with reason {0:#04x}")]
    ConnectRefused(u8),
    #[error("not authorised")]
    NotAuthorised,
    #[error("over a limit: {0}")]
    Quota(&'static str),
    #[error("closed by the operator")]
    Kicked,
    #[error("the node stops")]
    Shutdown,
}
