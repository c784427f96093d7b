//! Counters and views for status pages and metrics.

use std::sync::Arc;

/// Counted since the start of the process, except where it says "now".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Now: accepted connections with a CONNECT done.
    pub connected: u64,
    /// Now: sessions, with and without a connection.
    pub sessions: u64,
    /// Now: subscriptions of all sessions.
    pub subscriptions: u64,
    /// Now: retained messages, and their bytes.
    pub retained: u64,
    pub retained_bytes: u64,
    /// Now: messages that wait in session queues, in flight ones included.
    pub queued: u64,
    /// Now: their bytes, of sessions that outlive their connections.
    pub queued_bytes: u64,
    /// The most that were connected at a time.
    pub connected_max: u64,
    pub sessions_expired: u64,
    /// Connections opened, with a CONNECT or without.
    pub sockets: u64,
    pub connects: u64,
    pub connects_refused: u64,
    pub published: [u64; 3],
    pub publish_duplicates: u64,
    pub delivered: [u64; 3],
    /// Dropped because a queue was full: QoS 0; QoS 1 and 2.
    pub dropped_qos0: u64,
    pub dropped_queued: u64,
    pub dropped_expired: u64,
    pub dropped_too_large: u64,
    /// The client may not read the topic.
    pub dropped_forbidden: u64,
    pub retained_refused: u64,
    pub appends_refused: u64,
    pub wills: u64,
    pub taken_over: u64,
    pub malformed: u64,
    /// MQTT packets of every kind.
    pub packets_received: u64,
    pub packets_sent: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// Bytes of payloads alone.
    pub payload_received: u64,
    pub payload_sent: u64,
}

/// One session, for `clients` on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientView {
    pub client_id: Arc<str>,
    pub connected: bool,
    /// "3.1.1" or "5.0"; None without a connection.
    pub version: Option<&'static str>,
    pub remote: Option<String>,
    /// Who it logged in as; None without a connection or a login.
    pub user: Option<String>,
    /// When its connection was accepted, in the machine's time.
    pub since_ms: Option<u64>,
    pub subscriptions: usize,
    /// Messages that wait for it, in flight ones included, and their bytes.
    pub queued: usize,
    pub queued_bytes: usize,
    pub inflight: usize,
    /// Publishes from it and to it, on this connection.
    pub received: u64,
    pub sent: u64,
    /// Messages that its queue had no room for, since the start of the process; of QoS 0, on this
    /// connection.
    pub dropped: u64,
}
